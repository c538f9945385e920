"""Reduce, couple and order: ops that look along an axis of neurons without a weight."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .joins import Factors, gathered, independent
from .labels import map_via, nodes_of, port, varying, vias_of
from .places import diverge
from .state import State

__all__ = ["couple", "order", "reduce"]


def reduce(
    state: State, factors: Factors, axes: Sequence[int], op: str, attributes: dict[str, object], shape: tuple[int, ...]
) -> Factors:
    """Labels after a symmetric reduction over `axes` (kept with size 1) of a value of this shape.

    A factor that varies along one of them gives one new node per distinct multiset of labels, linked from each;
    otherwise labels pass.
    """
    out = []
    for factor in factors:
        inside = [a for a in axes if factor.shape[a] > 1]
        labels = gathered(state, factor, inside, "reduce", "reduce", once=True) if inside else factor
        out.append(labels)
    items = _over(factors, axes, attributes, shape).items()
    stepped = [map_via(f, lambda v: state.builder.via(op, items, (v,))) for f in out]
    return independent(state, stepped)


def couple(
    state: State, factors: Factors, axes: Sequence[int], op: str, attributes: dict[str, object], shape: tuple[int, ...]
) -> Factors:
    """Labels after an op that couples all entries along `axes` (softmax, normalisation) and keeps the shape.

    Over all labels of a node group that holds together nothing is needed; over others one `reduce` node per part is
    linked from its members, so that only whole parts can trade places.
    """
    out = []
    over = _over(factors, axes, attributes, shape)
    for factor in factors:
        inside = [a for a in axes if factor.shape[a] > 1]
        parts = {}
        if inside and not _whole(state, factor, inside):
            parts["parts"] = len(np.unique(gathered(state, factor, inside, "reduce", "scope", once=True)))
            diverge(state, factor)
        items = {**over, **parts}.items()
        out.append(map_via(factor, lambda v, items=items: state.builder.via(op, items, (v,))))  # type: ignore[misc]
    return tuple(out)


def order(
    state: State, factors: Factors, axes: Sequence[int], op: str, attributes: dict[str, object], shape: tuple[int, ...]
) -> Factors:
    """Labels after an op whose result depends on the order along `axes` (sort, cumulative sum, resize, windows).

    Labelled axes among them are pinned; where their length changes, new pinned nodes hang on one node linked from all.
    """
    out = []
    for factor in factors:
        inside = [a for a in axes if factor.shape[a] > 1]
        if inside:
            state.pin(factor)
        if any(factor.shape[a] != shape[a] for a in inside):
            factor = _resized(state, factor, [shape[a] if n > 1 else 1 for a, n in enumerate(factor.shape)])
        out.append(map_via(factor, lambda v: state.builder.via(op, attributes.items(), (v,))))
    return tuple(out)


def _over(
    factors: Factors, axes: Sequence[int], attributes: dict[str, object], shape: tuple[int, ...]
) -> dict[str, object]:
    """Attributes of the step, with the axes named by what they are where neurons are among them: layouts differ."""
    neurons = 1
    for factor in factors:
        part = factor[tuple(slice(None) if a in axes else slice(1) for a in range(factor.ndim))]
        neurons *= len(np.unique(part))
    if neurons == 1:
        return attributes
    whole = neurons == math.prod(shape[a] for a in axes)
    over = "neurons" if whole else "neurons and places"
    return {**{n: v for n, v in attributes.items() if n != "axes"}, "over": over}


def _resized(state: State, labels: np.ndarray, shape: list[int]) -> np.ndarray:
    depth = state.depth(labels)
    middle = state.nodes("reduce", 1, depth, pinned=True)
    ports = np.unique(labels)
    state.links(np.repeat(middle, len(ports)), ports, "reduce", operand=np.arange(len(ports)))
    new = state.ports("split", int(np.prod(shape)), depth, pinned=True)
    state.links(nodes_of(new), np.repeat(port(middle), len(new)), "split", operand=np.arange(len(new)))
    return new.reshape(shape)


def _whole(state: State, labels: np.ndarray, axes: list[int]) -> bool:
    """Whether the labels along `axes` are one part: every node of a group that holds together, equally often."""
    if set(varying(labels)) - set(axes) or len(np.unique(vias_of(labels))) > 1:
        return False
    nodes, counts = np.unique(nodes_of(labels), return_counts=True)
    if (counts != counts[0]).any():
        return False
    groups = np.unique(state.builder.group_of(nodes))
    whole = len(groups) == 1 and len(nodes) == state.builder.groups[int(groups[0])].size
    return whole and state.cohesion.holds(int(groups[0]))
