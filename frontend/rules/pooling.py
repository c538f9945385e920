"""Pooling: labels pass, as positions are free; windows pin a labelled axis of positions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..context import LoweringContext
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []


@rule("MaxPool", "AveragePool", "LpPool")
def pool(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Windows over the axes from 2 on (MaxPool, AveragePool since 1)."""
    x = op.input(0)
    attributes: dict[str, Any] = {}
    for name, default in (("kernel_shape", 0), ("strides", 1), ("dilations", 1), ("pads", 0)):
        value = op.attr(name)
        if value is not None and any(v != default for v in value):
            attributes[name] = tuple(int(v) for v in value)
    for name in ("ceil_mode", "count_include_pad"):
        if op.attr(name, 0):
            attributes[name] = 1
    if op.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        attributes["auto_pad"] = op.attr("auto_pad")
    if op.type == "LpPool":
        attributes["p"] = int(op.attr("p", 2))
    whole = tuple(op.attr("kernel_shape")) == x.shape[2:] and set(op.shape()[2:]) == {1}
    if op.type == "AveragePool" and whole and "pads" not in attributes:
        return [_global(ctx, x, "ReduceMean")]
    out: list[Value | None] = [ctx.order(x, range(2, x.rank), op.type, attributes, op.shape())]
    if op.wants(1):
        # Indices count through the whole tensor, channels included.
        attributes |= {"storage_order": int(op.attr("storage_order", 0)), "of": x.shape}
        places = ctx.order(x, range(x.rank), "MaxPoolIndices", attributes, op.shape(1))
        out.append(places)
    return out


@rule("MaxUnpool", data=(0, 1))
def max_unpool(ctx: LoweringContext, op: Op) -> Value:
    """Entries return to the indices of the maxima, which count through the whole tensor (MaxUnpool since 9)."""
    x, shape = op.input(0), op.shape()
    attributes = {n: op.attr(n) for n in ("kernel_shape", "strides", "pads") if op.attr(n) is not None}
    spread = ctx.order(x, range(x.rank), op.type, {**attributes, "to": shape}, shape)
    return ctx.join_all([spread, op.input(1)], op.type, shape, {0: 0, 1: 1})


@rule("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
def global_pool(ctx: LoweringContext, op: Op) -> Value:
    """A reduction over all positions (GlobalAveragePool since 1)."""
    names = {"GlobalAveragePool": "ReduceMean", "GlobalMaxPool": "ReduceMax"}
    if op.type in names:
        return _global(ctx, op.input(0), names[op.type])
    p = int(op.attr("p", 2))
    if p in (1, 2):
        return _global(ctx, op.input(0), f"ReduceL{p}")
    return _global(ctx, op.input(0), "ReduceLp", {"p": p})


def _global(ctx: LoweringContext, x: Value, kind: str, attributes: Mapping[str, object] | None = None) -> Value:
    axes = list(range(2, x.rank))
    return ctx.reduce(x, axes, kind, {**(attributes or {}), "axes": tuple(a - x.rank for a in axes)})
