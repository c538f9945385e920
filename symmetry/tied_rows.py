"""Rows of shared parameters: the sets of elements that meet at one end of an edge block, named so that sites agree.

A symmetry permutes the elements of a shared parameter alike at all of its sites, so it takes the set of elements at one
end of a site (a row of a matrix, a column, the kernel of a channel) to such a set, and every other site that has the
first set as the elements of one of its ends must take that end along. `Incidence` makes one vertex of each row that
occurs more than once, and so of the set of all elements of a biclique: swap closure and lockstep then follow weight
sharing as they follow any other arc.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from heapq import heappop, heappush

import numpy as np

from ..ir.arrays import mix64
from ..ir.graph import EdgeBlock
from ..ir.views import ParameterView

__all__ = ["Merged", "RowKeys", "aligned_sites", "overlapping", "row_keys", "shared_rows"]


@dataclass(frozen=True, slots=True)
class Merged:
    """The batches of an edge block by biclique, see `Incidence`.

    biclique: int64 [B], the biclique of each batch. first: int64 [bicliques], the first batch of each. by_dst: whether
    all batches are one biclique because they share their destinations.
    """

    biclique: np.ndarray
    first: np.ndarray
    by_dst: bool


@dataclass(frozen=True, slots=True)
class RowKeys:
    """The rows of one edge block: two of them have equal keys if and only if they hold the same elements.

    A key is int64 [2]: the form of the row and its place.

    dst, src: int64 [destinations, 2] and [sources, 2], the rows at the ends of its bicliques, in order. whole: int64
    [bicliques, 2], all elements of each biclique.
    """

    dst: np.ndarray
    src: np.ndarray
    whole: np.ndarray


def row_keys(block: EdgeBlock, merged: Merged, hashed: bool, forms: dict[Hashable, int]) -> RowKeys:
    """The rows of a block of a shared parameter.

    Args:
        block: The block.
        merged: Its bicliques.
        hashed: Whether to name rows by a hash of their elements, which all sites of a parameter do if one of them has
            an index array; else by offset and strides, without expanding anything.
        forms: Numbers of the forms so far; new ones are added.
    """
    if hashed:
        return _hashed(block, merged, forms)
    view = block.view
    batch, dst, src, slot = zip(view.shape, view.strides, strict=True)
    every, ends, sources = (np.arange(n, dtype=np.int64) * s for n, s in (batch, dst, src))
    if merged.by_dst:
        return RowKeys(
            _keys(view, forms, ends, (batch, src, slot)),
            _keys(view, forms, _sums(every, sources), (dst, slot)),
            _keys(view, forms, every[:1], (batch, dst, src, slot)),
        )
    along = (batch,) if len(merged.first) == 1 else ()
    tails = _keys(view, forms, _sums(every[merged.first], sources), (*along, dst, slot))
    whole = _keys(view, forms, every[merged.first], (*along, dst, src, slot))
    if 1 < len(merged.first) < batch[0]:
        batches = np.array([forms.setdefault(key, len(forms)) for key in _batches(merged)], dtype=np.int64)
        tails[:, 0] += np.repeat(batches, src[0]) << 32
        whole[:, 0] += batches << 32
    return RowKeys(_keys(view, forms, _sums(every, ends), (src, slot)), tails, whole)


def _sums(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return (outer[:, None] + inner).reshape(-1)


def _batches(merged: Merged) -> Iterator[Hashable]:
    """For each biclique its batches, counted from the first one."""
    for number, first in enumerate(merged.first.tolist()):
        yield (np.flatnonzero(merged.biclique == number) - first).tobytes()


def _keys(
    view: ParameterView, forms: dict[Hashable, int], offsets: np.ndarray, axes: Iterable[tuple[int, int]]
) -> np.ndarray:
    """Keys of the rows that start at these offsets and extend along these axes (length, stride)."""
    low = view.offset
    run: list[tuple[int, int]] = []
    for length, stride in sorted(((n, s) for n, s in axes if n > 1 and s), key=lambda a: abs(a[1])):
        low += min(0, (length - 1) * stride)
        if run and run[-1][0] * run[-1][1] == abs(stride):
            run[-1] = run[-1][0] * length, run[-1][1]
        else:
            run.append((length, abs(stride)))
    form = forms.setdefault((view.name, *run), len(forms))
    return np.stack([np.full(len(offsets), form), offsets + low], axis=1)


def _hashed(block: EdgeBlock, merged: Merged, forms: dict[Hashable, int]) -> RowKeys:
    """Keys of rows by the sum of the hashes of their elements."""
    marks = mix64(block.view.elements().astype(np.uint64) + np.uint64(1))
    dst, src = marks.sum(axis=(2, 3)), marks.sum(axis=(1, 3))
    if merged.by_dst:
        dst = dst.sum(axis=0)
    else:
        batches, src = src, np.zeros((len(merged.first), src.shape[1]), dtype=np.uint64)
        np.add.at(src, merged.biclique, batches)
    whole = np.zeros(len(merged.first), dtype=np.uint64)
    np.add.at(whole, merged.biclique, marks.sum(axis=(1, 2, 3)))
    form = forms.setdefault((block.view.name, "hashed"), len(forms))
    return RowKeys(
        *(np.stack([np.full(x.size, form), x.reshape(-1).view(np.int64)], axis=1) for x in (dst, src, whole))
    )


def aligned_sites(rows: Mapping[int, RowKeys]) -> list[list[int]]:
    """Group the sites of a parameter: those of one group have the same rows at their ends.

    Args:
        rows: The rows of each edge block of the parameter, by block.

    Returns:
        The blocks of each group, ascending.
    """
    groups: dict[Hashable, list[int]] = {}
    for block, keys in rows.items():
        sides = (np.unique(side, axis=0).tobytes() for side in (keys.dst, keys.src))
        groups.setdefault(frozenset(sides), []).append(block)
    return list(groups.values())


def overlapping(bounds: Sequence[tuple[int, int]]) -> list[list[int]]:
    """For each range (lowest, highest) the numbers of the others that have an element in common with it, ascending."""
    found: list[list[int]] = [[] for _ in bounds]
    open_ranges: list[tuple[int, int]] = []
    for low, number in sorted((low, n) for n, (low, _) in enumerate(bounds)):
        while open_ranges and open_ranges[0][0] < low:
            heappop(open_ranges)
        for _, other in open_ranges:
            found[other].append(number)
            found[number].append(other)
        heappush(open_ranges, (bounds[number][1], number))
    return [sorted(f) for f in found]


def shared_rows(keys: np.ndarray) -> np.ndarray:
    """Number the rows that occur more than once, int64 [n] for keys [n, 2]; -1 for the others."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))
    same = np.empty(len(keys), dtype=np.int64)
    same[order] = np.cumsum(np.append(0, (np.diff(keys[order], axis=0) != 0).any(axis=1)))
    repeated = np.bincount(same) > 1
    return np.asarray(np.where(repeated, np.cumsum(repeated) - 1, -1)[same], dtype=np.int64)
