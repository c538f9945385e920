"""ai.onnx.ml: operators whose parameters are attributes."""

from __future__ import annotations

import numpy as np

from ..algebra import Algebra
from ..registry import rule
from ..values import Op, Value

__all__: list[str] = []


@rule("Scaler", domain="ai.onnx.ml")
def scaler(ctx: Algebra, op: Op) -> Value:
    """(x - offset) * scale per feature of the last axis (ai.onnx.ml Scaler since 1)."""
    y = ctx.stream(op.input(0))
    for name, step in (("offset", "Sub"), ("scale", "Mul")):
        numbers = np.asarray(op.attr(name, ()), dtype=np.float32)
        if numbers.size == 0:
            continue
        vector = ctx.from_attribute(op, name, numbers)
        made = Op(step, "", op.opset, op.name, (y, vector), op.results, {})
        y = ctx.elementwise(made, (y, vector))
    return op.result(y.factors)
