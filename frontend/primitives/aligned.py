"""Joins of operands of different shapes, as of gathers and scatters: some of their axes are aligned, others are not."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import numpy as np

from .grid import free_axes, spread
from .joins import Operand, join, shared_neuron
from .labels import map_via, varying
from .state import State
from .values import Value

__all__ = ["axis_names", "join_aligned", "own_axes", "placed"]


def own_axes(rows: Mapping[int, Sequence[int | None]], keep: Mapping[int, int], operands: int) -> list[dict[int, int]]:
    """The axes along which operands keep their labels.

    Args:
        rows: By axis of the result: the axis of each operand that is aligned with it, None if there is none.
        keep: Further axes of the first operand, by axis of the result.
        operands: The number of operands.

    Returns:
        Per operand, its axis by axis of the result. An operand that alone has an axis of `rows` has positions there:
        only the first operand keeps its labels along such an axis.
    """
    shared = {a: axes for a, axes in rows.items() if sum(b is not None for b in axes) > 1}
    own = [{a: b for a, axes in shared.items() if (b := axes[i]) is not None} for i in range(operands)]
    own[0] |= keep
    return own


def axis_names(own: Sequence[Mapping[int, int]], values: Sequence[Value]) -> list[list[Hashable]]:
    """Names of the axes of values: the axis of the result that they are aligned with, and unique ones for the others.

    Args:
        own: By value: its axis by axis of the result.
        values: The values.

    Returns:
        The names of the axes of each value.
    """
    at = [{b: a for a, b in axes.items()} for axes in own]
    return [[at[i].get(b, (i, b)) for b in range(value.rank)] for i, value in enumerate(values)]


def join_aligned(
    state: State, operands: Sequence[Operand], own: Sequence[Mapping[int, int]], op: str, rank: int
) -> np.ndarray:
    """Join operands: one node per distinct tuple of labels along aligned axes.

    Along all its other axes, an operand takes part as a whole: its labels are joined, in order. Where an aligned axis
    has labels in one operand and positions in another, each label meets its own position.

    Args:
        state: The state of the lowering.
        operands: The operands, of one factor each.
        own: By operand: its axis by axis of the result, where they are aligned.
        op: The name of the step and the role of the links.
        rank: The rank of the result.

    Returns:
        The labels of the result.
    """
    labelled = {
        a for operand, axes in zip(operands, own, strict=True) for a, b in axes.items()
        if b in varying(operand.factors[0])
    }  # fmt: skip
    parts, grids = [], []
    for operand, axes in zip(operands, own, strict=True):
        [labels], shape = operand.factors, operand.shape
        keep = sorted(b for a, b in axes.items() if a in labelled and shape[b] > 1)
        free = free_axes([labels], shape)
        grid = [a for a in free if a not in keep]
        labels = spread(state.moves, labels, shape, free, shape, keep, grid)
        away = tuple(a for a in varying(labels) if a not in axes.values())
        if away:
            labels = shared_neuron(state, labels, away, beside=grid)
        parts.append(placed(labels, axes, rank))
        grids.append(tuple(a - len(shape) for a in grid))
    joined = join(state, parts, op, range(len(parts)))
    return map_via(joined, lambda v: state.builder.via(op, (("grids", tuple(grids)),), (v,)))


def placed(labels: np.ndarray, axes: Mapping[int, int], rank: int) -> np.ndarray:
    """Labels with their axes moved to where they are in the result.

    Args:
        labels: The labels of an operand, of size 1 along all axes that are not aligned.
        axes: Its axis by axis of the result.
        rank: The rank of the result.

    Returns:
        The labels, of the rank of the result.
    """
    order = [axes[a] for a in sorted(axes)]
    moved = labels.transpose([*order, *(a for a in range(labels.ndim) if a not in order)])
    sizes = iter(moved.shape)
    return moved.reshape([next(sizes) if a in axes else 1 for a in range(rank)])
