"""What is left of an array when some of its entries are removed: a box, whose lines along one axis may differ."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ...ir import GmncError

__all__ = ["Cut", "Uncuttable", "cut_of", "same_cut", "whole"]


class Uncuttable(GmncError):
    """Entries cannot be removed; the message is the reason.

    nodes: the nodes of the graph that are concerned. ragged: whether it may help to remove the same entries of all lines.
    """

    def __init__(self, reason: str, nodes: np.ndarray | None = None, ragged: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nodes = np.zeros(0, np.int64) if nodes is None else nodes
        self.ragged = ragged


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """Which entries of an array are removed.

    Attributes:
        shape: The shape of the array.
        removed: bool, broadcastable to that shape.
        kept: By axis, the indices that are left, int64; None if the axis is whole.
        ragged: An axis along which other entries are removed on each line, but equally many; None if there is none.
        new: The shape of what is left.
    """

    shape: tuple[int, ...]
    removed: np.ndarray
    kept: tuple[np.ndarray | None, ...]
    ragged: int | None
    new: tuple[int, ...]

    @property
    def any(self) -> bool:
        """Whether an entry is removed."""
        return self.new != self.shape

    @property
    def empty(self) -> bool:
        """Whether no entry is left."""
        return self.any and not prod(self.new)

    @property
    def axes(self) -> tuple[int, ...]:
        """The axes that become shorter."""
        return tuple(a for a, (n, m) in enumerate(zip(self.shape, self.new, strict=True)) if n != m)

    def indices(self, axis: int) -> np.ndarray:
        """The indices that are left along an axis, int64. Raises `Uncuttable` if they differ from line to line."""
        if axis == self.ragged:
            raise Uncuttable("other entries are removed on each line of an axis that is indexed", ragged=True)
        found = self.kept[axis]
        return np.arange(self.shape[axis]) if found is None else found

    def apply(self, array: np.ndarray) -> np.ndarray:
        """What is left of an array of this shape."""
        for axis, kept in enumerate(self.kept):
            if kept is not None:
                array = array.take(kept, axis=axis)
        if self.ragged is None:
            return np.ascontiguousarray(array)
        left = np.moveaxis(np.broadcast_to(~_inside(self.removed, self.kept), array.shape), self.ragged, -1)
        moved = np.moveaxis(array, self.ragged, -1)
        return np.ascontiguousarray(np.moveaxis(moved[left].reshape(*moved.shape[:-1], -1), -1, self.ragged))


def whole(shape: tuple[int, ...]) -> Cut:
    """The cut that removes nothing."""
    return Cut(shape, np.zeros((1,) * len(shape), bool), (None,) * len(shape), None, shape)


def cut_of(removed: np.ndarray, shape: tuple[int, ...], along: Sequence[int] = ()) -> Cut:
    """The cut that removes these entries.

    Args:
        removed: bool, broadcastable to `shape`, of its rank.
        shape: The shape of the array.
        along: Axes along which other entries may be removed on each line, in order of preference; then come the last
            axes. Two axes are possible if equally many are removed on each line along both.

    Raises:
        Uncuttable: What is left has no rectangular shape.
    """
    if not removed.any():
        return whole(shape)
    if removed.all():
        short = tuple(a for a, n in enumerate(removed.shape) if n > 1) or tuple(range(len(shape)))[-1:]
        kept = tuple(np.zeros(0, np.int64) if a in short else None for a in range(len(shape)))
        return Cut(shape, removed, kept, None, tuple(0 if a in short else n for a, n in enumerate(shape)))
    box = [_left(removed, axis) for axis in range(removed.ndim)]
    if not _inside(removed, box).any():
        return Cut(shape, removed, tuple(box), None, _sizes(shape, box))
    for axis in (*along, *reversed(range(removed.ndim))):
        some = [None if a == axis else indices for a, indices in enumerate(box)]
        inside = _inside(removed, some)
        count = inside.sum(axis=axis)
        if removed.shape[axis] > 1 and (count == count.flat[0]).all():
            new = list(_sizes(shape, some))
            new[axis] -= int(count.flat[0])
            return Cut(shape, removed, tuple(some), axis, tuple(new))
    raise Uncuttable("what is left of it is not rectangular", ragged=True)


def _left(removed: np.ndarray, axis: int) -> np.ndarray | None:
    """The indices along an axis at which something is left, None if that is so everywhere."""
    gone = removed.all(axis=tuple(a for a in range(removed.ndim) if a != axis))
    return np.flatnonzero(~gone) if gone.any() and removed.shape[axis] > 1 else None


def _inside(removed: np.ndarray, box: Sequence[np.ndarray | None]) -> np.ndarray:
    """`removed` within a box."""
    for axis, kept in enumerate(box):
        if kept is not None and removed.shape[axis] > 1:
            removed = removed.take(kept, axis=axis)
    return removed


def _sizes(shape: tuple[int, ...], box: Sequence[np.ndarray | None]) -> tuple[int, ...]:
    return tuple(n if kept is None else len(kept) for n, kept in zip(shape, box, strict=True))


def same_cut(a: Cut, b: Cut) -> bool:
    """Whether two cuts remove the same entries."""
    if not a.any and not b.any:
        return True
    return a.shape == b.shape and a.new == b.new and a.ragged == b.ragged and bool((a.removed == b.removed).all())

