"""Control flow: the nodes into which `rewriting.control` flattens branches and loops."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.constants import uniform
from ..primitives.values import Op, Value
from .registry import internal_rule

__all__: list[str] = []


@internal_rule("Choice", data=())
def choice(ctx: LoweringContext, op: Op) -> Value:
    """One of two values of different shapes."""
    raise Unsupported(
        "the branches of an If return values of different shapes", "give concrete sizes with --dim or --input"
    )


@internal_rule("Carry", data=())
def carry(ctx: LoweringContext, op: Op) -> Value:
    """A loop-carried value at the start of an iteration."""
    return ctx.carry(op.output(), op.input(0))


@internal_rule("Iteration")
def iteration(ctx: LoweringContext, op: Op) -> Value:
    """The iteration number, one pinned node."""
    start = ctx.as_activation(ctx.constant(np.zeros((), np.int64), op.output()))
    return ctx.unary(start, "Iteration", {})


@internal_rule("Step")
def step(ctx: LoweringContext, op: Op) -> Value:
    """The entry of an operand that an iteration reads; all iterations share its nodes, as time is a free axis."""
    x = op.input(0)
    axis = int(op.attr("axis"))
    # By default there are as many iterations as entries.
    marks = {
        n: op.attr(n)
        for n in ("backward", "loop", "trips")
        if op.attr(n) and (n, op.attr(n)) != ("trips", x.shape[axis])
    }
    return ctx.step(x, axis, marks)


@internal_rule("LoopEnd", data=())
def loop_end(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """The end of an iteration: closes the cycles; returns the final carried values and stacked rows."""
    count = int(op.attr("carried"))
    carries, initials, ends = (op.inputs[i * count : (i + 1) * count] for i in range(3))
    for before, initial, end in zip(carries, initials, ends, strict=True):
        if before is None or initial is None or end is None:
            raise Unsupported("a carried value is missing")
        ctx.close(before, _initial(ctx, initial), ctx.as_activation(end))
    rows = op.inputs[3 * count :][: int(op.attr("rows"))]
    deciders = [ctx.as_activation(v) for v in op.inputs[3 * count + len(rows) :] if v is not None]
    made = [ctx.unary(v, "Last", {}) for v in carries if v is not None]
    for row, axis, backward in zip(rows, op.attr("axes"), op.attr("backward"), strict=True):
        if row is not None:
            made.append(_stacked(ctx, op, ctx.as_activation(row), int(axis), bool(backward)))
    return [_decided(ctx, v, deciders) if op.wants(i) else None for i, v in enumerate(made)]


def _initial(ctx: LoweringContext, value: Value) -> Value:
    """The initial value as an activation; a uniform constant is a single entry, broadcast."""
    one = None if value.data is None else uniform(value.data)
    if one is None:
        return ctx.as_activation(value)
    return ctx.as_activation(replace(value, shape=(1,) * value.rank, data=np.full((1,) * value.rank, one)))


def _stacked(ctx: LoweringContext, op: Op, row: Value, axis: int, backward: bool) -> Value:
    shape = (*row.shape[:axis], int(op.attr("trips")), *row.shape[axis:])
    marked = ctx.unary(row, "Stack", {"axis": axis - len(shape), **({"backward": 1} if backward else {})})
    return marked.unsqueezed(axis, shape[axis])


def _decided(ctx: LoweringContext, value: Value, deciders: list[Value]) -> Value:
    """A result of the loop, which depends on the deciders of the number of iterations."""
    return ctx.elementwise("While", value, *(ctx.reshaped(v, ()) for v in deciders)) if deciders else value
