"""Fused operators: attention with heads in attributes, and what ONNX Runtime's optimizer makes of other operators."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt

import numpy as np

from .cuts import Cut, Uncuttable, cut_of
from .operators import (
    COMPUTING,
    conv,
    dynamic_lstm,
    elementwise,
    first,
    labelled,
    layer_norm,
    qlinear_conv,
    quantised,
    vector,
)
from .step import Step

__all__ = ["CONTRIB", "attention"]


def _heads(cut: Cut, axis: int, count: int) -> tuple[np.ndarray, int]:
    """Which of `count` heads side by side along an axis are left, bool [count], and the size of each.

    Raises `Uncuttable` if their sizes would differ.
    """
    left = np.ones(cut.shape[axis], bool)
    if axis in cut.axes:
        left[:] = False
        left[cut.indices(axis)] = True
    sizes = left.reshape(count, -1).sum(axis=1)
    stays = sizes > 0
    if (sizes[stays] != sizes[stays][0]).any():
        raise Uncuttable("its heads would get different sizes", ragged=True)
    return stays, int(sizes[stays][0])


def _keep_scale(step: Step, size: int, new: int, default: float = 0.0) -> None:
    """Keep the scale of the scores where it follows the size of a head."""
    if size != new and float(step.attr("scale", default)) == default:
        step.set_attr("scale", 1 / sqrt(size))


def _side_by_side(step: Step, index: int, cuts: list[Cut]) -> None:
    """Cut a vector that has the last axes of several values side by side."""
    have = step.ins[index] if index < len(step.ins) else None
    if have is None or have.any or not any(len(c.shape) - 1 in c.axes for c in cuts):
        return
    gone = []
    for cut in cuts:
        mask = np.ones(cut.shape[-1], bool)
        mask[cut.indices(len(cut.shape) - 1)] = False
        gone.append(mask)
    step.use(index, cut_of(np.concatenate(gone), have.shape))


def _multi_head(step: Step) -> None:
    count = int(step.attr("num_heads"))
    q = step.cut(0)
    if len(q.shape) == 5:
        step.set_attr("num_heads", q.new[2])
        _keep_scale(step, q.shape[4], q.new[4])
        _caches(step)
        return
    k, v = step.ins[1], step.ins[2]
    if k is None or len(k.shape) == 5:
        raise Uncuttable("its keys and values are packed")
    stays, new = _heads(q, 2, count)
    others = []
    for cut in (k, v):
        if cut is not None and len(cut.shape) == 3:
            others.append(_heads(cut, 2, count)[0])
        elif cut is not None:
            others.append(_left(cut, 1))
    if any((o != stays).any() for o in others):
        raise Uncuttable("queries, keys and values would have other heads", ragged=True)
    step.set_attr("num_heads", int(stays.sum()))
    _keep_scale(step, q.shape[2] // count, new)
    if v is not None and len(k.shape) == 3:
        _side_by_side(step, 3, [q, k, v])
    _caches(step)


def _left(cut: Cut, axis: int) -> np.ndarray:
    """Bool [n]: which indices are left along an axis."""
    left = np.zeros(cut.shape[axis], bool)
    left[cut.indices(axis)] = True
    return left


def _caches(step: Step) -> None:
    """Results without labels: caches that nothing reads."""
    for index, value in enumerate(step.node.outputs):
        if step.outs[index] is None and (value.uses() or value.is_graph_output()):
            raise Uncuttable("its result has no labels")


def _packed_attention(step: Step) -> None:
    """Attention of com.microsoft: queries, keys and values in one weight."""
    count, w = int(step.attr("num_heads")), step.cut(1)
    sizes = step.attr("qkv_hidden_sizes") or (w.shape[1] // 3,) * 3
    ends = np.cumsum(sizes)
    kept = _left(w, 1)
    parts = [kept[e - n : e] for e, n in zip(ends, sizes, strict=True)]
    every = []
    for part in parts:
        rows = part.reshape(count, -1).sum(axis=1)
        if (rows[rows > 0] != rows[rows > 0][0]).any():
            raise Uncuttable("its heads would get different sizes", ragged=True)
        every.append(rows)
    if any(((e > 0) != (every[0] > 0)).any() for e in every):
        raise Uncuttable("queries, keys and values would have other heads", ragged=True)
    new = [int(p.sum()) for p in parts]
    step.set_attr("num_heads", int((every[0] > 0).sum()))
    if step.attr("qkv_hidden_sizes") or len(set(new)) > 1:
        step.set_attr("qkv_hidden_sizes", new)
    _keep_scale(step, sizes[0] // count, int(every[0].max()))
    have = step.ins[2] if len(step.ins) > 2 else None
    if have is not None and not have.any and not kept.all():
        step.use(2, cut_of(~kept, have.shape))
    _caches(step)


def _grouped(step: Step) -> None:
    """GroupQueryAttention: groups of query heads, each with a head of keys and values."""
    q, k = step.cut(0), step.ins[1] if len(step.ins) > 1 else None
    count, shared = int(step.attr("num_heads")), int(step.attr("kv_num_heads"))
    if k is None:
        raise Uncuttable("its queries, keys and values are packed")
    stays, new = _heads(q, 2, count)
    left, size = _heads(k, 2, shared)
    per_group = stays.reshape(shared, -1).sum(axis=1)
    if ((per_group > 0) != left).any() or (per_group[left] != per_group[left][0]).any() or size != new:
        raise Uncuttable("its groups of heads would get different sizes", ragged=True)
    if int(step.attr("do_rotary", 0)) and new != q.shape[2] // count:
        raise Uncuttable("it rotates features itself")
    step.set_attr("num_heads", int(stays.sum()))
    step.set_attr("kv_num_heads", int(left.sum()))
    _keep_scale(step, q.shape[2] // count, new)
    _caches(step)


def attention(step: Step) -> None:
    """Attention of the standard (since 23): heads on an axis, or side by side and counted in attributes."""
    q, k = step.cut(0), step.cut(1)
    if len(q.shape) == 4:
        _keep_scale_attribute(step, q.shape[3], q.new[3])
        _caches(step)
        return
    count, shared = int(step.attr("q_num_heads")), int(step.attr("kv_num_heads"))
    (stays, new), (left, _) = _heads(q, 2, count), _heads(k, 2, shared)
    per_group = stays.reshape(shared, -1).sum(axis=1)
    if ((per_group > 0) != left).any() or (per_group[left] != per_group[left][0]).any():
        raise Uncuttable("its groups of heads would get different sizes", ragged=True)
    if (_heads(step.cut(2), 2, shared)[0] != left).any():
        raise Uncuttable("keys and values would have other heads", ragged=True)
    step.set_attr("q_num_heads", int(stays.sum()))
    step.set_attr("kv_num_heads", int(left.sum()))
    _keep_scale_attribute(step, q.shape[2] // count, new)
    _caches(step)


def _keep_scale_attribute(step: Step, size: int, new: int) -> None:
    if size != new and step.attr("scale") is None:
        step.set_attr("scale", 1 / sqrt(size))


def _skip_norm(step: Step) -> None:
    layer_norm(step)
    for index in (3,):
        if index < len(step.outs) and step.outs[index] is None:
            step.outs[index] = step.out()


def _columns(*indices: int) -> Callable[[Step], None]:
    """A product of matrices with scales, zero points or a bias per column."""

    def follow(step: Step) -> None:
        COMPUTING["MatMul"](step)
        for index in indices:
            vector(step, index, step.out(), len(step.out().shape) - 1)

    return follow


def _gemm(step: Step) -> None:
    step.out()
    for index in range(2, len(step.ins)):
        vector(step, index, step.out(), 1)


_MICROSOFT: dict[str, Callable[[Step], None]] = {
    "MultiHeadAttention": _multi_head,
    "Attention": _packed_attention,
    "GroupQueryAttention": _grouped,
    "SkipLayerNormalization": _skip_norm,
    "SkipSimplifiedLayerNormalization": _skip_norm,
    "LayerNormalization": layer_norm,
    "SimplifiedLayerNormalization": layer_norm,
    "DynamicQuantizeLSTM": dynamic_lstm,
    "FusedConv": conv,
    "FusedMatMul": labelled,
    "FusedGemm": COMPUTING["Gemm"],
    "MatMulIntegerToFloat": _columns(3, 5, 6),
    "DynamicQuantizeMatMul": _columns(2, 3, 4),
    "QGemm": _gemm,
    "QLinearConv": qlinear_conv,
    "QuantizeLinear": quantised,
    "DequantizeLinear": quantised,
    "QLinearGlobalAveragePool": labelled,
    "QLinearAveragePool": labelled,
    "QLinearConcat": labelled,
    "QLinearSoftmax": first,
    **dict.fromkeys(
        ("Gelu", "FastGelu", "BiasGelu", "QuickGelu", "QLinearAdd", "QLinearMul", "QLinearLeakyRelu",
         "QLinearSigmoid", "QLinearWhere"), elementwise,
    ),
}  # fmt: skip

CONTRIB: dict[tuple[str, str], Callable[[Step], None]] = {
    **{("com.microsoft", op): rule for op, rule in _MICROSOFT.items()},
}
"""How nodes follow the cuts, by domain and operator."""
