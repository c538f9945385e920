"""Normalisation operators of com.microsoft, with a residual or of embeddings."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.values import Op, Value
from .fused import Shaped, like_first
from .parts.steps import MICROSOFT
from .registry import rule

__all__: list[str] = []

_SMALL = 1e-12
"""The default epsilon of normalisations with a residual, and of embeddings."""


@rule("LayerNormalization", "SimplifiedLayerNormalization", domain=MICROSOFT, weights=(1, 2), shapes=like_first)
def norm(ctx: LoweringContext, op: Op) -> Value:
    """The operators of these names in the default domain (com.microsoft since 1)."""
    if op.wants(1) or op.wants(2):
        raise Unsupported("the mean or the deviation is an output")
    return _norm(ctx, op, op.input(0), op.inputs[1:3], op.type, 1e-5, int(op.attr("axis", -1)))


def _norm(
    ctx: LoweringContext, op: Op, x: Value, sides: Sequence[Value | None], name: str, epsilon: float, axis: int = -1
) -> Value:
    """A normalisation as the operator of this name in the default domain; epsilon: that of its own schema."""
    return ctx.call(name, x, *sides, axis=axis, epsilon=float(op.attr("epsilon", epsilon)))


def _skipped(op: Op) -> Sequence[Shaped | None]:
    """Shape and dtype of the first operand; those of the statistics are unknown."""
    x = op.input(0)
    return [(x.shape, x.dtype), None, None, (x.shape, x.dtype)]


@rule(
    "SkipLayerNormalization", "SkipSimplifiedLayerNormalization", domain=MICROSOFT, weights=(1, 2, 3, 4),
    shapes=_skipped,
)  # fmt: skip
def skip_norm(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """The normalised sum x + skip + bias, and the sum itself (com.microsoft since 1)."""
    plain = op.type == "SkipLayerNormalization"
    beta, bias = (op.optional(3), op.optional(4)) if plain else (None, op.optional(3))
    if op.wants(1) or op.wants(2):
        raise Unsupported("the mean or the deviation is an output")
    x = ctx.add(op.input(0), op.input(1))
    if bias is not None:
        x = ctx.add(x, bias)
    y = _norm(ctx, op, x, (op.input(2), beta), op.type.removeprefix("Skip"), _SMALL)
    return [y, None, None, x]


def _embedded(op: Op) -> Sequence[Shaped | None]:
    shape, words = op.input(0).shape, op.input(2)
    whole = ((*shape, words.shape[-1]), words.dtype)
    return [whole, (shape[:1], "int32"), whole]


@rule("EmbedLayerNormalization", domain=MICROSOFT, weights=(2, 3, 4, 5, 6), shapes=_embedded, data=())
def embed_norm(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """The normalised sum of word, position and segment embeddings, and the sum itself (com.microsoft since 1)."""
    if op.wants(1) and op.optional(7) is not None:
        raise Unsupported("the length of the mask is an output")
    shape = op.shape()
    y = ctx.call("Gather", op.input(2), op.input(0), axis=0)
    if op.optional(8) is not None:
        places = ctx.call("Gather", op.input(3), op.input(8), axis=0)
    else:
        places = ctx.sliced(op.input(3), slice(shape[1]), 0)
    y = ctx.add(y, places)
    if op.optional(1) is not None and op.optional(4) is not None:
        y = ctx.add(y, ctx.call("Gather", op.input(4), op.input(1), axis=0))
    no_mask = ctx.constant(np.zeros(shape[:1], np.int32))
    return [_norm(ctx, op, y, op.inputs[5:7], "LayerNormalization", _SMALL), no_mask, y]
