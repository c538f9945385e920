"""Others of com.microsoft: rotary tables, channels that come last, triangles; and those that are not lowered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from ..primitives.values import Op, Value
from .fused import Shaped, conv_shape, like_first
from .parts.rotary import angles, rotated
from .parts.steps import MICROSOFT, done, moved, step
from .registry import rule

__all__: list[str] = []


@rule("RotaryEmbedding", domain=MICROSOFT, weights=(2, 3), shapes=like_first)
def rotary(ctx: LoweringContext, op: Op) -> Value:
    """Pairs of entries of each head are rotated by angles of their position (com.microsoft since 1)."""
    x, tables = ctx.as_activation(op.input(0)), (op.input(2), op.input(3))
    half = tables[0].shape[-1]
    if op.attr("is_packed_batching", 0) or float(op.attr("scale", 1.0)) != 1:
        raise Unsupported("sequences are packed, or it scales")
    heads = int(op.attr("num_heads", 0)) or (1 if x.rank == 4 else x.shape[2] // (2 * half))
    whole = x
    if x.rank == 3:
        batch, length, width = x.shape
        x = ctx.reshaped(x, (batch, length, heads, width // heads))
    else:
        batch, heads, length, size = x.shape
        x = moved(ctx, op, x, lambda a: a.transpose(0, 2, 1, 3), (batch, length, heads, size))
    cos, sin = (_angles(ctx, op, t, length) for t in tables)
    y = rotated(ctx, op, x, cos, sin, bool(op.attr("interleaved", 0)))
    if whole.rank == 3:
        return done(op, ctx.reshaped(y, whole.shape))
    return done(op, moved(ctx, op, y, lambda a: a.transpose(0, 2, 1, 3), whole.shape))


def _angles(ctx: LoweringContext, op: Op, table: Value, length: int) -> Value:
    """Rows of a table at the positions (or from one on)."""
    places, half = op.input(1), table.shape[-1]
    if places.rank == 2:
        return angles(ctx, op, table, places)
    start = int(op.known(1).reshape(-1)[0])
    return ctx.reshaped(
        moved(ctx, op, table, lambda a: a[start : start + length], (length, half)), (1, length, 1, half)
    )


def _first(op: Op) -> Value:
    """Operand 0 with channels first, without labels."""
    x = op.input(0)
    return Value(x.name, (x.shape[0], x.shape[-1], *x.shape[1:-1]), x.dtype)


def _weight(op: Op) -> Value:
    """The kernel with channels first, without labels."""
    w = op.input(1)
    return Value(w.name, (w.shape[0], w.shape[-1], *w.shape[1:-1]), w.dtype)


def _last(op: Op) -> Sequence[Shaped]:
    plain = Op(op.type, "", op.opset, op.name, (_first(op), _weight(op)), (), op.attributes)
    [(shape, dtype)] = conv_shape(plain)
    return [((shape[0], *shape[2:], shape[1]), dtype)]


@rule("NhwcConv", domain=MICROSOFT, weights=(1, 2), shapes=_last)
def nhwc_conv(ctx: LoweringContext, op: Op) -> Value:
    """Conv of channels that come last, kernels [M, *kernel, C/groups] (com.microsoft since 1)."""
    names = ("auto_pad", "dilations", "group", "kernel_shape", "pads", "strides")
    own = {n: op.attr(n) for n in names if op.attr(n) is not None}
    x, w, shape = ctx.as_activation(op.input(0)), op.input(1), op.shape()
    x, w = (moved(ctx, op, v, lambda a: np.moveaxis(a, -1, 1), like.shape) for v, like in
            ((x, _first(op)), (w, _weight(op))))  # fmt: skip
    y = step(ctx, op, "Conv", [x, w, op.optional(2)], (shape[0], shape[-1], *shape[1:-1]), **own)
    return done(op, moved(ctx, op, y, lambda a: np.moveaxis(a, 1, -1), shape))


@rule("GroupNorm", domain=MICROSOFT, weights=(1, 2), shapes=like_first)
def group_norm(ctx: LoweringContext, op: Op) -> Value:
    """GroupNormalization of channels that come last, or first, then SiLU (com.microsoft since 1)."""
    x, last = ctx.as_activation(op.input(0)), bool(op.attr("channels_last", 1))
    shape = x.shape
    if last:
        x = moved(ctx, op, x, lambda a: np.moveaxis(a, -1, 1), _first(op).shape)
    sides: dict[str, Any] = {"num_groups": int(op.attr("groups")), "epsilon": float(op.attr("epsilon", 1e-5))}
    y = step(ctx, op, "GroupNormalization", [x, op.input(1), op.input(2)], **sides)
    if last:
        y = moved(ctx, op, y, lambda a: np.moveaxis(a, 1, -1), shape)
    return done(op, ctx.unary(y, "Silu", {}, FUNCTIONS["Swish"]) if op.attr("activation", 0) else y)


@rule("Trilu", domain=MICROSOFT, shapes=like_first)
def trilu(ctx: LoweringContext, op: Op) -> Value:
    """As the operator of this name in the default domain (com.microsoft since 1)."""
    return done(op, step(ctx, op, "Trilu", op.inputs, upper=int(op.attr("upper", 1))))


_BLOCKS = "its channels are in blocks, in the order of the machine that optimised the model"
_CACHE = "it reads and writes a cache of keys and values in an order of its own"
NCHWC = "com.microsoft.nchwc"
_NCHWC = (
    "Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReorderInput", "ReorderOutput", "Upsample",
)  # fmt: skip
_NOT_LOWERED = {
    "PackedAttention": "tokens of several sequences are packed by computed places",
    "PackedMultiHeadAttention": "tokens of several sequences are packed by computed places",
    "DecoderMaskedSelfAttention": _CACHE,
}


def _refused(ctx: LoweringContext, op: Op) -> Value:
    reason = _BLOCKS if op.domain == NCHWC else _NOT_LOWERED[op.type]
    raise Unsupported(reason, "export the model before ONNX Runtime's fusions")


for _name in _NOT_LOWERED:
    rule(_name, domain=MICROSOFT, weights=None, refuses=True)(_refused)
for _name in _NCHWC:
    rule(_name, domain=NCHWC, weights=None, refuses=True)(_refused)


def _scores(op: Op) -> Sequence[Shaped]:
    return [(op.input(1).shape, op.input(1).dtype)]


_REPEATED = "tokens that would repeat are ruled out; no parameters"


@rule("NGramRepeatBlock", domain=MICROSOFT, declared=_REPEATED, shapes=_scores)
def repeated(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Scores and the tokens so far, in their order."""
    return ctx.opaque_join(op)
