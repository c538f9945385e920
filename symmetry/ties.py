"""Weight sharing under permutation: an element that moves at one site must move alike at all sites of its tensor.

Two questions: which pairs a partial automorphism forces elsewhere (`forced_pairs`, a few probes per axis suffice to
name them), and whether a complete one respects sharing (`ties_hold`, exact). Both map elements to edges with `locate`,
which inverts a strided view digit by digit, so that nothing expands a large tensor unless it must.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping

import numpy as np

from ..ir.views import ParameterView
from .automorphism import Automorphism, BicliqueMap, Positions, biclique_map, touched_bicliques
from .incidence import Incidence

__all__ = ["forced_pairs", "locate", "ties_hold"]

_PROBES = 32
"""Positions per axis that `forced_pairs` looks at; `ties_hold` checks all of them in the end."""

Box = tuple[np.ndarray, np.ndarray]
"""A rectangle of (destination, source) positions of a biclique."""


def forced_pairs(
    index: Incidence, automorphism: Automorphism, new: Collection[int] | None = None
) -> set[tuple[int, int]] | None:
    """The pairs (item, image) that a partial automorphism forces at the other sites of shared parameters.

    Sites with the same rows need no more than their arcs (see `tied_rows`), so one of them stands for all.

    Args:
        index: The incidence graph.
        automorphism: What is known so far.
        new: Follow only what these moved items touch; None for all.

    Returns:
        The pairs; None if a moved element is on an edge of another site and its image is not, which is a contradiction.
    """
    speaker: dict[int, int] = {}
    moving: dict[int, list[np.ndarray]] = defaultdict(list)
    for item, image in touched_bicliques(index, automorphism, new):
        if not index.shared_bicliques[item]:
            continue
        block = index.block_of(item)
        first, others = index.other_sites[block]
        if not others or speaker.setdefault(first, block) != block:
            continue
        move = biclique_map(index, automorphism, item, image)
        moving[block] += map(np.stack, _entries(index, move, _probing(move, _PROBES), _PROBES))
    pairs: set[tuple[int, int]] = set()
    for block, parts in moving.items():
        old, image_of = np.concatenate(parts, axis=1)
        for site in index.other_sites[block][1]:
            found = _at_site(index, site, old, image_of)
            if found is None:
                return None
            pairs |= found
    return pairs


def ties_hold(index: Incidence, automorphism: Automorphism) -> bool:
    """Whether an automorphism permutes the elements of every shared parameter alike at all of its sites."""
    moves: dict[int, list[BicliqueMap]] = {}
    for item, image in touched_bicliques(index, automorphism):
        if index.shared_bicliques[item] or index.shared_bicliques[image]:
            moves.setdefault(index.block_of(item), []).append(biclique_map(index, automorphism, item, image))
    names = dict.fromkeys(index.graph.edges[b].view.name for b in moves)
    return all(
        _alike_by_axis(index, blocks, moves) or _alike_by_element(index, blocks, moves)
        for blocks in (index.shared[name] for name in names if name in index.shared)
    )


def _alike_by_axis(index: Incidence, blocks: list[int], moves: Mapping[int, list[BicliqueMap]]) -> bool:
    """The cheap test: all sites view the same elements along the same axes and permute each axis alike.

    False may only mean that the sites are not of this form; `_alike_by_element` then decides.
    """
    views = [index.graph.edges[b].view for b in blocks]
    if any(len(index.bicliques_of(b)) != 1 for b in blocks) or any(_nested(v) is None for v in views):
        return False
    if len({(v.bounds(), _axes(v, (0, 1, 2, 3))) for v in views}) != 1:
        return False
    found = []
    for block, view in zip(blocks, views, strict=True):
        move = moves[block][0] if block in moves else None
        if move is not None and not move.stays:
            return False
        found.append({} if move is None else _axis_moves(view, move))
    return all(f == found[0] for f in found)


def _axes(view: ParameterView, axes: tuple[int, ...]) -> frozenset[tuple[int, int]]:
    return frozenset((view.shape[a], view.strides[a]) for a in axes if view.shape[a] > 1)


def _axis_moves(view: ParameterView, move: BicliqueMap) -> dict[frozenset[tuple[int, int]], set[tuple[int, int]]]:
    """By how many elements each offset along the view's axes moves: {axes: {(offset, shift)}}."""
    source, found = move.source, {}
    along_b = bool(source.src_b.any())
    sides = (
        (move.dst, source.dst_b * view.strides[0] + source.dst_n * view.strides[1], (1,) if along_b else (0, 1)),
        (move.src, source.src_b * view.strides[0] + source.src_k * view.strides[2], (0, 2) if along_b else (2,)),
    )
    for images, offsets, axes in sides:
        moved = np.flatnonzero(images != np.arange(len(images)))
        if len(moved):
            shifts = offsets[images[moved]] - offsets[moved]
            found[_axes(view, axes)] = set(zip(offsets[moved].tolist(), shifts.tolist(), strict=True))
    return found


def _alike_by_element(index: Incidence, blocks: list[int], moves: Mapping[int, list[BicliqueMap]]) -> bool:
    """The exact test: there is one map of elements, and every site maps those that it has as this map does."""
    maps: dict[int, np.ndarray] = {}
    for block in blocks:
        parts = [np.zeros((2, 0), dtype=np.int64)]
        for move in moves.get(block, ()):
            for old, new in _entries(index, move, move.boxes()):
                parts.append(np.stack([old, new])[:, old != new])
        maps[block] = _ascending(np.concatenate(parts, axis=1))
    every = _ascending(np.concatenate(list(maps.values()), axis=1))
    same = np.zeros(every.shape[1], dtype=bool)
    same[1:] = np.diff(every[0]) == 0
    if (same[1:] & (np.diff(every[1]) != 0)).any():
        return False
    every = every[:, ~same]
    for block, ours in maps.items():
        view = index.graph.edges[block].view
        low, high = (index.base[view.name] + b for b in view.bounds())
        some = every[:, slice(*np.searchsorted(every[0], [low, high + 1]))]
        inside = _found(index, block, some[0])[0] >= 0
        if not _contains(ours, some[:, inside]):
            return False
    return True


