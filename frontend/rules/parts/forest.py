"""Decision trees as arrays, read from the attributes of the three tree ensemble operators and validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ....ir.arrays import distinct
from ...errors import Unsupported

__all__ = ["MEMBER", "MODES", "Forest", "forest", "listed_forest"]

MODES = ("BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "BRANCH_MEMBER")
MEMBER = 6
_LEAF = -1
_CODES = {**{name: code for code, name in enumerate(MODES)}, "LEAF": _LEAF}
_BRANCHES = ("true", "false")
_DEEPEST = 10_000
_LARGEST = 1 << 31


@dataclass(frozen=True, slots=True)
class Forest:
    """n inner nodes (splits) and m leaves of any number of trees.

    feature, mode (index into `MODES`), missing (1 if a NaN follows the true branch, else 0), threshold (index into the
    thresholds): int64 [n]. true, false: int64 [n], the target of a branch: i < n is a split, n + j is leaf j.
    leaf, target: int64 [votes]; vote i adds leaf weight i, of this leaf, to this output.
    """

    feature: np.ndarray
    mode: np.ndarray
    missing: np.ndarray
    threshold: np.ndarray
    true: np.ndarray
    false: np.ndarray
    leaves: int
    leaf: np.ndarray
    target: np.ndarray

    @property
    def splits(self) -> int:
        """Number of inner nodes."""
        return len(self.feature)


def listed_forest(attributes: Mapping[str, Any], votes: str) -> Forest:
    """Trees whose splits and leaves are in one list (TreeEnsembleClassifier and -Regressor since 1).

    votes: prefix of the attributes of leaf weights. Raises `Unsupported` unless they are trees with one root each.
    """
    tree, ids = (_ints(attributes, f"nodes_{name}") for name in ("treeids", "nodeids"))
    mode = _modes(attributes.get("nodes_modes", ()))
    _same_length(tree, ids, mode)
    keys = _keys(tree, ids, tree)
    order = np.argsort(keys, kind="stable")
    if not len(keys) or (np.diff(keys[order]) == 0).any():
        raise Unsupported("a node of a tree is listed twice, or there are no nodes", "export the trees again")
    split = np.flatnonzero(mode != _LEAF)
    number = np.empty(len(mode), np.int64)
    number[split] = np.arange(len(split))
    leaves = np.flatnonzero(mode == _LEAF)
    number[leaves] = len(split) + np.arange(len(leaves))

    def place(trees: np.ndarray, nodes: np.ndarray) -> np.ndarray:
        wanted = _keys(trees, nodes, tree)
        at = np.minimum(np.searchsorted(keys[order], wanted), len(keys) - 1)
        if (keys[order][at] != wanted).any():
            raise Unsupported("a branch or a weight refers to a node that does not exist", "export the trees again")
        return number[order[at]]

    true, false = (place(tree[split], _ints(attributes, f"nodes_{b}nodeids", len(tree))[split]) for b in _BRANCHES)
    leaf = place(_ints(attributes, f"{votes}_treeids"), _ints(attributes, f"{votes}_nodeids"))
    if (leaf < len(split)).any():
        raise Unsupported("a node that is not a leaf has weights")
    first = np.ones(len(tree), dtype=bool)
    first[1:] = np.diff(tree) != 0
    if first.sum() != len(distinct(tree)):
        raise Unsupported("the nodes of a tree are not consecutive", "sort them by tree")
    found = Forest(
        _ints(attributes, "nodes_featureids", len(tree))[split], mode[split],
        _flags(attributes, len(tree))[split], split, true, false,
        len(leaves), leaf - len(split), _ints(attributes, f"{votes}_ids", len(leaf)),
    )  # fmt: skip
    return _checked(found, number[first])


def forest(attributes: Mapping[str, Any]) -> Forest:
    """Trees whose splits and leaves are in separate lists (TreeEnsemble since 5)."""
    feature = _ints(attributes, "nodes_featureids")
    n, leaves = len(feature), len(_ints(attributes, "leaf_targetids"))
    mode = np.asarray(attributes.get("nodes_modes", ())).astype(np.int64).reshape(-1)
    _same_length(feature, mode)
    if ((mode < 0) | (mode > MEMBER)).any():
        raise Unsupported("a node has an unknown mode")
    true, false = (_ends(attributes, branch, n, leaves) for branch in _BRANCHES)
    found = Forest(
        feature, mode, _flags(attributes, n), np.arange(n), true, false,
        leaves, np.arange(leaves), _ints(attributes, "leaf_targetids"),
    )  # fmt: skip
    return _checked(found, _ints(attributes, "tree_roots"))


def _ends(attributes: Mapping[str, Any], branch: str, splits: int, leaves: int) -> np.ndarray:
    there = _ints(attributes, f"nodes_{branch}nodeids", splits)
    is_leaf = _ints(attributes, f"nodes_{branch}leafs", splits) != 0
    if ((there < 0) | (there >= np.where(is_leaf, leaves, splits))).any():
        raise Unsupported("a branch leads to a node that does not exist", "export the trees again")
    return there + np.where(is_leaf, splits, 0)


def _checked(found: Forest, roots: np.ndarray) -> Forest:
    """The forest, if every node is below one root, roots have no parents, and there are no cycles."""
    total = found.splits + found.leaves
    ends = np.stack([found.true, found.false])
    waiting = np.bincount(ends.reshape(-1), minlength=total)
    if ((roots < 0) | (roots >= total)).any() or not np.array_equal(np.flatnonzero(waiting == 0), np.sort(roots)):
        raise Unsupported("a tree does not start at its first node, or a node is in no tree", "export the trees again")
    front, seen = roots, 0
    for _ in range(_DEEPEST):
        seen += len(front)
        below = ends[:, front[front < found.splits]].reshape(-1)
        if not len(below):
            break
        np.subtract.at(waiting, below, 1)
        front = distinct(below[waiting[below] == 0])
    if seen != total:
        raise Unsupported(f"a tree has a cycle, or more than {_DEEPEST} levels")
    return found


def _ints(attributes: Mapping[str, Any], name: str, length: int | None = None) -> np.ndarray:
    values = np.asarray(attributes.get(name, ()), dtype=np.int64)
    if length is not None and len(values) != length:
        raise Unsupported(f"{name} has {len(values)} entries instead of {length}", "export the trees again")
    return values


def _flags(attributes: Mapping[str, Any], length: int) -> np.ndarray:
    values = _ints(attributes, "nodes_missing_value_tracks_true")
    return (values != 0).astype(np.int64) if len(values) == length else np.zeros(length, np.int64)


def _modes(names: tuple[str, ...]) -> np.ndarray:
    try:
        return np.fromiter(map(_CODES.__getitem__, names), np.int64, len(names))
    except KeyError as name:
        raise Unsupported(f"a node has the unknown mode {name}") from None


def _keys(trees: np.ndarray, nodes: np.ndarray, known: np.ndarray) -> np.ndarray:
    """One number per pair of a tree and a node in it."""
    _same_length(trees, nodes)
    number = np.searchsorted(distinct(known), trees)
    if ((nodes < 0) | (nodes >= _LARGEST)).any() or not np.isin(trees, known).all():
        raise Unsupported("a tree or node has an invalid number", "export the trees again")
    return number * _LARGEST + nodes


def _same_length(*arrays: np.ndarray) -> None:
    if len({len(a) for a in arrays}) > 1:
        raise Unsupported("attributes that describe the same nodes differ in length", "export the trees again")
