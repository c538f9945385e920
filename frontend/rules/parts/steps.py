"""Operators that are several others in one: a rule of theirs runs the rules of those, step by step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...context import LoweringContext
from ...errors import Unsupported
from ...primitives.values import Op, Result, Value
from ..registry import builtin

__all__ = ["MICROSOFT", "absent", "activated", "done", "moved", "refuse", "step"]

MICROSOFT = "com.microsoft"
_OPSET = 24
_PLAIN = "export the model without it, before ONNX Runtime's fusions"


def step(
    ctx: LoweringContext,
    op: Op,
    name: str,
    inputs: Sequence[Value | None],
    shape: tuple[int, ...] | None = None,
    opset: int = _OPSET,
    **attributes: Any,
) -> Value:
    """What the rule of the standard operator `name` makes of `inputs`; of the first one's shape if not given."""
    rule = builtin().find("", name, opset)
    first = inputs[0]
    assert rule is not None
    assert first is not None
    result = Result(f"{op.name}/{name}", first.shape if shape is None else shape, first.dtype)
    made = rule.lower(ctx, Op(name, "", opset, op.name, tuple(inputs), (result,), attributes))
    value = made if isinstance(made, Value) else made[0]
    assert value is not None
    return replace(value, shape=result.shape or ())


def refuse(condition: bool, reason: str) -> None:
    """`Unsupported` for this reason, if the condition holds."""
    if condition:
        raise Unsupported(reason, _PLAIN)


def absent(op: Op, *operands: int) -> None:
    """`Unsupported` if one of these operands is there."""
    for index in operands:
        refuse(op.optional(index) is not None, f"its operand {index} is not lowered")


def done(op: Op, value: Value, index: int = 0) -> Value:
    """`value` as output `index`."""
    return op.result(value.factors, value.elements, index)


_NUMBERS = {"LeakyRelu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "Clip": ("min", "max"), "Elu": ("alpha",)}


def moved(ctx: LoweringContext, op: Op, x: Value, function: Any, shape: tuple[int, ...]) -> Value:
    """`x` with its entries moved as `function` moves those of an array, to the given shape."""
    return ctx.move(x, function, Op("Slice", "", 13, op.name, (x,), (Result(x.name, shape, x.dtype),), {}))


def activated(ctx: LoweringContext, op: Op, x: Value, numbers: Sequence[float]) -> Value:
    """`x` after the function that the attribute `activation` names, if any, with these parameters."""
    name = op.attr("activation", "")
    if not name:
        return x
    if name not in (*_NUMBERS, "Relu", "Sigmoid", "Tanh", "HardSwish", "Softplus", "Softsign", "Gelu"):
        raise Unsupported(f"its activation {name!r} is not known")
    given: dict[str, Any] = dict(zip(_NUMBERS.get(name, ()), map(float, np.atleast_1d(numbers)), strict=False))
    # As an operator whose limits are attributes.
    return step(ctx, op, name, [x], opset=6 if name == "Clip" else _OPSET, **given)