def _ascending(pairs: np.ndarray) -> np.ndarray:
    return pairs[:, np.argsort(pairs[0], kind="stable")]


def _contains(pairs: np.ndarray, some: np.ndarray) -> bool:
    """Whether every column of `some` is among the (ascending) columns of `pairs`."""
    if not some.size or not pairs.size:
        return not some.size
    at = np.minimum(np.searchsorted(pairs[0], some[0]), pairs.shape[1] - 1)
    return bool((pairs[:, at] == some).all())


def locate(view: ParameterView, elements: np.ndarray) -> np.ndarray:
    """Invert a view: the indices (b, n, k, s) of flat element numbers.

    Args:
        view: The view.
        elements: int64 [n], flat element numbers.

    Returns:
        int64 [4, n]; the first index where a view holds an element several times, -1 where it does not hold it.
    """
    nested = _nested(view)
    if nested is None:
        every = view.elements().reshape(-1)
        order = np.argsort(every, kind="stable")
        at = np.minimum(np.searchsorted(every[order], elements), len(order) - 1)
        found = every[order][at] == elements
        place = np.array(np.unravel_index(order[at], view.shape), dtype=np.int64)
        return np.where(found, place, -1)
    # Strides that nest are the place values of a mixed-radix number, so division gives one index per axis.
    rest = elements - view.bounds()[0]
    found = rest >= 0
    place = np.zeros((4, len(elements)), dtype=np.int64)
    for axis in nested:
        stride, size = view.strides[axis], view.shape[axis]
        digit = rest // abs(stride)
        found &= digit < size
        rest = rest - digit * abs(stride)
        place[axis] = digit if stride > 0 else size - 1 - digit
    return np.where(found & (rest == 0), place, -1)


def _nested(view: ParameterView) -> list[int] | None:
    """The axes by falling stride if they nest like the digits of a mixed-radix number, else None."""
    if view.index is not None:
        return None
    axes = sorted((a for a in range(4) if view.shape[a] > 1), key=lambda a: -abs(view.strides[a]))
    reach = 0
    for axis in reversed(axes):
        if abs(view.strides[axis]) <= reach:
            return None
        reach += (view.shape[axis] - 1) * abs(view.strides[axis])
    return axes


def _entries(
    index: Incidence, move: BicliqueMap, boxes: Iterable[Box], probes: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(elements, their images) of the edges of a biclique in these rectangles, flat and aligned.

    probes: number of slots to look at; None for all.
    """
    slots = _few(np.arange(index.graph.edges[move.source.block].shape[3]), probes)
    for dst, src in boxes:
        here, there = move.entries(dst, src)
        yield _elements(index, move.source.block, here, slots), _elements(index, move.image.block, there, slots)


def _probing(move: BicliqueMap, probes: int) -> Iterator[Box]:
    """Rectangles that hold at least one edge of every moved end."""
    every = np.arange(len(move.dst)), np.arange(len(move.src))
    few = _few(every[0], probes), _few(every[1], probes)
    if not move.stays:
        yield every[0], few[1][:1]
        yield few[0][:1], every[1]
        return
    dst, src = (e[e != place] for e, place in zip(every, (move.dst, move.src), strict=True))
    if len(dst):
        yield dst, few[1]
    if len(src):
        yield few[0], src


def _few(positions: np.ndarray, most: int | None) -> np.ndarray:
    """At most so many of the positions, evenly spaced."""
    return positions if most is None else positions[:: max(1, -(-len(positions) // most))]


def _elements(index: Incidence, block: int, at: Positions, slots: np.ndarray) -> np.ndarray:
    """Element numbers of these edges in these slots, int64 [edges * slots], counting through all parameters."""
    view = index.graph.edges[block].view
    base = index.base[view.name]
    b, n, k = (a[..., None] for a in at)
    if view.index is not None:
        return base + view.index[b, n, k, slots].reshape(-1)
    strides = view.strides
    first = base + view.offset + b * strides[0] + n * strides[1] + k * strides[2]
    return np.asarray(first + slots * strides[3], dtype=np.int64).reshape(-1)


def _found(index: Incidence, block: int, elements: np.ndarray) -> np.ndarray:
    """`locate` for element numbers that count through all parameters."""
    view = index.graph.edges[block].view
    return locate(view, elements - index.base[view.name])


def _at_site(index: Incidence, site: int, old: np.ndarray, new: np.ndarray) -> set[tuple[int, int]] | None:
    """Pairs (item, image) at a site for elements old -> new; None if the site holds only one of the two."""
    block = index.graph.edges[site]
    moved = old != new
    before, after = _found(index, site, old[moved]), _found(index, site, new[moved])
    if ((before[0] < 0) != (after[0] < 0)).any():
        return None
    here = before[0] >= 0
    if not here.any():
        return set()
    (b, n, k, s), (b2, n2, k2, s2) = before[:, here], after[:, here]
    if (s != s2).any():
        return None
    ends = (
        (block.dst[b, n], block.dst[b2, n2]),
        (block.src[b, k], block.src[b2, k2]),
        (index.biclique_item(site, b), index.biclique_item(site, b2)),
    )
    pairs: set[tuple[int, int]] = set()
    for x, y in ends:
        pairs.update(zip(x[x != y].tolist(), y[x != y].tolist(), strict=True))
    return pairs
