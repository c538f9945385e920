"""What is left of an array when some of its entries are removed.

It has to have a shape: a box, or equally large boxes for each index of an axis (other features of every head).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from ...frontend.primitives.labels import compress
from ...ir import GmncError

__all__ = ["Cut", "Uncuttable", "cut_of", "same_cut", "whole"]

_NESTED = 2
"""How often a box may differ from index to index of an axis: of the direction, of the head."""


class Uncuttable(GmncError):
    """Entries cannot be removed; the message is the reason.

    nodes: the nodes of the graph that are concerned. ragged: whether it may help to remove the same entries everywhere.
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
        kept: By axis, the indices that are left, int64; None if the axis is whole, or if they differ by part.
        new: The shape of what is left.
        split: The axis for each index of which what is left is another box; None if it is one box.
        parts: For each index of that axis what is left of the rest, None if that is nothing.
        ragged: The axes along which the indices that are left differ by part.
    """

    shape: tuple[int, ...]
    removed: np.ndarray
    kept: tuple[np.ndarray | None, ...]
    new: tuple[int, ...]
    split: int | None = None
    parts: tuple[Cut | None, ...] = ()
    ragged: frozenset[int] = frozenset()

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
        """The indices that are left along an axis, int64. Raises `Uncuttable` if they differ by part."""
        if axis in self.ragged:
            raise Uncuttable("other entries are removed on each line of an axis that is indexed", ragged=True)
        found = self.kept[axis]
        return np.arange(self.shape[axis]) if found is None else found

    def apply(self, array: np.ndarray) -> np.ndarray:
        """What is left of an array of this shape."""
        if self.split is not None:
            parts = [p.apply(array.take(i, axis=self.split)) for i, p in enumerate(self.parts) if p is not None]
            return np.stack(parts, axis=self.split)
        for axis, kept in enumerate(self.kept):
            if kept is not None:
                array = array.take(kept, axis=axis)
        return np.ascontiguousarray(array)


def whole(shape: tuple[int, ...]) -> Cut:
    """The cut that removes nothing."""
    return Cut(shape, np.zeros((1,) * len(shape), bool), (None,) * len(shape), shape)


def cut_of(removed: np.ndarray, shape: tuple[int, ...], along: Sequence[int] = (), nested: int = _NESTED) -> Cut:
    """The cut that removes these entries.

    Args:
        removed: bool, broadcastable to `shape`, of its rank.
        shape: The shape of the array.
        along: Axes along which other entries are removed on each line, as far as that is known. Otherwise these are
            later axes rather than earlier ones.
        nested: How often the box may differ from index to index.

    Raises:
        Uncuttable: What is left has no shape.
    """
    if not removed.any():
        return whole(shape)
    removed = compress(removed)
    box = tuple(_left(removed, axis) for axis in range(removed.ndim))
    if removed.all() and not shape:
        raise Uncuttable("it is one number, and nothing is left of it")
    if removed.all():
        axis = next((a for a, n in enumerate(removed.shape) if n > 1), len(shape) - 1)
        box = tuple(np.zeros(0, np.int64) if a == axis else None for a in range(len(shape)))
    elif _inside(removed, box).any():
        return _by_part(removed, shape, along, nested)
    return Cut(shape, removed, box, tuple(n if k is None else len(k) for n, k in zip(shape, box, strict=True)))


def _by_part(removed: np.ndarray, shape: tuple[int, ...], along: Sequence[int], nested: int) -> Cut:
    """The cut that leaves another box, all of one shape, for each index of an axis."""
    axes = [a for a, n in enumerate(removed.shape) if n > 1]
    for axis in sorted(axes, key=lambda a: (a in along, a)) if nested else ():
        rest = tuple(n for a, n in enumerate(shape) if a != axis)
        inner = [a - (a > axis) for a in along if a != axis]
        slices = [removed.take(i, axis=axis) for i in range(shape[axis])]
        try:
            parts = tuple(None if s.all() else cut_of(s, rest, inner, nested - 1) for s in slices)
        except Uncuttable:
            continue
        some = [p for p in parts if p is not None]
        if len({p.new for p in some}) == 1:
            return _joined(removed, shape, axis, parts)
    raise Uncuttable("what is left of it has no rectangular shape", ragged=True)


def _joined(removed: np.ndarray, shape: tuple[int, ...], axis: int, parts: tuple[Cut | None, ...]) -> Cut:
    """The cut of an array from those of its slices along an axis."""
    some = [p for p in parts if p is not None]
    here = np.array([i for i, p in enumerate(parts) if p is not None])
    new, kept, ragged = list(some[0].new), list[np.ndarray | None](), set[int]()
    for a, indices in enumerate(some[0].kept):
        alike = all(_same_indices(indices, p.kept[a]) and a not in p.ragged for p in some)
        kept.append(indices if alike else None)
        if not alike:
            ragged.add(a + (a >= axis))
    new.insert(axis, len(here))
    kept.insert(axis, here if len(here) < shape[axis] else None)
    return Cut(shape, removed, tuple(kept), tuple(new), axis, parts, frozenset(ragged))


def _same_indices(a: np.ndarray | None, b: np.ndarray | None) -> bool:
    return a is b or (a is not None and b is not None and np.array_equal(a, b))


def same_cut(a: Cut, b: Cut) -> bool:
    """Whether two cuts remove the same entries."""
    if not a.any and not b.any:
        return True
    return a.shape == b.shape and a.new == b.new and a.ragged == b.ragged and bool((a.removed == b.removed).all())


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
