"""Scatters, and tensors defined by indices."""

from __future__ import annotations

import math
import zlib
from collections.abc import Sequence

import numpy as np

from ..budget import MAX_INDEXED_ELEMENTS, MAX_POSITIONS, check_limit
from ..context import LoweringContext
from ..primitives.elements import NOTHING, Elements
from ..primitives.interface import Rows
from ..primitives.values import Op, Value
from .registry import internal_rule, rule

__all__: list[str] = []


@rule("ScatterElements", "Scatter")
def scatter_elements(ctx: LoweringContext, op: Op) -> Value:
    """Entries written one by one along an axis (ScatterElements since 11, Scatter since 9)."""
    if op.input(1).data is None:
        return _anywhere(ctx, op)
    data, indices, axis = op.input(0), op.known(1), op.axis(default=0)
    grid: list[np.ndarray] = list(np.indices(indices.shape))
    grid[axis] = np.where(indices < 0, indices + data.shape[axis], indices)
    return _written(ctx, op, np.ravel_multi_index(grid, data.shape).reshape(-1))


@rule("ScatterND")
def scatter_nd(ctx: LoweringContext, op: Op) -> Value:
    """Slices written at index tuples (ScatterND since 11)."""
    if op.input(1).data is None:
        return _anywhere(ctx, op)
    shape, indices = op.input(0).shape, op.known(1)
    depth = indices.shape[-1]
    tuples = np.moveaxis(indices.reshape(-1, depth), -1, 0)
    width = math.prod(shape[depth:])
    grid = [np.where(i < 0, i + n, i) for i, n in zip(tuples, shape, strict=False)]
    starts = np.ravel_multi_index(grid, shape[:depth])
    return _written(ctx, op, (starts[:, None] * width + np.arange(width)).reshape(-1), len(shape) - depth)


@internal_rule("Sparse")
def sparse(ctx: LoweringContext, op: Op) -> Value:
    """A tensor that is stored sparsely (see `rewriting.quantized_ops`): its zeros are not parameters."""
    elements = ctx.weight(op.input(0))
    check_limit(math.prod(op.shape()), MAX_INDEXED_ELEMENTS, "elements of a sparse weight")
    numbers = np.full(op.shape(), NOTHING)
    numbers[tuple(np.asarray(op.attr("indices")).T)] = elements.numbers
    return op.input(0).reweighted(Elements(elements.arena, numbers))


def _anywhere(ctx: LoweringContext, op: Op) -> Value:
    """Scatter at computed indices: every entry along the indexed axes may receive any update."""
    data = op.input(0)
    indices, updates = (ctx.as_activation(v) for v in op.inputs[1:3] if v is not None)
    if op.type == "ScatterND":
        behind, depth = updates.rank - data.rank, indices.shape[-1]
        rows: Rows = {a: (a, None, a + behind) for a in range(depth, data.rank)}
        return _received(ctx, op, (data, indices, updates), rows, range(indices.rank - 1))
    axis = op.axis(default=0)
    rows = {a: (a, a, a) for a in range(data.rank) if a != axis}
    untouched = []
    for a in rows:
        # Only the first entries along the other axes receive updates, as many as there are indices.
        if (covered := indices.shape[a]) < data.shape[a]:
            untouched.append((a, ctx.sliced(data, slice(covered, None), a)))
            data = ctx.sliced(data, slice(covered), a)
    made = _received(ctx, op, (data, indices, updates), rows, [axis])
    for a, rest in reversed(untouched):
        made = ctx.concat([made, rest], a)
    return made


def _received(
    ctx: LoweringContext, op: Op, operands: tuple[Value, Value, Value], rows: Rows, positions: Sequence[int]
) -> Value:
    """Join data, indices and updates. Only the indexed axes are ordered, those that are not in `rows`."""
    data, *others = operands
    indexed = [a for a in range(data.rank) if a not in rows]
    attributes = {"axis": op.axis(default=0) - data.rank, "reduction": op.attr("reduction", "none")}
    ordered = ctx.order(data, indexed, op.type, attributes, data.shape, mixed=False)
    return ctx.join_all([ordered, *others], op.type, data.shape, {a: a for a in indexed}, positions, rows)


