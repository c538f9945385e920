"""How much a position matters: by the parameters that leave with it, or by its activations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir
from scipy.sparse import csc_array, csr_array, hstack

from ...frontend import LabelledModel
from ...frontend.rewriting.normalise import normalise
from ...ir import ParameterGraph
from ...testing.processes import InProcess
from .closure import Links, closures
from .finish import finish
from .positions import PositionGroup
from .saving import serialised

__all__ = ["CRITERIA", "activation_scores", "position_nodes", "position_scores", "weight_scores"]

CRITERIA = ("l2", "l1", "activations", "random")

_OTHERS = (".scale", ".zero_point", ".mean", ".var")
"""Ends of roles of parameters whose size says nothing about a node, except that of the scale of a normalisation."""


def weight_scores(graph: ParameterGraph, power: int, positions: csr_array, inner: np.ndarray) -> np.ndarray:
    """For every position the sum of |w|^power over the parameters on its edges.

    A parameter inside a position counts once for a head, group or expert, and not for a single channel: a kernel that
    leads from a channel to itself (a depthwise convolution) connects it to nothing, and where a normalisation follows,
    its size means nothing.

    Args:
        graph: The graph.
        power: 1 or 2.
        positions: bool [num_nodes, number of positions], the nodes of each.
        inner: bool [number of positions], which of them are single channels, neurons or features.

    Returns:
        float64 [number of positions].
    """
    scores, inside = np.zeros(graph.num_nodes), np.zeros(positions.shape[1])
    for block in graph.edges:
        if block.constant or (block.role.endswith(_OTHERS) and block.role != "norm.scale"):
            continue
        values = graph.values(block)
        if values.dtype.kind not in "fiu" and values.dtype.name not in ("bfloat16",):
            continue
        sizes = (np.abs(values.astype(np.float64)) ** power).sum(axis=3)
        np.add.at(scores, block.dst, sizes.sum(axis=2))
        np.add.at(scores, block.src, sizes.sum(axis=1))
        _add_inside(inside, sizes, block.dst, block.src, positions)
    return scores @ positions - np.where(inner, 2, 1) * inside


def _add_inside(inside: np.ndarray, sizes: np.ndarray, dst: np.ndarray, src: np.ndarray, positions: csr_array) -> None:
    """Add the sizes of the parameters that lead from a node of a position to a node of the same position."""
    parts, outs, ins = sizes.shape
    ends = [positions[nodes.reshape(-1)].tocoo() for nodes in (dst, src)]
    keys = [e.col * parts + e.row // n for e, n in zip(ends, (outs, ins), strict=True)]
    common = np.intersect1d(*keys)
    if not len(common):
        return
    rows = []
    for end, key, size in zip(ends, keys, (outs, ins), strict=True):
        order = np.argsort(key, kind="stable")
        first, last = (np.searchsorted(key[order], common, side) for side in ("left", "right"))
        rows.append([end.row[order[a:b]] % size for a, b in zip(first.tolist(), last.tolist(), strict=True)])
    for key, out, into in zip(common.tolist(), *rows, strict=True):
        inside[key // parts] += sizes[key % parts][np.ix_(out, into)].sum()


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


def position_nodes(graph: ParameterGraph, groups: Sequence[PositionGroup]) -> csr_array:
    """The nodes of all positions, group by group, with those that leave with them alone.

    A position of a residual stream has the sums of the stream, so that what reads the stream counts too.

    Args:
        graph: The graph.
        groups: The groups.

    Returns:
        bool [num_nodes, number of positions].
    """
    links = Links.of(graph)
    return csr_array(hstack([csc_array((graph.num_nodes, 0), dtype=bool),
                             *(closures(links, g.positions, g.moved) for g in groups)]))  # fmt: skip


def position_scores(
    groups: Sequence[PositionGroup], scores: np.ndarray | None, given: Mapping[str, np.ndarray], seed: int
) -> list[np.ndarray]:
    """The score of every position of every group.

    Args:
        groups: The groups.
        scores: float64 [number of positions], group by group; None to draw scores at random.
        given: Scores of positions by family name, which take precedence where their number is that of the positions.
        seed: Seed of random scores.

    Returns:
        float64 [degree] for each group.
    """
    if scores is None:
        scores = np.random.default_rng(seed).random(sum(g.degree for g in groups))
    found = []
    for group, own in zip(groups, np.split(scores, np.cumsum([g.degree for g in groups])), strict=False):
        other = given.get(group.name)
        fits = other is not None and np.shape(other) == (group.degree,)
        found.append(np.asarray(other, np.float64) if fits else own)
    return found
