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


@rule("Quant", "BipolarQuant", domain="onnx.brevitas", weights=(0, 1, 2, 3), moves=True)
@rule("Quant", "BipolarQuant", domain="qonnx.custom_op.general", weights=(0, 1, 2, 3), moves=True)
@rule("Quant", "BipolarQuant", domain="finn.custom_op.general", weights=(0, 1, 2, 3), moves=True)
def quant(ctx: LoweringContext, op: Op) -> Value:
    """(clip(round(x / scale + zero point)) - zero point) * scale; BipolarQuant: sign(x) * scale (QONNX since 1).

    For a weight, the parameters are the unrounded floats and the scales.
    """
    x = op.input(0)
    quant_params = {n: v for n, i in (("scale", 1), ("zero_point", 2)) if (v := op.optional(i)) is not None}
    marks: dict[str, Any] = {n: v for n, v in op.attributes.items() if isinstance(v, int | str)}
    bits = op.optional(3)
    if x.elements is not None and not any(v.is_activation for v in quant_params.values()):
        return _weight(ctx, op, quant_params, marks, bits)
    for name, value in (*quant_params.items(), ("bits", bits)):
        number = None if value is None or value.data is None else uniform(value.data)
        if number is not None:
            marks[name] = float(f"{float(number):.6g}")
    x, apart = ctx.as_activation(x), [n for n in quant_params if n not in marks]
    for kind, name in (("Div", "scale"), ("Add", "zero_point"), (op.type, ""), ("Sub", "zero_point"), ("Mul", "scale")):
        if not name:
            x = ctx.unary(x, kind, marks)
        elif name in apart:
            x = ctx.elementwise(kind, x, quant_params[name])
    return x


def _weight(
    ctx: LoweringContext, op: Op, quant_params: dict[str, Value], marks: dict[str, Any], bits: Value | None
) -> Value:
    """A rounded weight; `marks` and the number of bits say how."""
    x = op.input(0)
    if any(v.rank > x.rank for v in quant_params.values()):
        raise Unsupported("a scale or zero point has more axes than the weight")
    if bits is not None:
        number = None if bits.data is None else uniform(bits.data)
        if number is None:
            raise Unsupported("the number of bits is not a literal")
        marks["bits"] = float(number)
    if op.type != "Quant":
        marks["function"] = op.type
    aligned = [QuantOperand(n, v, tuple(range(x.rank - v.rank, x.rank))) for n, v in quant_params.items()]
    elements = ctx.quantised(x, aligned, marks)
    return x.reweighted(ctx.stored(x.reweighted(elements), aligned, rounded(x.dtype)))