def _written(ctx: LoweringContext, op: Op, places: np.ndarray, rest: int = 0) -> Value:
    """Write update i at flat index `places[i]`: move the updates there, and select by a mask.

    rest: how many axes, the last ones, are written as a whole.
    """
    if op.attr("reduction", "none") != "none":
        return _anywhere(ctx, op)
    data, updates = op.input(0), ctx.as_activation(op.input(2))
    size, shape = math.prod(data.shape), data.shape
    check_limit(size, MAX_POSITIONS, "positions")
    source = np.zeros(size, dtype=np.int64)
    source[places] = np.arange(len(places))
    mask = np.zeros(size, dtype=bool)
    mask[places] = True
    mask = mask.reshape(shape)
    source = _filled(source.reshape(shape), mask).reshape(-1)
    spread = ctx.moved(updates, lambda a: a.reshape(-1)[source].reshape(shape), shape)
    moved = updates.relabelled(spread, shape)
    changing = _changing(mask)
    mask = mask[tuple(slice(None) if a < data.rank - rest else slice(1) for a in range(data.rank))]
    if any(f.shape[a] > 1 for a in changing for f in (*spread, *data.factors)):
        return ctx.select(mask, f"{op.name}.mask", moved, data)
    number = zlib.crc32(np.packbits(mask).tobytes())
    return ctx.elementwise("Where", ctx.constant(mask, f"{op.name}.mask"), moved, data, places=number)


def _filled(source: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """If whole slices along one axis are written, the others repeat the first of them: labels stay regular."""
    axes = _changing(mask)
    if len(axes) != 1:
        return source
    written = np.moveaxis(mask, axes[0], 0).reshape(mask.shape[axes[0]], -1)[:, 0]
    rows = np.where(written, np.arange(len(written)), np.flatnonzero(written)[0])
    return source.take(rows, axis=axes[0])


def _changing(mask: np.ndarray) -> list[int]:
    return [a for a in range(mask.ndim) if not (mask == mask.take([0], axis=a)).all()]


@rule("TensorScatter", data=(0, 1))
def tensor_scatter(ctx: LoweringContext, op: Op) -> Value:
    """A cache into which updates are written along an axis, from a computed index on (TensorScatter since 24)."""
    cache, update, axis = op.input(0), op.input(1), op.axis(default=-2)
    shape = op.shape()
    attributes = {"axis": axis - cache.rank, "mode": op.attr("mode", "linear")}
    parts = [ctx.order(v, [axis], op.type, attributes, shape) for v in (cache, update)]
    if op.optional(2) is not None:
        start = op.input(2)
        parts.append(ctx.reshaped(start, (start.shape[0], *[1] * (cache.rank - 1))))
    return ctx.elementwise(op.type, *parts, **attributes)


@rule("OneHot")
def one_hot(ctx: LoweringContext, op: Op) -> Value:
    """A function of the index and of the position along a new free axis (OneHot since 9)."""
    x, depth = op.input(0), int(np.asarray(op.known(1)).reshape(-1)[0])
    low, high = (float(v) for v in op.known(2))
    shape = op.shape()
    axis = int(op.attr("axis", -1)) % len(shape)
    y = ctx.unary(x, "OneHot", {"axis": axis - len(shape), "depth": depth, "off": low, "on": high})
    return y.unsqueezed(axis, shape[axis])


@rule("EyeLike", data=())
def eye_like(ctx: LoweringContext, op: Op) -> Value:
    """Ones on a diagonal, whatever the operand is (EyeLike since 9)."""
    rows, columns = op.shape()
    return ctx.constant(np.eye(rows, columns, int(op.attr("k", 0)), dtype=np.dtype(op.dtype())))
