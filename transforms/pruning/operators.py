"""Operators that compute: the cuts of their constant operands, of results without labels, and sizes in attributes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...frontend.primitives.functions import FUNCTIONS
from .cuts import Cut, Uncuttable, cut_of, whole
from .step import Step

__all__ = [
    "COMPUTING",
    "ELEMENTWISE",
    "PASSIVE",
    "all_along",
    "conv",
    "dynamic_lstm",
    "elementwise",
    "first",
    "is_elementwise",
    "labelled",
    "layer_norm",
    "needed",
    "qlinear_conv",
    "quantised",
    "vector",
]

PASSIVE = frozenset({
    "DepthToSpace", "SpaceToDepth", "Shape", "Size", "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool",
    "GlobalMaxPool", "GlobalLpPool", "AffineGrid", "GridSample", "RoiAlign", "MaxRoiAlign", "NonZero", "Upsample",
    "MaxUnpool", "Compress", "Unique", "ReverseSequence", "NonMaxSuppression", "StringNormalizer", "DFT", "STFT",
    "ConcatFromSequence",
})  # fmt: skip
"""Operators that have neither attributes nor operands with a size of an axis of features."""


ELEMENTWISE = frozenset([
    *FUNCTIONS, "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift", "BitCast", "PRelu",
])  # fmt: skip
"""Operators whose operands are broadcast against each other."""


def needed(out: Cut, shape: tuple[int, ...]) -> Cut:
    """The cut of an operand of this shape that is broadcast to a value of this cut."""
    more = len(out.shape) - len(shape)
    gone = np.broadcast_to(out.removed, tuple(max(n, 1) for n in out.removed.shape))
    for axis in range(len(out.shape)):
        if axis < more or (shape[axis - more] == 1 and out.shape[axis] != 1):
            gone = all_along(gone, axis, keepdims=True)
    return cut_of(gone.reshape(gone.shape[more:]), shape)


def all_along(mask: np.ndarray, axis: int | tuple[int, ...], keepdims: bool = False) -> np.ndarray:
    """`numpy.all` along axes, as an array."""
    return np.asarray(mask.all(axis=axis, keepdims=keepdims))


def is_elementwise(step: Step) -> bool:
    """Whether every operand can be broadcast to the first result, and every result has its shape."""
    shapes = [c.shape for c in step.ins if c is not None]
    out = step.all.known.get(step.node.outputs[0])
    try:
        return out is not None and np.broadcast_shapes(out.shape, *shapes) == out.shape
    except ValueError:
        return False


def elementwise(step: Step) -> None:
    """Operands are broadcast against each other."""
    shape = step.shape()
    if step.outs[0] is None:
        gone = np.zeros((1,) * len(shape), bool)
        for cut in step.ins:
            if cut is not None and cut.any:
                removed = cut.removed.reshape((1,) * (len(shape) - len(cut.shape)) + cut.removed.shape)
                gone = gone | removed
        step.outs[0] = cut_of(gone, shape)
    for index in range(1, len(step.outs)):
        value = step.node.outputs[index]
        if step.outs[index] is None and value in step.all.known:
            step.outs[index] = needed(step.out(), step.all.known[value].shape)
    for index, cut in enumerate(step.ins):
        if cut is not None:
            step.use(index, needed(step.out(), cut.shape))


def vector(step: Step, index: int, cut: Cut, axis: int) -> None:
    """A vector along an axis of a value is cut as that axis is."""
    have = step.ins[index] if index < len(step.ins) else None
    if have is None or have.shape in ((), (1,)):
        return
    size = cut.shape[axis]
    if len(have.shape) != 1 or have.shape[0] != size:
        return
    gone = np.ones(size, bool)
    if axis in cut.axes:
        gone[cut.indices(axis)] = False
        step.use(index, cut_of(gone, have.shape))


def _reduced(step: Step) -> None:
    """A reduction: what is removed on a whole line is removed from the result."""
    value = step.node.outputs[0]
    if step.outs[0] is None and value in step.all.known:
        shape, cut = step.all.known[value].shape, step.cut(0)
        axes = step.data(1) if step.operand(1) is not None else step.attr("axes")
        every = (
            range(len(cut.shape)) if axes is None else [int(a) % len(cut.shape) for a in np.asarray(axes).reshape(-1)]
        )
        gone = all_along(np.broadcast_to(cut.removed, cut.shape), tuple(every))
        step.outs[0] = cut_of(gone.reshape(shape), shape)


def _matmul(step: Step) -> None:
    a, b = step.cut(0), step.cut(1)
    value = step.node.outputs[0]
    if step.outs[0] is None and value in step.all.known:
        shape = step.all.known[value].shape
        if not a.any and not b.any:
            step.outs[0] = whole(shape)
            return
        rows = all_along(np.broadcast_to(a.removed, a.shape), -1)[..., None]
        columns = np.broadcast_to(b.removed, b.shape)
        columns = all_along(columns, -2)[..., None, :] if len(b.shape) > 1 else np.zeros(1, bool)
        gone = rows | columns
        step.outs[0] = cut_of(gone if gone.ndim == len(shape) else gone.reshape((1,) * len(shape)), shape)
    _weight(step)
    _batch(step)


def _batch(step: Step) -> None:
    """Operands are broadcast along all axes but the last two."""
    out = step.out()
    for index in (0, 1):
        have = step.cut(index)
        more = len(out.shape) - len(have.shape)
        for axis in range(len(have.shape) - 2):
            if (
                axis + more in out.axes
                and axis + more not in out.ragged
                and have.shape[axis] > 1
                and axis not in have.axes
            ):
                gone = np.ones(have.shape[axis], bool)
                gone[out.indices(axis + more)] = False
                along = gone.reshape([-1 if a == axis else 1 for a in range(len(have.shape))])
                step.use(index, cut_of(have.removed | along, have.shape))
                have = step.cut(index)


def _weight(step: Step) -> None:
    """A matrix that lies on no edge (all its elements are zero, say) follows what it meets."""
    out, x, w = step.out(), step.cut(0), step.cut(1)
    if len(w.shape) != 2 or w.any or not (out.any or x.any):
        return
    gone = np.zeros(w.shape, bool)
    for axis, cut in ((0, x), (1, out)):
        last = len(cut.shape) - 1
        if last in cut.axes:
            left = np.zeros(w.shape[axis], bool)
            left[cut.indices(last)] = True
            gone |= ~left[:, None] if axis == 0 else ~left[None, :]
    if gone.any():
        step.use(1, cut_of(gone, w.shape))


def _einsum(step: Step) -> None:
    """Axes of one letter must keep one size: an axis that is cut to size 1 would be broadcast."""
    step.out()
    text = step.attr("equation").replace(" ", "")
    sizes: dict[str, int] = {}
    for term, cut in zip(text.split("->")[0].split(","), step.ins, strict=True):
        if cut is None or "." in term:
            if cut is None or cut.any:
                raise Uncuttable("its equation leaves out axes")
            continue
        for letter, size in zip(term, cut.new, strict=True):
            if sizes.setdefault(letter, size) != size:
                raise Uncuttable(f"axis {letter!r} of its equation would get two sizes")


def _gemm(step: Step) -> None:
    if step.operand(2) is not None and step.ins[2] is not None:
        step.use(2, needed(step.out(), step.ins[2].shape))


def conv(step: Step, weight: int = 1, bias: int = 2) -> None:
    """A convolution: its bias and the number of its groups."""
    x, w = step.cut(0), step.cut(weight)
    value = step.node.outputs[0]
    if step.outs[0] is None and value in step.all.known:
        shape = step.all.known[value].shape
        gone = all_along(np.broadcast_to(w.removed, w.shape).reshape(w.shape[0], -1), 1)
        step.outs[0] = cut_of(gone.reshape(1, -1, *(1,) * (len(shape) - 2)), shape)
    vector(step, bias, step.out(), 1)
    _groups(step, x, step.out())


def _groups(step: Step, x: Cut, out: Cut) -> None:
    """The groups of a convolution: what is left of each has one size; whole groups may go."""
    groups = int(step.attr("group", 1))
    if groups == 1 or not (x.any or out.any):
        return
    left = []
    for cut in (x, out):
        gone = np.ones(cut.shape[1], bool)
        gone[cut.indices(1)] = False
        left.append((~gone).reshape(groups, -1).sum(axis=1))
    stays = left[0] > 0
    if ((left[1] > 0) != stays).any() or any((n[stays] != n[stays][0]).any() for n in left):
        raise Uncuttable("its groups would get different sizes", ragged=True)
    step.set_attr("group", int(stays.sum()))


def _conv_transpose(step: Step) -> None:
    vector(step, 2, step.out(), 1)
    _groups(step, step.cut(0), step.out())


def qlinear_conv(step: Step) -> None:
    """A convolution of integers, with scales and zero points per output channel."""
    conv(step, weight=3, bias=8)
    for index in (4, 5):
        vector(step, index, step.out(), 1)


def _qlinear_matmul(step: Step) -> None:
    for index in (4, 5, 6, 7):
        vector(step, index, step.out(), len(step.out().shape) - 1)


def _channels(step: Step) -> None:
    """Vectors over the channels of the first operand."""
    first(step)
    for index in range(1, len(step.ins)):
        vector(step, index, step.out(), 1)


def first(step: Step) -> None:
    """The result has the shape of the first operand."""
    if step.outs[0] is None:
        step.outs[0] = step.cut(0)
    for index in range(1, len(step.outs)):
        value = step.node.outputs[index]
        if step.outs[index] is None and value in step.all.known:
            step.outs[index] = whole(step.all.known[value].shape)


def labelled(step: Step) -> None:
    """The result has labels, and nothing else has a size."""
    step.out()


def _group_norm(step: Step) -> None:
    groups = int(step.attr("num_groups"))
    cut = step.cut(0)
    _channels(step)
    for index in (1, 2):
        have = step.cut(index)
        if have.shape == (groups,) and groups != cut.shape[1] and 1 in cut.axes:
            left = np.zeros(cut.shape[1], bool)
            left[cut.indices(1)] = True
            step.use(index, cut_of(all_along(~left.reshape(groups, -1), 1), (groups,)))
    if 1 in cut.axes:
        left = np.zeros(cut.shape[1], bool)
        left[cut.indices(1)] = True
        counts = left.reshape(groups, -1).sum(axis=1)
        counts = counts[counts > 0]
        if (counts != counts[0]).any():
            raise Uncuttable("its groups would get different sizes", ragged=True)
        step.set_attr("num_groups", len(counts))


def quantised(step: Step) -> None:
    """QuantizeLinear and DequantizeLinear: scales per tensor, per entry of an axis, or per block along it."""
    first(step)
    out = step.out()
    axis = int(step.attr("axis", 1))
    block = int(step.attr("block_size", 0))
    for index in (1, 2):
        have = step.ins[index] if index < len(step.ins) else None
        if have is not None and block and (have.any or out.any):
            along = axis % len(out.shape)
            if (
                have.new != tuple(n // block if a == along else n for a, n in enumerate(out.new))
                or out.new[along] % block
            ):
                raise Uncuttable("entries of one block share a scale; only whole blocks can go (level outer)")
            if along in out.axes and (np.diff(out.indices(along).reshape(-1, block), axis=1) != 1).any():
                raise Uncuttable("entries of one block share a scale; only whole blocks can go (level outer)")
        elif have is not None and len(have.shape) == 1 and out.shape:
            vector(step, index, out, axis % len(out.shape))
        elif have is not None and len(have.shape) > 1 and out.any and not have.any:
            raise Uncuttable("scales of blocks lie on no edge")


def layer_norm(step: Step) -> None:
    """A normalisation over the last axes: its vectors are aligned with them."""
    first(step)
    out = step.out()
    for index in range(1, len(step.ins)):
        have = step.ins[index]
        if have is not None:
            step.use(index, needed(out, have.shape))


def _states(step: Step, r: Cut, transposed: bool, gates: int) -> None:
    """The hidden size, and operands that lie on no edge: initial states of zeros, say."""
    state = 1 if transposed else 2
    hidden = r.new[state]
    if r.new[3 - state] != gates * hidden:
        raise Uncuttable("its gates would get different sizes")
    step.set_attr("hidden_size", hidden)
    gone = all_along(np.broadcast_to(r.removed, r.shape), 3 - state)
    x = step.cut(0)
    batch = 0 if int(step.attr("layout", 0)) else 1
    rows = np.zeros(x.shape[batch], bool)
    if batch in x.axes:
        rows[:] = True
        rows[x.indices(batch)] = False
    for index, copies in ((3, 2 * gates), (5, 1), (6, 1), (7, 3)):
        have = step.ins[index] if index < len(step.ins) else None
        mask = np.tile(gone, (1, copies))
        if len(have.shape if have is not None else ()) == 3:
            mask = mask[:, None, :] | rows[None, :, None]
            mask = mask.transpose(1, 0, 2) if batch == 0 else mask
        if have is not None and not have.any and mask.any():
            step.use(index, cut_of(mask, have.shape))


def _recurrent(gates: int) -> Callable[[Step], None]:
    def follow(step: Step) -> None:
        r = step.cut(2)
        if not any(c is not None and c.any for c in (*step.ins, *step.outs)):
            return
        _states(step, r, transposed=False, gates=gates)

    return follow


def dynamic_lstm(step: Step) -> None:
    """DynamicQuantizeLSTM, whose weights are transposed and have a scale per direction, or per column."""
    r = step.cut(2)
    _states(step, r, transposed=True, gates=4)


COMPUTING: dict[str, Callable[[Step], None]] = {
    "MatMul": _matmul,
    "MatMulInteger": _matmul,
    "Gemm": _gemm,
    "Einsum": _einsum,
    "Conv": conv,
    "ConvInteger": conv,
    "ConvTranspose": _conv_transpose,
    "QLinearConv": qlinear_conv,
    "QLinearMatMul": _qlinear_matmul,
    "BatchNormalization": _channels,
    "InstanceNormalization": _channels,
    "GroupNormalization": _group_norm,
    "LayerNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
    "RMSNormalization": layer_norm,
    "QuantizeLinear": quantised,
    "DequantizeLinear": quantised,
    "LSTM": _recurrent(4),
    "GRU": _recurrent(3),
    "RNN": _recurrent(1),
    "Softmax": first,
    "LogSoftmax": first,
    "Dropout": first,
    "LRN": first,
    "CumSum": first,
    "Trilu": first,
    "Hardmax": first,
    "LpNormalization": first,
    "MeanVarianceNormalization": first,
    "DynamicQuantizeLinear": first,
    "Clip": first,
    **dict.fromkeys(
        ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare",
         "ReduceLogSum", "ReduceLogSumExp"), _reduced,
    ),
}  # fmt: skip
"""How nodes of an operator follow the cuts, by operator."""
