"""Operators that move entries: what becomes of a cut, and the numbers and indices that follow it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from math import prod

import numpy as np

from .cuts import Cut, Uncuttable, cut_of
from .moved import moved
from .step import Step

__all__ = ["MOVEMENT"]


def _in_order(step: Step, old: Callable[[np.ndarray], np.ndarray], new: Callable[[np.ndarray], np.ndarray]) -> None:
    """Check that what is left of the operand becomes, entry by entry, what is left of the result.

    Where other entries are removed on each line, merging axes may bring what is left into another order.
    """
    cut, out = step.cut(0), step.out()
    if not cut.ragged and not out.ragged:
        return
    numbers = np.arange(prod(cut.shape)).reshape(cut.shape)
    if not np.array_equal(new(cut.apply(numbers)), out.apply(old(numbers))):
        raise Uncuttable("what is left of its operand gets into another order", ragged=True)


def _across(step: Step, axis: int) -> None:
    """Refuse an operator along an axis on each line of which other entries are removed."""
    for cut in (*step.ins, *step.outs):
        if cut is not None and axis in cut.ragged:
            raise Uncuttable("other entries are removed on each line of its axis", ragged=True)


def _reshape(step: Step) -> None:
    shape = step.shape()
    moved(step, lambda a: a.reshape(shape))
    _in_order(step, lambda a: a.reshape(shape), lambda a: a.reshape(step.out().new))
    _sizes(step, 1)


def _sizes(step: Step, index: int) -> None:
    """The sizes that an operand gives for the result, by axis from the end."""
    out, given = step.out(), step.data(index)
    if given is None:
        if out.any:
            raise Uncuttable(f"the network computes the sizes of {step.node.outputs[0].name!r} from its inputs")
        return
    flat, more = given.reshape(-1), len(out.shape) - given.size
    # -1 and 0 follow by themselves.
    wanted = {a - more: out.new[a] for a in out.axes if a >= more and flat[a - more] not in (0, -1, 1)}
    step.numbers(index, {at: n for at, n in wanted.items() if flat[at] == out.shape[at + more]})


def _flatten(step: Step) -> None:
    shape = step.shape()
    moved(step, lambda a: a)
    _in_order(step, lambda a: a.reshape(shape), lambda a: a.reshape(step.out().new))


def _transpose(step: Step) -> None:
    def transposed(array: np.ndarray) -> np.ndarray:
        return array.transpose(step.attr("perm"))

    moved(step, transposed)
    _in_order(step, transposed, transposed)


def _expand(step: Step) -> None:
    def expanded(array: np.ndarray) -> np.ndarray:
        return np.broadcast_to(array, step.shape())

    moved(step, expanded)
    _sizes(step, 1)


def _constant_of_shape(step: Step) -> None:
    if step.outs[0] is not None:
        _sizes(step, 0)


def _concat(step: Step) -> None:
    out = step.node.outputs[0]
    if step.outs[0] is None and out in step.all.known:
        shape = step.all.known[out].shape
        parts = [step.cut(i) for i in range(len(step.node.inputs))]
        gone = np.concatenate([np.broadcast_to(c.removed, c.shape) for c in parts], axis=step.attr("axis", 0))
        step.outs[0] = cut_of(gone, shape)
    elif step.outs[0] is not None and step.outs[0].any:
        _constant_parts(step, step.out(), step.attr("axis", 0) % len(step.out().shape))
    _across(step, step.attr("axis", 0) % len(step.out().shape))


def _constant_parts(step: Step, out: Cut, axis: int) -> None:
    """Constants among the operands are cut as their part of the result is."""
    start = 0
    for index, value in enumerate(step.node.inputs):
        have = step.cut(index)
        size = have.shape[axis]
        if value is not None and value.is_initializer() and not have.any:
            gone = np.broadcast_to(out.removed, out.shape).take(range(start, start + size), axis=axis)
            step.use(index, cut_of(gone, have.shape))
        start += size


def _split(step: Step) -> None:
    axis = int(step.attr("axis", 0)) % max(len(step.cut(0).shape), 1)
    start = 0
    for index, value in enumerate(step.node.outputs):
        size = step.all.known[value].shape[axis]
        places = range(start, start + size)
        moved(step, partial(np.take, indices=places, axis=axis), index)
        start += size
    _across(step, axis)
    outs = [step.out(i) for i in range(len(step.node.outputs))]
    if not step.cut(0).any or not any(axis in c.axes for c in outs):
        return
    sizes = [c.new[axis] for c in outs]
    if step.operand(1) is not None:
        step.numbers(1, dict(enumerate(sizes)))
    elif step.attr("split") is not None:
        step.set_attr("split", sizes)
    elif len(set(sizes)) > 1:
        _give_sizes(step, sizes)


def _give_sizes(step: Step, sizes: Sequence[int]) -> None:
    """Sizes for a Split into parts that are no longer equal."""
    if step.all.opset < 13:
        step.set_attr("split", sizes)
        return
    made = step.all.initializer(np.array(sizes, np.int64), f"{step.node.name}_sizes")
    step.node.attributes.pop("num_outputs", None)
    step.set_operand(1, made)


def _slice(step: Step) -> None:
    cut = step.cut(0)
    if step.operand(1) is None and step.attr("starts") is not None:
        starts, ends, axes, steps = step.attr("starts"), step.attr("ends"), step.attr("axes"), None
    else:
        starts, ends, axes, steps = (step.data(i) for i in (1, 2, 3, 4))
    if starts is None or ends is None:
        if cut.any:
            raise Uncuttable("the network computes from its inputs where it slices")
        moved(step, lambda a: a)
        return
    rank = len(cut.shape)
    axes = np.arange(len(starts)) if axes is None else np.asarray(axes) % rank
    steps = np.ones(len(starts), np.int64) if steps is None else np.asarray(steps)
    where: list[slice] = [slice(None)] * rank
    for a, s, e, d in zip(axes, starts, ends, steps, strict=True):
        where[int(a)] = _slice_of(int(s), int(e), int(d), cut.shape[int(a)])
    moved(step, lambda a: a[tuple(where)])
    new_starts, new_ends, by_index = {}, {}, []
    for at, axis in enumerate(int(a) for a in axes):
        if axis not in cut.axes:
            continue
        old = np.arange(cut.shape[axis])[where[axis]]
        if len(old) == cut.shape[axis] and int(steps[at]) == 1:
            if int(ends[at]) == cut.shape[axis]:
                new_ends[at] = cut.new[axis]
            continue
        found = _new_slice(cut, axis, old, int(steps[at]))
        if found is None:
            by_index.append((axis, at))
        else:
            new_starts[at], new_ends[at] = found
    if by_index:
        _index_instead(step, cut, where, by_index, len(starts))
        return
    for index, name, numbers in ((1, "starts", new_starts), (2, "ends", new_ends)):
        if numbers and step.operand(1) is None:
            every = list(step.attr(name))
            step.set_attr(name, [numbers.get(i, n) for i, n in enumerate(every)])
        elif numbers:
            step.numbers(index, numbers)


def _slice_of(start: int, end: int, step: int, size: int) -> slice:
    """The slice of an axis, with the rules of ONNX for ends beyond it."""
    if start < 0:
        start = max(start + size, -1 if step < 0 else 0)
    if end < 0:
        end = end + size if end + size >= 0 else (-1 if step < 0 else 0)
    if step < 0:
        return slice(min(start, size - 1), None if end < 0 else end, step)
    return slice(start, min(end, size), step)


def _new_slice(cut: Cut, axis: int, old: np.ndarray, by: int) -> tuple[int, int] | None:
    """Start and end that pick what is left of the entries `old`; None if no slice with this step does."""
    if axis in cut.ragged:
        return _same_slice(cut, axis, old, by)
    kept = cut.indices(axis)
    places = np.searchsorted(kept, old[np.isin(old, kept)])
    if not len(places):
        return 0, 0
    start, stop = int(places[0]), int(places[-1])
    if len(places) > 1 and (np.diff(places) != by).any():
        return None
    end = stop + (1 if by > 0 else -1)
    return start, end if end >= 0 else -(2**31)


def _same_slice(cut: Cut, axis: int, old: np.ndarray, by: int) -> tuple[int, int]:
    """Start and end of a slice of an axis along which other entries are removed on each line."""
    left = np.moveaxis(~np.broadcast_to(cut.removed, cut.shape), axis, -1).reshape(-1, cut.shape[axis])
    left = left[left.any(axis=1)]
    before, inside = left[:, : int(old[0]) if len(old) else 0].sum(axis=1), left[:, old].sum(axis=1)
    if by != 1 or (before != before[0]).any() or (inside != inside[0]).any():
        raise Uncuttable("other entries are removed on each line of an axis that is sliced", ragged=True)
    return int(before[0]), int(before[0] + inside[0])


def _index_instead(step: Step, cut: Cut, where: list[slice], axes: list[tuple[int, int]], count: int) -> None:
    """Replace a Slice by a Gather, where the entries that are left have no fixed step."""
    if count > 1 or len(axes) > 1:
        raise Uncuttable("the entries that are left of a slice along several axes have no fixed step")
    axis = axes[0][0]
    kept, old = cut.indices(axis), np.arange(cut.shape[axis])[where[axis]]
    places = np.searchsorted(kept, old[np.isin(old, kept)])
    step.replace("Gather", [step.node.inputs[0], step.all.initializer(places, f"{step.node.name}_indices")], axis=axis)


def _tile(step: Step) -> None:
    repeats = step.data(1)
    if repeats is None:
        raise Uncuttable("the network computes how often it repeats a value")
    moved(step, lambda a: np.tile(a, repeats.tolist()))


def _pad(step: Step) -> None:
    pads = step.data(1) if step.operand(1) is not None else np.asarray(step.attr("pads"))
    cut = step.cut(0)
    if pads is None or step.operand(3) is not None:
        if step.outs[0] is None or cut.any:
            raise Uncuttable("the network computes where it pads")
        return
    both = np.asarray(pads).reshape(2, -1).T.tolist()
    moved(step, lambda a: np.pad(a, both))
    for axis in step.out().axes:
        before, after = both[axis]
        if before == after == 0:
            continue
        out, size = step.out(), cut.shape[axis]
        kept = out.indices(axis)
        new = {axis: int((kept < before).sum()), axis + len(both): int((kept >= before + size).sum())}
        if step.operand(1) is not None:
            step.numbers(1, new)
        else:
            step.set_attr("pads", [new.get(i, n) for i, n in enumerate(step.attr("pads"))])


def _resize(step: Step) -> None:
    index = 3 if step.node.op_type == "Resize" else 1
    if step.operand(index) is not None and step.outs[0] is not None and step.out().any:
        _sizes(step, index)


def _split_to_sequence(step: Step) -> None:
    """The sizes of the parts are those of the values that are taken out of the sequence."""
    value = step.node.outputs[0]
    if step.outs[0] is None and value in step.all.known:
        step.outs[0] = cut_of(np.zeros((1,) * len(step.all.known[value].shape), bool), step.all.known[value].shape)
    cut, split = step.cut(0), step.data(1)
    axis = int(step.attr("axis", 0)) % len(cut.shape)
    if axis not in cut.axes:
        return
    if split is None or not int(step.attr("keepdims", 1)):
        raise Uncuttable("it is split into parts of size 1, or of computed sizes")
    if split.ndim:
        ends = np.cumsum(split)
    else:
        ends = np.minimum(np.arange(1, -(-cut.shape[axis] // int(split)) + 1) * int(split), cut.shape[axis])
    kept = cut.indices(axis)
    sizes = np.diff([0, *(int((kept < end).sum()) for end in ends)])
    if split.ndim:
        step.numbers(1, dict(enumerate(sizes.tolist())))
    elif (sizes == sizes[0]).all():
        step.numbers(1, {0: int(sizes[0])})
    else:
        step.set_operand(1, step.all.initializer(sizes.astype(np.int64), f"{step.node.name}_sizes"))


def _labelled(step: Step) -> None:
    step.out()


def _like(step: Step) -> None:
    """The second operand lends its type."""
    moved(step, lambda a: a)


MOVEMENT: dict[str, Callable[[Step], None]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Squeeze": _flatten,
    "Unsqueeze": _flatten,
    "Identity": _flatten,
    "Cast": _flatten,
    "Transpose": _transpose,
    "Expand": _expand,
    "ConstantOfShape": _constant_of_shape,
    "Concat": _concat,
    "Split": _split,
    "Slice": _slice,
    "Tile": _tile,
    "Pad": _pad,
    "Resize": _resize,
    "CastLike": _like,
    "SplitToSequence": _split_to_sequence,
    "SequenceAt": _labelled,
}
"""How nodes of an operator that moves entries follow the cuts, by operator."""
