"""Attention operators of com.microsoft, with projections, heads, masks and caches."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..context import LoweringContext
from ..primitives.values import Op, Value
from .fused import Shaped
from .parts.heads import Scores, attend, cached, mask, put, to_heads
from .parts.steps import MICROSOFT, refuse, refuse_operands
from .registry import rule

__all__: list[str] = []


def _scores(ctx: LoweringContext, op: Op, batch: int, masked: int, bias: int) -> Scores:
    """Scores by the attributes, the mask of keys at operand `masked`, and the operand `bias` added to them."""
    masks = mask(ctx, op.optional(masked), batch, op.attr("mask_filter_value"))
    if (value := op.optional(bias)) is not None:
        masks.append(("Add", value, {}))
    return Scores(float(op.attr("scale", 0.0)), masks=masks, causal={} if op.attr("unidirectional", 0) else None)


def _sizes(op: Op) -> tuple[int, int, int]:
    """The widths of queries, keys and values of Attention, over all heads."""
    whole = op.input(1).shape[1]
    return tuple(op.attr("qkv_hidden_sizes") or (whole // 3,) * 3)


def _own(op: Op) -> Sequence[Shaped | None]:
    x, past, heads = op.input(0), op.optional(4), int(op.attr("num_heads"))
    length = x.shape[1] + (0 if past is None else past.shape[3])
    cache = (2, x.shape[0], heads, length, _sizes(op)[1] // heads)
    return [((*x.shape[:2], _sizes(op)[2]), x.dtype), (cache, x.dtype)]


@rule("Attention", domain=MICROSOFT, weights=(1, 2, 5), shapes=_own)
def attention(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Self-attention with a projection to queries, keys and values side by side (com.microsoft since 1)."""
    refuse_operands(op, 6)
    refuse(bool(op.attr("do_rotary", 0)), "it computes rotary tables itself")
    refuse(bool(op.attr("past_present_share_buffer", 0)), "it writes into a shared cache")
    x, sizes, heads = op.input(0), _sizes(op), int(op.attr("num_heads"))
    qkv = ctx.call("MatMul", x, op.input(1))
    if op.optional(2) is not None:
        qkv = ctx.add(qkv, op.input(2))
    ends = np.cumsum(sizes).tolist()
    parts = [ctx.sliced(qkv, slice(e - n, e)) for e, n in zip(ends, sizes, strict=True)]
    q, k, v = (to_heads(ctx, p, heads) for p in parts)
    past = op.optional(4)
    if past is not None:
        whole = ctx.as_activation(past)
        halves = (ctx.reshaped(ctx.sliced(whole, slice(i, i + 1), 0), past.shape[1:]) for i in range(2))
        k, v = (cached(ctx, old, new) for old, new in zip(halves, (k, v), strict=True))
    y = attend(ctx, q, k, v, _scores(ctx, op, x.shape[0], 3, 5))
    out: list[Value | None] = [y]
    if op.wants(1):
        both = [ctx.reshaped(p, (1, *p.shape)) for p in (k, v)]
        out.append(ctx.call("Concat", *both, axis=0))
    return out


def _like_values(op: Op) -> Sequence[Shaped | None]:
    """The output [batch, length, width of the values], and the caches."""
    q, k, v, heads = op.input(0), op.optional(1), op.optional(2), int(op.attr("num_heads"))
    past = op.optional(6 if op.type == "MultiHeadAttention" else 5)
    if q.rank == 5:
        (batch, length, _, _, size), keys = q.shape, q.shape[1]
        wide = size
    elif k is None:
        return [None]
    elif k.rank == 5:
        (batch, length), (keys, size) = q.shape[:2], (k.shape[1], k.shape[4])
        wide = size
    else:
        batch, length = q.shape[:2]
        keys, size = (k.shape[2], k.shape[3]) if k.rank == 4 else (k.shape[1], k.shape[2] // heads)
        assert v is not None
        wide = v.shape[3] if v.rank == 4 else v.shape[2] // heads
    if past is not None:
        keys = past.shape[2] if op.attr("past_present_share_buffer", 0) else keys + past.shape[2]
    caches = [((batch, heads, keys, n), q.dtype) for n in (size, wide)]
    return [((batch, length, heads * wide), q.dtype), *caches]


@rule("MultiHeadAttention", domain=MICROSOFT, weights=(3, 5), shapes=_like_values)
def multi_head(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Attention of projected queries, keys and values, plus a bias (com.microsoft since 1)."""
    refuse_operands(op, 8, 9)
    refuse(op.wants(3), "the scores are an output")
    q, k, v = _projected(ctx, op, int(op.attr("num_heads")), 3)
    k, v = (cached(ctx, op.optional(i), new) for i, new in ((6, k), (7, v)))
    return [attend(ctx, q, k, v, _scores(ctx, op, q.shape[0], 4, 5)), k, v]


def _projected(ctx: LoweringContext, op: Op, heads: int, bias: int) -> list[Value]:
    """Queries, keys and values [batch, heads, length, size] of the first three operands, with their biases."""
    q, others = op.input(0), [op.optional(i) for i in (1, 2)]
    added = op.optional(bias)
    if q.rank == 5:
        parts = [_packed(ctx, q, i) for i in range(3)]
    elif others[0] is not None and others[0].rank == 5:
        parts = [q, *(_packed(ctx, ctx.as_activation(others[0]), i) for i in range(2))]
    else:
        parts = [q, *(ctx.as_activation(op.input(i)) for i in (1, 2))]
    refuse(added is not None and any(p.rank == 4 for p in parts), "operands that are split into heads have a bias")
    at = 0
    for i, part in enumerate(parts if added is not None else ()):
        n = part.shape[2]
        assert added is not None
        piece = ctx.sliced(added, slice(at, at + n))
        parts[i], at = ctx.add(part, piece), at + n
    return [p if p.rank == 4 else to_heads(ctx, p, heads) for p in parts]


def _packed(ctx: LoweringContext, x: Value, index: int) -> Value:
    """Part `index` of [batch, length, heads, parts, size], as [batch, heads, length, size]."""
    batch, length, heads, _, size = x.shape
    return ctx.move(x, lambda a: a[:, :, :, index].transpose(0, 2, 1, 3), (batch, heads, length, size))


@rule("DecoderMaskedMultiHeadAttention", domain=MICROSOFT, weights=(4, 10), shapes=_like_values)
def decoder_masked(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Attention of a new token to a cache, which its key and value are written into (com.microsoft since 1)."""
    refuse_operands(op, 8, 9)
    refuse(op.wants(3), "the scores are an output")
    q, k, v = _projected(ctx, op, int(op.attr("num_heads")), 10)
    how = _scores(ctx, op, q.shape[0], 3, 4)
    places, pasts = op.optional(7), [op.optional(i) for i in (5, 6)]
    if op.attr("past_present_share_buffer", 0) and places is not None and None not in pasts:
        at = ctx.reshaped(places, (places.shape[0] if places.rank else 1, 1, 1, 1))
        k, v = (put(ctx, past, new, at) for past, new in zip(pasts, (k, v), strict=True) if past is not None)
        lengths: tuple[str, Value, dict[str, object]] = ("MaskLengths", at, {})
        how = Scores(how.scale, masks=(lengths, *how.masks))
    else:
        k, v = (cached(ctx, past, new) for past, new in zip(pasts, (k, v), strict=True))
    return [attend(ctx, q, k, v, how), k, v]
