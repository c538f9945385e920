"""Automorphisms of a parameter graph: composition, action on the parameters, exact verification on small graphs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir.arrays import distinct, occurrence
from ..ir.errors import GraphError
from ..ir.graph import ParameterGraph
from .incidence import Biclique, Incidence, incidence

__all__ = [
    "Automorphism",
    "BicliqueMap",
    "Positions",
    "apply",
    "biclique_map",
    "compose",
    "compose_all",
    "describe",
    "mapped",
    "touched_bicliques",
    "verify_exact",
]

_EMPTY = np.zeros(0, dtype=np.int64)
_MOSTLY = 8
"""A batch is copied as a whole if at least one in so many of its edges moves."""


@dataclass(frozen=True, slots=True)
class Automorphism:
    """A permutation of the nodes that preserves the graph: src[i] goes to dst[i], every other node stays.

    Attributes:
        src: int64 [moved nodes], ascending.
        dst: int64 [moved nodes], their images.
        biclique_src: int64 [moved bicliques], ascending: items of `Incidence`. Moving one moves a whole batch of an
            edge block.
        biclique_dst: int64 [moved bicliques], their images.
        graph: The graph it is an automorphism of, if known.
    """

    src: np.ndarray
    dst: np.ndarray
    biclique_src: np.ndarray = field(default_factory=_EMPTY.copy)
    biclique_dst: np.ndarray = field(default_factory=_EMPTY.copy)
    graph: ParameterGraph | None = field(default=None, repr=False, compare=False)

    def apply(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Permute parameter tensors.

        Args:
            values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that moves.

        Returns:
            New tensors by name, only of parameters in which an element moved.

        Raises:
            GraphError: if `graph` is not set; those that `symmetries` and `swap` return have it set.
        """
        if self.graph is None:
            raise GraphError("this automorphism does not know its graph: use apply(graph, automorphism, values)")
        return apply(self.graph, self, values)

    def inverse(self) -> Automorphism:
        """The inverse permutation, of the same graph."""
        order, bicliques = np.argsort(self.dst), np.argsort(self.biclique_dst)
        there = self.dst[order], self.src[order]
        return Automorphism(*there, self.biclique_dst[bicliques], self.biclique_src[bicliques], self.graph)

    def __matmul__(self, other: Automorphism) -> Automorphism:
        """``a @ b`` applies b first, then a, as a product of matrices does."""
        return compose(other, self) if isinstance(other, Automorphism) else NotImplemented

    @property
    def moved(self) -> dict[int, int]:
        """Each moved node to its image."""
        return dict(zip(self.src.tolist(), self.dst.tolist(), strict=True))

    @classmethod
    def of_items(cls, image: Mapping[int, int], num_nodes: int) -> Automorphism:
        """Build one from a map of items (nodes, then bicliques).

        Args:
            image: Item to its image; fixed points are dropped.
            num_nodes: Number of nodes; items from there on are bicliques.

        Returns:
            The automorphism, its `graph` not set.
        """
        src, dst = (np.fromiter(x, dtype=np.int64, count=len(image)) for x in (image, image.values()))
        moved = np.flatnonzero(src != dst)
        order = moved[np.argsort(src[moved])]
        src, dst = src[order], dst[order]
        split = int(np.searchsorted(src, num_nodes))
        return cls(src[:split], dst[:split], src[split:], dst[split:])


def compose(first: Automorphism, then: Automorphism) -> Automorphism:
    """The automorphism ``then @ first``.

    Args:
        first: Applied first.
        then: Applied second.

    Returns:
        The composition, of the graph that either of them knows.

    Raises:
        GraphError: if they belong to different graphs.
    """
    graph = first.graph if then.graph is None else then.graph
    if first.graph is not None and first.graph is not graph:
        raise GraphError("automorphisms of two graphs do not compose: take both from the same `symmetries` call")
    src, dst = _compose((first.src, first.dst), (then.src, then.dst))
    return Automorphism(
        src, dst, *_compose((first.biclique_src, first.biclique_dst), (then.biclique_src, then.biclique_dst)), graph
    )


