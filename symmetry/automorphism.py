"""Automorphisms acting on parameters: apply, compose, and a brute-force proof for small graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np

from ..ir.arrays import distinct, occurrence
from ..ir.errors import GraphError
from ..ir.graph import ParameterGraph
from .incidence import Incidence, Row, incidence

__all__ = [
    "Automorphism",
    "Positions",
    "RowMove",
    "apply",
    "compose",
    "describe",
    "row_move",
    "touched_rows",
    "verify_exact",
]

_EMPTY = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class Automorphism:
    """A permutation of the nodes that keeps the graph: src[i] moves to dst[i], every other node stays.

    src, dst: int64 [moved nodes], src ascending. row_src, row_dst: int64 [moved rows], likewise for the rows of dense
    blocks (numbers of `Incidence`): moving a row moves a whole batch. graph: what it is an automorphism of, if known.
    """

    src: np.ndarray
    dst: np.ndarray
    row_src: np.ndarray = field(default_factory=_EMPTY.copy)
    row_dst: np.ndarray = field(default_factory=_EMPTY.copy)
    graph: ParameterGraph | None = field(default=None, repr=False, compare=False)

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The permuted parameter tensors, see the function `apply`; of automorphisms of `symmetries`."""
        if self.graph is None:
            raise GraphError("this automorphism does not know its graph: use apply(graph, automorphism, values)")
        return apply(self.graph, self, values)

    def inverse(self) -> Automorphism:
        """The automorphism that takes every node and row back, of the same graph."""
        order, rows = np.argsort(self.dst), np.argsort(self.row_dst)
        there = self.dst[order], self.src[order]
        return Automorphism(*there, self.row_dst[rows], self.row_src[rows], self.graph)

    def __matmul__(self, other: Automorphism) -> Automorphism:
        """``a @ b`` does b and after it a, as a product of matrices does."""
        return compose(other, self) if isinstance(other, Automorphism) else NotImplemented

    @property
    def moved(self) -> dict[int, int]:
        """Moved node to its image."""
        return dict(zip(self.src.tolist(), self.dst.tolist(), strict=True))

    @classmethod
    def of_items(cls, image: Mapping[int, int], num_nodes: int) -> Automorphism:
        """From a map of items (nodes, then rows); entries that stay are dropped."""
        moved = np.array(sorted((x, y) for x, y in image.items() if x != y), dtype=np.int64).reshape(-1, 2)
        split = int(np.searchsorted(moved[:, 0], num_nodes))
        return cls(moved[:split, 0], moved[:split, 1], moved[split:, 0], moved[split:, 1])


def compose(first: Automorphism, then: Automorphism) -> Automorphism:
    """The automorphism that does `first` and after it `then`, also ``then @ first``; of their graph if one knows it.

    Raises `GraphError` if they are of two graphs.
    """
    graph = first.graph if then.graph is None else then.graph
    if first.graph is not None and first.graph is not graph:
        raise GraphError("automorphisms of two graphs have no product: take both from one call of `symmetries`")
    src, dst = _compose((first.src, first.dst), (then.src, then.dst))
    return Automorphism(src, dst, *_compose((first.row_src, first.row_dst), (then.row_src, then.row_dst)), graph)


