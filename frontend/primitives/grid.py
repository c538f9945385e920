"""Grids: the positions that the array of a label covers, and how data movement changes them.

A label stands for one array: what its node computes, after its via, over its *grid*, the unlabelled axes of the value
(those of size > 1, in order). Entries with equal labels are therefore equal position by position, in whatever value
they occur; all primitives rely on this invariant. Data movement that selects, repeats, reorders or regroups positions
is a via step (see `moves`). Where a labelled axis is merged with an unlabelled one, entries of one neuron become
different positions with different moves; splitting the axes again cancels the moves.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir.arrays import distinct, distinct_rows
from ..budget import MAX_LABELS, MAX_MOVES, MAX_POSITIONS, check_limit
from .labels import compress, constant_along, distinct_vias, map_via, nodes_of, periodic, to_labels, varying, vias_of
from .movement import apply_movement
from .moves import Change, Grid, Move, Moves

__all__ = [
    "Unfolded",
    "copied_axes",
    "free_axes",
    "moved",
    "placed",
    "runs",
    "spread",
    "stacked",
    "unfold",
]

Factors = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Unfolded:
    """Labels with their last moves split off.

    Attributes:
        which: An id of the moved-from label and its grid per entry, int64 of the labels' shape; see `origin`.
        bases: The distinct grids that were moved from.
        at: Positions in that grid, int64 [*labels.shape, positions], or [1, ..., positions] if all labels have the
            same, so that labels without moves cost nothing.
    """

    which: np.ndarray
    bases: tuple[Grid, ...]
    at: np.ndarray
    _origins: np.ndarray | None = None

    def origin(self, which: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The labels, and the indices into `bases`, that entries of `which` stand for, int64."""
        if self._origins is None:
            return which, np.zeros_like(which)
        return self._origins[which, 0], self._origins[which, 1]

    @property
    def places(self) -> np.ndarray | None:
        """The positions, int64 [positions], if they are the same for every label, else None."""
        return self.at.reshape(-1) if self.at.size == self.at.shape[-1] else None


def free_axes(factors: Sequence[np.ndarray], shape: Sequence[int]) -> list[int]:
    """The free axes: those of size > 1 along which no label varies."""
    return [a for a, n in enumerate(shape) if n > 1 and all(f.shape[a] == 1 for f in factors)]


def copied_axes(moves: Moves, factors: Sequence[np.ndarray], shape: Sequence[int]) -> frozenset[int]:
    """The free axes along which all entries are copies, as the last moves of the labels tell."""
    axes = free_axes(factors, shape)
    grid = tuple(shape[a] for a in axes)
    if not axes or any(moves.none(f, grid) for f in factors):
        return frozenset()
    alike = set(axes)
    for factor in factors:
        at = unfold(moves, factor, grid).at.reshape(-1, *grid)
        alike -= {a for i, a in enumerate(axes, 1) if not constant_along(at, i)}
    return frozenset(alike)


def unfold(moves: Moves, labels: np.ndarray, grid: Grid) -> Unfolded:
    """Split the last moves off labels over this grid."""
    vias, inverse = distinct_vias(labels)
    split = [moves.split(int(v), grid) for v in vias]
    at = _at(split, inverse)
    parents = np.array([m.parent for m in split])
    bare = labels
    if (parents != vias).any():
        bare = np.where(labels < 0, labels, to_labels(nodes_of(labels), parents[inverse]))
    bases = tuple(dict.fromkeys(m.base for m in split))
    if len(bases) == 1:
        return Unfolded(bare, bases, at)
    base = np.array([bases.index(m.base) for m in split])[inverse]
    rows = np.stack([bare.reshape(-1), base.reshape(-1)], axis=1)
    first, which = distinct_rows(rows)
    return Unfolded(which.reshape(labels.shape), bases, at, rows[first])


def _at(split: Sequence[Move], inverse: np.ndarray) -> np.ndarray:
    first = split[0].at
    if all(m.at is first or np.array_equal(m.at, first) for m in split[1:]):
        return first.reshape(*(1 for _ in inverse.shape), -1)
    check_limit(inverse.size * len(first), MAX_POSITIONS, "moved positions of its operand")
    return np.stack([m.at for m in split])[inverse]


