"""Quantisers of quantisation-aware training: weights and activations as rounded floats."""

from __future__ import annotations

from typing import Any

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.constants import uniform
from ..primitives.quantised import rounded
from ..primitives.storage import QuantOperand
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []


@rule("FloatQuant", domain="onnx.brevitas", weights=(0, 1, 2, 3, 4, 5), moves=True)
@rule("FloatQuant", domain="qonnx.custom_op.general", weights=(0, 1, 2, 3, 4, 5), moves=True)
@rule("Quant", "BipolarQuant", domain="onnx.brevitas", weights=(0, 1, 2, 3), moves=True)
@rule("Quant", "BipolarQuant", domain="qonnx.custom_op.general", weights=(0, 1, 2, 3), moves=True)
@rule("Quant", "BipolarQuant", domain="finn.custom_op.general", weights=(0, 1, 2, 3), moves=True)
def quant(ctx: LoweringContext, op: Op) -> Value:
    """(clip(round(x / scale + zero point)) - zero point) * scale; BipolarQuant: sign(x) * scale (QONNX since 1).

    FloatQuant rounds x / scale to a float of few bits; how many for exponent and mantissa, the bias of the exponent
    and the largest value are operands, as the number of bits of Quant is. For a weight, the parameters are the
    unrounded floats and the scales.
    """
    x = op.input(0)
    places = (("scale", 1),) if op.type == "FloatQuant" else (("scale", 1), ("zero_point", 2))
    quant_params = {n: v for n, i in places if (v := op.optional(i)) is not None}
    marks: dict[str, Any] = {n: v for n, v in op.attributes.items() if isinstance(v, int | float | str)}
    marks |= _format(op)
    if x.elements is not None and not any(v.is_activation for v in quant_params.values()):
        return _weight(ctx, op, quant_params, marks)
    for name, value in quant_params.items():
        number = None if value.data is None else uniform(value.data)
        if number is not None:
            marks[name] = float(f"{float(number):.6g}")
    x, apart = ctx.as_activation(x), [n for n in quant_params if n not in marks]
    for kind, name in (("Div", "scale"), ("Add", "zero_point"), (op.type, ""), ("Sub", "zero_point"), ("Mul", "scale")):
        if not name:
            x = ctx.unary(x, kind, marks)
        elif name in apart:
            x = ctx.elementwise(kind, x, quant_params[name])
    return x


def _format(op: Op) -> dict[str, float]:
    """The format of the rounded numbers: how many bits, or what a FloatQuant makes of them."""
    names = ("exponent_bits", "mantissa_bits", "exponent_bias", "max_value") if op.type == "FloatQuant" else ("bits",)
    found = {}
    for name, value in zip(names, op.inputs[2 if op.type == "FloatQuant" else 3 :], strict=False):
        number = None if value is None or value.data is None else uniform(value.data)
        if value is not None and number is None:
            raise Unsupported(f"the {name.replace('_', ' ')} is not a literal")
        if number is not None:
            found[name] = float(f"{float(number):.6g}")
    return found


def _weight(ctx: LoweringContext, op: Op, quant_params: dict[str, Value], marks: dict[str, Any]) -> Value:
    """A rounded weight; `marks` say how."""
    x = op.input(0)
    if any(v.rank > x.rank for v in quant_params.values()):
        raise Unsupported("a scale or zero point has more axes than the weight")
    if op.type != "Quant":
        marks["function"] = op.type
    aligned = [QuantOperand(n, v, tuple(range(x.rank - v.rank, x.rank))) for n, v in quant_params.items()]
    elements = ctx.quantised(x, aligned, marks)
    return x.reweighted(ctx.stored(x.reweighted(elements), aligned, rounded(x.dtype)))
