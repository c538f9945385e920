"""One network in another order: its nodes, blocks and vias numbered as those of another graph of the same structure.

An exporter may write branches, layers and operands in any order, and the graph follows. Which part stands for which is
found by colour refinement; where it leaves a choice between several groups of nodes, names decide, or else one choice
after the other is tried. Nothing rests on hashes: whatever is found is compared edge by edge and link by link.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace

import numpy as np

from ..ir.arrays import mix64
from ..ir.graph import EdgeBlock, LinkBlock, NodeGroup, ParameterGraph, Port, Via
from ..ir.views import ParameterView
from ..symmetry.isomorphism import hash64, met
from ..symmetry.structure import Structure, structure

__all__ = ["Renumbered", "renumbered", "same_parts", "via_keys"]

_TRIES = 200
"""How many choices between groups of nodes that look alike are tried."""
_FEW = 600
"""The largest number of nodes for which the order within groups is searched, too."""


@dataclass(frozen=True, slots=True)
class Renumbered:
    """A graph in the numbers of another one.

    Attributes:
        graph: The graph; its nodes, edges, links and vias are those of the other one, its tensors and names its own.
        nodes: int64 [num_nodes], its own number of each node.
    """

    graph: ParameterGraph
    nodes: np.ndarray


def renumbered(a: ParameterGraph, b: ParameterGraph) -> Renumbered | None:
    """Number the parts of a graph as those of another graph of the same structure.

    Args:
        a: The graph that gives the numbers.
        b: The graph that is renumbered.

    Returns:
        The renumbered graph; None if no correspondence was found.
    """
    sizes = [(g.num_nodes, len(g.edges), sum(k.size for k in g.links)) for g in (a, b)]
    if sizes[0] != sizes[1]:
        return None
    marks = _by_names(a, b)
    if marks is not None and (made := _search(a, b, marks, [1])) is not None:
        return made
    unmarked = np.zeros(a.num_nodes, np.uint64), np.zeros(b.num_nodes, np.uint64)
    if not same_parts(a, b):
        return None
    if (made := _search(a, b, unmarked, [_TRIES])) is not None or a.num_nodes > _FEW:
        return made
    return _search(a, b, unmarked, [_FEW], whole=False)


def same_parts(a: ParameterGraph, b: ParameterGraph) -> bool:
    """Whether colour refinement tells no part of two graphs from all parts of the other one.

    Args:
        a: A graph.
        b: Another one.

    Returns:
        False if the graphs certainly have different structures.
    """
    return _alike(structure(a), structure(b))


_Marks = tuple[np.ndarray, np.ndarray]
"""uint64 [num_nodes] for each graph."""


def _by_names(a: ParameterGraph, b: ParameterGraph) -> _Marks | None:
    """Marks of nodes by the name of their value; None if the values of the graphs have other names."""
    if sorted(g.value for g in a.groups) != sorted(g.value for g in b.groups):
        return None
    marks = [np.repeat([hash64(x.value) for x in g.groups], [x.size for x in g.groups]) for g in (a, b)]
    return marks[0].astype(np.uint64), marks[1].astype(np.uint64)


def _search(
    a: ParameterGraph, b: ParameterGraph, marks: _Marks, tries: list[int], whole: bool = True
) -> Renumbered | None:
    """A correspondence in which marks agree.

    tries: how many are left, counts down. whole: whether nodes of one group and colour keep their order.
    """
    tries[0] -= 1
    first, second = structure(a, marks[0]), structure(b, marks[1])
    if not _alike(first, second):
        return None
    cells, others = _cells(a, first.nodes, whole), _cells(b, second.nodes, whole)
    undecided = [c for c in cells if len(cells[c]) > 1 or len(others[c]) > 1]
    if not undecided:
        return _checked(a, b, first, second)
    choice = min(undecided, key=lambda c: len(cells[c]))
    mine, mark = cells[choice][0], hash64("chosen")
    for theirs in _by_likeness(a, b, mine, others[choice]):
        if len(theirs) != len(mine) or tries[0] <= 0:
            continue
        more = first.nodes.copy(), second.nodes.copy()
        for colours, cell in zip(more, (mine, theirs), strict=True):
            colours[cell] = mix64(colours[cell] + mark)
        if (made := _search(a, b, more, tries, whole)) is not None:
            return made
    return None


def _alike(first: Structure, second: Structure) -> bool:
    """Whether two graphs have parts of the same colours."""
    pairs = (first.nodes, second.nodes), (first.blocks, second.blocks)
    return all(np.array_equal(np.sort(x), np.sort(y)) for x, y in pairs)


def _cells(graph: ParameterGraph, colours: np.ndarray, whole: bool) -> dict[int, list[np.ndarray]]:
    """By colour the nodes of it: those of each group together, or each on its own."""
    group = np.arange(graph.num_nodes)
    if whole:
        group = graph.group_of(group)
    order = np.lexsort((group, colours))
    ends = np.flatnonzero(np.diff(colours[order]) | (np.diff(group[order]) != 0)) + 1
    found: dict[int, list[np.ndarray]] = defaultdict(list)
    for nodes in np.split(order, ends):
        if len(nodes):
            found[int(colours[nodes[0]])].append(nodes)
    return found


def _by_likeness(
    a: ParameterGraph, b: ParameterGraph, mine: np.ndarray, others: list[np.ndarray]
) -> Iterator[np.ndarray]:
    """Cells that may stand for one of the other graph: those of the same name first, then in their order."""

    def named(graph: ParameterGraph, nodes: np.ndarray) -> str:
        return graph.groups[int(graph.group_of(nodes[:1])[0])].value

    yield from sorted(others, key=lambda cell: named(b, cell) != named(a, mine))


def _checked(a: ParameterGraph, b: ParameterGraph, first: Structure, second: Structure) -> Renumbered | None:
    """The graph in the numbers that the colours give; None if anything differs then."""
    nodes = np.empty(a.num_nodes, np.int64)
    nodes[np.argsort(first.nodes, kind="stable")] = np.argsort(second.nodes, kind="stable")
    number = np.empty(a.num_nodes, np.int64)
    number[nodes] = np.arange(a.num_nodes)
    kinds = [np.repeat([g.kind for g in x.groups], [g.size for g in x.groups]) for x in (a, b)]
    if not (np.array_equal(kinds[0], kinds[1][nodes]) and np.array_equal(a.pinned, b.pinned[nodes])):
        return None
    pairs = _paired_blocks(a, b, number, first, second)
    if pairs is None:
        return None
    known: dict[Hashable, int] = {}
    place = {theirs: mine for mine, theirs in enumerate(pairs)}
    keys = via_keys(a.vias, known), via_keys(b.vias, known, place)
    edges = []
    for mine, theirs in zip(a.edges, (b.edges[p] for p in pairs), strict=True):
        view = _in_order(mine, theirs, number, keys)
        if view is None or (mine.constant and not _same_numbers(a, mine, b, view)):
            return None
        edges.append(replace(mine, view=view, node=theirs.node))
    links = _rows_of(a.links, np.arange(a.num_nodes), keys[0]), _rows_of(b.links, number, keys[1])
    ports = [_same_ports(getattr(a, n), getattr(b, n), number, keys) for n in ("inputs", "outputs")]
    if links[0] != links[1] or not all(ports):
        return None
    groups = tuple(
        replace(g, node=h.node, value=h.value, scope=h.scope)
        for g, h in zip(a.groups, _counterparts(a, b, nodes), strict=True)
    )
    made = replace(
        b, groups=groups, pinned=a.pinned, edges=tuple(edges), links=a.links, vias=a.vias, paired=a.paired,
        inputs=_renamed(a.inputs, b.inputs), outputs=_renamed(a.outputs, b.outputs),
    )  # fmt: skip
    return Renumbered(made, nodes)


def via_keys(vias: tuple[Via, ...], known: dict[Hashable, int], place: dict[int, int] | None = None) -> np.ndarray:
    """Numbers of vias that are equal for equal steps behind equal vias, of all graphs that share `known`.

    Sizes count only where they tell steps of one graph apart, by their rank.

    Args:
        vias: The vias.
        known: The keys that were met, with their numbers; more are added.
        place: By edge block the number that it has in the comparison; its own by default.

    Returns:
        int64 [vias].
    """
    depth = [0] * len(vias)
    levels: dict[int, list[int]] = defaultdict(list)
    for number, via in enumerate(vias):
        depth[number] = 1 + max((depth[p] for p in via.parents), default=0)
        levels[depth[number]].append(number)
    keys = [0] * len(vias)
    for level in levels.values():
        alike: dict[Hashable, list[int]] = defaultdict(list)
        for number in level:
            via = vias[number]
            blocks = via.blocks if place is None else tuple(place[n] for n in via.blocks)
            alike[via.op, via.attributes, met(via, keys), blocks].append(number)
        for key, numbers in alike.items():
            sizes = sorted({vias[n].sizes for n in numbers})
            for number in numbers:
                keys[number] = known.setdefault((key, sizes.index(vias[number].sizes)), len(known))
    return np.array(keys, dtype=np.int64)


def _paired_blocks(
    a: ParameterGraph, b: ParameterGraph, number: np.ndarray, first: Structure, second: Structure
) -> list[int] | None:
    """For each edge block the one of the other graph between the same nodes; of several the one of the same name."""
    found: dict[Hashable, list[int]] = defaultdict(list)
    for at, block in enumerate(b.edges):
        found[_between(block, second.blocks[at], number)].append(at)
    pairs, same = [], np.arange(a.num_nodes)
    for at, block in enumerate(a.edges):
        alike = found[_between(block, first.blocks[at], same)]
        if not alike:
            return None
        named = [n for n in alike if b.edges[n].view.name == block.view.name]
        pairs.append((named or alike)[0])
        alike.remove(pairs[-1])
    return pairs


def _between(block: EdgeBlock, colour: np.uint64, number: np.ndarray) -> Hashable:
    ends = (np.sort(number[nodes], axis=None).astype(np.int64).tobytes() for nodes in (block.dst, block.src))
    return int(colour), *ends


def _in_order(
    mine: EdgeBlock, theirs: EdgeBlock, number: np.ndarray, keys: tuple[np.ndarray, np.ndarray]
) -> ParameterView | None:
    """The view of another graph's block with its entries where those of a block are; None if their edges differ."""
    same = (mine.shape, mine.role, mine.constant) == (theirs.shape, theirs.role, theirs.constant)
    if not same or not np.array_equal(mine.slots, theirs.slots):
        return None
    ends = (mine.dst, mine.src, keys[0][mine.via]), (number[theirs.dst], number[theirs.src], keys[1][theirs.via])
    if all(np.array_equal(x, y) for x, y in zip(*ends, strict=True)):
        return theirs.view
    (rows, columns, batches), (others, crossing, names) = (_sorted_ends(*each) for each in ends)
    waiting = defaultdict(list)
    for at, name in enumerate(names):
        waiting[name].append(at)
    if sorted(batches) != sorted(names):
        return None
    batch = np.array([waiting[name].pop(0) for name in batches])
    n, k = np.empty_like(rows), np.empty_like(columns)
    np.put_along_axis(n, rows, others[batch], axis=1)
    np.put_along_axis(k, columns, crossing[batch], axis=1)
    index = theirs.view.elements()[batch[:, None, None], n[:, :, None], k[:, None, :]]
    return ParameterView(theirs.view.name, 0, theirs.shape, (0, 0, 0, 0), index)


