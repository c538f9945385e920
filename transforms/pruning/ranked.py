"""Operators that choose entries by scores, and what reads the numbers of the chosen ones."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cuts import Uncuttable, cut_of
from .operators import all_along, elementwise, needed
from .step import Step

__all__ = ["RANKED"]


def _ranked(step: Step) -> None:
    """TopK, ArgMax and ArgMin: indices are numbers of entries, which are numbered anew where the axis is cut."""
    cut = step.cut(0)
    axis = int(step.attr("axis", -1 if step.node.op_type == "TopK" else 0)) % max(len(cut.shape), 1)
    if axis in cut.ragged:
        raise Uncuttable("other entries are removed on each line of its axis", ragged=True)
    along = all_along(cut.removed, tuple(a for a in range(cut.removed.ndim) if a != axis), keepdims=True)
    gone = cut.removed
    if gone.shape[axis] > 1:
        gone = np.asarray((gone & ~along).any(axis=axis, keepdims=True))
    for index, value in enumerate(step.node.outputs):
        if value in step.all.known:
            shape = step.all.known[value].shape
            here = gone if len(shape) == len(cut.shape) else gone.squeeze(axis)
            step.outs[index] = cut_of(here, shape)
            if step.node.op_type == "TopK" and shape[axis] > cut.new[axis]:
                raise Uncuttable(f"it takes {shape[axis]} of {cut.new[axis]} entries that would be left")
    if axis in cut.axes:
        step.all.named[step.node.outputs[-1]] = cut.indices(axis)


def _one_hot(step: Step) -> None:
    """OneHot of numbers that are numbered anew has as many entries as are left."""
    named = step.all.named.get(step.required(0))
    if named is None:
        step.out()
        return
    depth = step.data(1)
    value = step.node.outputs[0]
    axis = int(step.attr("axis", -1)) % len(step.shape())
    gone = np.ones(step.shape()[axis], bool)
    gone[named] = False
    removed = gone.reshape([-1 if a == axis else 1 for a in range(len(step.shape()))])
    if step.outs[0] is None and value in step.all.known:
        step.outs[0] = cut_of(removed, step.shape())
    if depth is None or step.out().new[axis] != len(named):
        raise Uncuttable("its number of entries does not follow")
    step.numbers(1, {0: len(named)})


def _equal(step: Step) -> None:
    """A comparison with constants that name entries: these are numbered anew too."""
    for index in (0, 1):
        named = step.all.named.get(step.required(index))
        other = step.data(1 - index)
        if named is None:
            continue
        if other is None:
            raise Uncuttable("numbers of entries are compared with computed ones")
        shape = other.shape
        if step.outs[0] is None:
            gone = np.broadcast_to(~np.isin(other, named), shape)
            step.outs[0] = cut_of(gone.reshape((1,) * (len(step.shape()) - len(shape)) + shape), step.shape())
        left = needed(step.out(), shape).apply(other)
        if not np.isin(left, named).all():
            raise Uncuttable("a number of an entry that is removed is compared")
        new = np.searchsorted(named, left).astype(other.dtype)
        step.ins[1 - index] = None
        step.node.replace_input_with(1 - index, step.all.initializer(new, f"{step.node.name}_numbers"))
        have = step.ins[index]
        if have is not None:
            step.use(index, needed(step.out(), have.shape))
        return
    elementwise(step)


RANKED: dict[str, Callable[[Step], None]] = {
    "TopK": _ranked,
    "ArgMax": _ranked,
    "ArgMin": _ranked,
    "OneHot": _one_hot,
    "Equal": _equal,
}
"""How nodes of an operator on ranks follow the cuts, by operator."""
