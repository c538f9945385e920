"""Sizes that depend on data: the nodes into which `rewriting.data_sizes` rewrites operators."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from ..context import LoweringContext
from ..primitives.values import Op, Value
from .registry import internal_rule

__all__: list[str] = []


@internal_rule("ByData")
def by_data(ctx: LoweringContext, op: Op) -> Value:
    """Entries that move by data along some axes, which are pinned if labelled, joined with what moves them."""
    x, data, fill = op.input(0), op.input(1), op.optional(2)
    along = tuple(int(a) for a in op.attr("along") or ())
    if along:
        marks = {n: op.attr(n) for n in ("of", "settings") if op.attr(n)} | {"part": int(op.attr("part", 0))}
        x = ctx.order(x, along, op.type, {**marks, "axes": tuple(a - x.rank for a in along)}, op.shape())
    operands = [x, data]
    if fill is not None and (fill.data is None or np.any(fill.data)):
        operands.append(ctx.as_activation(fill))
    return ctx.elementwise(op.type, *operands)


@internal_rule("FromData", data=())
def from_data(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """A join of all operands, in order."""
    marks = {n: v for n, v in op.attributes.items() if n in ("of", "settings", "number")}
    return ctx.opaque_join(replace(op, attributes=marks))
