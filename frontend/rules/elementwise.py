"""Elementwise operators: one table, no code per operator."""

from __future__ import annotations

from ..algebra import Algebra
from ..functions import FUNCTIONS
from ..registry import rule
from ..values import Op, Value

__all__: list[str] = []

_BITWISE = ("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitwiseNot", "BitShift")


@rule(*FUNCTIONS, *_BITWISE, "PRelu", weights=None)
def elementwise(ctx: Algebra, op: Op) -> Value:
    """Any mix of activations, literals and parameters, broadcast together."""
    return ctx.elementwise(op, op.inputs)
