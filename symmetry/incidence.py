"""The parameter graph as one sparse labelled graph: nodes, rows of dense blocks, and arcs between them.

A dense block row is an item of its own, linked to its sources and destinations, so nothing here is as long as the
parameters: arcs number links plus B * (N + K) per block.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from ..ir.arrays import distinct_tuples, mix, occurrence
from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph
from .refinement import GOLDEN, refined

__all__ = ["Incidence", "Row", "incidence"]

_ROUNDS = 64
Arcs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True, slots=True)
class Row:
    """One dense bipartite part of an edge block.

    Entry (i, j, s) of it is element [dst_b[i] + src_b[j], dst_n[i], src_k[j], s] of the block.

    dst_nodes, dst_b, dst_n: int64 [n]; src_nodes, src_via, src_b, src_k: int64 [k].
    """

    block: int
    dst_nodes: np.ndarray
    dst_b: np.ndarray
    dst_n: np.ndarray
    src_nodes: np.ndarray
    src_via: np.ndarray
    src_b: np.ndarray
    src_k: np.ndarray

    def index(self, dst: np.ndarray, src: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """View indices (b, n, k), broadcastable to [dst, src], of the entries at these positions of the row."""
        d, s = dst[:, None], src[None, :]
        return self.dst_b[d] + self.src_b[s], self.dst_n[d], self.src_k[s]


class Incidence:
    """Items are the nodes 0 .. num_nodes-1 and then the rows of all blocks that carry parameters, or one constant.

    arcs of item x: `slice(start[x], start[x + 1])` of `label`, `other`, `via`, `run`, `twin`, sorted by label; `label`
    tells direction, role, via class, operand, slot, place and the colour of the other end. `run` is how many arcs of
    the item have this label; `twin` is the same arc seen from its other end. colour: int64 [items], by refinement
    in a bounded number of rounds, structure alone. fixed: bool [items], pinned nodes and ports. base: number of each
    parameter's first element when the elements of all are counted through.
    """

    def __init__(self, graph: ParameterGraph) -> None:
        self.graph = graph
        self.num_nodes = graph.num_nodes
        self.via_class = _via_classes(graph)
        sizes = {n: p.size for n, p in (*graph.parameters.items(), *graph.constants.items())}
        self.base = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        self._names: dict[Hashable, int] = {}
        self._rows: dict[int, Row] = {}
        self._rows_of: list[np.ndarray] = []
        self._by_dst: list[bool] = []
        self.row_start = np.zeros(len(graph.edges) + 1, dtype=np.int64)
        parts = list(self._arcs())
        self.size = int(self.num_nodes + self.row_start[-1])
        none = np.zeros(0, dtype=np.int64)
        tail, head, label, via = (np.concatenate([none, *(p[i] for p in parts)]).astype(np.int64) for i in range(4))
        self.fixed = self._fixed()
        self._finish(tail, head, label, via)

    def arcs(self, item: int) -> list[tuple[int, int]]:
        """(label, other end) of every arc of an item."""
        run = slice(self.start[item], self.start[item + 1])
        return list(zip(self.label[run].tolist(), self.other[run].tolist(), strict=True))

    def block_of(self, item: int) -> int:
        """The edge block that a row item belongs to."""
        return int(np.searchsorted(self.row_start, item - self.num_nodes, side="right")) - 1

    def rows_of(self, block: int) -> range:
        """The row items of a block."""
        return range(self.num_nodes + int(self.row_start[block]), self.num_nodes + int(self.row_start[block + 1]))

    def row_item(self, block: int, b: np.ndarray) -> np.ndarray:
        """The row items that hold batches b of a block."""
        return self.num_nodes + self.row_start[block] + self._rows_of[block][b]

    def row(self, item: int) -> Row:
        """The positions that a row item stands for."""
        found = self._rows.get(item)
        if found is None:
            found = self._rows[item] = self._row(item)
        return found

    def _row(self, item: int) -> Row:
        number = self.block_of(item)
        block = self.graph.edges[number]
        b = np.flatnonzero(self._rows_of[number] == item - self.num_nodes - self.row_start[number])
        dst_b, dst_n = (a.reshape(-1) for a in np.meshgrid(b, np.arange(block.shape[1]), indexing="ij"))
        src_b, src_k = np.zeros(block.shape[2], dtype=np.int64), np.arange(block.shape[2])
        first = b[:1]
        if self._by_dst[number]:
            src_b, src_k = (a.reshape(-1) for a in np.meshgrid(b, src_k, indexing="ij"))
            dst_n, dst_b = np.arange(block.shape[1]), np.zeros(block.shape[1], dtype=np.int64)
            first = b
        return Row(
            number, block.dst[b if not self._by_dst[number] else b[:1]].reshape(-1), dst_b, dst_n,
            block.src[first].reshape(-1), block.via[first].reshape(-1), src_b, src_k,
        )  # fmt: skip

    @cached_property
    def shared(self) -> dict[str, list[int]]:
        """Parameters that are used at several sites: name to their blocks."""
        names = {b.view.name for b in self.graph.edges if b.tied}
        sites: dict[str, list[int]] = {name: [] for name in names}
        for number, block in enumerate(self.graph.edges):
            if block.view.name in names and not block.constant:
                sites[block.view.name].append(number)
        return sites

    @cached_property
    def shared_rows(self) -> np.ndarray:
        """bool [items]: rows of parameters that are used at several sites."""
        mask = np.zeros(self.size, dtype=bool)
        for blocks in self.shared.values():
            for block in blocks:
                rows = self.rows_of(block)
                mask[rows.start : rows.stop] = True
        return mask

    @cached_property
    def via_blocks(self) -> list[frozenset[int]]:
        """The edge blocks that each via went through, its parents' included."""
        found: list[frozenset[int]] = []
        for via in self.graph.vias:
            found.append(frozenset(via.blocks).union(*(found[p] for p in via.parents)))
        return found

    def via_block_pairs(self, vias: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """Which block has to go to which, if each first via (of one class with the second) becomes the second."""
        seen, queue = set(vias), list(vias)
        pairs: set[tuple[int, int]] = set()
        while queue:
            v, w = (self.graph.vias[i] for i in queue.pop())
            pairs.update(zip(v.blocks, w.blocks, strict=True))
            parents = set(zip(v.parents, w.parents, strict=True)) - seen
            seen |= parents
            queue += parents
        return pairs

    def _name(self, key: Hashable) -> int:
        return self._names.setdefault(key, len(self._names))

    def _fixed(self) -> np.ndarray:
        fixed = np.zeros(self.size, dtype=bool)
        fixed[: self.num_nodes] = self.graph.pinned
        for port in (*self.graph.inputs, *self.graph.outputs):
            fixed[port.nodes] = True
        return fixed

    def _arcs(self) -> Iterator[Arcs]:
        """(tail, head, label, via) of every arc, block by block."""
        for number, block in enumerate(self.graph.edges):
            self.row_start[number + 1] = self.row_start[number]
            self._rows_of.append(np.zeros(block.shape[0], dtype=np.int64))
            self._by_dst.append(False)
            if not block.size:
                continue
            if block.constant and not _uniform(block):
                yield self._constant_arcs(block)
                continue
            yield from self._block_arcs(number, block)
        for link in self.graph.links:
            if link.size:
                yield self._link_arcs(link)

    def _block_arcs(self, number: int, block: EdgeBlock) -> Iterator[Arcs]:
        rows, by_dst = _merge(block)
        self._rows_of[number], self._by_dst[number] = rows, by_dst
        first = np.unique(rows, return_index=True)[1]
        self.row_start[number + 1] += len(first)
        item = self.num_nodes + self.row_start[number] + rows
        d, s = (slice(0, 1), slice(None)) if by_dst else (slice(None), first)
        dst, dst_row = block.dst[d], item[d]
        src, via, src_row = block.src[s], block.via[s], item[s]
        dst, dst_row = dst.reshape(-1), np.repeat(dst_row, block.shape[1])
        src, via, src_row = src.reshape(-1), via.reshape(-1), np.repeat(src_row, block.shape[2])
        place = occurrence(dst_row, dst)
        yield dst_row, dst, self._labels(("dst",), place), np.full(len(dst), -1)
        place = occurrence(src_row, src, via)
        yield src, src_row, self._labels(("src",), self.via_class[via], place), via

    def _constant_arcs(self, block: EdgeBlock) -> Arcs:
        """A constant cannot move: each (dst, src) pair is an arc labelled with its values."""
        b, n, k, s = block.shape
        values = np.ascontiguousarray(self.graph.values(block)).reshape(b * n * k, s)
        numbers = np.unique(values.view(np.void(values.itemsize * s).dtype).reshape(-1), return_inverse=True)
        value = np.array([self._name(("value", values.dtype.str, v.tobytes())) for v in numbers[0]])[numbers[1]]
        row = np.broadcast_to(np.arange(b)[:, None], block.src.shape)
        place = occurrence(*(np.ascontiguousarray(a).reshape(-1) for a in (row, block.src, block.via)))
        place = np.broadcast_to(place.reshape(b, 1, k), (b, n, k)).reshape(-1)
        src, via = (np.broadcast_to(a[:, None, :], (b, n, k)).reshape(-1) for a in (block.src, block.via))
        dst = np.broadcast_to(block.dst[:, :, None], (b, n, k)).reshape(-1)
        label = self._labels(("constant", block.role, block.slots.tobytes()), self.via_class[via], place, value)
        return src, dst, label, via

    def _link_arcs(self, link: LinkBlock) -> Arcs:
        columns = [self.via_class[link.via]]
        tag: tuple[Hashable, ...] = ("link", link.role, link.operand is not None)
        if link.operand is not None:
            columns.append(link.operand)
        if link.slot is not None:
            tag += (link.slot.shape[1],)
            columns += list(link.slot.T)
        return link.src, link.dst, self._labels(tag, *columns), link.via

    def _labels(self, tag: tuple[Hashable, ...], *columns: np.ndarray) -> np.ndarray:
        """Number the distinct tuples (tag, *columns), int64 of the columns' length."""
        first, inverse = distinct_tuples(*columns)
        keys = zip(*(np.asarray(c)[first].tolist() for c in columns), strict=True)
        return np.array([self._name(tag + key) for key in keys], dtype=np.int64)[inverse]

    def _initial(self) -> np.ndarray:
        colour = np.empty(self.size, dtype=np.int64)
        for group in self.graph.groups:
            colour[group.start : group.stop] = self._name(("kind", group.kind))
        for number, block in enumerate(self.graph.edges):
            rows = self.rows_of(number)
            if len(rows):
                what: tuple[Hashable, ...] = ("parameter",)
                if block.constant:
                    what = ("constant", self.graph.values(block)[:1, :1, :1, :1].tobytes())
                table = self.graph.constants if block.constant else self.graph.parameters
                dtype = table[block.view.name].dtype
                key = ("row", block.role, block.slots.shape, block.slots.tobytes(), dtype, what)
                colour[rows.start : rows.stop] = self._name(key)
        colour[self.fixed] = len(self._names) + np.flatnonzero(self.fixed)
        return colour

    def _finish(self, tail: np.ndarray, head: np.ndarray, label: np.ndarray, via: np.ndarray) -> None:
        item = np.concatenate([tail, head])
        other = np.concatenate([head, tail])
        label = np.concatenate([2 * label, 2 * label + 1])
        self.colour = _refine(self._initial(), item, other, label)
        colour = self.colour[other]
        label = np.unique(label * (int(self.colour.max(initial=0)) + 1) + colour, return_inverse=True)[1]
        order = np.lexsort((label, item))
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        self.start = np.searchsorted(item[order], np.arange(self.size + 1))
        self.label, self.other = label[order], other[order]
        self.via = np.concatenate([via, via])[order]
        self.twin = place[np.roll(np.arange(len(order)), len(tail))][order]
        new = np.ones(len(order), dtype=bool)
        new[1:] = (np.diff(self.label) != 0) | (np.diff(item[order]) != 0)
        bounds = np.append(np.flatnonzero(new), len(order))
        self.run = np.repeat(np.diff(bounds), np.diff(bounds))


def incidence(graph: ParameterGraph) -> Incidence:
    """The incidence of a graph, built on first use and kept with it."""
    return graph.derived("incidence", lambda: Incidence(graph))


def _merge(block: EdgeBlock) -> tuple[np.ndarray, bool]:
    """The row of each batch, int64 [B], and whether all batches are one row because they share their destinations.

    Batches with the same sources are one row too.
    """
    batches = block.shape[0]
    if batches == 1:
        return np.zeros(1, dtype=np.int64), False
    if _same_rows(block.src) and _same_rows(block.via):
        return np.zeros(batches, dtype=np.int64), False
    if _same_rows(block.dst):
        return np.zeros(batches, dtype=np.int64), True
    ports = block.src.astype(np.int64) << 32 | block.via
    if ports.shape[1] == 1:
        return np.unique(ports[:, 0], return_inverse=True)[1], False
    return np.unique(ports, axis=0, return_inverse=True)[1].reshape(-1), False


def _uniform(block: EdgeBlock) -> bool:
    """Whether all edges of a block have one and the same element."""
    return block.view.index is None and not any(
        s for n, s in zip(block.view.shape, block.view.strides, strict=True) if n > 1
    )


def _same_rows(ids: np.ndarray) -> bool:
    return ids.strides[0] == 0 or bool((ids == ids[:1]).all())


def _via_classes(graph: ParameterGraph) -> np.ndarray:
    """Via ids up to which edge blocks they name, int64 [vias]; blocks count by role and slots."""
    known: dict[Hashable, int] = {}
    classes: list[int] = []
    for via in graph.vias:
        blocks = tuple((graph.edges[b].role, graph.edges[b].shape[3]) for b in via.blocks)
        key = (via.op, via.attributes, via.sizes, tuple(classes[p] for p in via.parents), blocks)
        classes.append(known.setdefault(key, len(known)))
    return np.array(classes, dtype=np.int64)


def _refine(colour: np.ndarray, item: np.ndarray, other: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Colour refinement over arcs, int64 class numbers; stops when stable or after a bounded number of rounds."""
    order = np.argsort(item, kind="stable")
    item, other = item[order], other[order]
    label_hash = mix(label[order].astype(np.uint64) * GOLDEN + np.uint64(1))
    owners, starts = np.unique(item, return_index=True)
    if not len(owners):
        return np.unique(colour, return_inverse=True)[1]

    def step(colour: np.ndarray) -> np.ndarray:
        state = mix(np.unique(colour, return_inverse=True)[1].astype(np.uint64) + np.uint64(1))
        message = np.add.reduceat(mix(label_hash + state[other]), starts)
        state[owners] = mix(state[owners] + mix(message + GOLDEN))
        return state

    colour = refined(colour, step, _ROUNDS)
    return np.unique(colour, return_inverse=True)[1]
