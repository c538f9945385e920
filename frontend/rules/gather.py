"""Gathers: known indices move data, computed ones may choose any entry."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..context import LoweringContext
from ..errors import DataDependent, Unsupported
from ..primitives.constants import digest
from ..primitives.interface import Rows
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []


@rule("Gather", weights=(0,), moves=True)
def gather(ctx: LoweringContext, op: Op) -> Value:
    """Known indices move data; computed ones look up rows of a table (Gather since 1)."""
    table, indices, axis = op.input(0), op.input(1), op.axis(default=0)
    if indices.data is not None:
        places = indices.data
        picks = (indices, range(axis, axis + indices.rank))
        return ctx.move(table, lambda a: _take(a, places, axis), op.shape(), picks=picks)
    if not indices.is_activation:
        raise Unsupported("the indices are computed from parameters")
    if table.data is not None and table.data.size <= 1:
        return ctx.unary(indices, "Gather", {"table": digest(table.data)})
    if table.is_activation:
        keep = {a + (indices.rank - 1) * (a > axis): a for a in range(table.rank) if a != axis}
        rows = {**{a: (n, None) for a, n in keep.items()}, **{axis + a: (None, a) for a in range(indices.rank)}}
        return _chosen(ctx, op, table, indices, keep, rows)
    elements = ctx.weight(table).move(lambda a: np.moveaxis(a, axis, 0))
    found = ctx.gather_rows(elements, indices, indices.shape + elements.shape[1:])
    if axis:
        order = [
            *range(indices.rank, indices.rank + axis),
            *range(indices.rank),
            *range(indices.rank + axis, found.rank),
        ]
        shape = tuple(found.shape[i] for i in order)
        return found.relabelled(ctx.moved(found, lambda a: a.transpose(order), shape), shape)
    return found


@rule("GatherElements", moves=True)
def gather_elements(ctx: LoweringContext, op: Op) -> Value:
    """Entries picked one by one along an axis (GatherElements since 11)."""
    x, indices, axis = op.input(0), op.input(1), op.axis(default=0)
    if indices.data is None:
        others = [a for a in range(x.rank) if a != axis]
        rows = {a: (None if a == axis else a, a) for a in range(x.rank)}
        chosen = _first(ctx, ctx.as_activation(x), {a: indices.shape[a] for a in others})
        return _chosen(ctx, op, chosen, _as_indices(ctx, indices), {a: a for a in others}, rows)
    known = indices.data
    part = tuple(slice(None) if a == axis else slice(n) for a, n in enumerate(indices.shape))
    picks = (indices, range(indices.rank))
    return ctx.move(x, lambda a: np.take_along_axis(a[part], known, axis=axis), op.shape(), picks=picks)


@rule("GatherND", moves=True)
def gather_nd(ctx: LoweringContext, op: Op) -> Value:
    """Slices picked by index tuples (GatherND since 11)."""
    x, indices, batch = op.input(0), op.input(1), int(op.attr("batch_dims", 0))
    if indices.data is None:
        behind = batch + indices.shape[-1]
        keep = {indices.rank - 1 + i: behind + i for i in range(x.rank - behind)}
        rows: Rows = {
            **{a: (a if a < batch else None, a) for a in range(indices.rank - 1)},
            **{a: (n, None) for a, n in keep.items()},
        }
        keep |= {a: a for a in range(batch)}
        return _chosen(ctx, op, ctx.as_activation(x), _as_indices(ctx, indices), keep, rows)
    known = indices.data
    inner = known.ndim - 1 - batch
    numbers = [np.arange(n).reshape(-1, *[1] * (batch - 1 - a + inner)) for a, n in enumerate(known.shape[:batch])]
    where = (*numbers, *np.moveaxis(known, -1, 0))
    return ctx.move(x, lambda a: a[where], op.shape(), picks=(indices, (*range(indices.rank - 1), None)))


@rule("Compress", moves=True)
def compress(ctx: LoweringContext, op: Op) -> Value:
    """Slices along an axis, or entries of the flattened operand, where a condition holds (Compress since 9)."""
    x, condition = op.input(0), op.input(1)
    if condition.data is None:
        if op.attr("axis") is None:
            raise DataDependent("which entries are kept depends on data")
        axis = op.axis()
        keep = {a: a for a in range(x.rank) if a != axis}
        return _chosen(ctx, op, ctx.as_activation(x), _as_indices(ctx, condition), keep, {a: (a, None) for a in keep})
    places = tuple(np.flatnonzero(condition.data).tolist())
    if op.attr("axis") is None:
        return ctx.move(x, lambda a: a.reshape(-1)[list(places)], op.shape())
    axis = op.axis()
    return ctx.move(x, lambda a: a.take(places, axis=axis), op.shape())


def _first(ctx: LoweringContext, x: Value, sizes: Mapping[int, int]) -> Value:
    """The first entries along axes, as many as `sizes` says."""
    for axis, size in sizes.items():
        x = ctx.sliced(x, slice(size), axis) if size < x.shape[axis] else x
    return x


def _as_indices(ctx: LoweringContext, indices: Value) -> Value:
    if indices.derived and not indices.is_activation:
        raise Unsupported("the indices are computed from parameters")
    return ctx.as_activation(indices)


def _chosen(ctx: LoweringContext, op: Op, x: Value, indices: Value, keep: Mapping[int, int], rows: Rows) -> Value:
    """A join of all entries that may be chosen and of the indices, per label of `keep` (output axis: axis of x)."""
    attributes = {"axis": op.axis(default=0) - x.rank, "batch": int(op.attr("batch_dims", 0)) - x.rank}
    marked = ctx.unary(x, op.type, attributes)
    places = range(indices.rank)
    return ctx.join_all([marked, indices], op.type, op.shape(), dict(keep), places, rows)


def _take(array: np.ndarray, indices: np.ndarray, axis: int) -> np.ndarray:
    """`numpy.take`, by a slice if the indices are evenly spaced, so that views stay views."""
    where: tuple[slice | int, ...] = (slice(None),) * axis
    if indices.ndim == 0:
        return array[(*where, int(indices))]
    flat = indices.reshape(-1) + (indices.reshape(-1) < 0) * array.shape[axis]
    if len(flat) == 1:
        piece = array[(*where, slice(int(flat[0]), int(flat[0]) + 1))]
    elif len(flat) > 1 and flat[1] > flat[0] and (np.diff(flat) == flat[1] - flat[0]).all():
        piece = array[(*where, slice(int(flat[0]), int(flat[-1]) + 1, int(flat[1] - flat[0])))]
    else:
        return np.take(array, indices, axis=axis)
    return piece.reshape(array.shape[:axis] + indices.shape + array.shape[axis + 1 :])
