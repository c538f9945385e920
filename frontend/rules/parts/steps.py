"""Helpers for rules of fused operators: refusing forms that are not lowered, and the final activation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...context import OPSET, LoweringContext
from ...errors import Unsupported
from ...primitives.values import Op, Value

__all__ = ["MICROSOFT", "activated", "refuse", "refuse_operands"]

MICROSOFT = "com.microsoft"
_PLAIN = "export the model without it, before ONNX Runtime's fusions"


def refuse(condition: bool, reason: str) -> None:
    """Raise `Unsupported` for this reason if the condition holds."""
    if condition:
        raise Unsupported(reason, _PLAIN)


def refuse_operands(op: Op, *operands: int) -> None:
    """Raise `Unsupported` if the node has one of these operands."""
    for index in operands:
        refuse(op.optional(index) is not None, f"its operand {index} is not lowered")


_NUMBERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"), "Elu": ("alpha",)}


def activated(ctx: LoweringContext, op: Op, x: Value, numbers: Sequence[float]) -> Value:
    """Apply the function in the attribute `activation`, if any, with these parameters."""
    name = op.attr("activation", "")
    if not name:
        return x
    if name not in (*_NUMBERS, "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Softsign", "Gelu"):
        raise Unsupported(f"its activation {name!r} is not known")
    given: dict[str, Any] = dict(zip(_NUMBERS.get(name, ()), map(float, np.atleast_1d(numbers)), strict=False))
    # Before opset 11 the limits of Clip are attributes.
    return ctx.call(name, x, opset=6 if name == "Clip" else OPSET, **given)
