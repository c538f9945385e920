"""How much a node matters: a score per node, of which that of a position is the sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...ir import ParameterGraph
from .positions import PositionGroup

__all__ = ["CRITERIA", "position_scores", "weight_scores"]

CRITERIA = ("l2", "l1", "activations", "random")

_OTHERS = (".scale", ".zero_point", ".mean", ".var")
"""Ends of roles of parameters whose size says nothing about a node, except that of the scale of a normalisation."""


def weight_scores(graph: ParameterGraph, power: int) -> np.ndarray:
    """For every node the sum of |w|^power over the parameters on its edges.

    Args:
        graph: The graph.
        power: 1 or 2.

    Returns:
        float64 [num_nodes].
    """
    scores = np.zeros(graph.num_nodes)
    for block in graph.edges:
        if block.constant or (block.role.endswith(_OTHERS) and block.role != "norm.scale"):
            continue
        values = graph.values(block)
        if values.dtype.kind not in "fiu" and values.dtype.name not in ("bfloat16",):
            continue
        sizes = np.abs(values.astype(np.float64)) ** power
        np.add.at(scores, block.dst, sizes.sum(axis=(2, 3)))
        np.add.at(scores, block.src, sizes.sum(axis=(1, 3)))
    return scores


def position_scores(
    groups: Sequence[PositionGroup], scores: np.ndarray | None, given: Mapping[str, np.ndarray], seed: int
) -> list[np.ndarray]:
    """The score of every position of every group.

    Args:
        groups: The groups.
        scores: float64 [num_nodes]; None to draw scores at random.
        given: Scores of positions by family name, which take precedence where their number is that of the positions.
        seed: Seed of random scores.

    Returns:
        float64 [degree] for each group.
    """
    rng = np.random.default_rng(seed)
    found = []
    for group in groups:
        own = given.get(group.name)
        if own is not None and np.shape(own) == (group.degree,):
            found.append(np.asarray(own, np.float64))
        elif scores is None:
            found.append(rng.random(group.degree))
        else:
            found.append(np.array([scores[p].sum() for p in group.positions]))
    return found
