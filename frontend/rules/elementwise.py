"""Elementwise operators: one table, no code per operator."""

from __future__ import annotations

import numpy as np

from ..context import LoweringContext
from ..primitives.elementwise import unary_step
from ..primitives.functions import FUNCTIONS, Steps
from ..primitives.values import Op, Value
from .registry import internal_rule, rule

__all__: list[str] = []

_BITWISE = ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")


@rule(*FUNCTIONS, *_BITWISE, "BitCast", "PRelu", weights=None)
def elementwise(ctx: LoweringContext, op: Op) -> Value:
    """Any mix of activations, literals and parameters, broadcast against each other."""
    if op.type == "Clip" and op.opset < 11:
        return ctx.elementwise("Clip", op.input(0), *_bounds(ctx, op))
    # A sum of two is an Add, whatever the file calls it.
    return ctx.elementwise("Add" if op.type == "Sum" else op.type, *op.inputs, **op.attributes)


@internal_rule("Chain")
def chain(ctx: LoweringContext, op: Op) -> Value:
    """All operands of a chain of one operator."""
    return ctx.elementwise(str(op.attr("op")), *op.inputs)


@internal_rule("Run")
def run(ctx: LoweringContext, op: Op) -> Value:
    """The steps one after the other."""
    steps = Steps([unary_step(text) for text in op.attr("steps")])
    return ctx.unary(op.input(0), op.type, {}, steps)


def _bounds(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """The bounds of Clip, attributes before opset 11, as operands."""
    numbers = [np.float32(op.attr(name, np.inf)) for name in ("min", "max")]
    return [None if abs(n) >= np.finfo(np.float32).max else ctx.constant(np.asarray(n)) for n in numbers]


@rule("SwiGLU", weights=None)
def swiglu(ctx: LoweringContext, op: Op) -> Value:
    """Swish of the first operand times the second (SwiGLU since 28)."""
    gate, x = op.input(0), op.input(1)
    if not gate.is_activation:
        return ctx.elementwise(op.type, *op.inputs, **op.attributes)
    alpha = float(op.attr("alpha", 1.0))
    return ctx.elementwise("Mul", ctx.unary(gate, "Swish", {"alpha": alpha}, lambda v: FUNCTIONS["Swish"](v, alpha)), x)
