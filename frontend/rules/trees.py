"""Tree ensembles: thresholds from features to splits, links to branches, leaf weights to outputs."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from ...ir.arrays import distinct
from ..context import LoweringContext
from ..errors import Unsupported
from ..primitives.recurrence import INPUT
from ..primitives.sparse import SparseEdges, SparseLayer, SparseLinks
from ..primitives.values import Op, Value
from .linear_models import as_rows, biased, classified, labels, parameter, transformed
from .parts.forest import MEMBER, MODES, Forest, forest, listed_forest
from .registry import rule

__all__: list[str] = []

_DOMAIN = "ai.onnx.ml"
_AGGREGATES = ("AVERAGE", "SUM", "MIN", "MAX")
_TRANSFORMS = ("NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT")
_MOST_TARGETS = 1 << 16
_SPLIT, _LEAF, _SCORE = "split", "leaf", "score"


@rule("TreeEnsembleRegressor", domain=_DOMAIN, weights=(1, 2, 3, 4))
def regressor(ctx: LoweringContext, op: Op) -> Value:
    """Leaf weights aggregated over trees, per target (TreeEnsembleRegressor since 1)."""
    found = listed_forest(op.attributes, "target")
    y = _scores(ctx, op, found, int(op.attr("n_targets", 1)), "nodes_values", "target_weights")
    y = ctx.unary(y, "TreeEnsemble", {"aggregate": _named(op, "aggregate_function", _AGGREGATES, "SUM")})
    return transformed(ctx, op, biased(ctx, op, y, "base_values"))


@rule("TreeEnsembleClassifier", domain=_DOMAIN, weights=(1, 2, 3, 4))
def classifier(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Leaf weights summed over trees, per class; two classes may share one score (TreeEnsembleClassifier since 1)."""
    found = listed_forest(op.attributes, "class")
    classes = len(labels(op))
    if classes == 2 and len(distinct(found.target)) == 1:
        found, classes = replace(found, target=np.zeros_like(found.target)), 1
    y = _scores(ctx, op, found, classes, "nodes_values", "class_weights")
    return classified(ctx, op, ctx.unary(y, "TreeEnsemble", {"aggregate": "SUM"}), "base_values")


@rule("TreeEnsemble", domain=_DOMAIN, weights=(1, 2, 3, 4), since=5)
def ensemble(ctx: LoweringContext, op: Op) -> Value:
    """A regressor with one weight per leaf, whose splits may test set membership (TreeEnsemble since 5)."""
    y = _scores(ctx, op, forest(op.attributes), int(op.attr("n_targets", 1)), "nodes_splits", "leaf_weights")
    y = ctx.unary(y, "TreeEnsemble", {"aggregate": _named(op, "aggregate_function", _AGGREGATES, "SUM")})
    return transformed(ctx, op, y, _named(op, "post_transform", _TRANSFORMS, "NONE"))


def _named(op: Op, name: str, names: tuple[str, ...], default: str) -> str:
    """The name of an enumeration value that is given by number or name."""
    value = op.attr(name, default)
    if value not in names and not (isinstance(value, int) and 0 <= value < len(names)):
        raise Unsupported(f"{name} {value!r}")
    return names[value] if isinstance(value, int) else str(value)


def _scores(ctx: LoweringContext, op: Op, found: Forest, targets: int, thresholds: str, weights: str) -> Value:
    """One node per target, split and leaf; [rows, targets]."""
    x = as_rows(ctx, op)
    if ((found.feature < 0) | (found.feature >= x.shape[1])).any():
        raise Unsupported(f"a split reads a feature beyond the {x.shape[1]} columns of the input")
    if not 0 < targets <= max(_MOST_TARGETS, len(found.target)):
        raise Unsupported(f"it has {targets} targets")
    if ((found.target < 0) | (found.target >= targets)).any():
        raise Unsupported(f"a leaf adds to a target beyond the {targets} of the ensemble")
    values, votes = parameter(op, thresholds), parameter(op, weights)
    if votes is None or votes.shape != found.leaf.shape or (found.splits and values is None):
        raise Unsupported("thresholds or leaf weights are missing, or do not match the number of nodes")
    splits = _splits(ctx, op, found, values)
    leaves = SparseLayer(_LEAF, "neuron", found.leaves, (), _branches(found, leaf=True))
    score = SparseEdges(_LEAF, found.leaf, found.target, ctx.weight(votes), "leaf")
    rates = parameter(op, "nodes_hitrates")
    if rates is not None:
        ctx.unused(rates, "hit rate: no result depends on it")
    return ctx.sparse(x, [splits, leaves, SparseLayer(_SCORE, "neuron", targets, (score,))])


def _splits(ctx: LoweringContext, op: Op, found: Forest, values: Value | None) -> SparseLayer:
    edges: list[SparseEdges] = []
    steps, kinds = _kinds(found)
    single = np.flatnonzero(found.mode != MEMBER)
    if values is not None:
        if found.splits and found.threshold.max() >= values.shape[0]:
            raise Unsupported("there are fewer thresholds than nodes")
        own = ctx.weight(values).move(lambda a: a[found.threshold[single]])
        edges.append(SparseEdges(INPUT, found.feature[single], single, own, "threshold", steps, kinds[single]))
        ctx.unused(values, f"threshold of a {'split with a set' if op.type == 'TreeEnsemble' else 'leaf'}")
    if (found.mode == MEMBER).any():
        edges.append(_members(ctx, op, found, steps, kinds))
    return SparseLayer(_SPLIT, "split", found.splits, tuple(edges), _branches(found, leaf=False))


def _kinds(found: Forest) -> tuple[list[tuple[str, dict[str, Any]]], np.ndarray]:
    """The via step of each split: its comparison, and the branch that NaN takes."""
    steps = [("Branch", {"mode": mode, "missing": missing}) for mode in MODES for missing in ("false", "true")]
    return steps, 2 * found.mode + found.missing


def _members(
    ctx: LoweringContext, op: Op, found: Forest, steps: list[tuple[str, dict[str, Any]]], kinds: np.ndarray
) -> SparseEdges:
    """The sets of splits, concatenated and delimited by NaN: one edge per member."""
    values, splits = parameter(op, "membership_values"), np.flatnonzero(found.mode == MEMBER)
    if values is None:
        raise Unsupported("a split tests for membership of a set, but there are no membership_values")
    end = np.isnan(np.asarray(op.attr("membership_values"), dtype=np.float64).reshape(-1))
    number, member = np.cumsum(end), np.flatnonzero(~end)
    if number[-1] + (not end[-1]) != len(splits):
        raise Unsupported(f"{number[-1] + (not end[-1])} sets for {len(splits)} splits that test for membership")
    ctx.unused(values, "delimiter of sets")
    dst = splits[number[member]]
    own = ctx.weight(values).move(lambda a: a[member])
    return SparseEdges(INPUT, found.feature[dst], dst, own, "member", steps, kinds[dst])


def _branches(found: Forest, leaf: bool) -> tuple[SparseLinks, ...]:
    """Links from splits to the targets of their branches: other splits, or leaves."""
    links = []
    for role, ends in (("true", found.true), ("false", found.false)):
        parents = np.flatnonzero((ends >= found.splits) == leaf)
        links.append(SparseLinks(_SPLIT, parents, ends[parents] - (found.splits if leaf else 0), role))
    return tuple(links)
