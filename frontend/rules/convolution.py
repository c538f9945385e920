"""Conv and ConvTranspose: a weight slides over positions; kernel entries are slots."""

from __future__ import annotations

from typing import Any

from ..context import LoweringContext
from ..errors import DataDependent, Unsupported
from ..primitives.contraction import Spec
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []

_SPACE = "uvwxyz"
_KERNEL = "pqrstl"


@rule("Conv", weights=(1, 2))
def conv(ctx: LoweringContext, op: Op) -> Value:
    """Grouped convolution: w is [M, C/groups, *kernel] (Conv since 1)."""
    x, w = op.input(0), op.input(1)
    return _convolve(ctx, op, x, _by_group(w, op.shape()[1], x.shape[1]), "gmc", {}, op.optional(2))


@rule("ConvTranspose", weights=(1, 2))
def conv_transpose(ctx: LoweringContext, op: Op) -> Value:
    """Transposed convolution: w is [C, M/groups, *kernel] (ConvTranspose since 1)."""
    x, w = op.input(0), op.input(1)
    shape = _by_group(w, x.shape[1], op.shape()[1])
    return _convolve(ctx, op, x, shape, "gcm", {"transposed": 1}, op.optional(2))


@rule("DeformConv", weights=(1, 3))
def deform_conv(ctx: LoweringContext, op: Op) -> Value:
    """Convolution of an input that is sampled at offsets, times a mask, per channel (DeformConv since 19)."""
    x, w = op.input(0), op.input(1)
    if w.is_activation:
        raise DataDependent("the weight of a deformable convolution is computed from the input")
    offsets = int(op.attr("offset_group", 1))
    # Only channels of one offset group are sampled alike.
    x = ctx.order(x, (*((1,) if offsets > 1 else ()), *range(2, x.rank)), op.type, {"offset_group": offsets}, x.shape)
    where = [ctx.as_activation(v) for v in (op.input(2), op.optional(4)) if v is not None]
    sampled = ctx.join_all([x, *where], op.type, x.shape, {0: 0, 1: 1}, (0, 2, 3), {0: (0,) * (1 + len(where))})
    return _convolve(ctx, op, sampled, _by_group(w, op.shape()[1], x.shape[1]), "gmc", {}, op.optional(3))


def _by_group(w: Value, rows: int, columns: int) -> tuple[int, ...]:
    """The shape of a kernel with a group axis; rows, columns: the channels of all groups along its first two axes.

    The attribute `group` is not used: if the groups are the batch, a single entry has fewer.
    """
    groups = columns // w.shape[1] if w.shape[1] else 0
    each = rows // groups if groups else 0
    if not each or columns % w.shape[1] or rows % groups or w.shape[0] % rows:
        raise Unsupported(f"a kernel of shape {list(w.shape)} does not fit {rows} and {columns} channels")
    return (w.shape[0] // each, each, *w.shape[1:])


def _convolve(
    ctx: LoweringContext,
    op: Op,
    x: Value,
    shape: tuple[int, ...],
    letters: str,
    marks: dict[str, Any],
    bias: Value | None,
) -> Value:
    """shape: the kernel's with a group axis; letters: its first axes: g group, c input channel, m output channel."""
    w = op.input(1)
    space = x.rank - 2
    if space > len(_SPACE):
        raise Unsupported(f"{space} spatial axes")
    marks = {**marks, **_geometry(op)}
    if 1 in w.shape[2:] and any(n > 1 for n in w.shape[2:]):
        marks["kernel_shape"] = w.shape[2:]
    if marks:
        x = ctx.unary(x, op.type, marks)
    if w.is_activation:
        return _biased(ctx, _by_activation(ctx, op, x, ctx.reshaped(w, shape), letters), bias)
    c = shape[letters.index("c")]
    groups = x.shape[1] // c
    split = ctx.reshaped(x, (x.shape[0], groups, c, *x.shape[2:]))
    window, kernel = _SPACE[:space], _KERNEL[:space]
    out = op.shape()
    spec = Spec(
        "ngc" + window, letters + kernel, "ngm" + window.upper(), window, _still(window, marks, w.shape, x.shape, out)
    )
    weight = ctx.weight(w).reshape(*shape)
    wide = (out[0], groups, out[1] // groups, *out[2:])
    return _biased(ctx, ctx.reshaped(ctx.contract(split, weight, spec, wide), out), bias)


def _still(
    window: str, marks: dict[str, Any], kernel: tuple[int, ...], x: tuple[int, ...], out: tuple[int, ...]
) -> str:
    """The letters of axes on which a kernel has one entry and is neither moved in strides nor past the ends."""
    space = len(window)
    strides, pads = marks.get("strides", (1,) * space), marks.get("pads", (0,) * 2 * space)
    more = marks.get("output_padding", (0,) * space)
    return "".join(
        t for i, t in enumerate(window)
        if kernel[2 + i] == strides[i] == 1 and pads[i] == pads[space + i] == more[i] == 0 and x[2 + i] == out[2 + i]
    )  # fmt: skip


def _by_activation(ctx: LoweringContext, op: Op, x: Value, w: Value, letters: str) -> Value:
    """Convolve with a computed kernel: products, summed over channels and the (ordered) positions of the kernel."""
    if any(n > 1 for f in x.factors for n in f.shape[2:]):
        raise DataDependent("a computed kernel slides over positions that are neurons")
    kernel = _KERNEL[: x.rank - 2]
    n, sizes, out = x.shape[0], w.shape[3:], op.shape()
    groups, c = w.shape[0], w.shape[letters.index("c")]
    space = _SPACE[: x.rank - 2].upper()
    ones = (1,) * len(sizes)
    found = ctx.unary(x, "Windows", {"kernel_shape": sizes, "to": out[2:]})
    wide = tuple(f.reshape(*f.shape, *ones) for f in found.factors)
    windows = ctx.reshaped(x.relabelled(wide, (n, x.shape[1], *out[2:], *sizes)), (n, groups, c, *out[2:], *sizes))
    shape = (n, groups, out[1] // groups, *out[2:])
    y = ctx.product_sum(windows, w, (f"ngc{space}{kernel}", letters + kernel, "ngm" + space), shape)
    return ctx.reshaped(y, out)


def _biased(ctx: LoweringContext, y: Value, bias: Value | None) -> Value:
    if bias is None:
        return y
    if not bias.is_activation:
        return ctx.add_parameters(y, [(bias, "bias", 1)], "Add", {})
    return ctx.elementwise("Add", y, ctx.reshaped(bias, (bias.shape[0], *[1] * (y.rank - 2))))


def _geometry(op: Op) -> dict[str, Any]:
    """Strides, dilations and padding, unless they have their defaults."""
    out: dict[str, Any] = {}
    for name, default in (("strides", 1), ("dilations", 1), ("pads", 0), ("output_padding", 0)):
        value = op.attr(name)
        if value is not None and any(v != default for v in value):
            out[name] = tuple(int(v) for v in value)
    if op.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        out["auto_pad"] = op.attr("auto_pad")
    return out