def placed(moves: Moves, found: Unfolded, which: np.ndarray, at: np.ndarray, grid: Grid) -> np.ndarray:
    """Labels after moves, the inverse of `unfold`.

    Args:
        moves: The moves of the graph.
        found: The labels without moves.
        which: Ids as in `found`.
        at: Positions, int64 [which.size or 1, positions].
        grid: The grid that `at` covers.

    Returns:
        Labels of the shape of `which`.
    """
    check_limit(which.size, MAX_LABELS, "labels of a value")
    labels, base = found.origin(which)
    if len(at) == 1 and len(found.bases) == 1:
        change = moves.change(found.bases[0], grid, at[0])
        return map_via(labels, lambda via: moves.append(via, change))
    kinds, kind = (np.zeros(1, np.int64), np.zeros(which.size, np.int64)) if len(at) == 1 else distinct_rows(at)
    vias = vias_of(labels).reshape(-1)
    first, pair = distinct_rows(np.stack([vias, base.reshape(-1), kind], axis=1))
    check_limit(len(first), MAX_MOVES, "distinct moves of entries")
    changes: dict[tuple[int, int], Change | None] = {}
    new = np.empty(len(first), np.int64)
    for i, (via, b, k) in enumerate(np.stack([vias, base.reshape(-1), kind], axis=1)[first].tolist()):
        if (b, k) not in changes:
            changes[b, k] = moves.change(found.bases[b], grid, at[kinds[k]])
        new[i] = moves.append(via, changes[b, k])
    return np.where(labels < 0, labels, to_labels(nodes_of(labels), new[pair].reshape(which.shape)))


def moved(
    moves: Moves, factors: Factors, shape: tuple[int, ...], function: Callable[[np.ndarray], np.ndarray],
    new_shape: tuple[int, ...], join: Callable[[Factors], np.ndarray],
) -> Factors:  # fmt: skip
    """Apply data movement to the labels of a value.

    Args:
        moves: The moves of the graph.
        factors: The labels.
        shape: The shape of the value.
        function: The data movement on an array of this shape.
        new_shape: The shape of the result.
        join: Joins all factors into one, used where the movement makes them depend on each other.

    Returns:
        The labels of the result.
    """
    if 0 in shape or 0 in new_shape:
        return tuple(compress(function(np.broadcast_to(f, shape)).reshape(new_shape)) for f in factors)
    axes = free_axes(factors, shape)
    moved_parts = [_moved_parts(moves, f, shape, axes, function, new_shape) for f in factors]
    labelled = [varying(which) for _, which, _ in moved_parts]
    grid = [a for a, n in enumerate(new_shape) if n > 1 and not any(a in own for own in labelled)]
    out = []
    for (found, which, at), own in zip(moved_parts, labelled, strict=True):
        elsewhere = [a for a, n in enumerate(new_shape) if n > 1 and a not in own and a not in grid]
        if not all(constant_along(at, a) for a in elsewhere):
            return moved(moves, (join(factors),), shape, function, new_shape, join)
        out.append(_settle(moves, found, which, at, grid))
    return tuple(out)


def spread(
    moves: Moves, labels: np.ndarray, shape: tuple[int, ...], axes: Sequence[int], new_shape: tuple[int, ...],
    keep: Sequence[int], grid: Sequence[int],
) -> np.ndarray:  # fmt: skip
    """Broadcast labels to `new_shape`, with one label per position along the axes `keep`.

    Args:
        moves: The moves of the graph.
        labels: The labels of the value.
        shape: Its shape.
        axes: The axes of its grid.
        new_shape: The shape to broadcast to.
        keep: The axes along which the result has a label per position.
        grid: The axes of the result's grid.

    Returns:
        The labels of the result, of size 1 along other axes than `keep` and those on which they vary.
    """
    if shape == new_shape and set(keep) <= set(varying(labels)) and list(axes) == list(grid):
        return labels
    found, which, at = _moved_parts(moves, labels, shape, axes, lambda a: np.broadcast_to(a, new_shape), new_shape)
    own = {*keep, *varying(labels)}
    part = tuple(slice(None) if a in own else slice(0, 1) for a in range(len(new_shape)))
    return compress(_settle(moves, found, np.broadcast_to(which, new_shape)[part], at, grid))


