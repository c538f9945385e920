"""Classic models (ai.onnx.ml), whose parameters are attributes: scalers, linear and support vector models, trees."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..sketch import ML, Sketch, Tensor

__all__ = ["STEPS"]


def _table(sketch: Sketch) -> Tensor:
    """A value as a matrix with its last axis as columns."""
    x = sketch.pick(lambda t: t.rank >= 2)
    rows = sketch.integers([math.prod(x.shape[:-1]), x.shape[-1]])
    return x if x.rank == 2 else sketch.node("Reshape", x, rows)


def _made(sketch: Sketch, op: str, x: Tensor, columns: int, **attributes: Any) -> None:
    like = Tensor("", (x.shape[0], columns))
    sketch.put(sketch.node(op, x, like=like, domain=ML, **attributes))


def _list(sketch: Sketch, *shape: int) -> list[float]:
    return [float(v) for v in sketch.numbers((math.prod(shape),))]


def _scaler(sketch: Sketch) -> None:
    x = _table(sketch)
    width = sketch.choice([x.shape[1], 1])
    _made(sketch, "Scaler", x, x.shape[1], offset=_list(sketch, width), scale=_list(sketch, width))


def _imputer(sketch: Sketch) -> None:
    x = sketch.node("Relu", _table(sketch))
    width = sketch.choice([x.shape[1], 1])
    _made(sketch, "Imputer", x, x.shape[1], imputed_value_floats=_list(sketch, width), replaced_value_float=0.0)


def _normalizer(sketch: Sketch) -> None:
    x = _table(sketch)
    _made(sketch, "Normalizer", x, x.shape[1], norm=sketch.choice(["L2", "L1", "MAX"]))


def _linear(sketch: Sketch) -> None:
    x, targets = _table(sketch), sketch.size(3)
    options = {"intercepts": _list(sketch, targets)} if sketch.chance(60) else {}
    coefficients = _list(sketch, targets, x.shape[1])
    _made(sketch, "LinearRegressor", x, targets, targets=targets, coefficients=coefficients, **options)


def _vectors(sketch: Sketch) -> None:
    x, count = _table(sketch), sketch.size(4)
    _made(
        sketch, "SVMRegressor", x, 1, kernel_type=sketch.choice(["RBF", "LINEAR", "SIGMOID"]),
        kernel_params=[0.4, 0.5, 3.0], n_supports=count, support_vectors=_list(sketch, count, x.shape[1]),
        coefficients=_list(sketch, count), rho=_list(sketch, 1),
    )  # fmt: skip


def _trees(sketch: Sketch) -> None:
    """Complete trees, some of which split on the same features at the same nodes."""
    x, targets = _table(sketch), sketch.size(3)
    count, depth = sketch.integer(1, 4), sketch.integer(1, 2)
    inner, nodes = 2**depth - 1, 2 ** (depth + 1) - 1
    shapes = [[sketch.integer(0, x.shape[1] - 1) for _ in range(inner)] for _ in range(2)]
    votes = [[sketch.integer(0, targets - 1) for _ in range(inner + 1)] for _ in range(2)]
    which = [sketch.integer(0, 1) for _ in range(count)]
    place = np.arange(nodes)
    leaf = place >= inner
    leaves = place[leaf]
    _made(
        sketch, "TreeEnsembleRegressor", x, targets, n_targets=targets,
        aggregate_function=sketch.choice(["SUM", "AVERAGE", "MIN", "MAX"]),
        nodes_treeids=np.repeat(np.arange(count), nodes).tolist(), nodes_nodeids=place.tolist() * count,
        nodes_featureids=[f for w in which for f in (*shapes[w], *[0] * (inner + 1))],
        nodes_values=_list(sketch, count, nodes), nodes_modes=np.where(leaf, "LEAF", "BRANCH_LEQ").tolist() * count,
        nodes_truenodeids=np.where(leaf, 0, 2 * place + 1).tolist() * count,
        nodes_falsenodeids=np.where(leaf, 0, 2 * place + 2).tolist() * count,
        target_treeids=np.repeat(np.arange(count), len(leaves)).tolist(), target_nodeids=leaves.tolist() * count,
        target_ids=[v for w in which for v in votes[w]], target_weights=_list(sketch, count, len(leaves)),
    )  # fmt: skip


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "scaler": _scaler,
    "imputer": _imputer,
    "normalizer": _normalizer,
    "linear model": _linear,
    "support vectors": _vectors,
    "trees": _trees,
}
