"""How much a node matters: a score per node, of which that of a position is the sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from ...frontend import LabelledModel
from ...frontend.rewriting.normalise import normalise
from ...ir import ParameterGraph
from ...testing.processes import InProcess
from .finish import finish
from .positions import PositionGroup
from .saving import serialised

__all__ = ["CRITERIA", "activation_scores", "position_scores", "weight_scores"]

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


def activation_scores(labelled: LabelledModel, feeds: Sequence[Mapping[str, np.ndarray]]) -> np.ndarray:
    """For every node the mean absolute value of its entries in the last value of the network that holds it.

    Args:
        labelled: The model.
        feeds: Arrays by input name.

    Returns:
        float64 [num_nodes]; 0 for nodes of no value that ONNX Runtime computes in floats.
    """
    model = normalise(labelled.graph.model)
    finish(model)
    wanted = [v for n in model.graph for v in n.outputs if labelled.nodes.get(v.name or "") and not v.is_graph_output()]
    wanted = [v for v in wanted if v in _floats(labelled, wanted)]
    model.graph.outputs.extend(wanted)
    total = np.zeros(labelled.graph.num_nodes)
    outputs = InProcess().run(serialised(model), feeds)
    for value in (*wanted, *labelled.model.graph.outputs):
        factors = labelled.nodes.get(value.name or "", ())
        arrays = [np.abs(np.asarray(out[value.name], np.float64)) for out in outputs if value.name in out]
        if len(factors) != 1 or not arrays or arrays[0].ndim != factors[0].ndim:
            continue
        mean = np.mean([_mean_over(a, factors[0]) for a in arrays], axis=0)
        nodes = factors[0].reshape(-1)
        some = nodes >= 0
        total[nodes[some]] = 0
        np.maximum.at(total, nodes[some], mean.reshape(-1)[some])
    return total


def _floats(labelled: LabelledModel, values: Sequence[onnx_ir.Value]) -> set[onnx_ir.Value]:
    """The values that are arrays of floats."""
    dtypes = {v.name: k.dtype for v, k in labelled.known.items()}
    return {v for v in values if dtypes.get(v.name, "").startswith("float")}


def _mean_over(array: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """The mean along the axes on which labels are constant."""
    return array.mean(axis=tuple(a for a, n in enumerate(labels.shape) if n == 1), keepdims=True)


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
