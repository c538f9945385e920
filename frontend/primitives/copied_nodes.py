"""Nodes of their own for entries that one node stands for, where weights tell these entries apart."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct
from .labels import nodes_of, to_labels
from .state import State

__all__ = ["copied", "numbers_apart"]


def copied(state: State, label: np.ndarray, shape: Sequence[int], axes: Sequence[int]) -> np.ndarray:
    """A node per copy along some axes of a value with a single label.

    Args:
        state: The state of the lowering.
        label: The label, int64, of size 1.
        shape: The shape of the value.
        axes: The axes.

    Returns:
        The labels, int64, of the size of the value along these axes and 1 along others.
    """
    wide = [n if a in axes else 1 for a, n in enumerate(shape)]
    nodes = state.nodes(NodeKind.JOIN, math.prod(wide), state.depth(label))
    state.links(nodes, np.broadcast_to(label.reshape(-1), nodes.shape), LinkRole.COPY)
    return to_labels(nodes).reshape(wide)


def numbers_apart(state: State, labels: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """A node for each entry along axes that is one number of the program, if there are several beside others.

    So the columns of a weight that meet these entries here, and others elsewhere, may trade places: those for the
    state of a cell, which is zero in the first step.

    Args:
        state: The state of the lowering.
        labels: Labels of a value, int64.
        axes: The axes that the weight meets.

    Returns:
        The labels, int64, of the same shape; `labels` itself if nothing is to be told apart.
    """
    here = nodes_of(labels) == state.program_node
    if not here.any() or here.all():
        return labels
    place = np.arange(labels.size).reshape(labels.shape)
    for axis in set(range(labels.ndim)) - {*axes}:
        place = np.broadcast_to(place.min(axis=axis, keepdims=True), labels.shape)
    pairs, which = np.unique(np.stack([labels[here], place[here]]), axis=1, return_inverse=True)
    if len(distinct(pairs[0])) == pairs.shape[1]:
        return labels
    nodes = state.nodes(NodeKind.JOIN, pairs.shape[1], 0)
    state.links(nodes, pairs[0], LinkRole.COPY)
    apart = labels.copy()
    apart[here] = to_labels(nodes)[which.reshape(-1)]
    return apart
