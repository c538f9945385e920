"""Data movement: the operator itself runs on label tensors, and on elements of parameters."""

from __future__ import annotations

from dataclasses import replace

import ml_dtypes
import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.elements import Elements
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []


@rule("Reshape", "Flatten", "Squeeze", "Unsqueeze", moves=True)
def reshape(ctx: LoweringContext, op: Op) -> Value:
    """Row-major reshape."""
    shape = op.shape()
    return ctx.move(op.input(0), lambda a: a.reshape(shape), shape, by_shape=True)


@rule("Identity", "Dropout", "Cast", "CastLike", moves=True)
def identity(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """The same entries; casts that keep every number (up to rounding of floats) count as identity, others are steps."""
    x, dtype = op.input(0), op.dtype()
    if op.type in ("Cast", "CastLike") and op.wants(0) and not _keeps(x.dtype, dtype):
        if not x.is_activation:
            raise Unsupported(f"a parameter is cast to {dtype}")
        if dtype == "bool":
            return [ctx.unary(x, "Cast", {"to": "bool"}, lambda v: (v != 0).astype(np.float64))]
        if _is_whole(x.dtype):
            return [ctx.unary(x, "Cast", {"to": dtype.lower()}, lambda v: _wrapped(v, dtype.lower()))]
        to = "integer" if dtype in ("int32", "int64") else dtype.lower()
        return [ctx.unary(x, "Cast", {"to": to}, np.trunc)]
    training = op.optional(2) if op.type == "Dropout" else None
    if training is not None and (training.data is None or bool(training.data.any())):
        return _dropped(ctx, op, x)
    kept: list[Value | None] = [replace(ctx.move(x, lambda a: a, x.shape, by_shape=True), dtype=dtype)]
    return kept + [ctx.unary(x, "Mask", {}) if r is not None else None for r in op.results[1:]]


def _dropped(ctx: LoweringContext, op: Op, x: Value) -> list[Value | None]:
    """Dropout in training mode; the random mask is an input of its own."""
    if not x.is_activation:
        raise Unsupported("a parameter is dropped at random")
    mask = ctx.drawn("Bernoulli", op.inputs[1:2], x.shape)
    return [ctx.elementwise("Dropout", x, mask), mask]


def _keeps(source: str, target: str) -> bool:
    """Whether every number stays; int64 and int32, which exporters exchange freely for indices, count as alike."""
    if not _is_whole(target) or source == target or source == "bool":
        return True
    if not _is_whole(source) or target == "bool":
        return False
    (lowest, highest), (low, high) = _bounds(source.lower()), _bounds(target.lower())
    return (low <= lowest and highest <= high) or (source, target) == ("int64", "int32")


def _is_whole(dtype: str) -> bool:
    return dtype.lower().startswith(("int", "uint", "bool"))


def _bounds(dtype: str) -> tuple[int, int]:
    """The least and the greatest number of an integer type."""
    info = ml_dtypes.iinfo(dtype)
    return int(info.min), int(info.max)


def _wrapped(x: np.ndarray, dtype: str) -> np.ndarray:
    """Integers as a narrower type has them: modulo the number of its values."""
    low, high = _bounds(dtype)
    return (np.trunc(x) - low) % (high - low + 1) + low


@rule("Transpose", moves=True)
def transpose(ctx: LoweringContext, op: Op) -> Value:
    """Permuted axes."""
    x = op.input(0)
    perm = tuple(op.attr("perm") or reversed(range(x.rank)))
    return ctx.transposed(x, perm)


@rule("Expand", moves=True)
def expand(ctx: LoweringContext, op: Op) -> Value:
    """Broadcast to a shape."""
    shape = op.shape()
    return ctx.move(op.input(0), lambda a: np.broadcast_to(a, shape), shape, by_shape=True)


@rule("Tile", moves=True)
def tile(ctx: LoweringContext, op: Op) -> Value:
    """Repeated copies along each axis."""
    shape = op.shape()
    repeats = tuple(n // max(m, 1) for n, m in zip(shape, op.input(0).shape, strict=True))
    return ctx.move(op.input(0), lambda a: np.tile(a, repeats), shape, by_shape=True)


@rule("Slice", moves=True)
def slice_(ctx: LoweringContext, op: Op) -> Value:
    """Slices of axes; starts and ends are attributes before opset 10, then operands."""
    x = op.input(0)
    if op.attr("starts") is not None:
        starts, ends, axes, steps = op.attr("starts"), op.attr("ends"), op.attr("axes"), None
    else:
        starts, ends, axes, steps = (op.data(i) for i in (1, 2, 3, 4))
    count = len(np.atleast_1d(starts))
    axes = np.arange(count) if axes is None else np.atleast_1d(axes)
    steps = np.ones(count, dtype=np.int64) if steps is None else np.atleast_1d(steps)
    cut = [slice(None)] * x.rank
    for axis, start, end, step in zip(axes, np.atleast_1d(starts), np.atleast_1d(ends), steps, strict=True):
        where = int(axis) % x.rank
        cut[where] = _range(int(start), int(end), int(step), x.shape[where])
    return ctx.move(x, lambda a: a[tuple(cut)], op.shape())


def _range(start: int, end: int, step: int, size: int) -> slice:
    """A Python slice; ONNX clamps an end below the first entry of a backward slice to include that entry."""
    start += size if start < 0 else 0
    end += size if end < 0 else 0
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    stop = min(max(end, -1), size - 1)
    return slice(min(max(start, 0), size - 1), None if stop < 0 else stop, step)


@rule("Split", moves=True)
def split(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Consecutive parts along an axis."""
    x, axis = op.input(0), op.axis(default=0)
    out: list[Value | None] = []
    at = 0
    for index in range(len(op.results)):
        shape = op.shape(index)
        size = shape[axis]
        cut = (slice(None),) * axis + (slice(at, at + size),)
        out.append(ctx.move(x, lambda a, cut=cut: a[cut], shape, by_shape=True))  # type: ignore[misc]
        at += size
    return out


@rule("Concat", moves=True)
def concat(ctx: LoweringContext, op: Op) -> Value:
    """Concatenation along an axis."""
    inputs = [v for v in op.inputs if v is not None]
    axis = op.axis()
    if any(v.is_activation for v in inputs):
        return ctx.concat(inputs, axis)
    elements = [v.elements for v in inputs if v.shape[axis] > 0 and v.elements is not None]
    if len(elements) < sum(v.shape[axis] > 0 for v in inputs):
        raise Unsupported("parameters and other constants are concatenated")
    return inputs[0].reweighted(Elements.joined(elements, lambda arrays: np.concatenate(arrays, axis=axis)))


@rule("DepthToSpace", moves=True)
def depth_to_space(ctx: LoweringContext, op: Op) -> Value:
    """Channels to blocks of positions."""
    b, mode = int(op.attr("blocksize")), op.attr("mode", "DCR")
    n, c, h, w = op.input(0).shape
    first = (n, b, b, c // b**2, h, w) if mode == "DCR" else (n, c // b**2, b, b, h, w)
    perm = (0, 3, 4, 1, 5, 2) if mode == "DCR" else (0, 1, 4, 2, 5, 3)
    return ctx.move(op.input(0), lambda a: a.reshape(first).transpose(perm).reshape(op.shape()), op.shape())


@rule("SpaceToDepth", moves=True)
def space_to_depth(ctx: LoweringContext, op: Op) -> Value:
    """Blocks of positions to channels, in either order since opset 28 (SpaceToDepth since 1)."""
    b = int(op.attr("blocksize"))
    perm = (0, 3, 5, 1, 2, 4) if op.attr("mode", "DCR") == "DCR" else (0, 1, 3, 5, 2, 4)
    n, c, h, w = op.input(0).shape
    first = (n, c, h // b, b, w // b, b)
    return ctx.move(op.input(0), lambda a: a.reshape(first).transpose(perm).reshape(op.shape()), op.shape())
