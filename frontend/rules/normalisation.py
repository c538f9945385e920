"""Normalisation: couple entries along some axes, then add parameter vectors."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.values import Op, Value
from .registry import internal_rule, rule

__all__ = ["normalized"]


@rule("BatchNormalization", weights=(1, 2, 3, 4))
def batch_norm(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Scale, bias, running mean and variance per channel of axis 1 (BatchNormalization since 1)."""
    x = op.input(0)
    attributes = {"epsilon": _number(op.attr("epsilon", 1e-5))}
    if op.attr("spatial", 1) == 0:
        raise Unsupported("statistics per position (spatial = 0)", "export the model at opset 9 or later")
    if op.attr("training_mode", 0):
        return _trained(ctx, op, x, attributes)
    if any(op.results[1:]):
        raise Unsupported("batch statistics are outputs (training mode)", "export the model in inference mode")
    return [_vectors(ctx, op, x, range(4), "BatchNormalization", attributes)]


_ROLES = ("norm.scale", "norm.bias", "norm.mean", "norm.var")


def _vectors(
    ctx: LoweringContext, op: Op, x: Value, which: Iterable[int], name: str, attributes: dict[str, Any]
) -> Value:
    """Apply some of scale, bias, mean and variance (operands 1 to 4) along axis 1, in one step."""
    axis = 1 if x.rank > 1 else 0
    vectors = [(op.input(i + 1), _ROLES[i], axis) for i in which]
    if not any(v.is_activation for v, _, _ in vectors):
        return ctx.add_parameters(x, vectors, name, attributes)
    ones = [1] * (x.rank - axis - 1)
    # The step that adds parameter vectors of known roles has another name.
    operands = (ctx.reshaped(v, (v.shape[0], *ones)) for v, _, _ in vectors)
    return ctx.elementwise("NormalizeBy", x, *operands, **attributes)


def _trained(ctx: LoweringContext, op: Op, x: Value, attributes: dict[str, Any]) -> list[Value | None]:
    """Standardise over all but the channels; further outputs are the updated running statistics."""
    axes = [a for a in range(x.rank) if a != 1]
    y = normalized(ctx, x, axes, "Standardize", attributes)
    out: list[Value | None] = [_vectors(ctx, op, y, (0, 1), "BatchNormalization", {})]
    momentum = {"momentum": _number(op.attr("momentum", 0.9))}
    for index, kind in ((1, "ReduceMean"), (2, "ReduceVar")):
        if not op.wants(index):
            out.append(None)
            continue
        of_batch = ctx.reshaped(ctx.reduce(x, axes, kind, {}), op.shape(index))
        out.append(ctx.elementwise("MovingAverage", op.input(index + 2), of_batch, **momentum))
    return out


