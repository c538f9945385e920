"""Rotary embedding: pairs of entries of each head are rotated by angles of their position."""

from __future__ import annotations

from ...context import LoweringContext
from ...primitives.values import Op, Value
from .steps import moved, step

__all__ = ["angles", "rotated"]


def angles(ctx: LoweringContext, op: Op, table: Value, places: Value) -> Value:
    """Rows [batch, length, 1, half] of a table at places [batch, length]."""
    half = table.shape[-1]
    rows = step(ctx, op, "Gather", [table, places], (*places.shape, half), axis=0)
    return ctx.reshaped(rows, (*places.shape, 1, half))


def rotated(ctx: LoweringContext, op: Op, x: Value, cos: Value, sin: Value, pairs: bool) -> Value:
    """x [batch, length, heads, size] of which the first entries, twice those of the tables, are rotated.

    pairs: neighbours are rotated together, else one of the first half with one of the second.
    """
    lead, size, half = x.shape[:3], x.shape[3], cos.shape[-1]
    cuts = [slice(0, 2 * half, 2), slice(1, 2 * half, 2)] if pairs else [slice(0, half), slice(half, 2 * half)]
    a, b = (moved(ctx, op, x, lambda v, cut=cut: v[..., cut], (*lead, half)) for cut in cuts)
    real = step(ctx, op, "Sub", [step(ctx, op, "Mul", [a, cos]), step(ctx, op, "Mul", [b, sin])])
    imaginary = step(ctx, op, "Add", [step(ctx, op, "Mul", [a, sin]), step(ctx, op, "Mul", [b, cos])])
    parts = [real, imaginary]
    if pairs:
        split = [ctx.reshaped(p, (*lead, half, 1)) for p in parts]
        parts = [ctx.reshaped(step(ctx, op, "Concat", split, (*lead, half, 2), axis=-1), (*lead, 2 * half))]
    if size > 2 * half:
        parts.append(moved(ctx, op, x, lambda v: v[..., 2 * half :], (*lead, size - 2 * half)))
    return parts[0] if len(parts) == 1 else step(ctx, op, "Concat", parts, x.shape, axis=-1)
