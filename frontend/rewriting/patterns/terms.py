"""Readings of a value as a mathematical term: 1 / sqrt(v), v + eps, max(v, eps), mean(y^2), x - mean(x), ...

All look through float casts and changes of shape; callers check with `restores` that the result broadcasts correctly.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import onnx_ir

from .matching import Facts, Reduction, core, difference, operand, operands, producer, reduction, restores, same, strip

__all__ = [
    "Factor",
    "centred",
    "factors",
    "floored",
    "mean_of",
    "mean_square",
    "norm_of",
    "plus_epsilon",
    "quotients",
    "sum_square",
    "unshifted",
    "variance",
]


@dataclass(frozen=True, slots=True)
class Factor:
    """`value` is 1 / `divisor` (in a Div: the divisor) or 1 / sqrt(`radicand`), times `scale`."""

    value: onnx_ir.Value
    divisor: onnx_ir.Value | None
    radicand: onnx_ir.Value | None
    scale: onnx_ir.Value | None = None


def quotients(node: onnx_ir.Node, facts: Facts) -> Iterator[tuple[onnx_ir.Value, Factor]]:
    """Every reading of a Div or Mul as a numerator and a factor that divides it."""
    if node.op_type == "Div":
        divisor = node.inputs[1]
        if divisor is not None:
            yield operand(node), Factor(divisor, divisor, _radicand(divisor, facts))
        return
    for numerator, value in operands(node):
        for factor in factors(value, facts):
            yield numerator, factor


def factors(value: onnx_ir.Value, facts: Facts) -> Iterator[Factor]:
    """The readings of a value as 1 / y or as (1 / y) * scale."""
    plain = _inverse(value, facts)
    if plain is not None:
        yield plain
    for part, scale in operands(producer(value, "Mul")):
        inner = _inverse(part, facts)
        if inner is not None:
            yield Factor(part, inner.divisor, inner.radicand, scale)


def plus_epsilon(value: onnx_ir.Value, facts: Facts) -> tuple[onnx_ir.Value, float]:
    """Find v and eps of v + eps, eps 0 if nothing is added."""
    for v, literal in operands(producer(core(value), "Add")):
        epsilon = facts.scalar(literal)
        if epsilon is not None and 0 <= epsilon < math.inf:
            return v, epsilon
    return value, 0.0


def floored(value: onnx_ir.Value, facts: Facts) -> tuple[onnx_ir.Value, float | None]:
    """Find v and eps of max(v, eps), written as Clip, Max or Relu; eps None if there is no floor."""
    node = producer(core(value), "Clip", "Max", "Relu")
    if node is None:
        return value, None
    if node.op_type == "Relu":
        return operand(node), 0.0
    if node.op_type == "Clip":
        low, high = (*node.inputs, None, None)[1:3]
        bound = node.attributes.get_float("min", None) if low is None else facts.scalar(low)
        open_end = high is None and node.attributes.get_float("max", math.inf) > 3e38
        return (value, None) if bound is None or not open_end else (operand(node), bound)
    for v, literal in operands(node):
        bound = facts.scalar(literal)
        if bound is not None:
            return v, bound
    return value, None


def mean_of(value: onnx_ir.Value | None, facts: Facts) -> Reduction | None:
    """The reduction of mean(y)."""
    return reduction(value, facts, "ReduceMean") or _averaged(value, facts, "ReduceSum")


def mean_square(value: onnx_ir.Value | None, facts: Facts) -> tuple[onnx_ir.Value, Reduction] | None:
    """Find y and the reduction of mean(y^2)."""
    mean = mean_of(value, facts)
    base = None if mean is None else _squared(mean.source, facts)
    if mean is not None and base is not None:
        return base, mean
    mean = _averaged(value, facts, "ReduceSumSquare")
    return None if mean is None else (mean.source, mean)


def centred(value: onnx_ir.Value, facts: Facts) -> tuple[onnx_ir.Value, Reduction] | None:
    """Find x and the reduction of x - mean(x)."""
    pair = difference(strip(value))
    if pair is None:
        return None
    x, shift = pair
    mean = mean_of(shift, facts)
    return (x, mean) if mean is not None and same(mean.source, x) and restores(shift, mean, x, facts) else None


def variance(value: onnx_ir.Value, x: onnx_ir.Value, mean: Reduction, facts: Facts) -> tuple[Reduction, ...]:
    """The outer reductions of mean((x - mean(x))^2) or mean(x^2) - mean(x)^2 over the axes of `mean`; () if neither."""
    square = mean_square(value, facts)
    centre = None if square is None else centred(square[0], facts)
    if square is not None and centre is not None:
        agree = same(centre[0], x) and centre[1].axes == square[1].axes == mean.axes
        return (square[1],) if agree else ()
    below, floor = floored(value, facts)
    pair = difference(core(below))
    if pair is None or floor not in (None, 0):
        return ()
    square, inner = mean_square(pair[0], facts), mean_of(_squared(pair[1], facts), facts)
    if square is None or inner is None or not same(square[0], x) or not same(inner.source, x):
        return ()
    return (square[1], inner) if square[1].axes == inner.axes == mean.axes else ()


def sum_square(value: onnx_ir.Value, facts: Facts) -> tuple[onnx_ir.Value, Reduction] | None:
    """Find y and the reduction of sum(y^2)."""
    direct = reduction(value, facts, "ReduceSumSquare")
    if direct is not None:
        return direct.source, direct
    total = reduction(value, facts, "ReduceSum")
    base = None if total is None else _squared(total.source, facts)
    return None if total is None or base is None else (base, total)


def norm_of(value: onnx_ir.Value, facts: Facts) -> tuple[onnx_ir.Value, Reduction, int] | None:
    """Find y, the reduction and p of the p-norm of y, p = 1 or 2."""
    direct = reduction(value, facts, "ReduceL1", "ReduceL2")
    if direct is not None:
        return direct.source, direct, 1 if direct.node.op_type == "ReduceL1" else 2
    below = _radicand(value, facts)
    square = None if below is None else sum_square(below, facts)
    if square is not None:
        return *square, 2
    total = reduction(value, facts, "ReduceSum")
    absolute = None if total is None else producer(strip(total.source), "Abs")
    return None if total is None or absolute is None else (operand(absolute), total, 1)


def unshifted(z: onnx_ir.Value, total: Reduction, facts: Facts) -> onnx_ir.Value:
    """Find x where z = x - max(x) over the axes of `total` (or more), else z."""
    pair = difference(strip(z))
    if pair is None:
        return z
    x, shift = pair
    below, floor = floored(shift, facts)
    top = reduction(below if floor == -math.inf else shift, facts, "ReduceMax")
    if top is None or not same(top.source, x) or not set(top.axes) >= set(total.axes):
        return z
    return x if restores(shift, top, x, facts) else z


def _inverse(value: onnx_ir.Value, facts: Facts) -> Factor | None:
    """Read Reciprocal(y), 1 / y, y^-1, v^-0.5 and sqrt(1 / v)."""
    node = producer(core(value), "Reciprocal", "Div", "Pow", "Sqrt")
    if node is None:
        return None
    divisor: onnx_ir.Value | None = None
    if node.op_type == "Sqrt":
        inner = _inverse(operand(node), facts)
        return None if inner is None or inner.divisor is None else Factor(value, None, inner.divisor)
    if node.op_type == "Pow":
        exponent = facts.scalar(node.inputs[1])
        if exponent == -0.5:
            return Factor(value, None, operand(node))
        divisor = operand(node) if exponent == -1 else None
    elif node.op_type == "Reciprocal":
        divisor = operand(node)
    elif facts.scalar(node.inputs[0]) == 1:
        divisor = node.inputs[1]
    return None if divisor is None else Factor(value, divisor, _radicand(divisor, facts))


def _radicand(value: onnx_ir.Value, facts: Facts) -> onnx_ir.Value | None:
    """Find v where the value is sqrt(v)."""
    node = producer(core(value), "Sqrt", "Pow")
    if node is None or (node.op_type == "Pow" and facts.scalar(node.inputs[1]) != 0.5):
        return None
    return operand(node)


def _squared(value: onnx_ir.Value, facts: Facts) -> onnx_ir.Value | None:
    """Find y where the value is y * y or y^2 (or abs(y)^2)."""
    node = producer(core(value), "Mul", "Pow")
    if node is None:
        return None
    base, other = operand(node), node.inputs[1]
    if not (same(base, other) if node.op_type == "Mul" else facts.scalar(other) == 2):
        return None
    absolute = producer(strip(base), "Abs")
    return base if absolute is None else operand(absolute)


def _averaged(value: onnx_ir.Value | None, facts: Facts, total: str) -> Reduction | None:
    """The reduction `total` if the value divides it by the number of its summands."""
    node = None if value is None else producer(core(value), "Mul", "Div")
    for summed, literal in operands(node):
        found = reduction(summed, facts, total)
        number = facts.scalar(literal)
        shape = None if found is None else facts.shape(found.source)
        if node is None or found is None or shape is None or not number:
            continue
        if node.op_type == "Div" and summed is not node.inputs[0]:
            continue
        count = math.prod(shape[a] for a in found.axes)
        if math.isclose(number if node.op_type == "Div" else 1 / number, count, rel_tol=2e-7):
            return found
    return None
