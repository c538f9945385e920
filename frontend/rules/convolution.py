"""Conv and ConvTranspose: a weight slides over positions; kernel entries are slots."""

from __future__ import annotations

from typing import Any

from ..algebra import Algebra
from ..contraction import Spec
from ..registry import Unsupported, rule
from ..values import Op, Value

__all__: list[str] = []

_SPACE = "uvwxyz"
_KERNEL = "pqrstl"


@rule("Conv", weights=(1, 2))
def conv(ctx: Algebra, op: Op) -> Value:
    """Grouped convolution: w is [M, C/groups, *kernel] (Conv since 1)."""
    w = op.input(1)
    groups = int(op.attr("group", 1))
    shape = (groups, w.shape[0] // groups, *w.shape[1:])
    return _convolve(ctx, op, groups, shape, "gmc", {})


@rule("ConvTranspose", weights=(1, 2))
def conv_transpose(ctx: Algebra, op: Op) -> Value:
    """Transposed convolution: w is [C, M/groups, *kernel] (ConvTranspose since 1)."""
    w = op.input(1)
    groups = int(op.attr("group", 1))
    shape = (groups, w.shape[0] // groups, *w.shape[1:])
    return _convolve(ctx, op, groups, shape, "gcm", {"transposed": 1})


def _convolve(ctx: Algebra, op: Op, groups: int, shape: tuple[int, ...], letters: str, marks: dict[str, Any]) -> Value:
    x, w, bias = ctx.stream(op.input(0)), op.input(1), op.optional(2)
    if w.is_activation and not w.is_constant:
        raise Unsupported("the weight of a convolution is computed from the input")
    space = x.rank - 2
    if space > len(_SPACE) or x.shape[1] % groups:
        raise Unsupported(f"{space} spatial axes, {x.shape[1]} channels in {groups} groups")
    marks = {**marks, **_geometry(op)}
    if 1 in w.shape[2:] and any(n > 1 for n in w.shape[2:]):
        marks["kernel_shape"] = w.shape[2:]
    if marks:
        x = ctx.passes(x, op.type, marks)
    split = ctx.reshaped(x, (x.shape[0], groups, x.shape[1] // groups, *x.shape[2:]))
    window, kernel = _SPACE[:space], _KERNEL[:space]
    spec = Spec("ngc" + window, letters + kernel, "ngm" + window.upper(), window)
    out = op.shape()
    weight = ctx.weight(w).reshape(*shape)
    wide = (out[0], groups, out[1] // groups, *out[2:])
    y = ctx.reshaped(ctx.contract(split, weight, spec, wide), out)
    if bias is None:
        return op.result(y.factors)
    if bias.is_activation:
        raise Unsupported("the bias of a convolution is computed from the input")
    return op.result(ctx.attach(y, [(bias, "bias", 1)], "Add", {}).factors)


def _geometry(op: Op) -> dict[str, Any]:
    """Strides, dilations and padding, where they are not the default."""
    out: dict[str, Any] = {}
    for name, default in (("strides", 1), ("dilations", 1), ("pads", 0), ("output_padding", 0)):
        value = op.attr(name)
        if value is not None and any(v != default for v in value):
            out[name] = tuple(int(v) for v in value)
    if op.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        out["auto_pad"] = op.attr("auto_pad")
    return out
