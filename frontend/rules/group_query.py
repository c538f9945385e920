"""GroupQueryAttention of com.microsoft, with packed projections, rotary embedding, caches and sinks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..primitives.values import Op, Value
from .fused import Shaped
from .parts.heads import Scores, attend, cached, put
from .parts.rotary import angles, rotated
from .parts.steps import MICROSOFT, refuse, refuse_operands
from .registry import rule

__all__: list[str] = []

_ANOTHER_CACHE = ("sliding_window_cache", "kv_cache_bit_width")


def _counts(op: Op) -> tuple[int, int, int]:
    shared = int(op.attr("kv_num_heads"))
    return int(op.attr("num_heads")), shared, shared


def _size(op: Op) -> int:
    """The size of a head."""
    width = op.input(0).shape[2]
    return width // (sum(_counts(op)) if op.optional(1) is None else _counts(op)[0])


def _keys(op: Op) -> int:
    """The number of keys, including unused positions of the cache."""
    length, past, total = op.input(0).shape[1], op.optional(3), op.optional(6)
    if past is None or total is None or total.data is None:
        return length + (0 if past is None else past.shape[2])
    return max(past.shape[2], int(total.data.reshape(-1)[0]))


def _shapes(op: Op) -> Sequence[Shaped | None]:
    q, (heads, shared, _), size = op.input(0), _counts(op), _size(op)
    cache = ((q.shape[0], shared, _keys(op), size), q.dtype)
    return [((*q.shape[:2], heads * size), q.dtype), cache, cache]


@rule("GroupQueryAttention", domain=MICROSOFT, weights=(7, 8, 10, 11, 14, 15), shapes=_shapes)
def group_query(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Causal attention in which groups of query heads share a key and value head (com.microsoft since 1)."""
    refuse_operands(op, 12, 13, 16)
    refuse(any(int(op.attr(n, 0)) for n in _ANOTHER_CACHE), "its cache is quantised, or holds only a window")
    refuse(bool(op.attr("qk_output", 0)) or any(op.results[3:]), "the scores are an output")
    q, k, v = _parts(ctx, op)
    batch, length = q.shape[:2]
    lengths = ctx.reshaped(op.input(5), (batch, 1, 1, 1))
    q, k = (_normed(ctx, op, p, i) for p, i in ((q, 14), (k, 15)))
    if op.attr("do_rotary", 0):
        cos, sin = (angles(ctx, op.input(i), _places(ctx, op, batch, length)) for i in (7, 8))
        pairs = bool(op.attr("rotary_interleaved", 0))
        q, k = (rotated(ctx, p, cos, sin, pairs) for p in (q, k))
    q, k, v = (ctx.transposed(p, (0, 2, 1, 3)) for p in (q, k, v))
    k, v = (_cached(ctx, op, op.optional(i), new, lengths) for i, new in ((3, k), (4, v)))
    y = attend(ctx, q, k, v, _how(op, lengths))
    return [y, k, v]


def _how(op: Op, lengths: Value) -> Scores:
    """Scores by the attributes and operands. A sink is used regardless of `smooth_softmax`."""
    masks: list[tuple[str, Value, dict[str, Any]]] = [("MaskLengths", lengths, {})]
    if (bias := op.optional(10)) is not None:
        masks.append(("Add", bias, {}))
    causal = {"window": int(op.attr("local_window_size", -1))} if op.attr("causal", 1) else None
    sink = op.optional(11) or bool(op.attr("smooth_softmax", 0))
    return Scores(float(op.attr("scale", 0.0)), float(op.attr("softcap", 0.0)), masks, causal, sink)


def _parts(ctx: LoweringContext, op: Op) -> list[Value]:
    """Queries, keys and values [batch, length, heads, size]."""
    q, counts, size = op.input(0), _counts(op), _size(op)
    parts = [q]
    if op.optional(1) is not None:
        parts += [ctx.as_activation(op.input(i)) for i in (1, 2)]
    else:
        ends = np.cumsum([n * size for n in counts]).tolist()
        parts = [ctx.sliced(q, slice(e - n * size, e))
                 for e, n in zip(ends, counts, strict=True)]  # fmt: skip
    return [ctx.reshaped(p, (*p.shape[:2], n, size)) for p, n in zip(parts, counts, strict=True)]


def _normed(ctx: LoweringContext, op: Op, x: Value, index: int) -> Value:
    """RMSNormalization of every head, if there is a scale."""
    scale = op.optional(index)
    if scale is None:
        return x
    own = op.attr(("q_norm_epsilon", "k_norm_epsilon")[index - 14])
    epsilon = float(op.attr("qk_norm_epsilon", 1e-6) if own is None else own)
    return ctx.call("RMSNormalization", x, scale, axis=-1, epsilon=epsilon)


def _places(ctx: LoweringContext, op: Op, batch: int, length: int) -> Value:
    """Positions [batch, length] in the sequence: given, or those up to the last one."""
    if (given := op.optional(9)) is not None:
        # ONNX Runtime's kernels disagree about other positions.
        refuse(given.data is not None and bool((np.diff(given.data) != 1).any()), "its positions are not consecutive")
        return given
    last = op.input(5)
    if last.data is not None:
        at = np.maximum(last.data.reshape(-1, 1) + 1 - length, 0) + np.arange(length)
        return ctx.constant(at)
    last = ctx.order(ctx.reshaped(ctx.as_activation(last), (batch, 1)), (1,), "Places", {}, (batch, length))
    return replace(last, dtype="int64")


def _cached(ctx: LoweringContext, op: Op, past: Value | None, new: Value, lengths: Value) -> Value:
    """Append to the cache, or write into it from its first free position on."""
    if past is None or _keys(op) == past.shape[2] + new.shape[2]:
        return cached(ctx, past, new)
    if past.shape[2] < _keys(op):
        shape = (*past.shape[:2], _keys(op), past.shape[3])
        past = ctx.order(ctx.as_activation(past), (2,), "Longer", {}, shape)
    return put(ctx, past, new, lengths)
