"""Sparse layers: nodes with individual parameter edges and links, such as those of decision trees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from .contraction import Spec, shared_source
from .elements import Elements
from .grid import free_axes, spread
from .joins import Factors, independent
from .labels import compress, map_via, nodes_of, vias_of
from .recurrence import INPUT
from .state import State, align

__all__ = ["SparseEdges", "SparseLayer", "SparseLinks", "sparse"]

SPEC = Spec("nf", "of", "no")


@dataclass(frozen=True, slots=True)
class SparseEdges:
    """Parameter edges from entries of `source` to entries of the layer.

    Attributes:
        source: `INPUT` (the features) or the name of an earlier layer.
        src: Source entry of each edge, int64 [n].
        dst: Destination entry of each edge, int64 [n].
        elements: Elements [n].
        role: The role of the edges.
        steps: Via steps (name, attributes) that a source may go through first.
        kinds: The index into `steps` for each edge, int64 [n]; None for no steps.
    """

    source: str
    src: np.ndarray
    dst: np.ndarray
    elements: Elements
    role: str
    steps: Sequence[tuple[str, dict[str, Any]]] = ()
    kinds: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class SparseLinks:
    """Links from entry src[i] of the layer `source`, which may be this layer, to entry dst[i]; both int64 [n]."""

    source: str
    src: np.ndarray
    dst: np.ndarray
    role: str


@dataclass(frozen=True, slots=True)
class SparseLayer:
    """`size` new nodes of one kind, with their incoming edges and links."""

    name: str
    kind: str
    size: int
    edges: tuple[SparseEdges, ...] = ()
    links: tuple[SparseLinks, ...] = ()


def sparse(state: State, factors: Factors, shape: tuple[int, ...], layers: Sequence[SparseLayer]) -> Factors:
    """Lower sparse layers.

    Features that vary by row are joined first; a node that stands for several features is distinguished by its via.

    Args:
        state: The state of the lowering.
        factors: Labels of the input, [rows, features].
        shape: Its shape.
        layers: The layers.

    Returns:
        The labels [rows, size] of the last layer.
    """
    source, kept = shared_source(state, factors, shape, (1, shape[1]), SPEC)
    grid = free_axes([source, *kept], shape)
    labels = spread(state.moves, source, shape, grid, shape, [1], [a for a in grid if a != 1])
    layer_labels = {INPUT: np.broadcast_to(labels.reshape(-1), (shape[1],))}
    for layer in layers:
        _build(state, layer_labels, layer)
    beside = [compress(align(f, SPEC.x, SPEC.out)) for f in kept]
    return independent(state, [compress(layer_labels[layers[-1].name][None]), *beside])


def _build(state: State, layer_labels: dict[str, np.ndarray], layer: SparseLayer) -> None:
    sources = [np.zeros(0, np.int64), *(layer_labels[link.source] for link in layer.links if link.source != layer.name)]
    weighted = [np.zeros(0, np.int64), *(layer_labels[p.source] for p in layer.edges)]
    depth = max(state.depth(np.concatenate(sources)), bool(layer.edges) + state.depth(np.concatenate(weighted)))
    layer_labels[layer.name] = state.labelled_nodes(layer.kind, layer.size, depth)
    for part in layer.edges:
        if len(part.src):
            _weigh(state, layer_labels[part.source][part.src], layer_labels[layer.name][part.dst], part)
    for link in layer.links:
        if len(link.src):
            state.links(nodes_of(layer_labels[layer.name][link.dst]), layer_labels[link.source][link.src], link.role)


def _weigh(state: State, src: np.ndarray, dst: np.ndarray, part: SparseEdges) -> None:
    if part.kinds is not None:
        src = src.copy()
        for kind, (name, attributes) in enumerate(part.steps):
            here = part.kinds == kind
            if here.any():
                src[here] = _stepped(state, src[here], name, attributes)
    ends = nodes_of(dst)[:, None], nodes_of(src)[:, None], vias_of(src)[:, None]
    state.edges(*ends, part.elements.reshape(-1, 1, 1, 1), part.role)


def _stepped(state: State, labels: np.ndarray, name: str, attributes: Mapping[str, Any]) -> np.ndarray:
    return map_via(labels, lambda v: state.builder.via(name, attributes.items(), (v,)))
