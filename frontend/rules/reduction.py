"""Reductions: a step of the via over free axes, new nodes over neurons."""

from __future__ import annotations

import numpy as np

from ..context import LoweringContext
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []

_SYMMETRIC = (
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd",
    "ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare",
)  # fmt: skip
_OF_ONE_ENTRY = {"ReduceL1": "Abs", "ReduceL2": "Abs", "ReduceLogSum": "Log"}


@rule(*_SYMMETRIC)
def reduce(ctx: LoweringContext, op: Op) -> Value:
    """Axes are an attribute (before opset 13 or 18) or an operand; all by default (ReduceMean since 1)."""
    x = op.input(0)
    axes = op.attr("axes") if op.attr("axes") is not None else op.data(1)
    if axes is None or np.size(axes) == 0:
        if op.attr("noop_with_empty_axes", 0):
            return _of_single_entries(ctx, op, x)
        axes = range(x.rank)
    axes = sorted({int(a) % x.rank for a in np.atleast_1d(np.asarray(axes, dtype=np.int64))})
    y = ctx.reduce(x, axes, op.type, {"axes": tuple(a - x.rank for a in axes)})
    return ctx.reshaped(y, op.shape())


def _of_single_entries(ctx: LoweringContext, op: Op, x: Value) -> Value:
    """Each entry reduced on its own: |x|, x^2 or log(x), where these are what is summed or done to the sum."""
    if op.type == "ReduceSumSquare":
        return ctx.elementwise("Mul", x, x)
    name = _OF_ONE_ENTRY.get(op.type)
    return x if name is None else ctx.elementwise(name, x)


@rule("ArgMax", "ArgMin")
def arg_reduce(ctx: LoweringContext, op: Op) -> Value:
    """The index of an extremum, which pins the axis (ArgMax since 1)."""
    x, axis = op.input(0), op.axis(default=0)
    attributes = {"axis": axis - x.rank, "last": int(op.attr("select_last_index", 0))}
    y = ctx.reduce(ctx.order(x, [axis], op.type, attributes, x.shape), [axis], op.type, attributes)
    return ctx.reshaped(y, op.shape())
