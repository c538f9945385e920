"""Weight sharing under permutation: what a move at one site of a parameter forces at its other sites."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import permutations

import numpy as np

from .incidence import Incidence
from .permute import Automorphism, Positions, row_move, touched_rows
from .views import ParameterView

__all__ = ["forced_pairs", "locate", "ties_hold"]

_PROBES = 256


def forced_pairs(index: Incidence, automorphism: Automorphism) -> set[tuple[int, int]] | None:
    """Pairs (item, image) that the moves at each site of shared parameters force at the other sites.

    None if a moved element has a place at another site and its image has none.
    """
    pairs: set[tuple[int, int]] = set()
    for block, old, new in _moves(index, automorphism, _PROBES):
        for site in index.shared.get(index.graph.edges[block].view.name, ()):
            found = _at_site(index, site, old, new)
            if found is None:
                return None
            pairs |= found
    return pairs


def ties_hold(index: Incidence, automorphism: Automorphism) -> bool:
    """Whether all sites of every shared parameter permute its elements alike."""
    parts: dict[int, list[np.ndarray]] = {}
    for block, old, new in _moves(index, automorphism):
        parts.setdefault(block, []).append(np.stack([old, new])[:, old != new])
    maps = {block: _ascending(np.concatenate(part, axis=1)) for block, part in parts.items()}
    none = np.zeros((2, 0), dtype=np.int64)
    if any(((np.diff(m[0]) == 0) & (np.diff(m[1]) != 0)).any() for m in maps.values()):
        return False
    for blocks in index.shared.values():
        for a, b in permutations(blocks, 2):
            ours, theirs = maps.get(a, none), maps.get(b, none)
            inside = locate(index.graph.edges[b].view, ours[0])[0] >= 0
            if not _contains(theirs, ours[:, inside]):
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
    """View indices (b, n, k, s) of flat element numbers, int64 [4, n]; -1 where the view does not hold them.

    Where a view holds an element several times, its first place.
    """
    nested = _nested(view)
    if nested is None:
        every = view.elements().reshape(-1)
        order = np.argsort(every, kind="stable")
        at = np.minimum(np.searchsorted(every[order], elements), len(order) - 1)
        found = every[order][at] == elements
        place = np.array(np.unravel_index(order[at], view.shape), dtype=np.int64)
        return np.where(found, place, -1)
    rest = elements - view.bounds()[0]
    found = rest >= 0
    place = np.zeros((4, len(elements)), dtype=np.int64)
    for axis in nested:
        step, size = view.strides[axis], view.shape[axis]
        digit = rest // abs(step)
        found &= digit < size
        rest = rest - digit * abs(step)
        place[axis] = digit if step > 0 else size - 1 - digit
    return np.where(found & (rest == 0), place, -1)


def _nested(view: ParameterView) -> list[int] | None:
    """Axes by falling stride if they nest like digits of a number, else None."""
    if view.index is not None:
        return None
    axes = sorted((a for a in range(4) if view.shape[a] > 1), key=lambda a: -abs(view.strides[a]))
    reach = 0
    for axis in reversed(axes):
        if abs(view.strides[axis]) <= reach:
            return None
        reach += (view.shape[axis] - 1) * abs(view.strides[axis])
    return axes


def _moves(
    index: Incidence, automorphism: Automorphism, probes: int | None = None
) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """(block, old elements, new elements) of the moved entries of rows of shared parameters, flat and aligned.

    probes: how many of the other side are looked at for each moved end; by default all.
    """
    for item, image in touched_rows(index, automorphism):
        if not index.shared_rows[item] and not index.shared_rows[image]:
            continue
        move = row_move(index, automorphism, item, image)
        boxes = move.boxes()
        if probes is not None:
            dst, src = np.arange(len(move.dst)), np.arange(len(move.src))
            boxes = [b for d, s in boxes for b in ((d, _few(src, probes)), (_few(dst, probes), s))]
        for dst, src in boxes:
            here, there = move.entries(dst, src)
            source, target = index.block_of(item), index.block_of(image)
            yield source, _elements(index, source, here), _elements(index, target, there)


def _few(positions: np.ndarray, most: int) -> np.ndarray:
    return positions[:: max(1, -(-len(positions) // most))]


def _elements(index: Incidence, block: int, at: Positions) -> np.ndarray:
    """Flat element numbers of these entries in all slots, int64 [entries * S]."""
    view = index.graph.edges[block].view
    if view.index is not None:
        return view.index[at].reshape(-1)
    first = view.offset + sum(a * s for a, s in zip(at, view.strides[:3], strict=True))
    return (np.asarray(first)[..., None] + np.arange(view.shape[3]) * view.strides[3]).reshape(-1)


def _at_site(index: Incidence, site: int, old: np.ndarray, new: np.ndarray) -> set[tuple[int, int]] | None:
    """Node and row pairs at a site for elements old -> new; None if only one of the two has a place there."""
    block = index.graph.edges[site]
    moved = old != new
    before, after = locate(block.view, old[moved]), locate(block.view, new[moved])
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
        (index.row_item(site, b), index.row_item(site, b2)),
    )
    pairs: set[tuple[int, int]] = set()
    for x, y in ends:
        pairs.update(zip(x[x != y].tolist(), y[x != y].tolist(), strict=True))
    return pairs