def apply(graph: ParameterGraph, automorphism: Automorphism, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The permuted parameter tensors: the element on edge e goes to the edge that e is mapped to.

    values: parameter name to tensor, for every parameter that moves (shapes as in `graph.parameters`). Returns new
    tensors, only those of which an element has moved to another place.
    """
    index = incidence(graph)
    new: dict[str, np.ndarray] = {}
    for item, image in touched_rows(index, automorphism):
        source = graph.edges[index.block_of(item)]
        target = graph.edges[index.block_of(image)]
        if source.constant:
            continue
        move = row_move(index, automorphism, item, image)
        for dst, src in move.boxes():
            for name in (source.view.name, target.view.name):
                if name not in new:
                    new[name] = np.array(values[name], copy=True, order="C")
            here, there = move.entries(dst, src)
            old = np.ascontiguousarray(values[source.view.name])
            target.view.write(new[target.view.name], source.view.read(old, here), there)
    return new


def describe(graph: ParameterGraph, automorphism: Automorphism) -> str:
    """What an automorphism moves, in words: one line per node group, with the ONNX node that made it."""
    groups, counts = np.unique(graph.group_of(automorphism.src), return_counts=True)
    lines = []
    for number, count in zip(groups.tolist(), counts.tolist(), strict=True):
        group = graph.groups[number]
        here = graph.group_of(automorphism.src) == number
        pairs = [
            f"{s - group.start}->{d - group.start}" if group.start <= d < group.stop else f"{s - group.start}->#{d}"
            for s, d in zip(automorphism.src[here][:3].tolist(), automorphism.dst[here][:3].tolist(), strict=True)
        ]
        more = ", ..." if count > 3 else ""
        lines.append(
            f"g{number} {group.kind} x{group.size} {group.value!r} (node {group.node!r}): "
            f"{count} moved: {', '.join(pairs)}{more}"
        )
    return "\n".join(lines)


def touched_rows(index: Incidence, automorphism: Automorphism) -> Iterator[tuple[int, int]]:
    """(row, image) of every row that moves or has a moved end."""
    rows = dict(zip(automorphism.row_src.tolist(), automorphism.row_dst.tolist(), strict=True))
    ends = [index.other[index.start[x] : index.start[x + 1]] for x in automorphism.src.tolist()]
    near = distinct(np.concatenate(ends or [_EMPTY]))
    for item in sorted({*near[near >= index.num_nodes].tolist(), *rows}):
        yield item, rows.get(item, item)


Positions = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class RowMove:
    """How the entries of a row move: position i of dst goes to dst[i] of the image, position j of src to src[j].

    dst: int64 [n]; src: int64 [k]. stays: the row is its own image.
    """

    row: Row
    image: Row
    dst: np.ndarray
    src: np.ndarray
    stays: bool

    def boxes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rectangles of (dst, src) positions that together hold every entry that moves."""
        every = np.arange(len(self.dst)), np.arange(len(self.src))
        if not self.stays:
            return [every]
        moved = [e[e != place] for e, place in zip(every, (self.dst, self.src), strict=True)]
        return [b for b in ((moved[0], every[1]), (every[0], moved[1])) if len(b[0]) and len(b[1])]

    def entries(self, dst: np.ndarray, src: np.ndarray) -> tuple[Positions, Positions]:
        """View indices (b, n, k) of a rectangle, and of where it goes, each broadcastable to [dst, src]."""
        return self.row.index(dst, src), self.image.index(self.dst[dst], self.src[src])


def row_move(index: Incidence, automorphism: Automorphism, item: int, image: int) -> RowMove:
    """The move of one row; raises `GraphError` if its ends do not go to the image's ends."""
    row, target = index.row(item), index.row(image)
    classes = index.via_class
    dst = _match(_image(automorphism, row.dst_nodes), target.dst_nodes)
    src = _match(_image(automorphism, row.src_nodes), target.src_nodes, classes[row.src_via], classes[target.src_via])
    return RowMove(row, target, dst, src, item == image)


def verify_exact(graph: ParameterGraph, automorphism: Automorphism) -> None:
    """Prove an automorphism by expanding every edge and link; for small graphs. Raises `GraphError` if it is none.

    Every parameter element gets its own tag, the tags are permuted by `apply`, and the multiset of tagged, labelled
    edges must be the image of the old one. Weight sharing is proved too: all sites of an element read the same tag.
    """
    index = incidence(graph)
    if index.fixed[automorphism.src].any():
        raise GraphError("not an automorphism: it moves a pinned node, an input or an output")
    for src, dst in ((automorphism.src, automorphism.dst), (automorphism.row_src, automorphism.row_dst)):
        if not np.array_equal(np.sort(src), np.sort(dst)):
            raise GraphError("not an automorphism: not a permutation")
    tags = _tags(graph)
    moved = {**tags, **apply(graph, automorphism, tags)}
    sigma = np.arange(graph.num_nodes)
    sigma[automorphism.src] = automorphism.dst
    kinds = np.array([g.kind for g in graph.groups])
    if (kinds[graph.group_of(automorphism.src)] != kinds[graph.group_of(automorphism.dst)]).any():
        raise GraphError("not an automorphism: it maps a node to one of another kind")
    blocks = _block_map(index, automorphism)
    known: dict[Hashable, int] = {}
    before = Counter(_expand(graph, tags, sigma, _via_keys(graph, blocks, known)))
    after = Counter(_expand(graph, moved, np.arange(graph.num_nodes), _via_keys(graph, {}, known)))
    if before != after:
        (edge, _), *_ = (before - after).items() or (after - before).items()
        raise GraphError(f"not an automorphism: no image of the edge {edge}")


def _compose(
    first: tuple[np.ndarray, np.ndarray], then: tuple[np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray]:
    points = np.union1d(first[0], then[0])
    images = _moved(*then, _moved(*first, points))
    keep = points != images
    return points[keep], images[keep]


def _moved(src: np.ndarray, dst: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The images of points under src -> dst (src ascending)."""
    points = points.astype(np.int64)
    if not len(src):
        return points
    at = np.minimum(np.searchsorted(src, points), len(src) - 1)
    return np.where(src[at] == points, dst[at], points)


def _image(automorphism: Automorphism, nodes: np.ndarray) -> np.ndarray:
    return _moved(automorphism.src, automorphism.dst, nodes)


def _match(
    nodes: np.ndarray, targets: np.ndarray, via: np.ndarray | None = None, target_via: np.ndarray | None = None
) -> np.ndarray:
    """For each port its place among the targets; repeated ports pair up in order of occurrence."""
    if via is None or target_via is None:
        via, target_via = np.zeros_like(nodes), np.zeros_like(targets)
    if np.array_equal(nodes, targets) and np.array_equal(via, target_via):
        return np.arange(len(nodes))
    order = np.lexsort((via, nodes))
    target_order = np.lexsort((target_via, targets))
    if not np.array_equal(nodes[order], targets[target_order]):
        raise GraphError("not an automorphism: the image of a block's row is no row of that block")
    place = np.empty(len(nodes), dtype=np.int64)
    place[order] = target_order
    return place


def _tags(graph: ParameterGraph) -> dict[str, np.ndarray]:
    tags: dict[str, np.ndarray] = {}
    first = 0
    for name, parameter in graph.parameters.items():
        tags[name] = np.arange(first, first + parameter.size, dtype=np.int64).reshape(parameter.shape)
        first += parameter.size
    return tags


def _block_map(index: Incidence, automorphism: Automorphism) -> dict[int, int]:
    pairs = zip(automorphism.row_src.tolist(), automorphism.row_dst.tolist(), strict=True)
    return {index.block_of(s): index.block_of(d) for s, d in pairs}


def _via_keys(graph: ParameterGraph, blocks: Mapping[int, int], known: dict[Hashable, int]) -> list[int]:
    """A number for every via, equal for equal vias when the blocks in it are mapped."""
    keys: list[int] = []
    for via in graph.vias:
        through = tuple(blocks.get(b, b) for b in via.blocks)
        key = (via.op, via.attributes, via.sizes, tuple(keys[p] for p in via.parents), through)
        keys.append(known.setdefault(key, len(known)))
    return keys


def _expand(
    graph: ParameterGraph, values: Mapping[str, np.ndarray], sigma: np.ndarray, vias: list[int]
) -> Iterable[Hashable]:
    """Every edge and link as a tuple, its ends mapped by sigma."""
    for block in graph.edges:
        edge_values = graph.values(block) if block.constant else block.view.read(values[block.view.name])
        slots = [tuple(s) for s in block.slots.tolist()]
        for b in range(block.shape[0]):
            dst_place, src_place = occurrence(block.dst[b]), occurrence(block.src[b], block.via[b])
            for n, k, s in np.ndindex(block.shape[1:]):
                ends = int(sigma[block.dst[b, n]]), int(sigma[block.src[b, k]])
                place = int(dst_place[n]), int(src_place[k])
                yield (*ends, block.role, vias[block.via[b, k]], slots[s], *place, edge_values[b, n, k, s].item())
    for link in graph.links:
        for i in range(link.size):
            slot = None if link.slot is None else tuple(link.slot[i].tolist())
            operand = None if link.operand is None else int(link.operand[i])
            ends = int(sigma[link.dst[i]]), int(sigma[link.src[i]])
            yield (*ends, link.role, vias[link.via[i]], slot, operand)