def _sorted_ends(dst: np.ndarray, src: np.ndarray, via: np.ndarray) -> tuple[np.ndarray, np.ndarray, list[bytes]]:
    """What sorts the targets and the sources of each batch, and the sorted ends of each as a name."""
    rows, columns = np.argsort(dst, axis=1, kind="stable"), np.lexsort((via, src), axis=1)
    parts = [np.take_along_axis(x, o, axis=1) for x, o in ((dst, rows), (src, columns), (via, columns))]
    return rows, columns, [row.tobytes() for row in np.concatenate(parts, axis=1).astype(np.int64)]


def _same_numbers(a: ParameterGraph, mine: EdgeBlock, b: ParameterGraph, view: ParameterView) -> bool:
    return np.array_equal(a.values(mine), view.read(b.constants[view.name].load()), equal_nan=True)


def _rows_of(links: tuple[LinkBlock, ...], number: np.ndarray, keys: np.ndarray) -> dict[Hashable, bytes]:
    """All links by role, in an order that does not depend on blocks."""
    found: dict[Hashable, list[np.ndarray]] = defaultdict(list)
    for link in links:
        columns = [number[link.dst], number[link.src], keys[link.via]]
        columns += [] if link.operand is None else [link.operand]
        columns += [] if link.slot is None else [*link.slot.T]
        key = link.role, link.operand is None, -1 if link.slot is None else link.slot.shape[1]
        found[key].append(np.stack(columns, axis=1).astype(np.int64))
    joined = {key: np.concatenate(rows) for key, rows in found.items()}
    return {key: rows[np.lexsort(rows.T)].tobytes() for key, rows in joined.items()}


def _same_ports(
    some: tuple[Port, ...], others: tuple[Port, ...], number: np.ndarray, keys: tuple[np.ndarray, np.ndarray]
) -> bool:
    return len(some) == len(others) and all(
        np.array_equal(p.nodes, number[q.nodes]) and np.array_equal(keys[0][p.via], keys[1][q.via])
        for p, q in zip(some, others, strict=True)
    )


def _renamed(some: tuple[Port, ...], others: tuple[Port, ...]) -> tuple[Port, ...]:
    return tuple(replace(p, name=q.name) for p, q in zip(some, others, strict=True))


def _counterparts(a: ParameterGraph, b: ParameterGraph, nodes: np.ndarray) -> list[NodeGroup]:
    """The other graph's group of the first node of each group."""
    firsts = np.array([g.start if g.size else 0 for g in a.groups], np.int64)
    return [b.groups[int(g)] for g in b.group_of(nodes[firsts])]
