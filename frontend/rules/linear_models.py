"""Linear models and support vector machines, whose weights are attributes."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import Unsupported
from ..model.attribute_weights import slot
from ..primitives.contraction import Spec
from ..primitives.recurrence import INPUT
from ..primitives.sparse import SparseEdges, SparseLayer
from ..primitives.values import Op, Value
from .registry import rule

__all__ = ["as_rows", "biased", "classified", "digest", "labels", "parameter", "transformed"]

_DOMAIN = "ai.onnx.ml"
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")


def parameter(op: Op, name: str) -> Value | None:
    """The values of an attribute, as an operand (see `attribute_weights`)."""
    return op.optional(slot(op.type, name))


def as_rows(ctx: LoweringContext, op: Op) -> Value:
    """The input as [rows, features]; a vector is one row."""
    x = op.input(0)
    if x.rank not in (1, 2):
        raise Unsupported(f"its input has {x.rank} axes, not rows and features")
    return x if x.rank == 2 else ctx.reshaped(x, (1, *x.shape))


def biased(ctx: LoweringContext, op: Op, y: Value, name: str, first: bool = False) -> Value:
    """Add the values of an attribute: one per column, or one for all; if `first`, only the first of them."""
    bias = parameter(op, name)
    if first and bias is not None:
        ctx.unused(bias, "value after the first, which is for all classes")
        bias = bias.reweighted(ctx.weight(bias).move(lambda a: a[:1]))
    if bias is None:
        return y
    if bias.shape not in ((1,), (y.shape[1],)):
        raise Unsupported(f"{bias.shape[0]} {name} for {y.shape[1]} columns")
    return ctx.add_parameters(y, [(bias, "bias", 1)], "Add", {})


def transformed(ctx: LoweringContext, op: Op, y: Value, name: str | None = None) -> Value:
    """Apply `post_transform` to the scores."""
    name = str(op.attr("post_transform", "NONE")) if name is None else name
    if name not in _TRANSFORMS:
        raise Unsupported(f"post_transform {name!r}")
    if name == "NONE":
        return y
    if name.startswith("SOFTMAX"):
        return ctx.normalize_over(y, [1], "Softmax" if name == "SOFTMAX" else "SoftmaxZero", {})
    return ctx.unary(y, "PostTransform", {"function": name})


def digest(*lists: Any) -> int:
    """A checksum of lists of labels."""
    return zlib.crc32(repr(lists).encode())


def classified(ctx: LoweringContext, op: Op, scores: Value, base: str | None = None) -> list[Value | None]:
    """The label with the greatest score, and the scores [rows, classes].

    A single score for two classes gives both columns: the score and its complement.
    """
    columns = len(labels(op))
    if op.type == "SVMClassifier" and columns > 2 and scores.shape[1] != columns:
        columns = columns * (columns - 1) // 2
    single = base is not None and (found := parameter(op, base)) is not None and found.shape == (1,)
    if base is not None and (single or scores.shape[1] == columns):
        scores, base = biased(ctx, op, scores, base), None
    if scores.shape[1] == 1 and columns == 2:
        both = ctx.unary(scores, "BothClasses", {})
        scores = both.relabelled(both.factors, (scores.shape[0], 2))
    if scores.shape[1] != columns:
        raise Unsupported(f"{scores.shape[1]} scores for {columns} classes")
    if base is not None:
        scores = biased(ctx, op, scores, base)
    label = _label(ctx, op, scores) if op.wants(0) else None
    return [label, transformed(ctx, op, scores) if op.wants(1) else None]


def labels(op: Op) -> tuple[Any, ...]:
    """The labels of a classifier's classes."""
    for name in ("classlabels_ints", "classlabels_int64s", "classlabels_strings"):
        if op.attr(name):
            return tuple(op.attr(name))
    raise Unsupported("it has no class labels")


def _label(ctx: LoweringContext, op: Op, scores: Value) -> Value:
    label = {"labels": digest(labels(op))}
    y = ctx.reduce(ctx.order(scores, [1], "ArgMax", label, scores.shape), [1], "ArgMax", label)
    return ctx.reshaped(y, op.shape())


def _weighted(ctx: LoweringContext, op: Op) -> Value:
    """The product of coefficients [outputs, features] and the features."""
    x, weight = as_rows(ctx, op), parameter(op, "coefficients")
    if weight is None or weight.shape[0] % x.shape[1]:
        raise Unsupported(f"its coefficients are not rows of {x.shape[1]}, one per feature")
    outputs = weight.shape[0] // x.shape[1]
    elements = ctx.weight(weight).reshape(outputs, x.shape[1])
    return ctx.contract(x, elements, Spec("nf", "of", "no"), (x.shape[0], outputs))


@rule("LinearRegressor", domain=_DOMAIN, weights=(1, 2))
def linear_regressor(ctx: LoweringContext, op: Op) -> Value:
    """One linear function of the features per target (LinearRegressor since 1)."""
    y = biased(ctx, op, _weighted(ctx, op), "intercepts")
    if y.shape[1] != op.shape()[1]:
        raise Unsupported(f"its coefficients are for {y.shape[1]} targets, but it has {op.shape()[1]}")
    return transformed(ctx, op, y)


