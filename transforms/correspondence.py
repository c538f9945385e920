"""Which parameters of two networks of one architecture stand for each other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph, Port
from .renumbering import renumbered, same_parts, via_keys
from .similarity import Values

__all__ = ["Correspondence", "correspondence", "difference", "first_difference"]


@dataclass(frozen=True, slots=True)
class Correspondence:
    """Two networks with one graph; their tensors may have other names and layouts.

    Attributes:
        a: The graph of the reference.
        b: The graph of the other network; its nodes, edges and links are the same.
        compiled: The other network's graph as it was compiled, if it has another order; else None.
        nodes: int64 [num_nodes], the number of each node in it; None if it has the same order.
    """

    a: ParameterGraph
    b: ParameterGraph
    compiled: ParameterGraph | None = None
    nodes: np.ndarray | None = None

    def values(self) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
        """The parameters on edges of both networks, as tensors of the reference."""
        names = sorted({block.view.name for block in self.a.edges if not block.constant})
        own = {n: np.asarray(self.a.parameters[n].load()) for n in names}
        return own, _carried(self.b, self.a, {}, own)

    def back(self, values: Values, changed: Values) -> dict[str, np.ndarray]:
        """Parameters given as tensors of the reference, as tensors of the other network.

        Args:
            values: All parameters on edges.
            changed: Of these, the ones that changed.

        Returns:
            The changed tensors of the other network.
        """
        names = {
            theirs.view.name
            for mine, theirs in zip(self.a.edges, self.b.edges, strict=True)
            if not mine.constant and mine.view.name in changed
        }
        own = {n: np.array(self.b.parameters[n].load()) for n in sorted(names)}
        return _carried(self.a, self.b, values, own)


def _carried(
    source: ParameterGraph, target: ParameterGraph, values: Values, own: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """Tensors of one graph with the parameters of another one on their edges.

    values: tensors of the source, which are loaded if they are not given; own: those of the target to fill.
    """
    new: dict[str, np.ndarray] = {}
    for mine, theirs in zip(target.edges, source.edges, strict=True):
        name, other = mine.view.name, theirs.view.name
        if mine.constant or mine.tied or name not in own:
            continue
        read = values[other] if other in values else np.asarray(source.parameters[other].load())
        if name not in new:
            if _same_layout(mine, theirs) and read.shape == own[name].shape and read.size == mine.view.size:
                new[name] = np.asarray(read, dtype=own[name].dtype)
                continue
            new[name] = np.array(own[name], order="C")
        elif not new[name].flags.writeable or np.shares_memory(new[name], read):
            new[name] = np.array(new[name], order="C")
        mine.view.write(new[name], theirs.view.read(np.ascontiguousarray(read)).astype(new[name].dtype))
    return new


def _same_layout(a: EdgeBlock, b: EdgeBlock) -> bool:
    """Whether two views number their elements alike."""
    if a.view.index is not None or b.view.index is not None:
        return False
    return (a.view.offset, a.view.shape, a.view.strides) == (b.view.offset, b.view.shape, b.view.strides)


def correspondence(a: ParameterGraph, b: ParameterGraph) -> Correspondence | None:
    """How the parameters of two networks correspond, whose layers may come in another order.

    Args:
        a: The graph of the reference.
        b: The graph of the other network.

    Returns:
        The correspondence; None if the graphs differ.
    """
    in_order = first_difference(a, b) is None
    if in_order and not _named_in_another_order(a, b):
        return Correspondence(a, b)
    made = renumbered(a, b)
    if made is not None and _shared_alike(a, made.graph):
        return Correspondence(a, made.graph, b, made.nodes)
    return Correspondence(a, b) if in_order else None


def difference(a: ParameterGraph, b: ParameterGraph) -> str:
    """Why two networks have no correspondence.

    Args:
        a: A graph.
        b: Another one, which has no correspondence with it.

    Returns:
        The first difference in the order of both graphs, or that there is none but in how their parts are connected.
    """
    if same_parts(a, b):
        return "their layers are alike one by one, but no way was found in which they are connected alike"
    return first_difference(a, b) or "they share other parameters"


def _named_in_another_order(a: ParameterGraph, b: ParameterGraph) -> bool:
    """Whether both have groups of the same names, but not in one order, as if branches that look alike are swapped."""
    names = [[g.value for g in graph.groups] for graph in (a, b)]
    return names[0] != names[1] and sorted(names[0]) == sorted(names[1])


def first_difference(a: ParameterGraph, b: ParameterGraph) -> str | None:
    """The first difference between two graphs in one order, parameters and names aside; None if there is none."""
    known: dict[Hashable, int] = {}
    steps = _Steps(a, via_keys(a.vias, known)), _Steps(b, via_keys(b.vias, known))
    found = _other_nodes(a, b) or _other_edges(*steps) or _other_links(*steps) or _other_ports(*steps)
    return found or (None if _shared_alike(a, b) else "other parameters are shared")


def _shared_alike(a: ParameterGraph, b: ParameterGraph) -> bool:
    """Whether the elements that several edges share in one graph are shared by the same edges in the other one."""
    tied = [{e.view.name for e in g.edges if e.tied} for g in (a, b)]
    pairs = [
        (e, f) for e, f in zip(a.edges, b.edges, strict=True)
        if not e.constant and (e.view.name in tied[0] or f.view.name in tied[1])
    ]  # fmt: skip
    by_tensors: dict[tuple[str, str], set[Hashable]] = defaultdict(set)
    for e, f in pairs:
        by_tensors[e.view.name, f.view.name].add(_mapping(e, f))
    one_to_one = all(len({names[side] for names in by_tensors}) == len(by_tensors) for side in (0, 1))
    if one_to_one and all(len(found) == 1 and None not in found for found in by_tensors.values()):
        return True
    return _one_map(a, b, pairs) and _one_map(b, a, [(f, e) for e, f in pairs])


def _mapping(e: EdgeBlock, f: EdgeBlock) -> Hashable:
    """Which element of one tensor stands for which of another one by two views; None if strides do not say."""
    if e.view.index is not None or f.view.index is not None:
        return None
    axes = zip(e.view.shape, e.view.strides, f.view.strides, strict=True)
    return e.view.offset, f.view.offset, frozenset(axis for axis in axes if axis[0] > 1)


def _one_map(a: ParameterGraph, b: ParameterGraph, pairs: Sequence[tuple[EdgeBlock, EdgeBlock]]) -> bool:
    """Whether each element of the first graph's tensors stands for one element of the second graph's."""
    starts = dict(zip(b.parameters, np.cumsum([0, *(p.size for p in b.parameters.values())]).tolist(), strict=False))
    found: dict[str, np.ndarray] = {}
    for e, f in pairs:
        partner = found.setdefault(e.view.name, np.full(a.parameters[e.view.name].size, -1))
        mine, theirs = e.view.elements().reshape(-1), f.view.elements().reshape(-1) + starts[f.view.name]
        if ((partner[mine] >= 0) & (partner[mine] != theirs)).any():
            return False
        partner[mine] = theirs
    return True


def _other_nodes(a: ParameterGraph, b: ParameterGraph) -> str | None:
    counts = (
        ("node groups", len(a.groups), len(b.groups)),
        ("edge blocks", len(a.edges), len(b.edges)),
        ("link blocks", len(a.links), len(b.links)),
    )
    for what, mine, theirs in counts:
        if mine != theirs:
            return f"{mine:,} against {theirs:,} {what}"
    for g, h in zip(a.groups, b.groups, strict=True):
        if (g.kind, g.size) != (h.kind, h.size):
            at = f"{h.size:,} of kind {h.kind} at {h.value!r}"
            return f"{g.size:,} nodes of kind {g.kind} at {g.value!r} against {at}"
    return None if np.array_equal(a.pinned, b.pinned) else "other neurons are in a fixed order"


def _other_edges(a: _Steps, b: _Steps) -> str | None:
    for e, f in zip(a.graph.edges, b.graph.edges, strict=True):
        if not _same_block(a.graph, b.graph, e, f):
            return f"the parameters {e.view.name!r} of shape {list(e.shape)} against {f.view.name!r} of {list(f.shape)}"
        if text := a.difference(e.via, b, f.via):
            return f"{text} in front of {e.view.name!r}"
    return None


def _other_links(a: _Steps, b: _Steps) -> str | None:
    for k, m in zip(a.graph.links, b.graph.links, strict=True):
        if not _same_link(k, m):
            return f"links of role {k.role} at node {k.node!r} against {m.role} at {m.node!r}"
        if text := a.difference(k.via, b, m.via):
            return f"{text} at node {k.node!r}"
    return None


def _other_ports(a: _Steps, b: _Steps) -> str | None:
    for what in ("inputs", "outputs"):
        mine, theirs = getattr(a.graph, what), getattr(b.graph, what)
        if not _same_ports(mine, theirs):
            return f"other {what}"
        for p, q in zip(mine, theirs, strict=True):
            if text := a.difference(p.via, b, q.via):
                return f"{text} at {p.name!r}"
    return None


@dataclass(frozen=True, slots=True)
class _Steps:
    """The vias of a graph, with numbers that are equal for equal vias of two graphs."""

    graph: ParameterGraph
    keys: np.ndarray

    def difference(self, mine: np.ndarray, other: _Steps, theirs: np.ndarray) -> str | None:
        """The first pair of vias that differ, as text; None if there is none."""
        differs = self.keys[mine] != other.keys[theirs]
        if not np.any(differs):
            return None
        at = np.unravel_index(int(np.argmax(differs)), np.shape(differs))
        texts = (g.via_text(int(np.broadcast_to(v, np.shape(differs))[at])) for g, v in
                 ((self.graph, mine), (other.graph, theirs)))  # fmt: skip
        return " against ".join(text or "nothing" for text in texts)


def _same_block(a: ParameterGraph, b: ParameterGraph, e: EdgeBlock, f: EdgeBlock) -> bool:
    same = (e.shape, e.role, e.constant, e.tied) == (f.shape, f.role, f.constant, f.tied)
    pairs = ((e.dst, f.dst), (e.src, f.src), (e.slots, f.slots))
    if not same or e.via.shape != f.via.shape or not all(np.array_equal(x, y) for x, y in pairs):
        return False
    return not e.constant or np.array_equal(a.values(e), b.values(f), equal_nan=True)


def _same_link(k: LinkBlock, m: LinkBlock) -> bool:
    pairs = [(k.dst, m.dst), (k.src, m.src)]
    for x, y in ((k.operand, m.operand), (k.slot, m.slot)):
        if (x is None) != (y is None):
            return False
        if x is not None and y is not None:
            pairs.append((x, y))
    return k.role == m.role and all(np.array_equal(x, y) for x, y in pairs)


def _same_ports(some: tuple[Port, ...], others: tuple[Port, ...]) -> bool:
    return len(some) == len(others) and all(np.array_equal(x.nodes, y.nodes) for x, y in zip(some, others, strict=True))
