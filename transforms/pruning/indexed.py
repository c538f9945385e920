"""Operators that pick entries by indices: indices follow what is left of an axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cuts import Cut, Uncuttable, same_cut
from .moved import moved
from .step import Step

__all__ = ["INDEXED"]


def _gather(step: Step) -> None:
    axis = int(step.attr("axis", 0)) % max(len(step.cut(0).shape), 1)
    indices = step.data(1)
    cut = step.cut(0)
    if indices is None:
        if cut.removed.shape[axis] > 1 and not _names(step, cut, axis):
            raise Uncuttable("entries of an axis that is cut are picked by computed indices")
        more = len(step.cut(1).shape)
        moved(step, lambda a: _repicked(a, axis, more, step.shape()))
        return
    size = cut.shape[axis]
    places = np.where(indices < 0, indices + size, indices)
    moved(step, lambda a: a.take(places, axis=axis))
    if axis not in cut.axes:
        _cut_indices(step, indices, axis, None)
        return
    _cut_indices(step, indices, axis, cut.indices(axis))


def _names(step: Step, cut: Cut, axis: int) -> bool:
    """Whether the indices name what is left of an axis, see `Cuts.named`."""
    named = step.all.named.get(step.required(1))
    return named is not None and axis in cut.axes and np.array_equal(named, cut.indices(axis))


def _repicked(removed: np.ndarray, axis: int, more: int, shape: tuple[int, ...]) -> np.ndarray:
    """What is removed of entries that are picked along an axis on which the same is removed everywhere."""
    rest = tuple(a for a in range(removed.ndim) if a != axis)
    left = np.flatnonzero(~removed.all(axis=rest))
    one = removed.take(left[0] if len(left) else 0, axis=axis)
    one = one.reshape(*one.shape[:axis], *(1,) * more, *one.shape[axis:])
    return np.broadcast_to(one, shape)


def _cut_indices(step: Step, indices: np.ndarray, axis: int, kept: np.ndarray | None) -> None:
    """Indices into what is left of an axis, and only those that are left of the result."""
    out, rank = step.out(), indices.ndim
    size = step.cut(0).shape[axis]
    mine = range(axis, axis + rank)
    new = np.where(indices < 0, indices + size, indices)
    if any(a in out.axes for a in mine):
        for a in mine:
            if a in out.axes:
                new = new.take(out.indices(a), axis=a - axis)
    elif kept is None:
        return
    if kept is not None:
        if not np.isin(new, kept).all():
            raise Uncuttable("an entry that is removed is picked")
        new = np.searchsorted(kept, new)
    made = step.all.initializer(np.asarray(new, np.int64), f"{step.node.name}_indices")
    step.ins[1] = None
    step.node.replace_input_with(1, made)


def _gather_nd(step: Step) -> None:
    indices = step.data(1)
    if indices is None or int(step.attr("batch_dims", 0)):
        if step.outs[0] is None:
            raise Uncuttable("entries are picked by computed indices")
        return
    cut, places = step.cut(0), tuple(np.moveaxis(indices, -1, 0))
    if any(a in cut.axes for a in range(len(places))):
        raise Uncuttable("entries of an axis that is cut are picked by several indices")
    moved(step, lambda a: a[places])


def _elements(step: Step) -> None:
    """GatherElements and ScatterElements: an index for each entry that is read or written."""
    data = step.cut(0)
    axis = int(step.attr("axis", 0)) % len(data.shape)
    places = step.cut(2) if step.node.op_type.startswith("Scatter") else step.out()
    step.out()
    indices = step.data(1)
    if indices is None:
        if places.any and not same_cut(step.cut(1), places):
            raise Uncuttable("computed indices would have another shape")
        if axis in data.axes and not _names(step, data, axis):
            raise Uncuttable("entries of an axis that is cut are picked by computed indices")
        return
    new = np.where(indices < 0, indices + data.shape[axis], indices)
    new = places.apply(np.broadcast_to(new, places.shape))
    if axis in data.axes:
        kept = data.indices(axis)
        if not np.isin(new, kept).all():
            raise Uncuttable("an entry that is removed is picked")
        new = np.searchsorted(kept, new)
    step.ins[1] = None
    if not np.array_equal(new, indices):
        step.node.replace_input_with(1, step.all.initializer(np.asarray(new, np.int64), f"{step.node.name}_indices"))


def _scatter_nd(step: Step) -> None:
    indices = step.cut(1)
    if any(a < indices.shape[-1] for a in step.cut(0).axes) or any(
        a < len(indices.shape) - 1 for a in step.cut(2).axes
    ):
        raise Uncuttable("entries of an axis that is cut are written to at several indices")
    step.out()


INDEXED: dict[str, Callable[[Step], None]] = {
    "Gather": _gather,
    "GatherND": _gather_nd,
    "GatherElements": _elements,
    "ScatterElements": _elements,
    "ScatterND": _scatter_nd,
}
"""How nodes of an operator with indices follow the cuts, by operator."""