def stacked(moves: Moves, labels: np.ndarray, grid: Grid, whole: bool = False) -> np.ndarray:
    """Merge labels in unordered rows that are positions of one array into a single label over all these positions.

    Args:
        moves: The moves of the graph.
        labels: Labels [n, m] whose order within a row does not matter.
        grid: Their grid.
        whole: Whether the order within their arrays does not matter either.

    Returns:
        Labels [n, k] with one label per array, if each array occurs equally often; else `labels`.
    """
    found = unfold(moves, labels, grid)
    n, m = labels.shape
    kind = np.zeros((n, m), np.int64)
    if found.places is None:
        kind = np.unique(found.at.reshape(n * m, -1), axis=0, return_inverse=True)[1].reshape(n, m)
    order = np.lexsort((kind, found.which), axis=1)
    which = np.take_along_axis(found.which, order, axis=1)
    count = len(distinct(which[0])) if n else 0
    if not count or m % count:
        return labels
    which = which.reshape(n, count, -1)
    if (which != which[:, :, :1]).any() or (count == m and not whole):
        return labels
    times = m // count
    if found.places is not None:
        at = np.repeat(found.places, times)[None]
    else:
        at = np.take_along_axis(found.at, order[:, :, None], axis=1).reshape(n * count, times, -1)
        at = at.swapaxes(1, 2).reshape(n * count, -1)
    if not whole:
        return placed(moves, found, which[:, :, 0], at, (*grid, times))
    found = replace(found, bases=tuple((math.prod(base),) for base in found.bases))
    return placed(moves, found, which[:, :, 0], np.sort(at, axis=1), (at.shape[1],))


def runs(
    moves: Moves, labels: np.ndarray, sizes: Sequence[int], slots: Sequence[int]
) -> tuple[np.ndarray, tuple[int, int]]:
    """Factor rows of labels into `tile x distinct x run`, with repetitions moved into the grid.

    Args:
        moves: The moves of the graph.
        labels: Labels [b, k].
        sizes: The grid of the labels.
        slots: The axes of the grid that are slots.

    Returns:
        Labels [b, d] of distinct arrays, whose grid ends in tile and run and then the axes `slots`; and (tile, run).
    """
    if moves.none(labels, tuple(sizes)) and list(slots) == list(range(len(sizes)))[len(sizes) - len(slots) :]:
        tile, _, run = periodic(labels)
        if tile == run == 1:
            return labels, (1, 1)
    found = unfold(moves, labels, tuple(sizes))
    b = len(labels)
    tile, distinct, run = periodic(found.which)
    rest = [i for i in range(len(sizes)) if i not in slots]
    at = found.at.reshape(*found.at.shape[:2], *sizes).transpose(0, 1, *(2 + i for i in (*rest, *slots)))
    many = math.prod(sizes[i] for i in rest)
    if found.places is not None:
        at = at.reshape(1, 1, many, 1, 1, -1)
        at = np.broadcast_to(at, (1, 1, many, tile, run, at.shape[-1])).reshape(1, -1)
    else:
        at = at.reshape(b, tile, distinct, run, many, -1).transpose(0, 2, 4, 1, 3, 5).reshape(b * distinct, -1)
    grid = (*(sizes[i] for i in rest), *(n for n in (tile, run) if n > 1), *(sizes[i] for i in slots))
    which = found.which[:, : distinct * run : run]
    return placed(moves, found, which, at, grid), (tile, run)


def _moved_parts(
    moves: Moves, labels: np.ndarray, shape: tuple[int, ...], axes: Sequence[int],
    function: Callable[[np.ndarray], np.ndarray], new_shape: tuple[int, ...],
) -> tuple[Unfolded, np.ndarray, np.ndarray]:  # fmt: skip
    """Apply data movement to labels without their moves: (them, the moved `which`, compressed, the moved positions)."""
    grid = tuple(shape[a] for a in axes)
    found = unfold(moves, labels, grid)
    rest = [a for a in range(len(shape)) if a not in axes]
    at = found.at.reshape((*(found.at.shape[a] for a in rest), *grid)).transpose(np.argsort([*rest, *axes]))
    which, at = (apply_movement(function, np.broadcast_to(a, shape), new_shape) for a in (found.which, at))
    return found, compress(which), at


def _settle(moves: Moves, found: Unfolded, which: np.ndarray, at: np.ndarray, grid: Sequence[int]) -> np.ndarray:
    """Labels of entries `which` (of size 1 on the grid) at positions `at` (of the full shape)."""
    rest = [a for a in range(which.ndim) if a not in grid]
    part = tuple(slice(None) if a in grid else slice(which.shape[a]) for a in range(which.ndim))
    sizes = tuple(at.shape[a] for a in grid)
    at = at[part].transpose([*rest, *grid])
    # Positions that are the same for all labels stay a single row.
    many = 1 if all(at.shape[i] == 1 or at.strides[i] == 0 for i in range(len(rest))) else which.size
    check_limit(many * math.prod(sizes), MAX_POSITIONS, "moved positions of entries")
    at = at if many > 1 else at[(slice(0, 1),) * len(rest)]
    labels = placed(moves, found, which.reshape([which.shape[a] for a in rest]), at.reshape(many, -1), sizes)
    return labels.reshape(which.shape)