@rule("LinearClassifier", domain=_DOMAIN, weights=(1, 2))
def linear_classifier(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """One linear function of the features per class, or one for two classes (LinearClassifier since 1)."""
    return classified(ctx, op, biased(ctx, op, _weighted(ctx, op), "intercepts"))


def _kernel(ctx: LoweringContext, op: Op, vectors: int) -> Value:
    """The similarity of the features with each support vector: [rows, vectors]."""
    x, own = as_rows(ctx, op), parameter(op, "support_vectors")
    if own is None or own.shape[0] != vectors * x.shape[1]:
        raise Unsupported(f"its support vectors are not {vectors} rows of {x.shape[1]}, one per feature")
    kernel = str(op.attr("kernel_type", "LINEAR"))
    if kernel not in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        raise Unsupported(f"kernel {kernel!r}")
    elements = ctx.weight(own).reshape(vectors, x.shape[1])
    # A radial kernel takes differences to the vectors, not products with them.
    role = "centre" if kernel == "RBF" else "weight"
    y = ctx.contract(x, elements, Spec("nf", "of", "no"), (x.shape[0], vectors), role)
    numbers = dict(zip(("gamma", "coef0", "degree"), op.attr("kernel_params", ()), strict=False))
    return ctx.unary(y, "Kernel", {"type": kernel, **{n: float(f"{v:.6g}") for n, v in numbers.items()}})


@rule("SVMRegressor", domain=_DOMAIN, weights=(1, 2, 3))
def svm_regressor(ctx: LoweringContext, op: Op) -> Value:
    """Kernel values times coefficients; without support vectors, a linear function (SVMRegressor since 1)."""
    vectors = int(op.attr("n_supports", 0))
    x = _kernel(ctx, op, vectors) if vectors else as_rows(ctx, op)
    weight = parameter(op, "coefficients")
    if weight is None or weight.shape != (x.shape[1],):
        raise Unsupported(f"it does not have {x.shape[1]} coefficients")
    elements = ctx.weight(weight).reshape(1, x.shape[1])
    y = biased(ctx, op, ctx.contract(x, elements, Spec("nf", "of", "no"), (x.shape[0], 1)), "rho")
    if op.attr("one_class", 0):
        y = ctx.unary(y, "Sign", {"zero": -1})
    return transformed(ctx, op, y)


@rule("SVMClassifier", domain=_DOMAIN, weights=(1, 2, 3, 4, 5))
def svm_classifier(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """One score per pair of classes, from the support vectors of both (SVMClassifier since 1)."""
    counts = np.asarray(op.attr("vectors_per_class", ()), dtype=np.int64)
    if not len(counts):
        return classified(ctx, op, biased(ctx, op, _weighted(ctx, op), "rho", first=True))
    x = _kernel(ctx, op, int(counts.sum()))
    pairs = len(counts) * (len(counts) - 1) // 2
    y = ctx.sparse(x, [SparseLayer("pair", "neuron", pairs, (_pairs(ctx, op, counts),))])
    return classified(ctx, op, _probable(ctx, op, biased(ctx, op, y, "rho"), len(counts)))


def _pairs(ctx: LoweringContext, op: Op, counts: np.ndarray) -> SparseEdges:
    """Edges of coefficients [classes - 1, vectors]: row r, for a vector of class c, is for the r-th other class."""
    classes, vectors = len(counts), int(counts.sum())
    weight = parameter(op, "coefficients")
    if weight is None or weight.shape != ((classes - 1) * vectors,):
        raise Unsupported(f"its coefficients are not {classes - 1} rows of {vectors}")
    own = np.repeat(np.arange(classes), counts)
    row = np.arange(classes - 1)[:, None]
    other = np.where(row < own, row, row + 1)
    low, high = np.minimum(own, other), np.maximum(own, other)
    pair = low * classes - low * (low + 1) // 2 + high - low - 1
    src = np.broadcast_to(np.arange(vectors), pair.shape)
    return SparseEdges(INPUT, src.reshape(-1), pair.reshape(-1), ctx.weight(weight), "weight")


def _probable(ctx: LoweringContext, op: Op, y: Value, classes: int) -> Value:
    """Class probabilities [rows, classes] from sigmoids of the pairwise scores, if the model has them."""
    slopes, offsets = parameter(op, "prob_a"), parameter(op, "prob_b")
    if slopes is None and offsets is None:
        return y
    if slopes is None or offsets is None or not slopes.shape == offsets.shape == (y.shape[1],):
        raise Unsupported(f"prob_a and prob_b do not have {y.shape[1]} numbers each, one per pair of classes")
    y = ctx.add_parameters(y, [(slopes, "scale", 1), (offsets, "bias", 1)], "Platt", {})
    return ctx.order(y, [1], "PairwiseCoupling", {}, (y.shape[0], classes))
