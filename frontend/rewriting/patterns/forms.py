"""The written-out forms of normalisations and softmax, as exporters emit them.

Each form takes the last node of a potential idiom and returns a `Match` or None.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from .matching import Facts, Reduction, core, difference, operand, operands, producer, reduction, restores, same, strip
from .terms import (
    centred,
    factors,
    floored,
    mean_of,
    mean_square,
    norm_of,
    plus_epsilon,
    quotients,
    sum_square,
    unshifted,
    variance,
)

__all__ = ["Match", "find"]


@dataclass(frozen=True, slots=True)
class Match:
    """An idiom that ends in `anchor`: `op(x; attributes) * scale + shift`.

    written_out: whether the idiom has nodes besides the anchor.
    """

    anchor: onnx_ir.Node
    op: str
    x: onnx_ir.Value
    attributes: Mapping[str, int | float | tuple[int, ...]]
    scale: onnx_ir.Value | None = None
    shift: onnx_ir.Value | None = None
    written_out: bool = True

    @property
    def inputs(self) -> tuple[onnx_ir.Value, ...]:
        """The values that the idiom reads."""
        return tuple(v for v in (self.x, self.scale, self.shift) if v is not None)


def find(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """The idiom that ends in this node, if there is one."""
    if node.domain not in ("", "ai.onnx"):
        return None
    matches = (form(node, facts) for form in _FORMS.get(node.op_type, ()))
    return next((m for m in matches if m is not None), None)


def _normalised(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """Match c / sqrt(mean(c^2) + eps) with c = x or c = x - mean(x); also c * (1 / sqrt(...) * scale)."""
    for c, factor in quotients(node, facts):
        if factor.radicand is None:
            continue
        rest, epsilon = plus_epsilon(factor.radicand, facts)
        centre = centred(c, facts)
        if centre is None:
            square = mean_square(rest, facts)
            if square is not None and same(c, square[0]) and restores(factor.value, square[1], c, facts):
                return Match(node, "RMSNormalize", c, _settings(square[1].axes, epsilon), factor.scale)
        else:
            x, mean = centre
            outer = variance(rest, x, mean, facts)
            if outer and all(restores(factor.value, r, x, facts) for r in outer):
                return Match(node, "Standardize", x, _settings(mean.axes, epsilon), factor.scale)
    return None


def _batchwise(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """Match x * w + (shift - mean(x) * w) and x * w - mean(x) * w, w = scale / sqrt(variance + eps) (TensorFlow's)."""
    for product, rest in operands(node):
        if node.op_type == "Sub":
            return _affine(node, product, rest, None, facts)
        pair = difference(rest)
        match = None if pair is None else _affine(node, product, pair[1], pair[0], facts)
        if match is not None:
            return match
    return None


def _affine(
    node: onnx_ir.Node, left: onnx_ir.Value, right: onnx_ir.Value, shift: onnx_ir.Value | None, facts: Facts
) -> Match | None:
    """Match x * w + shift - mean(x) * w from its two products."""
    for x, w in operands(producer(left, "Mul")):
        for shifted, v in operands(producer(right, "Mul")):
            mean = mean_of(shifted, facts) if same(v, w) else None
            if mean is None or not same(mean.source, x) or not restores(shifted, mean, x, facts):
                continue
            for factor in factors(w, facts):
                if factor.radicand is None:
                    continue
                rest, epsilon = plus_epsilon(factor.radicand, facts)
                outer = variance(rest, x, mean, facts)
                if outer and all(restores(factor.value, r, x, facts) for r in outer):
                    return Match(node, "Standardize", x, _settings(mean.axes, epsilon), factor.scale, shift)
    return None


def _lp_normalised(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """Match x / max(norm(x), eps), x / norm(x) and x / sqrt(max(sum(x^2), eps))."""
    for x, factor in quotients(node, facts):
        found, epsilon = None, None
        if factor.divisor is not None:
            below, epsilon = floored(factor.divisor, facts)
            found = norm_of(below, facts)
        if found is None and factor.radicand is not None:
            below, floor = floored(factor.radicand, facts)
            square = sum_square(below, facts)
            found = None if square is None else (*square, 2)
            epsilon = None if floor is None else math.sqrt(max(floor, 0.0))
        if found is None or not same(found[0], x) or not restores(factor.value, found[1], x, facts):
            continue
        settings = {**_settings(found[1].axes, max(epsilon or 0.0, 0.0)), "p": found[2]}
        return Match(node, "LpNormalize", x, settings, factor.scale)
    return None


def _softmax(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """Match exp(z) / sum(exp(z)), z = x or z = x - max(x)."""
    for e, factor in quotients(node, facts):
        exp = producer(strip(e), "Exp")
        total = None if exp is None else reduction(factor.divisor, facts, "ReduceSum")
        if exp is None or total is None or len(total.axes) != 1 or not same(total.source, e):
            continue
        z = operand(exp)
        if restores(factor.value, total, z, facts):
            return Match(node, "Softmax", unshifted(z, total, facts), {"axis": total.axes[0]}, factor.scale)
    return None


def _log_softmax(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """Match z - log(sum(exp(z))), x - (max(x) + log(sum(exp(z)))), x - ReduceLogSumExp(x); z is x or x - max(x)."""
    pair = difference(node.outputs[0])
    if pair is None:
        return None
    z, log_sum = pair
    whole = reduction(log_sum, facts, "ReduceLogSumExp")
    x, total = _log_sum_exp(z, log_sum, facts) if whole is None else (z if same(whole.source, z) else None, whole)
    if x is None or total is None or len(total.axes) != 1 or not restores(log_sum, total, x, facts):
        return None
    return Match(node, "LogSoftmax", x, {"axis": total.axes[0]})


def _log_sum_exp(
    z: onnx_ir.Value, log_sum: onnx_ir.Value, facts: Facts
) -> tuple[onnx_ir.Value | None, Reduction | None]:
    """Find x and the reduction of the sum where z - log_sum is the log-softmax of x."""
    log, shift = producer(core(log_sum), "Log"), None
    for added, rest in operands(producer(core(log_sum), "Add")):
        if log is None:
            log, shift = producer(core(rest), "Log"), added
    total = None if log is None else reduction(operand(log), facts, "ReduceSum")
    exp = None if total is None else producer(strip(total.source), "Exp")
    if total is None or exp is None:
        return None, None
    inner = operand(exp)
    if shift is None:
        return unshifted(z, total, facts) if same(inner, z) else None, total
    pair = difference(strip(inner))
    if pair is None or not same(pair[0], z) or not same(core(pair[1]), core(shift)):
        return None, None
    return z if unshifted(inner, total, facts) is pair[0] else None, total


def _unit_affine(node: onnx_ir.Node, facts: Facts) -> Match | None:
    """Match a normalisation op with a scale of ones and a bias of zeros, which the exporter had to write."""
    x, scale, bias = (*node.inputs, None, None)[:3]
    shape = facts.shape(x)
    if x is None or shape is None or any(v.uses() or v.is_graph_output() for v in node.outputs[1:]):
        return None
    if facts.uniform(scale, x) != 1.0 or (bias is not None and facts.uniform(bias, x) != 0.0):
        return None
    start = 2 if node.op_type == "InstanceNormalization" else node.attributes.get_int("axis", -1)
    axes = tuple(range(start - len(shape) if start >= 0 else start, 0))
    op = "RMSNormalize" if node.op_type == "RMSNormalization" else "Standardize"
    settings = _settings(axes, node.attributes.get_float("epsilon", 1e-5))
    return Match(node, op, x, settings, written_out=False) if axes else None


def _settings(axes: tuple[int, ...], epsilon: float) -> dict[str, int | float | tuple[int, ...]]:
    """Axes and epsilon, the latter rounded as an ONNX attribute is."""
    return {"axes": axes, "epsilon": float(np.float32(epsilon))}


_FORMS: Mapping[str, tuple[Callable[[onnx_ir.Node, Facts], Match | None], ...]] = {
    "Div": (_softmax, _normalised, _lp_normalised),
    "Mul": (_softmax, _normalised, _lp_normalised),
    "Add": (_batchwise,),
    "Sub": (_log_softmax, _batchwise),
    "InstanceNormalization": (_unit_affine,),
    "LayerNormalization": (_unit_affine,),
    "RMSNormalization": (_unit_affine,),
}
