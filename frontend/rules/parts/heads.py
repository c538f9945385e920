"""Helpers for attention operators: heads, masks, caches, and the attention itself."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...context import LoweringContext
from ...errors import Unsupported
from ...primitives.values import Value

__all__ = ["Scores", "attend", "cached", "from_heads", "mask", "put", "to_heads"]


@dataclass(frozen=True, slots=True)
class Scores:
    """How scores [batch, heads, length, keys] are turned into attention weights.

    scale: 0 for 1 / sqrt(size of a head). cap: the soft cap, 0 for none. masks: (step, mask, attributes) of each mask,
    which broadcasts to the scores; `ordered` names the steps after which the order of keys matters. causal: attributes
    of the causal mask, None for none. sink: the score [heads] of an additional key without a value, True for 0.
    """

    scale: float = 0.0
    cap: float = 0.0
    masks: Sequence[tuple[str, Value, dict[str, Any]]] = ()
    causal: dict[str, Any] | None = None
    sink: Value | bool = False
    ordered: Sequence[str] = field(default=("MaskLengths", "MaskPlaces"))


def to_heads(ctx: LoweringContext, x: Value, count: int) -> Value:
    """[batch, length, count * size] as [batch, count, length, size]."""
    batch, length, width = x.shape
    split = ctx.reshaped(x, (batch, length, count, width // count))
    return ctx.transposed(split, (0, 2, 1, 3))


def from_heads(ctx: LoweringContext, x: Value) -> Value:
    """[batch, count, length, size] as [batch, length, count * size]."""
    batch, count, length, size = x.shape
    x = ctx.transposed(x, (0, 2, 1, 3))
    return ctx.reshaped(x, (batch, length, count * size))


def cached(ctx: LoweringContext, past: Value | None, new: Value) -> Value:
    """Append keys or values [batch, heads, length, size] to those of the cache."""
    if past is None:
        return new
    return ctx.call("Concat", ctx.as_activation(past), new, axis=2)


def put(ctx: LoweringContext, past: Value, new: Value, at: Value) -> Value:
    """Write `new` [batch, heads, length, size] into a cache [batch, heads, positions, size] from position `at` on."""
    parts = (ctx.as_activation(past), ctx.order(new, (2,), "Put", {}, past.shape), at)
    made = ctx.elementwise("Put", *parts)
    return ctx.order(made, (2,), "Put", {}, past.shape)


def mask(
    ctx: LoweringContext, value: Value | None, batch: int, fill: float | None
) -> list[tuple[str, Value, dict[str, Any]]]:
    """The mask of keys: [batch, keys], [batch, length, keys], or lengths and starts in one vector."""
    if value is None:
        return []
    attributes = {} if fill is None else {"fill": float(f"{fill:.5g}")}
    if value.rank in (2, 3):
        shape = (value.shape[0], *(1,) * (4 - value.rank), *value.shape[1:])
        return [("Mask", ctx.reshaped(value, shape), attributes)]
    if value.rank == 1 and value.shape == (batch,):
        return [("MaskLengths", ctx.reshaped(value, (batch, 1, 1, 1)), attributes)]
    if value.rank == 1:
        return [("MaskPlaces", value, {**attributes, "kind": value.shape[0] // batch})]
    raise Unsupported(f"a mask of {value.rank} axes", "give the mask as [batch, keys] or [batch, length, keys]")


def attend(ctx: LoweringContext, q: Value, k: Value, v: Value, how: Scores) -> Value:
    """Attention [batch, length, heads * size] of q [batch, heads, length, size]; groups of its heads share k and v."""
    batch, heads, length, size = q.shape
    shared, keys, wide = k.shape[1], k.shape[2], v.shape[3]
    groups = (batch, shared, heads // shared, length)
    scores = ctx.product_sum(ctx.reshaped(q, (*groups, size)), k, ("bhgsd", "bhtd", "bhgst"), (*groups, keys))
    scores = ctx.reshaped(scores, (batch, heads, length, keys))
    scale = how.scale or 1 / math.sqrt(size)
    scores = ctx.unary(scores, "Scale", {"factor": float(f"{scale:.5g}")}, lambda a: scale * a)
    if cap := how.cap:
        scores = ctx.unary(scores, "SoftCap", {"cap": cap}, lambda a: cap * np.tanh(a / cap))
    for name, value, attributes in how.masks:
        scores = _masked(ctx, scores, name, value, attributes)
        if name in how.ordered:
            scores = ctx.order(scores, (3,), name, {}, scores.shape)
    if how.causal is not None:
        scores = ctx.order(scores, (2, 3), "CausalMask", how.causal, scores.shape)
    weights = _weights(ctx, scores, how.sink)
    out = ctx.product_sum(
        ctx.reshaped(weights, (*groups, keys)), v, ("bhgst", "bhtd", "bhgsd"), (*groups, wide)
    )  # fmt: skip
    return from_heads(ctx, ctx.reshaped(out, (batch, heads, length, wide)))


def _masked(ctx: LoweringContext, scores: Value, name: str, value: Value, attributes: dict[str, Any]) -> Value:
    if name == "MaskPlaces":
        every = {a: a for a in range(scores.rank)}
        return ctx.join_all([ctx.unary(scores, name, attributes), ctx.as_activation(value)], name, scores.shape, every)
    return ctx.elementwise(name, scores, value, **attributes)


def _weights(ctx: LoweringContext, scores: Value, sink: Value | bool) -> Value:
    """Softmax over the keys and the sink."""
    if isinstance(sink, Value):
        scores = ctx.elementwise("Sink", scores, ctx.reshaped(sink, (1, scores.shape[1], 1, 1)))
    elif sink:
        scores = ctx.unary(scores, "Sink", {})
    return ctx.call("Softmax", scores, axis=-1)
