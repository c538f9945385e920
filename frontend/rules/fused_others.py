"""Other operators of com.microsoft: rotary embedding, channels-last, Trilu; and those that are not lowered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from ..primitives.values import Op, Value
from .fused import Shaped, convolved, like_first
from .parts.rotary import angles, rotated
from .parts.steps import MICROSOFT
from .registry import rule

__all__: list[str] = []


@rule("RotaryEmbedding", domain=MICROSOFT, weights=(2, 3), shapes=like_first)
def rotary(ctx: LoweringContext, op: Op) -> Value:
    """Rotate pairs of entries of each head by angles of their position (com.microsoft since 1)."""
    x, tables = op.input(0), (op.input(2), op.input(3))
    half = tables[0].shape[-1]
    if op.attr("is_packed_batching", 0) or float(op.attr("scale", 1.0)) != 1:
        raise Unsupported("sequences are packed, or it has a scale")
    heads = int(op.attr("num_heads", 0)) or (1 if x.rank == 4 else x.shape[2] // (2 * half))
    whole = x
    if x.rank == 3:
        batch, length, width = x.shape
        x = ctx.reshaped(x, (batch, length, heads, width // heads))
    else:
        length = x.shape[2]
        x = ctx.transposed(x, (0, 2, 1, 3))
    cos, sin = (_angles(ctx, op, t, length) for t in tables)
    y = rotated(ctx, x, cos, sin, bool(op.attr("interleaved", 0)))
    if whole.rank == 3:
        return ctx.reshaped(y, whole.shape)
    return ctx.transposed(y, (0, 2, 1, 3))


def _angles(ctx: LoweringContext, op: Op, table: Value, length: int) -> Value:
    """Rows of a table at the given positions, or from a given one on."""
    places, half = op.input(1), table.shape[-1]
    if places.rank == 2:
        return angles(ctx, table, places)
    start = int(op.known(1).reshape(-1)[0])
    return ctx.reshaped(ctx.sliced(table, slice(start, start + length), 0), (1, length, 1, half))


def _first(ctx: LoweringContext, x: Value) -> Value:
    """Move channels from the last axis to axis 1."""
    return ctx.transposed(x, (0, x.rank - 1, *range(1, x.rank - 1)))


def _last(ctx: LoweringContext, x: Value) -> Value:
    """Move channels from axis 1 to the last axis."""
    return ctx.transposed(x, (0, *range(2, x.rank), 1))


def _shape_last(op: Op) -> Sequence[Shaped]:
    x, w = ((v.shape[0], v.shape[-1], *v.shape[1:-1]) for v in (op.input(0), op.input(1)))
    batch, channels, *space = convolved(op, x, w)
    return [((batch, *space, channels), op.input(0).dtype)]


@rule("NhwcConv", domain=MICROSOFT, weights=(1, 2), shapes=_shape_last)
def nhwc_conv(ctx: LoweringContext, op: Op) -> Value:
    """Channels-last Conv with kernels [M, *kernel, C/groups] (com.microsoft since 1)."""
    return _last(ctx, ctx.call("Conv", *(_first(ctx, op.input(i)) for i in (0, 1)), op.optional(2), **op.attributes))


@rule("GroupNorm", domain=MICROSOFT, weights=(1, 2), shapes=like_first)
def group_norm(ctx: LoweringContext, op: Op) -> Value:
    """GroupNormalization, channels-last or not, then SiLU (com.microsoft since 1)."""
    x, last = op.input(0), bool(op.attr("channels_last", 1))
    if last:
        x = _first(ctx, x)
    sides: dict[str, Any] = {"num_groups": int(op.attr("groups")), "epsilon": float(op.attr("epsilon", 1e-5))}
    y = ctx.call("GroupNormalization", x, op.input(1), op.input(2), **sides)
    if last:
        y = _last(ctx, y)
    return ctx.unary(y, "Silu", {}, FUNCTIONS["Swish"]) if op.attr("activation", 0) else y


@rule("Trilu", domain=MICROSOFT, shapes=like_first)
def trilu(ctx: LoweringContext, op: Op) -> Value:
    """The operator of this name in the default domain (com.microsoft since 1)."""
    return ctx.call("Trilu", *op.inputs, upper=int(op.attr("upper", 1)))


_BLOCKS = "its channels are blocked for the CPU on which the model was optimised"
_CACHE = "it reads and writes a cache of keys and values in a private layout"
NCHWC = "com.microsoft.nchwc"
_NCHWC = (
    "Conv", "MaxPool", "AveragePool", "GlobalMaxPool", "GlobalAveragePool", "ReorderInput", "ReorderOutput", "Upsample",
)  # fmt: skip
_NOT_LOWERED = {
    "PackedAttention": "tokens of several sequences are packed by computed offsets",
    "PackedMultiHeadAttention": "tokens of several sequences are packed by computed offsets",
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


_REPEATED = "tokens that would repeat an n-gram are masked; no parameters"


@rule("NGramRepeatBlock", domain=MICROSOFT, declared=_REPEATED, shapes=_scores)
def repeated(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """A join of the scores and the tokens so far, in order."""
    return ctx.opaque_join(op)
