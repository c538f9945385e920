"""Fused operators of com.microsoft: products and convolutions with an activation, activations with a bias."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from ..primitives.values import Op, Value
from .linear import bilinear
from .parts.steps import MICROSOFT, activated
from .registry import rule

__all__ = ["Shaped", "convolved", "like_first"]

Shaped = tuple[tuple[int, ...], str]


def like_first(op: Op) -> Sequence[Shaped]:
    """Shape and dtype of the first operand."""
    return [(op.input(0).shape, op.input(0).dtype)]


def _product(op: Op) -> Sequence[Shaped]:
    (left, right), x = _sides(op), op.input(0)
    batch = np.broadcast_shapes(x.shape[:-2], op.input(1).shape[:-2])
    sizes = dict(zip(left[-2:], x.shape[-2:], strict=True)) | dict(zip(right[-2:], op.input(1).shape[-2:], strict=True))
    return [((*batch, sizes["m"], sizes["n"]), x.dtype)]


def _sides(op: Op) -> tuple[str, str]:
    """The einsum letters of both operands, aligned from the end."""
    if op.attr("transBatchA", 0) or op.attr("transBatchB", 0):
        raise Unsupported("batch axes are transposed (transBatchA, transBatchB)")
    if min(op.input(0).rank, op.input(1).rank) < 2:
        raise Unsupported("one of the operands is a vector")
    letters = "abcdefgh"[: max(op.input(0).rank, op.input(1).rank) - 2]
    left, right = ("km" if op.attr("transA", 0) else "mk"), ("nk" if op.attr("transB", 0) else "kn")
    return tuple(letters[len(letters) - v.rank + 2 :] + side for v, side in ((op.input(0), left), (op.input(1), right)))  # type: ignore[return-value]


@rule("FusedMatMul", domain=MICROSOFT, weights=(0, 1), shapes=_product)
def fused_matmul(ctx: LoweringContext, op: Op) -> Value:
    """Product alpha * A' B' over the last two axes (com.microsoft since 1)."""
    left, right = _sides(op)
    batch = max(left[:-2], right[:-2], key=len)
    y = bilinear(ctx, op.input(0), op.input(1), (left, right, f"{batch}mn"), op.shape())
    alpha = float(op.attr("alpha", 1.0))
    return y if alpha == 1 else ctx.unary(y, "Scale", {"factor": alpha}, lambda v: alpha * v)


def _gemm_shape(op: Op) -> Sequence[Shaped]:
    rows = op.input(0).shape[1 if op.attr("transA", 0) else 0]
    return [((rows, op.input(1).shape[0 if op.attr("transB", 0) else 1]), op.input(0).dtype)]


@rule("FusedGemm", domain=MICROSOFT, weights=(0, 1, 2), shapes=_gemm_shape)
def fused_gemm(ctx: LoweringContext, op: Op) -> Value:
    """Gemm, then an activation (com.microsoft since 1)."""
    own = {n: v for n, v in op.attributes.items() if not n.startswith("activation")}
    y = ctx.call("Gemm", *op.inputs, **own)
    numbers = [op.attr(f"activation_{n}") for n in ("alpha", "beta", "gamma")]
    return activated(ctx, op, y, [n for n in numbers if n is not None])


def _conv_shape(op: Op) -> Sequence[Shaped]:
    return [(convolved(op, op.input(0).shape, op.input(1).shape), op.input(0).dtype)]


def convolved(op: Op, x: Sequence[int], w: Sequence[int]) -> tuple[int, ...]:
    """The output shape of Conv with explicit padding, for an operand and a kernel of these shapes."""
    space = len(x) - 2
    if op.attr("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        raise Unsupported("auto_pad")
    pads = op.attr("pads") or (0,) * 2 * space
    strides, dilations = (op.attr(n) or (1,) * space for n in ("strides", "dilations"))
    sizes = [
        (x[2 + i] + pads[i] + pads[space + i] - dilations[i] * (w[2 + i] - 1) - 1) // strides[i] + 1
        for i in range(space)
    ]
    return (x[0], w[0], *sizes)


@rule("FusedConv", domain=MICROSOFT, weights=(1, 2), shapes=_conv_shape)
def fused_conv(ctx: LoweringContext, op: Op) -> Value:
    """Conv, plus another value, then an activation (com.microsoft since 1)."""
    own = {n: v for n, v in op.attributes.items() if not n.startswith("activation")}
    y = ctx.call("Conv", *op.inputs[:3], **own)
    if op.optional(3) is not None:
        y = ctx.add(y, op.input(3))
    return activated(ctx, op, y, op.attr("activation_params", ()))


@rule("Gelu", "BiasGelu", "FastGelu", "QuickGelu", domain=MICROSOFT, weights=(1,), shapes=like_first)
def gelu(ctx: LoweringContext, op: Op) -> Value:
    """GELU, in the form with tanh or with a sigmoid, of x plus a bias (com.microsoft since 1)."""
    x = op.input(0)
    if op.optional(1) is not None:
        x = ctx.add(x, op.input(1))
    if op.type == "QuickGelu":
        alpha = float(op.attr("alpha", 1.702))
        return ctx.unary(x, "Swish", {"alpha": alpha}, lambda v: FUNCTIONS["Swish"](v, alpha))
    return ctx.call("Gelu", x, approximate="tanh" if op.type == "FastGelu" else "none")


@rule("BiasAdd", domain=MICROSOFT, weights=(1,), shapes=like_first)
def bias_add(ctx: LoweringContext, op: Op) -> Value:
    """Sum of x, a bias and another value (com.microsoft since 1)."""
    y = ctx.add(op.input(0), op.input(1))
    return ctx.add(y, op.input(2))


def _half(op: Op) -> Sequence[Shaped]:
    x = op.input(0)
    return [((*x.shape[:-1], x.shape[-1] // 2), x.dtype)]


@rule("BiasSplitGelu", domain=MICROSOFT, weights=(1,), shapes=_half)
def bias_split_gelu(ctx: LoweringContext, op: Op) -> Value:
    """One half of x plus a bias, times the GELU of the other half (com.microsoft since 1)."""
    x, half = ctx.add(op.input(0), op.input(1)), op.shape()[-1]
    left, right = ctx.sliced(x, slice(half)), ctx.sliced(x, slice(half, None))
    return ctx.mul(left, ctx.call("Gelu", right))
