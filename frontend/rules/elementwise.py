"""Elementwise operators: one table, no code per operator."""

from __future__ import annotations

import numpy as np

from ..context import LoweringContext
from ..primitives.functions import FUNCTIONS
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []

_BITWISE = ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")


@rule(*FUNCTIONS, *_BITWISE, "BitCast", "PRelu", weights=None)
def elementwise(ctx: LoweringContext, op: Op) -> Value:
    """Any mix of activations, literals and parameters, broadcast together."""
    if op.type == "Clip" and op.opset < 11:
        op = _with_operands(op)
    return ctx.elementwise(op, op.inputs)


def _with_operands(op: Op) -> Op:
    """Clip with its bounds as operands, as since 11; they were attributes before."""
    bounds = []
    for name in ("min", "max"):
        number = np.float32(op.attr(name, np.inf))
        wide = abs(number) >= np.finfo(np.float32).max
        bounds.append(None if wide else Value("", (), op.input(0).dtype, data=np.asarray(number)))
    return Op(op.type, op.domain, 11, op.name, (op.inputs[0], *bounds), op.results, {})


@rule("SwiGLU", weights=None)
def swiglu(ctx: LoweringContext, op: Op) -> Value:
    """Swish of the first operand times the second (SwiGLU since 28)."""
    gate, x = op.input(0), op.input(1)
    if not gate.is_activation:
        return ctx.elementwise(op, op.inputs)
    alpha = float(op.attr("alpha", 1.0))
    operands = (ctx.unary(gate, "Swish", {"alpha": alpha}, lambda v: FUNCTIONS["Swish"](v, alpha)), x)
    return ctx.elementwise(Op("Mul", "", op.opset, op.name, operands, op.results, {}), operands)
