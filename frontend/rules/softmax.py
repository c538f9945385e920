"""Softmax, LogSoftmax and Hardmax: entries along an axis are coupled, or ordered."""

from __future__ import annotations

from ..context import LoweringContext
from ..primitives.values import Op, Value
from .normalisation import normalized
from .registry import rule

__all__: list[str] = []


@rule("Softmax", "LogSoftmax", "Hardmax")
def softmax(ctx: LoweringContext, op: Op) -> Value:
    """Over one axis since opset 13; before, over all axes from `axis` on."""
    x = op.input(0)
    axis = op.axis(default=-1 if op.opset >= 13 else 1)
    axes = [axis] if op.opset >= 13 else [a for a in range(axis, x.rank) if x.shape[a] > 1] or [axis]
    if op.type == "Hardmax":
        # The first of equal entries wins, so their order matters.
        return ctx.order(x, axes, op.type, {"axes": tuple(a - x.rank for a in axes)}, x.shape)
    return normalized(ctx, x, axes, op.type, {})
