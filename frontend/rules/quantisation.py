"""Quantisation: stored weights represent dequantised ones; activations have scale and zero point in the via."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.constants import uniform
from ..primitives.quantised import TABLES, linear, lookup, packed, rounded, whole
from ..primitives.storage import QuantOperand
from ..primitives.values import Op, Value
from .registry import internal_rule, rule

__all__: list[str] = []

_FLOATS = ("float16", "bfloat16", "float32", "float64")


@rule("DequantizeLinear", weights=(0, 1, 2), moves=True)
def dequantize_linear(ctx: LoweringContext, op: Op) -> Value:
    """(x - zero point) * scale, per tensor, per axis or in blocks (DequantizeLinear since 10)."""
    return _dequantize(ctx, op, _axes(op), op.output())


@internal_rule("Dequantize")
def dequantize(ctx: LoweringContext, op: Op) -> Value:
    """Dequantise an operand of a quantised operator (see `rewriting.quantized_ops`).

    `axes`: the axes of x that scale and zero point lie along. Operand 3 is a second scale, of the whole tensor.
    `written`: whether the model itself has a value with the dequantised numbers.
    """
    axes = _own_axes(op)
    return _dequantize(ctx, op, axes, op.output() if op.attr("written", 0) else "")


@rule("QuantizeLinear", weights=(0, 1, 2), moves=True)
def quantize_linear(ctx: LoweringContext, op: Op) -> Value:
    """Rounding to a grid, per tensor or per axis; for a weight, the parameters are unrounded (since 10)."""
    return _quantize(ctx, op, _axes(op))


@internal_rule("Quantize")
def quantize(ctx: LoweringContext, op: Op) -> Value:
    """Quantise the output of a quantised operator (see `rewriting.quantized_ops`)."""
    return _quantize(ctx, op, _own_axes(op))


@rule("DynamicQuantizeLinear")
def dynamic_quantize_linear(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Rounding to 255 steps over the range of the whole tensor, with scale and zero point as outputs (since 11)."""
    x = op.input(0)
    every = list(range(x.rank))
    out: list[Value | None] = [ctx.normalize_over(x, every, "DynamicQuantize", {})]
    for index, name in enumerate(("Scale", "ZeroPoint"), 1):
        one = ctx.reduce(x, every, f"DynamicQuantize{name}", {}) if op.wants(index) else None
        out.append(one and ctx.reshaped(one, ()))
    return out


@internal_rule("DynamicQuantize")
def dynamic_quantize(ctx: LoweringContext, op: Op) -> Value:
    """DynamicQuantizeLinear and back; for a weight, the parameters are unrounded, and its entries share their grid."""
    if op.input(0).elements is not None:
        return op.input(0).reweighted(ctx.quantised(op.input(0), None, {}))
    x = ctx.as_activation(op.input(0))
    return ctx.normalize_over(x, list(range(x.rank)), "DynamicQuantize", {})


