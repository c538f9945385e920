"""Attention operators of com.microsoft: projections, heads, masks, caches, in one operator."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..algebra import Algebra
from ..registry import Unsupported, rule
from ..steps import MICROSOFT, done, moved, step
from ..values import Op, Result, Value
from .fused import Shaped

__all__: list[str] = []


def _heads(ctx: Algebra, op: Op, x: Value, count: int) -> Value:
    """[batch, length, count * size] as [batch, count, length, size]."""
    batch, length, width = x.shape
    split = ctx.reshaped(x, (batch, length, count, width // count))
    return moved(ctx, op, split, lambda a: a.transpose(0, 2, 1, 3), (batch, count, length, width // count))


def _attend(ctx: Algebra, op: Op, q: Value, k: Value, v: Value, masks: Sequence[tuple[str, Value]]) -> Value:
    """[batch, length, heads * size] of q [batch, heads, length, size] and k and v, whose heads groups of q's share.

    masks: the step by which each enters the scores, and it, broadcast to [batch, heads, length, keys].
    """
    batch, heads, length, size = q.shape
    shared, keys, wide = k.shape[1], k.shape[2], v.shape[3]
    scores = ctx.product_sum(
        ctx.reshaped(q, (batch, shared, heads // shared, length, size)), k, ("bhgsd", "bhtd", "bhgst"),
        (batch, shared, heads // shared, length, keys),
    )  # fmt: skip
    scores = ctx.reshaped(scores, (batch, heads, length, keys))
    scale = float(op.attr("scale", 0.0)) or 1 / math.sqrt(size)
    scores = ctx.passes(scores, "Scale", {"factor": float(f"{scale:.5g}")}, lambda a: scale * a)
    if cap := float(op.attr("softcap", 0.0)):
        scores = ctx.passes(scores, "SoftCap", {"cap": cap}, lambda a: cap * np.tanh(a / cap))
    for name, mask in masks:
        result = (Result(scores.name, scores.shape, scores.dtype),)
        scores = ctx.elementwise(Op(name, "", op.opset, op.name, (scores, mask), result, {}), (scores, mask))
    if op.attr("unidirectional", 0) or op.type == "GroupQueryAttention":
        window = int(op.attr("local_window_size", -1))
        scores = ctx.order(scores, (2, 3), "CausalMask", {"window": window}, scores.shape)
    scores = step(ctx, op, "Softmax", [scores], axis=-1)
    out = ctx.product_sum(
        ctx.reshaped(scores, (batch, shared, heads // shared, length, keys)), v, ("bhgst", "bhtd", "bhgsd"),
        (batch, shared, heads // shared, length, wide),
    )  # fmt: skip
    out = ctx.reshaped(out, (batch, heads, length, wide))
    out = moved(ctx, op, out, lambda a: a.transpose(0, 2, 1, 3), (batch, length, heads, wide))
    return ctx.reshaped(out, (batch, length, heads * wide))


def _masks(ctx: Algebra, op: Op, mask: int, bias: int) -> list[tuple[str, Value]]:
    """A mask of keys and what is added to the scores."""
    found = []
    if (value := op.optional(mask)) is not None:
        if value.rank not in (2, 3):
            raise Unsupported(f"a mask of {value.rank} axes", "give the mask as [batch, keys] or [batch, length, keys]")
        shape = (value.shape[0], *(1,) * (4 - value.rank), *value.shape[1:])
        found.append(("Mask", ctx.reshaped(value, shape)))
    if (value := op.optional(bias)) is not None:
        found.append(("Add", value))
    return found


def _no(op: Op, **operands: int) -> None:
    """Refuse operands that are there."""
    for name, index in operands.items():
        if op.optional(index) is not None:
            raise Unsupported(f"it has the operand {name!r}", "export the model without caches and packed sequences")


def _sizes(op: Op) -> tuple[int, int, int]:
    """Widths of all queries, keys and values of Attention."""
    whole = op.input(1).shape[1]
    return tuple(op.attr("qkv_hidden_sizes") or (whole // 3,) * 3)


def _own(op: Op) -> Sequence[Shaped | None]:
    x = op.input(0)
    return [((*x.shape[:2], _sizes(op)[2]), x.dtype)]


@rule("Attention", domain=MICROSOFT, weights=(1, 2, 5), shapes=_own)
def attention(ctx: Algebra, op: Op) -> Value:
    """Self-attention with a projection to queries, keys and values side by side (com.microsoft since 1)."""
    _no(op, past=4, past_sequence_length=6)
    if op.attr("do_rotary", 0) or any(r is not None for r in op.results[1:]):
        raise Unsupported("it rotates, or its cache is an output", "export the model without a cache")
    x, sizes, heads = ctx.stream(op.input(0)), _sizes(op), int(op.attr("num_heads"))
    qkv = step(ctx, op, "MatMul", [x, op.input(1)], (*x.shape[:2], sum(sizes)))
    if op.optional(2) is not None:
        qkv = step(ctx, op, "Add", [qkv, op.input(2)])
    ends = np.cumsum(sizes).tolist()
    parts = [
        moved(ctx, op, qkv, lambda a, e=e, n=n: a[..., e - n : e], (*x.shape[:2], n))
        for e, n in zip(ends, sizes, strict=True)
    ]
    q, k, v = (_heads(ctx, op, p, heads) for p in parts)
    return done(op, _attend(ctx, op, q, k, v, _masks(ctx, op, 3, 5)))


def _like_values(op: Op) -> Sequence[Shaped | None]:
    """The values' width where they are given apart, else the queries'."""
    q, v = op.input(0), op.optional(2)
    if q.rank != 3 or v is None or v.rank != 3:
        return [None]
    return [((*q.shape[:2], v.shape[2]), q.dtype)]


@rule("MultiHeadAttention", domain=MICROSOFT, weights=(3, 5), shapes=_like_values)
def multi_head(ctx: Algebra, op: Op) -> Value:
    """Attention of queries, keys and values that were projected before, plus a bias (com.microsoft since 1)."""
    _no(op, past_key=6, past_value=7, past_sequence_length=8, cache_indirection=9)
    values = [op.optional(i) for i in range(3)]
    if any(v is None or v.rank != 3 for v in values) or any(r is not None for r in op.results[1:]):
        raise Unsupported("queries, keys and values are packed, or its cache is an output")
    parts, at = [ctx.stream(op.input(i)) for i in range(3)], 0
    bias, heads = op.optional(3), int(op.attr("num_heads"))
    for i, part in enumerate(parts if bias is not None else ()):
        n = part.shape[2]
        assert bias is not None
        piece = moved(ctx, op, bias, lambda a, at=at, n=n: a[at : at + n], (n,))
        parts[i], at = step(ctx, op, "Add", [part, piece]), at + n
    q, k, v = (_heads(ctx, op, p, heads) for p in parts)
    return done(op, _attend(ctx, op, q, k, v, _masks(ctx, op, 4, 5)))


def _like_queries(op: Op) -> Sequence[Shaped | None]:
    q, k = op.input(0), op.optional(1)
    if k is None or op.optional(3) is not None:
        return [None]
    heads = int(op.attr("kv_num_heads"))
    cache = ((q.shape[0], heads, k.shape[1], k.shape[2] // heads), k.dtype)
    return [(q.shape, q.dtype), cache, cache]


@rule("GroupQueryAttention", domain=MICROSOFT, weights=(10,), shapes=_like_queries)
def group_query(ctx: Algebra, op: Op) -> list[Value | None]:
    """Causal attention in which groups of queries' heads share one of keys' and values' (com.microsoft since 1)."""
    _no(op, past_key=3, past_value=4, position_ids=9, head_sink=11)
    if op.optional(1) is None or op.attr("do_rotary", 0) or op.attr("smooth_softmax", 0):
        raise Unsupported("queries, keys and values are packed, or it rotates them itself")
    counts = [int(op.attr(n)) for n in ("num_heads", "kv_num_heads", "kv_num_heads")]
    q, k, v = (_heads(ctx, op, ctx.stream(op.input(i)), n) for i, n in enumerate(counts))
    masks = [("MaskLengths", ctx.reshaped(op.input(5), (q.shape[0], 1, 1, 1)))]
    if op.optional(10) is not None:
        masks.append(("Add", op.input(10)))
    y = done(op, _attend(ctx, op, q, k, v, masks))
    return [
        y,
        *(
            None if r is None else done(op, c, i + 1)
            for i, (r, c) in enumerate(zip(op.results[1:], (k, v), strict=False))
        ),
    ]
