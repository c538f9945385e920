"""Operators on positions: padding, resizing, sampling, masks, sorting. They pin a labelled axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.constants import digest
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []


@rule("Pad", weights=(2,))
def pad(ctx: LoweringContext, op: Op) -> Value:
    """A step along free axes; along a labelled axis, new positions are the node of the fill value (Pad since 1)."""
    x, mode = op.input(0), str(op.attr("mode", "constant"))
    pads = op.attr("pads") if op.attr("pads") is not None else op.attr("paddings")
    flat = [int(v) for v in np.atleast_1d(np.asarray(op.data(1) if pads is None else pads))]
    axes = op.data(3)
    where = range(x.rank) if axes is None else [int(a) % x.rank for a in np.atleast_1d(axes)]
    half = len(flat) // 2
    widths = {a: (flat[i], flat[i + half]) for i, a in enumerate(where) if flat[i] or flat[i + half]}
    return _padded(ctx, x, widths, mode, _fill(ctx, op) if mode == "constant" else None)


def _padded(ctx: LoweringContext, x: Value, widths: dict[int, tuple[int, int]], mode: str, fill: Value | None) -> Value:
    """Pad `x` by (before, after) entries along each axis in `widths`."""
    labelled = [a for a in widths if any(f.shape[a] > 1 for f in x.factors)]
    free = [a for a in widths if a not in labelled]
    if free:
        shape = tuple(n + sum(widths[a]) if a in free else n for a, n in enumerate(x.shape))
        pads = {"pads": tuple(v for a in free for v in widths[a]), "axes": tuple(a - x.rank for a in free)}
        x = _pad_places(ctx, x, fill, {"mode": mode, **pads}, shape)
    for axis in labelled:
        x = _pad_neurons(ctx, x, axis, widths[axis], mode, fill)
    return x


def _fill(ctx: LoweringContext, op: Op) -> Value:
    """The fill value of constant padding: an operand since opset 11, an attribute before, 0 by default."""
    value = op.optional(2)
    if value is not None:
        return value
    return ctx.constant(np.asarray(op.attr("value", 0.0), dtype=np.float32))


def _pad_places(
    ctx: LoweringContext, x: Value, fill: Value | None, attributes: dict[str, Any], shape: tuple[int, ...]
) -> Value:
    """Pad free axes: the fill value is combined with every neuron, like an elementwise operand."""
    padded = x.relabelled(ctx.unary(x, "Pad", attributes).factors, shape)
    if fill is None or (fill.data is not None and not np.any(fill.data)):
        return padded
    return ctx.elementwise("Pad", padded, fill)


def _pad_neurons(
    ctx: LoweringContext, x: Value, axis: int, width: tuple[int, int], mode: str, fill: Value | None
) -> Value:
    if fill is None or min(width) < 0:
        shape = tuple(n + sum(width) if a == axis else n for a, n in enumerate(x.shape))
        return ctx.order(x, [axis], "Pad", {"mode": mode, "pads": width}, shape)
    parts = []
    for n in width:
        shape = tuple(n if a == axis else size for a, size in enumerate(x.shape))
        if fill.data is not None:
            parts.append(ctx.constant(np.broadcast_to(fill.data.reshape(()), shape)))
        else:
            filler = ctx.as_activation(fill)
            parts.append(filler.relabelled(tuple(f.reshape((1,) * x.rank) for f in filler.factors), shape))
    return ctx.concat((parts[0], x, parts[1]), axis)


@rule("CenterCropPad")
def center_crop_pad(ctx: LoweringContext, op: Op) -> Value:
    """Crop or pad with zeros to a shape, evenly on both sides (CenterCropPad since 18)."""
    x, shape = op.input(0), op.shape()
    starts = [abs(m - n) // 2 for n, m in zip(x.shape, shape, strict=True)]
    cut = tuple(slice(s, s + m) if m < n else slice(n) for s, n, m in zip(starts, x.shape, shape, strict=True))
    kept = tuple(map(min, x.shape, shape))
    x = ctx.move(x, lambda a: a[cut], kept)
    widths = {a: (s, m - n - s) for a, (s, n, m) in enumerate(zip(starts, kept, shape, strict=True)) if m > n}
    zero = ctx.constant(np.zeros((), dtype=np.float32))
    return _padded(ctx, x, widths, "constant", zero)


@rule("Resize", "Upsample")
def resize(ctx: LoweringContext, op: Op) -> Value:
    """Interpolation over positions (Resize since 10)."""
    x, shape = op.input(0), op.shape()
    ratios = _ratios(op, x.shape, shape)
    axes = [a for a, r in enumerate(ratios) if r != 1]
    attributes = {"ratio": tuple(float(f"{ratios[a]:.5g}") for a in axes), **_interpolation(op)}
    attributes["axes"] = tuple(a - x.rank for a in axes)
    if _repeats(attributes, [ratios[a] for a in axes]):
        attributes = {n: attributes[n] for n in ("ratio", "axes")} | {"mode": "nearest", "coordinates": "repeat"}
    if attributes["coordinates"] == "tf_crop_and_resize":
        axes = list(range(x.rank))
        attributes["roi"] = tuple(float(v) for v in op.known(1))
    return ctx.order(x, axes, "Resize", attributes, shape)


_REPEATING = {
    ("asymmetric", "floor"),
    ("half_pixel", "round_prefer_floor"),
    ("half_pixel", "round_prefer_ceil"),
}


def _repeats(attributes: dict[str, Any], ratios: Sequence[float]) -> bool:
    """Whether every entry is just repeated: nearest mode with integer ratios, in any of these settings."""
    spelling = attributes["coordinates"], attributes.get("nearest_mode", "round_prefer_floor")
    return attributes["mode"] == "nearest" and spelling in _REPEATING and all(float(r).is_integer() for r in ratios)


def _ratios(op: Op, old: tuple[int, ...], new: tuple[int, ...]) -> list[float]:
    """Output over input size per axis, or the scales if they are given."""
    ratios = [m / n for n, m in zip(old, new, strict=True)]
    scales = op.attr("scales")
    index = 1 if op.opset <= 10 else 2
    if scales is None and op.optional(index) is not None:
        scales = op.data(index)
    if scales is None or not np.size(scales):
        return ratios
    axes = [int(a) % len(old) for a in op.attr("axes", range(len(old)))]
    for axis, scale in zip(axes, np.asarray(scales, dtype=np.float64), strict=True):
        ratios[axis] = float(scale)
    return ratios


_SETTINGS = (
    ("nearest", "nearest_mode", "round_prefer_floor"),
    ("cubic", "cubic_coeff_a", -0.75),
    ("", "exclude_outside", 0),
    ("", "antialias", 0),
)


def _interpolation(op: Op) -> dict[str, Any]:
    """The settings of the interpolation that matter and do not have their defaults."""
    mode = str(op.attr("mode", "nearest")).replace("bilinear", "linear")
    coordinates = op.attr("coordinate_transformation_mode", "half_pixel" if op.opset > 10 else "asymmetric")
    out: dict[str, Any] = {"mode": mode, "coordinates": coordinates}
    if op.opset <= 10 and mode == "nearest":
        out["nearest_mode"] = "floor"
    for only, name, default in _SETTINGS:
        value = op.attr(name, default)
        if value != default and only in ("", mode):
            out[name] = float(f"{value:.5g}") if isinstance(value, float) else value
    policy = op.attr("keep_aspect_ratio_policy", "stretch")
    if policy != "stretch" and op.optional(3) is not None:
        out["policy"] = policy
    if coordinates == "tf_crop_and_resize":
        out["outside"] = float(op.attr("extrapolation_value", 0.0))
    return out


@rule("GridSample", weights=())
def grid_sample(ctx: LoweringContext, op: Op) -> Value:
    """Per channel, a join of the sampled values and the coordinates (GridSample since 16)."""
    x, grid = op.input(0), op.input(1)
    shape = op.shape()
    attributes = {n: op.attr(n) for n in ("mode", "padding_mode", "align_corners") if op.attr(n) is not None}
    attributes["mode"] = str(attributes.get("mode", "linear")).replace("bilinear", "linear").replace("bicubic", "cubic")
    if grid.data is not None:
        attributes["places"] = digest(_first_if_alike(grid.data))
    x = ctx.order(x, range(2, x.rank), "GridSample", attributes, shape)
    if not grid.is_activation:
        return x
    rows = {0: (0, 0), 1: (1, None), **{a: (None, a - 1) for a in range(2, x.rank)}}
    return ctx.join_all([x, grid], "GridSample", shape, {1: 1}, range(1, grid.rank - 1), rows)


def _first_if_alike(array: np.ndarray) -> np.ndarray:
    """The first row if all rows of the batch are equal, so that the batch size does not matter."""
    return array[:1] if (array == array[:1]).all() else array


@rule("AffineGrid")
def affine_grid(ctx: LoweringContext, op: Op) -> Value:
    """Each row of a matrix times the positions of a grid: columns are pinned (AffineGrid since 20)."""
    x, shape = op.input(0), op.shape()
    attributes = {"align_corners": int(op.attr("align_corners", 0)), "to": shape[1:-1]}
    y = ctx.reduce(ctx.order(x, [2], op.type, attributes, x.shape), [2], op.type, attributes)
    y = ctx.reshaped(y, (x.shape[0], *[1] * (len(shape) - 2), x.shape[1]))
    return y.relabelled(y.factors, shape)


@rule("Det")
def determinant(ctx: LoweringContext, op: Op) -> Value:
    """A function of a whole matrix, whose rows and columns are pinned (Det since 11)."""
    x = op.input(0)
    axes = (x.rank - 2, x.rank - 1)
    y = ctx.reduce(ctx.order(x, axes, op.type, {}, x.shape), axes, op.type, {})
    return ctx.reshaped(y, op.shape())


@rule("Col2Im")
def col_to_im(ctx: LoweringContext, op: Op) -> Value:
    """Columns of blocks summed to an image: per channel, a function of its blocks and columns (Col2Im since 18)."""
    x, shape = op.input(0), op.shape()
    attributes = {n: op.attr(n) for n in ("dilations", "pads", "strides") if op.attr(n) is not None}
    attributes |= {"block": tuple(int(n) for n in op.known(2)), "to": shape[2:]}
    blocks = ctx.reshaped(x, (shape[0], shape[1], x.shape[1] // shape[1], x.shape[2]))
    blocks = ctx.unary(blocks, op.type, attributes)
    if any(f.shape[2] > 1 or f.shape[3] > 1 for f in blocks.factors):
        return ctx.join_all([blocks], op.type, shape, {0: 0, 1: 1}, rows={0: (0,), 1: (1,)})
    one = blocks.relabelled(blocks.factors, (*shape[:2], 1, 1))
    return one.relabelled(ctx.reshaped(one, (*shape[:2], *[1] * (len(shape) - 2))).factors, shape)


@rule("Trilu")
def trilu(ctx: LoweringContext, op: Op) -> Value:
    """A triangle of the last two axes, which are pinned (Trilu since 14)."""
    x = op.input(0)
    k = op.data(1)
    attributes = {"upper": int(op.attr("upper", 1)), "k": 0 if k is None else int(np.asarray(k).reshape(-1)[0])}
    return _ordered(ctx, op, x, (x.rank - 2, x.rank - 1), attributes)


@rule("CumSum", "CumProd")
def cumulative(ctx: LoweringContext, op: Op) -> Value:
    """Running sums along a known axis (CumSum since 11)."""
    x, axis = op.input(0), op.data(1)
    if axis is None:
        raise Unsupported("the axis is missing")
    attributes = {n: int(op.attr(n, 0)) for n in ("exclusive", "reverse")}
    return _ordered(ctx, op, x, (int(np.asarray(axis).reshape(-1)[0]) % x.rank,), attributes)


@rule("TopK")
def top_k(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """The k greatest along an axis, values and indices (TopK since 1).

    The values are the same in whatever order the entries come; the indices number them.
    """
    x, axis = op.input(0), op.axis()
    largest = int(op.attr("largest", 1))
    values = indices = None
    if op.wants(0):
        k = op.shape(0)[axis]
        greatest = ctx.reduce(x, [axis], op.type, {"k": k, "largest": largest})
        one = ctx.reshaped(greatest, (*x.shape[:axis], *x.shape[axis + 1 :]))
        values = one.unsqueezed(axis, k)
    if op.wants(1):
        shape = op.shape(1)
        attributes = {"axis": axis - x.rank, "largest": largest, "k": shape[axis], "output": 1}
        indices = ctx.order(x, [axis], op.type, attributes, shape)
    return [values, indices]


@rule("ReverseSequence")
def reverse_sequence(ctx: LoweringContext, op: Op) -> Value:
    """Time is reversed up to each length, so the time axis is pinned (ReverseSequence since 10)."""
    x, lengths = op.input(0), op.input(1)
    time, batch = (int(op.attr(name, default)) % x.rank for name, default in (("time_axis", 0), ("batch_axis", 1)))
    if lengths.data is not None:
        attributes = {"batch": batch - x.rank, "lengths": digest(_first_if_alike(lengths.data))}
        return _ordered(ctx, op, x, (time,), attributes)
    y = _ordered(ctx, op, x, (time,), {"batch": batch - x.rank})
    rows = ctx.reshaped(ctx.as_activation(lengths), tuple(n if a == batch else 1 for a, n in enumerate(x.shape)))
    return ctx.elementwise(op.type, y, rows)


def _ordered(ctx: LoweringContext, op: Op, x: Value, axes: Sequence[int], attributes: dict[str, Any]) -> Value:
    named = {**attributes, "axes": tuple(a - x.rank for a in axes)}
    return ctx.order(x, axes, op.type, named, op.shape())
