"""What is left of an array when some of its entries are removed: a box, whose lines along one axis may differ."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

import numpy as np

from ...ir import GmncError

__all__ = ["Cut", "Uncuttable", "cut_of", "same_cut", "whole"]


class Uncuttable(GmncError):
    """Entries cannot be removed; the message is the reason. `nodes`: the nodes of the graph that are concerned."""

    def __init__(self, reason: str, nodes: np.ndarray | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.nodes = np.zeros(0, np.int64) if nodes is None else nodes


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
            raise Uncuttable("other entries are removed on each line of an axis that is indexed")
        found = self.kept[axis]
        return np.arange(self.shape[axis]) if found is None else found

    def apply(self, array: np.ndarray) -> np.ndarray:
        """What is left of an array of this shape."""
        for axis, kept in enumerate(self.kept):
            if kept is not None:
                array = array.take(kept, axis=axis)
        if self.ragged is None:
            return np.ascontiguousarray(array)
        left = np.moveaxis(np.broadcast_to(~self._inside(), array.shape), self.ragged, -1)
        moved = np.moveaxis(array, self.ragged, -1)
        return np.ascontiguousarray(np.moveaxis(moved[left].reshape(*moved.shape[:-1], -1), -1, self.ragged))

    def _inside(self) -> np.ndarray:
        """`removed` within the box of `kept`."""
        found = self.removed
        for axis, kept in enumerate(self.kept):
            if kept is not None and found.shape[axis] > 1:
                found = found.take(kept, axis=axis)
        return found


def whole(shape: tuple[int, ...]) -> Cut:
    """The cut that removes nothing."""
    return Cut(shape, np.zeros((1,) * len(shape), bool), (None,) * len(shape), None, shape)


def cut_of(removed: np.ndarray, shape: tuple[int, ...]) -> Cut:
    """The cut that removes these entries.

    Args:
        removed: bool, broadcastable to `shape`, of its rank.
        shape: The shape of the array.

    Raises:
        Uncuttable: What is left has no rectangular shape.
    """
    if not removed.any():
        return whole(shape)
    if removed.all():
        short = tuple(a for a, n in enumerate(removed.shape) if n > 1) or tuple(range(len(shape)))[-1:]
        kept = tuple(np.zeros(0, np.int64) if a in short else None for a in range(len(shape)))
        return Cut(shape, removed, kept, None, tuple(0 if a in short else n for a, n in enumerate(shape)))
    kept, new, inside = [], list(shape), removed
    for axis, size in enumerate(removed.shape):
        gone = removed.all(axis=tuple(a for a in range(removed.ndim) if a != axis))
        kept.append(np.flatnonzero(~gone) if size > 1 and gone.any() else None)
    for axis, indices in enumerate(kept):
        if indices is not None:
            new[axis] = len(indices)
            inside = inside.take(indices, axis=axis)
    ragged = None
    if inside.any():
        ragged = next((a for a in range(inside.ndim) if _even(inside, a)), None)
        if ragged is None:
            raise Uncuttable("what is left of it is not rectangular")
        new[ragged] -= int(inside.sum(axis=ragged).flat[0])
    return Cut(shape, removed, tuple(kept), ragged, tuple(new))


def same_cut(a: Cut, b: Cut) -> bool:
    """Whether two cuts remove the same entries."""
    if not a.any and not b.any:
        return True
    return a.shape == b.shape and a.new == b.new and bool((a.removed == b.removed).all())


def _even(removed: np.ndarray, axis: int) -> bool:
    """Whether equally many entries are removed on each line along an axis."""
    count = removed.sum(axis=axis)
    return removed.shape[axis] > 1 and bool((count == count.flat[0]).all())