@internal_rule("DequantizeBits")
def dequantize_bits(ctx: LoweringContext, op: Op) -> Value:
    """A weight [N, K] with a scale per block along K, packed elements of 2, 4 or 8 bits (com.microsoft since 1).

    MatMulNBits: rows are padded to whole blocks; zero points are packed likewise (or of the scale's type), by default
    half of the range. MatMulBnb4: elements index a lookup table; there are no zero points.
    """
    x, scale, zero = op.input(0), op.input(1), op.optional(2)
    n, k, bits, block = (int(op.attr(name)) for name in ("N", "K", "bits", "block_size"))
    table, blocks = str(op.attr("table", "")), -(-k // block)
    if x.elements is None or bits not in (2, 4, 8):
        raise Unsupported("the packed weight is not a tensor of the model" if x.elements is None else f"{bits} bits")
    if table:
        if k % block:
            raise Unsupported("a block spans two rows")
        scheme, shape = lookup(TABLES[table], x.dtype, scale.dtype), (n, k)
    else:
        scheme, shape = linear(x.dtype, scale.dtype, bits), (n, blocks * block)
    quant_params = [QuantOperand("scale", _in_shape(ctx, scale, (n, blocks)), (0, 1), block)]
    if zero is not None:
        quant_params.append(QuantOperand("zero_point", _zero_points(ctx, zero, n, blocks, bits), (0, 1), block))
    elif not table:
        quant_params.append(QuantOperand("zero_point", ctx.constant(np.array(2 ** (bits - 1), dtype=np.uint8)), ()))
    elements = ctx.stored(x, quant_params, scheme, packing=packed(bits, high_first=bool(table)), shape=shape)
    return x.reweighted(elements.move(lambda a: a[:, :k]), op.dtype())


def _in_shape(ctx: LoweringContext, value: Value, shape: tuple[int, ...]) -> Value:
    if value.data is not None:
        return value
    return value.reweighted(ctx.weight(value).reshape(*shape))


def _zero_points(ctx: LoweringContext, zero: Value, rows: int, blocks: int, bits: int) -> Value:
    """Zero points [rows, blocks]: of the scale's type, or packed, with each row starting at a new byte."""
    if zero.dtype != "uint8" or zero.data is not None:
        return _in_shape(ctx, zero, (rows, blocks))
    width = -(-blocks * bits // 8) * (8 // bits)
    elements = ctx.stored(zero, (), whole(bits), packing=packed(bits), shape=(rows, width))
    return zero.reweighted(elements.move(lambda a: a[:, :blocks]))


def _axes(op: Op) -> tuple[int, ...]:
    """The axes of x that the scale lies along: one, or all if the scale is blocked."""
    x, scale = op.input(0), op.input(1)
    if int(op.attr("block_size", 0)) or (scale.rank == x.rank > 1):
        return tuple(range(x.rank))
    axis = int(op.attr("axis", 1))
    return (axis % x.rank,) if x.rank and scale.rank else ()


def _own_axes(op: Op) -> tuple[int, ...]:
    return tuple(int(a) % max(op.input(0).rank, 1) for a in op.attr("axes", ()))


def _aligned(role: str, value: Value, x: Value, axes: tuple[int, ...], block: int) -> QuantOperand:
    """Align a scale or zero point with these axes if it has as many, else with the last ones."""
    if value.rank > x.rank and np.prod(value.shape) != 1:
        raise Unsupported(f"the {role} of shape {list(value.shape)} does not fit {list(x.shape)}")
    return QuantOperand(
        role, value, axes if len(axes) == value.rank else tuple(range(x.rank - value.rank, x.rank)), block
    )


def _dequantize(ctx: LoweringContext, op: Op, axes: tuple[int, ...], value: str) -> Value:
    x, block = op.input(0), int(op.attr("block_size", 0)) or 1
    scale, zero, whole = op.optional(1), op.optional(2), op.optional(3)
    if x.is_activation:
        return _on_activation(ctx, op, x, axes)
    if x.elements is None:
        raise Unsupported("a computed constant is dequantised")
    given = (("scale", scale), ("scale", whole), ("zero_point", zero))
    quant_params = [_aligned(role, v, x, axes, block) for role, v in given if v is not None]
    dtype = scale.dtype if scale is not None else "float32"
    scheme = rounded(x.dtype) if x.dtype in _FLOATS else linear(x.dtype, dtype)
    return x.reweighted(ctx.stored(x, quant_params, scheme, value), op.dtype())


def _quantize(ctx: LoweringContext, op: Op, axes: tuple[int, ...]) -> Value:
    x = op.input(0)
    if not x.is_activation:
        if x.derived:
            raise Unsupported("a computed constant is quantised")
        given = [(role, v) for role, i in (("scale", 1), ("zero_point", 2)) if (v := op.optional(i)) is not None]
        if x.elements is not None and not any(v.is_activation for _, v in given):
            block = int(op.attr("block_size", 0)) or 1
            quant_params = [_aligned(role, v, x, axes, block) for role, v in given]
            return x.reweighted(ctx.quantised(x, quant_params, _rounding(op)))
        x = ctx.as_activation(x)
    return _on_activation(ctx, op, x, axes)


def _rounding(op: Op) -> dict[str, Any]:
    """What the rounding of a weight depends on besides scale and zero point, unless it is to int8."""
    more = {"saturate": 0} if op.dtype().startswith("float") and not op.attr("saturate", 1) else {}
    return {**({} if op.dtype() == "int8" else {"type": op.dtype()}), **more}


def _on_activation(ctx: LoweringContext, op: Op, x: Value, axes: tuple[int, ...]) -> Value:
    """Program constants enter the via, parameters are added as edges, computed operands are joined."""
    operands = {n: v for n, i in (("scale", 1), ("zero_point", 2), ("whole", 3)) if (v := op.optional(i)) is not None}
    if any(v.data is None and (v.is_activation or np.prod(v.shape) == 1) for v in operands.values()):
        return _by_arithmetic(ctx, op, x, operands, axes)
    name = "Dequantize" if op.type.startswith("Dequantize") else "Quantize"
    marks: dict[str, Any] = {} if name == "Dequantize" else {"type": op.dtype()}
    attached: list[tuple[Value, str, int]] = []
    for role, value in operands.items():
        number = None if value.data is None else uniform(value.data)
        if number is not None:
            marks[role] = float(f"{float(number):.6g}")
        elif len(axes) == 1 and value.rank == 1:
            attached.append((value, role, axes[0]))
        else:
            raise Unsupported(f"the {role} of an activation has the shape {list(value.shape)}")
    if attached:
        return ctx.add_parameters(x, attached, name, marks)
    return ctx.unary(x, name, marks)


def _by_arithmetic(ctx: LoweringContext, op: Op, x: Value, operands: dict[str, Value], axes: tuple[int, ...]) -> Value:
    """Quantise by arithmetic: scale and zero point that are computed, or scalar parameters, are ordinary operands."""
    steps = [("Sub", "zero_point"), ("Mul", "scale"), ("Mul", "whole")]
    if op.type.startswith("Quantize"):
        steps = [("Div", "scale"), ("Add", "zero_point")]
        x = ctx.unary(x, "Quantize", {"type": op.dtype()})
    for kind, role in steps:
        value = operands.get(role)
        if value is None:
            continue
        value = _beside(ctx, role, value, x, axes)
        x = ctx.elementwise(kind, x, value)
    return x


def _beside(ctx: LoweringContext, role: str, value: Value, x: Value, axes: tuple[int, ...]) -> Value:
    """A scale or zero point, reshaped to broadcast against `x`."""
    shape: tuple[int, ...] = ()
    if np.prod(value.shape) > 1:
        if len(axes) != 1 or value.rank != 1:
            raise Unsupported(f"a {role} of shape {list(value.shape)} is computed")
        shape = tuple(value.shape[0] if a == axes[0] else 1 for a in range(x.rank))
    elif not value.is_activation:
        return value
    if value.is_activation:
        return ctx.reshaped(value, shape)
    if value.data is not None:
        return replace(value, shape=shape, data=value.data.reshape(shape))
    return _in_shape(ctx, value, shape)
