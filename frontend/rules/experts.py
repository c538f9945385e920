"""Mixtures of experts of com.microsoft: two layers per expert, weighted by the router."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from ..primitives.values import Op, Value
from .fused import like_first
from .normalisation import normalized
from .parts.steps import MICROSOFT, refuse
from .registry import internal_rule, rule

__all__: list[str] = []

_PLAIN = {"relu": "Relu", "gelu": "Gelu", "identity": "Identity"}


@internal_rule("Chosen")
def chosen(ctx: LoweringContext, op: Op) -> Value:
    """Which entries are chosen depends on all scores, on each in the same way."""
    x, scores = op.input(0), op.optional(1)
    attributes = {"k": int(op.attr("k")), "largest": int(op.attr("largest", 1)), "mask": int(op.attr("mask", 0))}
    gate = normalized(ctx, x if scores is None else scores, [op.axis()], op.type, attributes)
    return gate if scores is None else ctx.elementwise(op.type, x, gate)


@internal_rule("Ranked")
def ranked(ctx: LoweringContext, op: Op) -> Value:
    """The rank of an entry depends on all entries, on each in the same way; ranks are positions of one axis more."""
    x, k = op.input(0), int(op.attr("k"))
    attributes = {"k": k, "largest": int(op.attr("largest", 1))}
    return normalized(ctx, x, [x.rank - 1], op.type, attributes).unsqueezed(x.rank - 1, k)


@rule("MoE", domain=MICROSOFT, weights=(2, 3, 4, 5, 6, 7), shapes=like_first, data=(0, 1))
def experts(ctx: LoweringContext, op: Op) -> Value:
    """Weights are [experts, outputs, inputs]; each token goes to the k experts that its router prefers (since 1)."""
    refuse(bool(op.attr("use_sparse_mixer", 0)), "its router is a sparse mixer")
    refuse(bool(op.attr("swiglu_limit_after_activation", 0)), "its limit is applied after the activation")
    whole, router = op.input(0), op.input(1)
    x = ctx.reshaped(whole, (math.prod(whole.shape[:-1]), whole.shape[-1]))
    count = router.shape[1]
    inner = [_layer(ctx, op, x, i, count) for i in (2, 6) if op.optional(i) is not None]
    y = _layer(ctx, op, _activated(ctx, op, inner), 4, count)
    attributes = {"k": int(op.attr("k", 1)), "normalised": int(op.attr("normalize_routing_weights", 0))}
    shares = ctx.normalize_over(router, [1], "Route", attributes)
    mixed = ctx.product_sum(shares, y, ("te", "ted", "td"), (y.shape[0], y.shape[2]))
    return ctx.reshaped(mixed, whole.shape)


def _layer(ctx: LoweringContext, op: Op, x: Value, index: int, count: int) -> Value:
    """Apply the weight at operand `index` and the bias after it to x [tokens, (experts,) inputs]."""
    w, bias, size = op.input(index), op.optional(index + 1), x.shape[-1]
    if w.rank == 2:
        w = ctx.reshaped(w, (count, w.shape[0] // count, w.shape[1]))
    if w.rank != 3 or (w.shape[0], w.shape[2]) != (count, size):
        raise Unsupported(
            f"a weight of shape {list(w.shape)} is not [{count} experts, outputs, {size} inputs]",
            "export the model for a current version of ONNX Runtime",
        )
    equation = "ti,eoi->teo" if x.rank == 2 else "tei,eoi->teo"
    y = ctx.call("Einsum", x, w, equation=equation)
    return y if bias is None else ctx.add(y, ctx.reshaped(bias, (1, count, w.shape[1])))


def _activated(ctx: LoweringContext, op: Op, inner: list[Value]) -> Value:
    """The first inner layer after its activation, times the second if there is one."""
    kind, x = str(op.attr("activation_type", "relu")), inner[0]
    if kind == "swiglu":
        return _gated(ctx, op, *(inner if len(inner) == 2 else _parts(ctx, op, x)))
    if kind == "silu":
        y = ctx.unary(x, "Silu", {}, FUNCTIONS["Swish"])
    elif kind in _PLAIN:
        y = ctx.call(_PLAIN[kind], x)
    else:
        raise Unsupported(f"its activation {kind!r} is not known")
    return y if len(inner) == 1 else ctx.mul(y, inner[1])


def _parts(ctx: LoweringContext, op: Op, x: Value) -> list[Value]:
    """Gate and linear part of one layer: interleaved outputs (swiglu_fusion 1), or halves (2)."""
    fusion, n = int(op.attr("swiglu_fusion", 0)), x.shape[-1] // 2
    refuse(fusion not in (1, 2), "gate and linear part of SwiGLU are neither fused nor separate")
    cuts = (slice(0, None, 2), slice(1, None, 2)) if fusion == 1 else (slice(0, n), slice(n, 2 * n))
    return [ctx.sliced(x, cut) for cut in cuts]


def _gated(ctx: LoweringContext, op: Op, gate: Value, line: Value) -> Value:
    """Compute gate * sigmoid(alpha * gate) * (line + beta), gate and line clipped to the limit."""
    alpha, beta = float(op.attr("activation_alpha", 1.0)), float(op.attr("activation_beta", 0.0))
    limit = float(op.attr("swiglu_limit", math.inf))
    if math.isfinite(limit):
        gate = ctx.unary(gate, "Clip", {"max": limit}, lambda a: np.minimum(a, limit))
        line = ctx.unary(line, "Clip", {"min": -limit, "max": limit}, lambda a: np.clip(a, -limit, limit))
    gate = ctx.unary(gate, "Swish", {"alpha": alpha}, lambda a: FUNCTIONS["Swish"](a, alpha))
    if beta:
        added: dict[str, Any] = {"number": beta}
        line = ctx.unary(line, "Shift", added, lambda a: a + beta)
    return ctx.mul(gate, line)
