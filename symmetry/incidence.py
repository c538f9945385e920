"""The parameter graph as one sparse graph with labelled arcs, the form in which automorphisms are searched.

Each complete bipartite part of an edge block (a *biclique*) becomes one vertex, joined to its sources and destinations:
permuting those maps the biclique to itself. No array here is as long as the parameters: a block has B * (N + K) arcs
instead of B * N * K * S. Each row of a shared parameter (see `tied_rows`) is a vertex too, joined to the ends that
it meets at all sites.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from ..ir.arrays import distinct_tuples, mix64, occurrence
from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph
from .passed_blocks import PassedBlocks
from .refinement import GOLDEN, refined
from .tied_rows import Merged, RowKeys, aligned_sites, overlapping, row_keys, shared_rows

__all__ = ["Biclique", "Incidence", "incidence"]

_ROUNDS = 64
Arcs = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""(tail, head, label, via), int64 [n] each."""


@dataclass(frozen=True, slots=True)
class Biclique:
    """One complete bipartite part of an edge block: one batch, or several that share their sources or destinations.

    Edge (i, j, s) of it is element [dst_b[i] + src_b[j], dst_n[i], src_k[j], s] of the block.

    block: index of the block. dst_nodes, dst_b, dst_n: int64 [n]. src_nodes, src_via, src_b, src_k: int64 [k].
    """

    block: int
    dst_nodes: np.ndarray
    dst_b: np.ndarray
    dst_n: np.ndarray
    src_nodes: np.ndarray
    src_via: np.ndarray
    src_b: np.ndarray
    src_k: np.ndarray

    @property
    def batch(self) -> int | None:
        """The batch of the block, if it is only one; destinations and sources are then in the order of the block."""
        first = int(self.dst_b[0] + self.src_b[0])
        alone = (self.dst_b == self.dst_b[0]).all() and (self.src_b == self.src_b[0]).all()
        return first if alone else None

    def index(self, dst: np.ndarray, src: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """View indices (b, n, k), broadcastable to [dst, src], of the edges at these positions of the biclique."""
        d, s = dst[:, None], src[None, :]
        return self.dst_b[d] + self.src_b[s], self.dst_n[d], self.src_k[s]


class Incidence:
    """The incidence graph in CSR form: items are the nodes 0 .. num_nodes - 1, then the bicliques, then the rows.

    Bicliques stand for blocks of parameters and for constant blocks of one value; other constant blocks become arcs.

    Attributes:
        row_start: The first row, that is, the number of nodes and bicliques.
        start: int64 [items + 1]; the arcs of item x are `slice(start[x], start[x + 1])` of the arrays [arcs], by label.
        label: int64 [arcs], one per (direction, role, via class, operand, slot, occurrence, colour of the other end).
        other: int64 [arcs], the other end.
        via: int64 [arcs], the via itself, -1 for arcs that have none.
        multiplicity: int64 [arcs], how many arcs of the item have this label.
        twin: int64 [arcs], the index of the same arc seen from its other end.
        colour: int64 [items], classes of colour refinement by structure, without values.
        fixed: bool [items], pinned nodes, inputs and outputs.
        passed: What edge blocks vias pass.
        via_class: int64 [vias], see `PassedBlocks`.
        base: Parameter name to the number of its first element, counting through the elements of all parameters.
    """

    def __init__(self, graph: ParameterGraph) -> None:
        self.graph = graph
        self.num_nodes = graph.num_nodes
        self.passed = PassedBlocks(graph)
        self.via_class = self.passed.classes
        sizes = {n: p.size for n, p in (*graph.parameters.items(), *graph.constants.items())}
        self.base = dict(zip(sizes, accumulate(sizes.values(), initial=0), strict=False))
        self._numbers: dict[Hashable, int] = {}
        self._bicliques: dict[int, Biclique] = {}
        self._biclique_of: list[np.ndarray] = []
        self._by_dst: list[bool] = []
        self._rows: dict[int, RowKeys] = {}
        self._row_forms: dict[Hashable, int] = {}
        self._row_ends: list[tuple[np.ndarray, ...]] = []
        self.biclique_start = np.zeros(len(graph.edges) + 1, dtype=np.int64)
        parts = list(self._arcs())
        self.row_start = self.size = int(self.num_nodes + self.biclique_start[-1])
        if self._row_ends:
            parts.append(self._row_arcs())
        none = np.zeros(0, dtype=np.int64)
        tail, head, label, via = (np.concatenate([none, *(p[i] for p in parts)]).astype(np.int64) for i in range(4))
        self.fixed = self._fixed()
        self._finish(tail, head, label, via)

    def arcs(self, item: int) -> list[tuple[int, int]]:
        """(label, other end) of each arc of an item."""
        run = slice(self.start[item], self.start[item + 1])
        return list(zip(self.label[run].tolist(), self.other[run].tolist(), strict=True))

    def block_of(self, item: int) -> int:
        """The index of the edge block that a biclique belongs to."""
        return int(np.searchsorted(self.biclique_start, item - self.num_nodes, side="right")) - 1

    def bicliques_of(self, block: int) -> range:
        """The bicliques of an edge block, as items."""
        return range(
            self.num_nodes + int(self.biclique_start[block]), self.num_nodes + int(self.biclique_start[block + 1])
        )

    def biclique_item(self, block: int, b: np.ndarray) -> np.ndarray:
        """The items of the bicliques that hold the batches b of an edge block, same shape."""
        return self.num_nodes + self.biclique_start[block] + self._biclique_of[block][b]

    def biclique(self, item: int) -> Biclique:
        """The biclique that an item stands for, expanded on first use."""
        found = self._bicliques.get(item)
        if found is None:
            found = self._bicliques[item] = self._expand(item)
        return found

    def _expand(self, item: int) -> Biclique:
        number = self.block_of(item)
        block = self.graph.edges[number]
        b = np.flatnonzero(self._biclique_of[number] == item - self.num_nodes - self.biclique_start[number])
        dst_b, dst_n = (a.reshape(-1) for a in np.meshgrid(b, np.arange(block.shape[1]), indexing="ij"))
        src_b, src_k = np.zeros(block.shape[2], dtype=np.int64), np.arange(block.shape[2])
        first = b[:1]
        if self._by_dst[number]:
            src_b, src_k = (a.reshape(-1) for a in np.meshgrid(b, src_k, indexing="ij"))
            dst_n, dst_b = np.arange(block.shape[1]), np.zeros(block.shape[1], dtype=np.int64)
            first = b
        return Biclique(
            number, block.dst[b if not self._by_dst[number] else b[:1]].reshape(-1), dst_b, dst_n,
            block.src[first].reshape(-1), block.via[first].reshape(-1), src_b, src_k,
        )  # fmt: skip

    @cached_property
    def quick(self) -> tuple[memoryview, memoryview, memoryview, memoryview, memoryview]:
        """Views that return plain integers, which loops over items read faster than arrays.

        start, other and colour, as above; a hash of the labels of each item's arcs, in order; whether no two arcs of an
        item have one label.
        """
        place = np.arange(len(self.label)) - np.repeat(self.start[:-1], np.diff(self.start))
        marks = mix64(self.label.astype(np.uint64) + mix64(place.astype(np.uint64)))
        sums, more = (np.concatenate([[0], np.cumsum(x)]) for x in (marks.view(np.int64), self.multiplicity > 1))
        form, parallel = (x[self.start[1:]] - x[self.start[:-1]] for x in (sums, more))
        arrays = (self.start, self.other, self.colour, form, parallel == 0)
        start, other, colour, forms, alone = (np.ascontiguousarray(a).data for a in arrays)
        return start, other, colour, forms, alone

    @cached_property
    def shared(self) -> dict[str, list[int]]:
        """Shared parameters: name to the indices of their edge blocks."""
        names = {b.view.name for b in self.graph.edges if b.tied}
        sites: dict[str, list[int]] = {name: [] for name in names}
        for number, block in enumerate(self.graph.edges):
            if block.view.name in names and not block.constant:
                sites[block.view.name].append(number)
        return sites

    @cached_property
    def other_sites(self) -> dict[int, tuple[int, list[int]]]:
        """For each block of a shared parameter the first site with the same rows, and one site of each other kind.

        Arcs of rows enforce sharing between sites with the same rows. A site that has no like is among its own others.
        Sites of another kind are listed if they may have elements in common with it.
        """
        found = {}
        for sites in self.shared.values():
            groups = aligned_sites({b: self._rows[b] for b in sites if b in self._rows})
            bounds = [self.graph.edges[g[0]].view.bounds() for g in groups]
            for group, near in zip(groups, overlapping(bounds), strict=True):
                others = [groups[n][0] for n in near]
                found.update(dict.fromkeys(group, (group[0], [*others, *(group if len(group) == 1 else ())])))
        return found

    @cached_property
    def has_other_sites(self) -> bool:
        """Whether any shared parameter has sites that arcs of rows do not tie to each other."""
        return any(others for _, others in self.other_sites.values())

    @cached_property
    def shared_bicliques(self) -> np.ndarray:
        """Boolean [items]: the bicliques of shared parameters."""
        mask = np.zeros(self.size, dtype=bool)
        for blocks in self.shared.values():
            for block in blocks:
                bicliques = self.bicliques_of(block)
                mask[bicliques.start : bicliques.stop] = True
        return mask

    @cached_property
    def ambiguous(self) -> np.ndarray:
        """Boolean [arcs]: those whose via may have another one as its image, which then names other edge blocks."""
        several = np.append(np.bincount(self.via_class)[self.via_class] > 1, False)
        return np.asarray(several[self.via])  # -1, for no via, is the last

    def arcs_with(self, vias: Collection[int]) -> np.ndarray:
        """The arcs that have one of these vias, int64 [n]."""
        wanted = np.sort(np.fromiter(vias, dtype=np.int64, count=len(vias)))
        order, ordered = self._by_via
        runs = zip(*(np.searchsorted(ordered, wanted, side=s).tolist() for s in ("left", "right")), strict=True)
        return np.concatenate([order[:0], *(order[a:b] for a, b in runs)])

    @cached_property
    def _by_via(self) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(self.via, kind="stable")
        return order, self.via[order]

    def _number(self, key: Hashable) -> int:
        return self._numbers.setdefault(key, len(self._numbers))

    def _fixed(self) -> np.ndarray:
        fixed = np.zeros(self.size, dtype=bool)
        fixed[: self.num_nodes] = self.graph.pinned
        for port in (*self.graph.inputs, *self.graph.outputs):
            fixed[port.nodes] = True
        return fixed

    def _arcs(self) -> Iterator[Arcs]:
        """(tail, head, label, via) of every arc, block by block."""
        for number, block in enumerate(self.graph.edges):
            self.biclique_start[number + 1] = self.biclique_start[number]
            self._biclique_of.append(np.zeros(block.shape[0], dtype=np.int64))
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
        bicliques, by_dst = _merge(block)
        self._biclique_of[number], self._by_dst[number] = bicliques, by_dst
        first = np.unique(bicliques, return_index=True)[1]
        self.biclique_start[number + 1] += len(first)
        item = self.num_nodes + self.biclique_start[number] + bicliques
        d, s = (slice(0, 1), slice(None)) if by_dst else (slice(None), first)
        dst, dst_item = block.dst[d], item[d]
        src, via, src_item = block.src[s], block.via[s], item[s]
        dst, dst_item = dst.reshape(-1), np.repeat(dst_item, block.shape[1])
        src, via, src_item = src.reshape(-1), via.reshape(-1), np.repeat(src_item, block.shape[2])
        dst_place, src_place = occurrence(dst_item, dst), occurrence(src_item, src, via)
        yield dst_item, dst, self._labels(("dst",), dst_place), np.full(len(dst), -1)
        yield src, src_item, self._labels(("src",), self.via_class[via], src_place), via
        if block.view.name in self._shared_index and not block.constant:
            merged = Merged(bicliques, first, by_dst)
            rows = row_keys(block, merged, self._shared_index[block.view.name], self._row_forms)
            self._rows[number] = rows
            own = item[first]
            self._row_ends += [
                (dst, dst_item, self._labels(("row dst",), dst_place), rows.dst),
                (src, src_item, self._labels(("row src",), self.via_class[via], src_place), rows.src),
                (own, own, self._labels(("row whole",), np.zeros_like(own)), rows.whole),
            ]

    def _row_arcs(self) -> Arcs:
        """The arcs between rows and the ends and bicliques that have them; counts the rows."""
        ends, bicliques, label, keys = (np.concatenate([e[i] for e in self._row_ends]) for i in range(4))
        row = shared_rows(keys)
        self.size += int(row.max(initial=-1)) + 1
        whole = np.arange(self.row_start)
        shared = row >= 0
        ends, bicliques, label, row = (x[shared] for x in (ends, bicliques, label, self.row_start + row))
        own = ends == bicliques
        whole[ends[own]] = row[own]
        inside = np.unique(np.stack([row[~own], whole[bicliques[~own]]]), axis=1)
        tail, head = np.concatenate([row, inside[0]]), np.concatenate([ends, inside[1]])
        label = np.concatenate([label, self._labels(("row inside",), np.zeros_like(inside[0]))])
        return tail, head, label, np.full(len(tail), -1)

    @cached_property
    def _shared_index(self) -> dict[str, bool]:
        """Shared parameters: name to whether the view of any site has an index array."""
        edges = self.graph.edges
        return {name: any(edges[b].view.index is not None for b in sites) for name, sites in self.shared.items()}

    def _constant_arcs(self, block: EdgeBlock) -> Arcs:
        """The arcs of a constant block, one per (dst, src), labelled with its values: constants cannot be permuted."""
        b, n, k, s = block.shape
        values = np.ascontiguousarray(self.graph.values(block)).reshape(b * n * k, s)
        numbers = np.unique(values.view(np.void(values.itemsize * s).dtype).reshape(-1), return_inverse=True)
        value = np.array([self._number(("value", values.dtype.str, v.tobytes())) for v in numbers[0]])[numbers[1]]
        batch = np.broadcast_to(np.arange(b)[:, None], block.src.shape)
        place = occurrence(*(np.ascontiguousarray(a).reshape(-1) for a in (batch, block.src, block.via)))
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
        """Consecutive numbers for the distinct tuples (tag, *columns); int64 [n] for columns [n]."""
        first, inverse = distinct_tuples(*columns)
        keys = zip(*(np.asarray(c)[first].tolist() for c in columns), strict=True)
        return np.array([self._number(tag + key) for key in keys], dtype=np.int64)[inverse]

    def _initial(self) -> np.ndarray:
        colour = np.empty(self.size, dtype=np.int64)
        for group in self.graph.groups:
            colour[group.start : group.stop] = self._number(("kind", group.kind))
        for number, block in enumerate(self.graph.edges):
            bicliques = self.bicliques_of(number)
            if len(bicliques):
                what: tuple[Hashable, ...] = ("parameter",)
                if block.constant:
                    what = ("constant", self.graph.values(block)[:1, :1, :1, :1].tobytes())
                table = self.graph.constants if block.constant else self.graph.parameters
                tensor = table[block.view.name]
                holds = (tensor.dtype, tensor.storage and tensor.storage.codes)
                key = ("biclique", block.role, block.slots.shape, block.slots.tobytes(), holds, what)
                colour[bicliques.start : bicliques.stop] = self._number(key)
        colour[self.row_start :] = self._number("row")
        colour[self.fixed] = len(self._numbers) + np.flatnonzero(self.fixed)
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
        self.multiplicity = np.repeat(np.diff(bounds), np.diff(bounds))


def incidence(graph: ParameterGraph) -> Incidence:
    """The incidence graph of a parameter graph, built on first use and cached with it."""
    return graph.derived("incidence", lambda: Incidence(graph))


def _merge(block: EdgeBlock) -> tuple[np.ndarray, bool]:
    """The biclique of each batch, int64 [B], and whether all are one because they share their destinations.

    Batches with the same sources and vias are one biclique too: swapping a destination of one with a destination of
    another then moves no source.
    """
    batches = block.shape[0]
    if batches == 1:
        return np.zeros(1, dtype=np.int64), False
    if _broadcast(block.src) and _broadcast(block.via):
        return np.zeros(batches, dtype=np.int64), False
    if _broadcast(block.dst):
        return np.zeros(batches, dtype=np.int64), True
    signals = block.src.astype(np.int64) << 32 | block.via
    if signals.shape[1] == 1:
        return np.unique(signals[:, 0], return_inverse=True)[1], False
    return np.unique(signals, axis=0, return_inverse=True)[1].reshape(-1), False


def _uniform(block: EdgeBlock) -> bool:
    """Whether all edges of a block carry one and the same element."""
    return block.view.index is None and not any(
        s for n, s in zip(block.view.shape, block.view.strides, strict=True) if n > 1
    )


def _broadcast(ids: np.ndarray) -> bool:
    """Whether all rows of [B, n] ids are equal."""
    return ids.strides[0] == 0 or bool((ids == ids[:1]).all())


def _refine(colour: np.ndarray, item: np.ndarray, other: np.ndarray, label: np.ndarray) -> np.ndarray:
    """Colour refinement over labelled arcs: int64 class numbers [items].

    Stopping after `_ROUNDS` rounds only leaves classes too coarse, which costs time later and claims nothing.
    """
    order = np.argsort(item, kind="stable")
    item, other = item[order], other[order]
    label_hash = mix64(label[order].astype(np.uint64) * GOLDEN + np.uint64(1))
    owners, starts = np.unique(item, return_index=True)
    if not len(owners):
        return np.unique(colour, return_inverse=True)[1]

    def one_round(colour: np.ndarray) -> np.ndarray:
        state = mix64(np.unique(colour, return_inverse=True)[1].astype(np.uint64) + np.uint64(1))
        message = np.add.reduceat(mix64(label_hash + state[other]), starts)
        state[owners] = mix64(state[owners] + mix64(message + GOLDEN))
        return state

    colour = refined(colour, one_round, _ROUNDS)
    return np.unique(colour, return_inverse=True)[1]