def compose_all(graph: ParameterGraph, automorphisms: Iterable[Automorphism]) -> Automorphism:
    """The composition of any number of automorphisms.

    Args:
        graph: Their graph.
        automorphisms: The factors; the last one is applied first, as in a product of matrices.

    Returns:
        The composition; the identity for none.
    """
    index = incidence(graph)
    image = np.arange(index.row_start)
    for each in automorphisms:
        image[each.src], image[each.biclique_src] = image[each.dst], image[each.biclique_dst]
    moved = np.flatnonzero(image != np.arange(index.row_start))
    pairs = dict(zip(moved.tolist(), image[moved].tolist(), strict=True))
    return replace(Automorphism.of_items(pairs, graph.num_nodes), graph=graph)


def apply(graph: ParameterGraph, automorphism: Automorphism, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Permute parameter tensors: the element on each edge goes to the image of that edge.

    Args:
        graph: The graph.
        automorphism: One of its automorphisms.
        values: Parameter name to tensor, shaped as in `graph.parameters`; every parameter that moves.

    Returns:
        New tensors by name, only of parameters in which an element moved.

    Raises:
        GraphError: if it is not an automorphism: it takes an edge to where there is none.
    """
    index = incidence(graph)
    new: dict[str, np.ndarray] = {}
    for item, image in touched_bicliques(index, automorphism):
        source = graph.edges[index.block_of(item)]
        target = graph.edges[index.block_of(image)]
        if source.constant:
            continue
        move = biclique_map(index, automorphism, item, image)
        boxes = move.boxes()
        if not boxes:
            continue
        for name in (source.view.name, target.view.name):
            if name not in new:
                new[name] = np.array(values[name], copy=True, order="C")
        old = np.ascontiguousarray(values[source.view.name])
        batches = move.source.batch, move.image.batch
        by_strides = source.view.index is None and target.view.index is None
        mostly = _MOSTLY * sum(len(d) * len(s) for d, s in boxes) >= len(move.dst) * len(move.src)
        if by_strides and mostly and None not in batches:
            batch = _rearranged(source.view.read(old)[batches[0]], move)
            target.view.read(new[target.view.name])[batches[1]] = batch
            continue
        for dst, src in boxes:
            here, there = move.entries(dst, src)
            target.view.write(new[target.view.name], source.view.read(old, here), there)
    return new


def _rearranged(batch: np.ndarray, move: BicliqueMap) -> np.ndarray:
    """The edges [N, K, S] of a batch in the order of its image; axis by axis, which reads whole runs of memory."""
    layout = sorted(range(3), key=lambda axis: -abs(batch.strides[axis]))
    found = batch.transpose(layout)
    for axis, images in ((0, move.dst), (1, move.src)):
        if (images != np.arange(len(images))).any():
            found = found.take(np.argsort(images), axis=layout.index(axis))
    return found.transpose(np.argsort(layout))


def describe(graph: ParameterGraph, automorphism: Automorphism) -> str:
    """Describe what an automorphism moves.

    Args:
        graph: The graph.
        automorphism: One of its automorphisms.

    Returns:
        One line per node group it moves: group, ONNX value and node, number of moved nodes, the first three images.
    """
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


def touched_bicliques(
    index: Incidence, automorphism: Automorphism, some: Collection[int] | None = None
) -> Iterator[tuple[int, int]]:
    """(biclique, image) of every biclique that moves or has a moved end; of these moved items alone, if given."""
    images = dict(zip(automorphism.biclique_src.tolist(), automorphism.biclique_dst.tolist(), strict=True))
    moved = [*automorphism.src.tolist(), *images] if some is None else some
    ends = [index.other[index.start[x] : index.start[x + 1]] for x in moved if x < index.num_nodes]
    near = distinct(np.concatenate(ends or [_EMPTY]))
    near = near[(near >= index.num_nodes) & (near < index.row_start)]
    for item in sorted({*near.tolist(), *(x for x in moved if index.num_nodes <= x < index.row_start)}):
        yield item, images.get(item, item)


Positions = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Indices (b, n, k) into a view [B, N, K, S], broadcastable to each other."""


@dataclass(frozen=True, slots=True)
class BicliqueMap:
    """How the edges of a biclique move: destination i goes to destination dst[i] of the image, source j to src[j].

    dst: int64 [n]; src: int64 [k]. stays: the biclique is its own image.
    """

    source: Biclique
    image: Biclique
    dst: np.ndarray
    src: np.ndarray
    stays: bool

    def boxes(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Rectangles of (dst, src) positions that together cover every moved edge, all of them if that is no more."""
        every = np.arange(len(self.dst)), np.arange(len(self.src))
        moved = [e[e != place] for e, place in zip(every, (self.dst, self.src), strict=True)]
        area = len(self.dst) * len(self.src)
        if not self.stays or len(moved[0]) * len(self.src) + len(moved[1]) * len(self.dst) >= area:
            return [every]
        return [b for b in ((moved[0], every[1]), (every[0], moved[1])) if len(b[0]) and len(b[1])]

    def entries(self, dst: np.ndarray, src: np.ndarray) -> tuple[Positions, Positions]:
        """View indices of a rectangle and of its image, each broadcastable to [dst, src]."""
        return self.source.index(dst, src), self.image.index(self.dst[dst], self.src[src])


def biclique_map(index: Incidence, automorphism: Automorphism, item: int, image: int) -> BicliqueMap:
    """How one biclique maps onto its image; raises `GraphError` if its ends do not go to the image's ends."""
    source, target = index.biclique(item), index.biclique(image)
    classes = index.via_class
    dst = _match(_image(automorphism, source.dst_nodes), target.dst_nodes)
    src = _match(
        _image(automorphism, source.src_nodes), target.src_nodes, classes[source.src_via], classes[target.src_via]
    )
    return BicliqueMap(source, target, dst, src, item == image)


def verify_exact(graph: ParameterGraph, automorphism: Automorphism) -> None:
    """Prove an automorphism by expanding every edge and link; meant for small graphs.

    Every parameter element gets a tag of its own and `apply` permutes the tags; the multiset of tagged, labelled edges
    must then be the image of the original one. This proves weight sharing too: all sites of an element read one tag.

    Args:
        graph: The graph.
        automorphism: The permutation to check.

    Raises:
        GraphError: if it is not an automorphism; the message names an edge without an image.
    """
    index = incidence(graph)
    if index.fixed[automorphism.src].any():
        raise GraphError("not an automorphism: it moves a pinned node, an input or an output")
    for src, dst in ((automorphism.src, automorphism.dst), (automorphism.biclique_src, automorphism.biclique_dst)):
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
    images = mapped(*then, mapped(*first, points))
    keep = points != images
    return points[keep], images[keep]


def mapped(src: np.ndarray, dst: np.ndarray, points: np.ndarray) -> np.ndarray:
    """The images of points under src -> dst (src ascending)."""
    points = points.astype(np.int64)
    if not len(src):
        return points
    at = np.minimum(np.searchsorted(src, points), len(src) - 1)
    return np.where(src[at] == points, dst[at], points)


def _image(automorphism: Automorphism, nodes: np.ndarray) -> np.ndarray:
    return mapped(automorphism.src, automorphism.dst, nodes)


def _match(
    nodes: np.ndarray, targets: np.ndarray, via: np.ndarray | None = None, target_via: np.ndarray | None = None
) -> np.ndarray:
    """For each signal (node, via) its position among the targets; repeated signals pair up in order of occurrence."""
    if via is None or target_via is None:
        via, target_via = np.zeros_like(nodes), np.zeros_like(targets)
    if np.array_equal(nodes, targets) and np.array_equal(via, target_via):
        return np.arange(len(nodes))
    order = np.lexsort((via, nodes))
    target_order = np.lexsort((target_via, targets))
    if not np.array_equal(nodes[order], targets[target_order]):
        raise GraphError("not an automorphism: the ends of a batch of edges do not go to the ends of another batch")
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
    pairs = zip(automorphism.biclique_src.tolist(), automorphism.biclique_dst.tolist(), strict=True)
    return {index.block_of(s): index.block_of(d) for s, d in pairs}


def _via_keys(graph: ParameterGraph, blocks: Mapping[int, int], known: dict[Hashable, int]) -> list[int]:
    """One number per via; equal for vias that are equal once the edge blocks in them are mapped."""
    keys: list[int] = []
    for via in graph.vias:
        through = tuple(blocks.get(b, b) for b in via.blocks)
        key = (via.op, via.attributes, via.sizes, tuple(keys[p] for p in via.parents), through)
        keys.append(known.setdefault(key, len(known)))
    return keys


def _expand(
    graph: ParameterGraph, values: Mapping[str, np.ndarray], sigma: np.ndarray, vias: list[int]
) -> Iterable[Hashable]:
    """Every edge and link as a tuple, its ends mapped by sigma, int64 [num_nodes]."""
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
