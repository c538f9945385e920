"""Random decision trees as ONNX nodes, in each of the three operators' spellings."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, helper, numpy_helper

__all__ = ["DOMAIN", "FLOAT", "MODES", "Tree", "X", "listed", "model_of", "onnx_of", "random_tree", "separate"]

DOMAIN = "ai.onnx.ml"
FLOAT = TensorProto.FLOAT
X = np.random.default_rng(3).normal(size=(40, 3)).astype(np.float32)
MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ")


@dataclass
class Tree:
    """A leaf with votes (target, weight), or a split with two branches."""

    votes: list[tuple[int, float]] = field(default_factory=list)
    feature: int = 0
    mode: int = 0
    missing: int = 0
    threshold: float = 0.0
    true: Tree | None = None
    false: Tree | None = None

    def nodes(self) -> list[Tree]:
        """Itself and all below, parents first."""
        return [self] if self.true is None or self.false is None else [self, *self.true.nodes(), *self.false.nodes()]


def random_tree(rng: np.random.Generator, depth: int, features: int, targets: int, full: bool = False) -> Tree:
    """A tree of at most this depth; full: with all leaves at it."""
    if depth == 0 or (not full and rng.random() < 0.25):
        chosen = rng.permutation(targets)[: rng.integers(1, targets + 1)]
        return Tree([(int(t), float(rng.normal())) for t in chosen])
    below = [random_tree(rng, depth - 1, features, targets, full) for _ in range(2)]
    feature, mode, missing = (int(rng.integers(n)) for n in (features, 4, 2))
    return Tree([], feature, mode, missing, float(rng.normal()), *below)


def listed(trees: list[Tree], prefix: str) -> dict[str, Any]:
    """Attributes of TreeEnsembleRegressor (prefix "target") or TreeEnsembleClassifier ("class")."""
    names = ("treeids", "nodeids", "featureids", "values", "modes", "truenodeids", "falsenodeids",
             "missing_value_tracks_true", "hitrates")  # fmt: skip
    nodes: dict[str, list[Any]] = {n: [] for n in names}
    votes: dict[str, list[Any]] = {n: [] for n in ("treeids", "nodeids", "ids", "weights")}
    for number, tree in enumerate(trees):
        every = tree.nodes()
        place = {id(node): i for i, node in enumerate(every)}
        for i, node in enumerate(every):
            leaf = node.true is None
            ends = (0, 0) if leaf else (place[id(node.true)], place[id(node.false)])
            mode = "LEAF" if leaf else MODES[node.mode]
            row = (number, i, node.feature, node.threshold, mode, *ends, node.missing, 1.0)
            for name, value in zip(names, row, strict=True):
                nodes[name].append(value)
            for target, weight in node.votes:
                for name, value in zip(votes, (number, i, target, weight), strict=True):
                    votes[name].append(value)
    return {f"nodes_{n}": v for n, v in nodes.items()} | {f"{prefix}_{n}": v for n, v in votes.items()}


def separate(trees: list[Tree], dtype: type = np.float32) -> dict[str, Any]:
    """Attributes of TreeEnsemble; trees are no leaves, and a leaf has one vote."""
    splits = [node for tree in trees for node in tree.nodes() if node.true is not None]
    leaves = [node for tree in trees for node in tree.nodes() if node.true is None]
    place = {id(node): i for part in (splits, leaves) for i, node in enumerate(part)}
    out: dict[str, Any] = {
        "tree_roots": [place[id(tree)] for tree in trees],
        "nodes_featureids": [node.feature for node in splits],
        "nodes_modes": _tensor(np.array([node.mode for node in splits], np.uint8)),
        "nodes_splits": _tensor(np.array([node.threshold for node in splits], dtype)),
        "nodes_missing_value_tracks_true": [node.missing for node in splits],
        "leaf_targetids": [node.votes[0][0] for node in leaves],
        "leaf_weights": _tensor(np.array([node.votes[0][1] for node in leaves], dtype)),
    }
    for branch in ("true", "false"):
        ends = [getattr(node, branch) for node in splits]
        out[f"nodes_{branch}nodeids"] = [place[id(end)] for end in ends]
        out[f"nodes_{branch}leafs"] = [int(end.true is None) for end in ends]
    return out


def _tensor(array: np.ndarray) -> onnx.TensorProto:
    return numpy_helper.from_array(array)


def model_of(
    op: str, attributes: dict[str, Any], features: int, outputs: dict[str, tuple[int, tuple[int, ...]]],
    rows: int = 6, kind: int = TensorProto.FLOAT, version: int = 3, name: str = "",
) -> onnx.ModelProto:  # fmt: skip
    """A model of one operator over x [rows, features]. outputs: name to element type and shape."""
    node = helper.make_node(op, ["x"], list(outputs), name=name, domain=DOMAIN, **attributes)
    infos = [helper.make_tensor_value_info(n, k, s) for n, (k, s) in outputs.items()]
    x = helper.make_tensor_value_info("x", kind, [rows, features])
    graph = helper.make_graph([node], op, [x], infos)
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(DOMAIN, version)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.checker.check_model(model)
    return model


def onnx_of(model: onnx_ir.Model) -> onnx.ModelProto:
    return onnx_ir.to_proto(model)
