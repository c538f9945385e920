"""How well each position of one network fits each position of another: inner products of their parameters.

The sum of squared differences between two networks depends on which position meets which through inner products only: a
matrix of positions x positions, the sum of one matrix product per edge block. A
parameter whose other end is another neuron counts as that neuron's present order says (Ainsworth, Hayase, Srinivasa
2023, algorithm 1). While that order is not known, parameters are compared after sorting, which no order changes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from ..ir.arrays import occurrence
from ..ir.graph import EdgeBlock, ParameterGraph
from ..symmetry.incidence import incidence

__all__ = ["Positions", "Values", "inner_product", "similarity"]

Values = Mapping[str, np.ndarray]
"""Parameter tensors by name."""


@dataclass(frozen=True, eq=False)
class Positions:
    """Positions of which each may meet each, with all that tells how their parameters compare.

    Attributes:
        graph: The graph.
        items: int64 [columns, positions], nodes and then bicliques; column by column what stands for each other.
        frame: int64 [columns, outer positions], what moves along with them: `items` itself, or those of the positions
            around them.
        skipped: bool [num_nodes], nodes whose parameters are compared elsewhere.
    """

    graph: ParameterGraph
    items: np.ndarray
    frame: np.ndarray
    skipped: np.ndarray

    @property
    def count(self) -> int:
        """The number of positions."""
        return int(self.items.shape[1])

    @cached_property
    def position(self) -> np.ndarray:
        """The position of each node, int64 [num_nodes]; -1 for others."""
        return self._numbers(self.items, lambda nodes: np.arange(nodes.shape[1]))

    @cached_property
    def column(self) -> np.ndarray:
        """The column of each node, int64 [num_nodes]; -1 for others."""
        return self._numbers(self.items, lambda nodes: np.arange(len(nodes))[:, None])

    @cached_property
    def frame_column(self) -> np.ndarray:
        """The column of each node in the frame, int64 [num_nodes]; -1 for others."""
        return self._numbers(self.frame, lambda nodes: np.arange(len(nodes))[:, None])

    @cached_property
    def classes(self) -> dict[int, int]:
        """Edge blocks that the frame moves into others: index to the index of the first of them."""
        first = self.graph.num_nodes
        columns = self.frame[self.frame[:, 0] >= first]
        blocks = np.searchsorted(incidence(self.graph).biclique_start, columns - first, side="right") - 1
        return {b: min(row) for row in blocks.tolist() for b in row}

    def blocks(self) -> Iterator[tuple[int, EdgeBlock]]:
        """The edge blocks with an end among the positions, with their indices; one of those that share parameters."""
        for number, block in enumerate(self.graph.edges):
            if block.constant or block.tied or not block.size:
                continue
            if (self.position[block.dst] >= 0).any() or (self.position[block.src] >= 0).any():
                yield number, block

    def _numbers(self, items: np.ndarray, numbers: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        nodes = items[items[:, 0] < self.graph.num_nodes]
        found = np.full(self.graph.num_nodes, -1)
        found[nodes] = numbers(nodes)
        return found


def similarity(places: Positions, a: Values, b: Values, known: np.ndarray | None = None) -> np.ndarray:
    """Inner products between the parameters at each position in two networks.

    Args:
        places: The positions.
        a: Parameters of the first network.
        b: Those of the second one.
        known: bool [num_nodes], the nodes whose order is the same in both networks; all by default. Parameters between
            the positions and other nodes are sorted.

    Returns:
        float64 [positions, positions]: of one in the first network and one in the second network.
    """
    total = np.zeros((places.count, places.count))
    for forward in (True, False):
        for row in _rows(places, forward):
            x, y = row.read(a), row.read(b)
            far, apart = row.far(), row.apart
            inner = apart & (places.frame_column[far] >= 0)
            # What lies between two nodes of one position is counted from its destination.
            left_out = places.skipped[far] | (inner & (places.position[far] >= 0) & (not forward))
            x = np.where(left_out[..., None], 0, x) if left_out.any() else x
            if apart:
                x, y, far, inner = (_aligned(v, far, places.frame_column) for v in (x, y, far, inner))
            if known is not None:
                x, y = (_sorted(v, known[far] | inner) for v in (x, y))
            total += _flat(x) @ _flat(y).T
    return total


def inner_product(graph: ParameterGraph, a: Values, b: Values) -> float:
    """The inner product of all parameters of two networks; a shared parameter counts once."""
    names = {block.view.name for block in graph.edges if not block.constant}
    return float(sum(np.vdot(a[n].astype(np.float64), b[n].astype(np.float64)) for n in sorted(names)))


@dataclass(frozen=True, slots=True)
class _Row:
    """The edges at the nodes of one column.

    Attributes:
        graph: The graph.
        forward: Whether the nodes are destinations.
        block: Index of the edge block at each position, int64 [positions].
        batch: Its batch.
        place: The place of the node among the batch's destinations or sources.
    """

    graph: ParameterGraph
    forward: bool
    block: np.ndarray
    batch: np.ndarray
    place: np.ndarray

    @property
    def apart(self) -> bool:
        """Whether the edges of different positions end elsewhere."""
        return bool((self.block != self.block[0]).any() or (self.batch != self.batch[0]).any())

    def read(self, values: Values) -> np.ndarray:
        """The parameters, [positions, other ends, slots]."""
        return self._gathered(lambda block: self._turned(block.view.read(values[block.view.name])))

    def far(self) -> np.ndarray:
        """The other ends, [positions, other ends]."""
        made = [(b.src if self.forward else b.dst) for b in (self.graph.edges[i] for i in self.block[:1].tolist())]
        if not self.apart:
            return np.broadcast_to(made[0][self.batch[0]], (len(self.block), made[0].shape[1]))
        ends = [self.graph.edges[i].src if self.forward else self.graph.edges[i].dst for i in self.block.tolist()]
        return np.stack([e[b] for e, b in zip(ends, self.batch.tolist(), strict=True)])

    def _turned(self, window: np.ndarray) -> np.ndarray:
        return window if self.forward else window.transpose(0, 2, 1, 3)

    def _gathered(self, window: Callable[[EdgeBlock], np.ndarray]) -> np.ndarray:
        edges, first = self.graph.edges, int(self.block[0])
        if not self.apart:
            return window(edges[first])[self.batch[0]][self.place]
        if (self.block == first).all():
            return window(edges[first])[self.batch, self.place]
        parts = zip(self.block.tolist(), self.batch.tolist(), self.place.tolist(), strict=True)
        return np.stack([window(edges[i])[b, p] for i, b, p in parts])


def _rows(places: Positions, forward: bool) -> Iterator[_Row]:
    """The edges at each column of nodes; those of blocks that the positions move into each other together."""
    found: dict[int, list[np.ndarray]] = {}
    for number, block in places.blocks():
        ends = block.dst if forward else block.src
        batch, place = np.nonzero(places.position[ends] >= 0)
        nodes = ends[batch, place]
        entry = (places.column[nodes], occurrence(ends)[batch, place], places.position[nodes])
        key = places.classes.get(number, number)
        found.setdefault(key, []).append(np.stack([*entry, np.full_like(batch, number), batch, place]))
    for parts in found.values():
        entries = np.concatenate(parts, axis=1)
        entries = entries[:, np.lexsort(entries[[2, 1, 0]])]
        for row in entries[3:].reshape(3, -1, places.count).swapaxes(0, 1):
            yield _Row(places.graph, forward, *row)


def _aligned(x: np.ndarray, far: np.ndarray, column: np.ndarray) -> np.ndarray:
    """Rows [positions, others, ...] in an order of the other ends that is the same for every position."""
    key = np.where(column[far] >= 0, -1 - column[far], far)
    order = np.argsort(key, axis=1, kind="stable")
    return np.take_along_axis(x, order if x.ndim == 2 else order[..., None], axis=1)


def _sorted(x: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Rows [positions, others, S] with the parameters of other ends that are not known in ascending order."""
    if known.all():
        return x
    first = known[0]
    return np.concatenate([x[:, first], np.sort(x[:, ~first], axis=1)], axis=1)


def _flat(x: np.ndarray) -> np.ndarray:
    return np.asarray(x, dtype=np.float64 if x.dtype == np.float64 else np.float32).reshape(len(x), -1)