@rule("LayerNormalization", "SimplifiedLayerNormalization", weights=(1, 2))
def layer_norm(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Standardise over the axes from `axis` on, then scale and bias (LayerNormalization since 17)."""
    x, axis = op.input(0), op.axis()
    kind = "Standardize" if op.type == "LayerNormalization" else "RMSNormalize"
    y = _norm(ctx, op, x, range(axis, x.rank), kind, ((1, "norm.scale"), (2, "norm.bias")))
    more = [None if r is None else _statistic(ctx, op, x, axis, i) for i, r in enumerate(op.results[1:], 1)]
    return [y, *more]


def _statistic(ctx: LoweringContext, op: Op, x: Value, axis: int, index: int) -> Value:
    """The mean or the inverse standard deviation as output `index`."""
    name = {1: "ReduceMean", 2: "ReduceInvStdDev"}[index]
    attributes: dict[str, Any] = {"axes": tuple(range(axis - x.rank, 0))}
    if index == 2:
        attributes["epsilon"] = _number(op.attr("epsilon", 1e-5))
    return ctx.reduce(x, range(axis, x.rank), name, attributes)


@rule("RMSNormalization", weights=(1,))
def rms_norm(ctx: LoweringContext, op: Op) -> Value:
    """Divide by the root mean square over the axes from `axis` on, then scale (RMSNormalization since 23)."""
    x, axis = op.input(0), op.axis()
    return _norm(ctx, op, x, range(axis, x.rank), "RMSNormalize", ((1, "norm.scale"),))


@rule("InstanceNormalization", weights=(1, 2))
def instance_norm(ctx: LoweringContext, op: Op) -> Value:
    """Standardise each channel over space, then scale and bias per channel (InstanceNormalization since 1)."""
    x = op.input(0)
    y = _standardized(ctx, x, range(2, x.rank), "Standardize", op.attr("epsilon", 1e-5))
    return _scaled(ctx, op, y, 1)


def _scaled(ctx: LoweringContext, op: Op, y: Value, axis: int) -> Value:
    """Multiply by operand 1 and add operand 2, vectors along an axis."""
    for index, role, name in ((1, "norm.scale", "Mul"), (2, "norm.bias", "Add")):
        vector = op.input(index)
        if not vector.is_activation:
            y = ctx.add_parameters(y, [(vector, role, axis)], name, {})
            continue
        y = ctx.elementwise(name, y, ctx.reshaped(vector, (vector.shape[0], *[1] * (y.rank - axis - 1))))
    return y


@rule("GroupNormalization", weights=(1, 2))
def group_norm(ctx: LoweringContext, op: Op) -> Value:
    """Standardise groups of channels, then scale and bias: per group in opset 18, per channel since 21."""
    x, groups = op.input(0), int(op.attr("num_groups"))
    n, c = x.shape[:2]
    split = ctx.reshaped(x, (n, groups, c // groups, *x.shape[2:]))
    split = _standardized(ctx, split, range(2, split.rank), "Standardize", op.attr("epsilon", 1e-5))
    y = split if op.opset < 21 else ctx.reshaped(split, x.shape)
    for vector in (op.input(1), op.input(2)):
        if vector.shape != y.shape[1:2]:
            raise ValueError(f"{vector.name!r} has shape {list(vector.shape)}, it must be {[y.shape[1]]}")
    return ctx.reshaped(_scaled(ctx, op, y, 1), x.shape)


@internal_rule("Standardize", "RMSNormalize", "LpNormalize", "Softmax", "LogSoftmax")
def recognised(ctx: LoweringContext, op: Op) -> Value:
    """An idiom that `rewriting.idioms` fused."""
    x = op.input(0)
    if op.type in ("Softmax", "LogSoftmax"):
        return normalized(ctx, x, [op.axis()], op.type, {})
    axes = [int(a) % x.rank for a in np.atleast_1d(op.attr("axes"))]
    attributes = {"p": int(op.attr("p", 2))} if op.type == "LpNormalize" else {}
    return _standardized(ctx, x, axes, op.type, op.attr("epsilon", 0.0), attributes)


@rule("MeanVarianceNormalization")
def mean_variance(ctx: LoweringContext, op: Op) -> Value:
    """Standardise over given axes (MeanVarianceNormalization since 9)."""
    x = op.input(0)
    axes = [int(a) % x.rank for a in op.attr("axes", (0, 2, 3))]
    return _standardized(ctx, x, axes, "Standardize", 0.0)


@rule("LpNormalization")
def lp_normalization(ctx: LoweringContext, op: Op) -> Value:
    """Divide by the p-norm along an axis (LpNormalization since 1)."""
    x = op.input(0)
    return _standardized(ctx, x, [op.axis()], "LpNormalize", 0.0, {"p": int(op.attr("p", 2))})


@rule("LRN")
def local_response(ctx: LoweringContext, op: Op) -> Value:
    """Neighbouring channels are coupled, so their order matters (LRN since 1)."""
    x = op.input(0)
    attributes = {n: _number(op.attr(n)) for n in ("alpha", "beta", "bias", "size") if op.attr(n) is not None}
    return ctx.order(x, [1], "LRN", attributes, x.shape)


def normalized(ctx: LoweringContext, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
    """Couple over axes; the via counts the axes from the end, so that leading axes do not matter."""
    over = tuple(sorted(a - x.rank for a in axes))
    return ctx.normalize_over(x, list(axes), op, {**attributes, "axes": over})


def _standardized(
    ctx: LoweringContext,
    x: Value,
    axes: Sequence[int],
    op: str,
    epsilon: float,
    attributes: dict[str, Any] | None = None,
) -> Value:
    return normalized(ctx, x, axes, op, {**(attributes or {}), "epsilon": _number(epsilon)})


def _norm(
    ctx: LoweringContext, op: Op, x: Value, axes: Sequence[int], kind: str, operands: tuple[tuple[int, str], ...]
) -> Value:
    """Couple, then multiply and add the operands, which are aligned with the last axes of x."""
    y = _standardized(ctx, x, axes, kind, op.attr("epsilon", 1e-5))
    for index, role in operands:
        value = op.optional(index)
        if value is None:
            continue
        y = ctx.elementwise("Mul" if role == "norm.scale" else "Add", y, value)
    return y


def _number(value: Any) -> float:
    return float(f"{float(value):.5g}")
