"""Rotary embedding: rotates pairs of entries of each head by angles of their position."""

from __future__ import annotations

from ...context import LoweringContext
from ...primitives.values import Value

__all__ = ["angles", "rotated"]


def angles(ctx: LoweringContext, table: Value, places: Value) -> Value:
    """Rows [batch, length, 1, half] of a table at positions [batch, length]."""
    half = table.shape[-1]
    rows = ctx.call("Gather", table, places, axis=0)
    return ctx.reshaped(rows, (*places.shape, 1, half))


def rotated(ctx: LoweringContext, x: Value, cos: Value, sin: Value, pairs: bool) -> Value:
    """Rotate the first entries of x [batch, length, heads, size], twice as many as the tables have.

    pairs: whether neighbours form a pair, rather than entries of the first and the second half.
    """
    lead, size, half = x.shape[:3], x.shape[3], cos.shape[-1]
    cuts = [slice(0, 2 * half, 2), slice(1, 2 * half, 2)] if pairs else [slice(0, half), slice(half, 2 * half)]
    a, b = (ctx.sliced(x, cut) for cut in cuts)
    real = ctx.call("Sub", ctx.mul(a, cos), ctx.mul(b, sin))
    imaginary = ctx.add(ctx.mul(a, sin), ctx.mul(b, cos))
    parts = [real, imaginary]
    if pairs:
        split = [ctx.reshaped(p, (*lead, half, 1)) for p in parts]
        parts = [ctx.reshaped(ctx.call("Concat", *split, axis=-1), (*lead, 2 * half))]
    if size > 2 * half:
        parts.append(ctx.sliced(x, slice(2 * half, None)))
    return parts[0] if len(parts) == 1 else ctx.call("Concat", *parts, axis=-1)
