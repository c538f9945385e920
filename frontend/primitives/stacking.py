"""Concatenation: entries follow each other along a labelled axis; along a free one, the operands are joined."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..budget import MAX_LABELS, check_limit
from .combine import combine
from .grid import free_axes, spread
from .joins import Factors, Operand
from .labels import map_via, varying
from .state import State

__all__ = ["joined_along", "resized", "stack"]


def stack(
    state: State, values: Sequence[Operand], axis: int, lengths: Sequence[int]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Concatenate values.

    Args:
        state: The state of the lowering.
        values: The values, of one factor each.
        axis: The axis.
        lengths: The size of each value along the axis; where the value has size 1, it is copied this often.

    Returns:
        The labels of the result, not broadcast along axes on which some value's labels vary, and its shape.
    """
    rows = [Operand(v.factors, resized(v.shape, axis, 1)) for v in values]
    factors = [row.factors[0] for row in rows]
    keep = sorted({axis, *(a for f in factors for a in varying(f))})
    others = np.broadcast_shapes(*(row.shape for row in rows))
    parts = []
    for factor, value, length in zip(factors, values, lengths, strict=True):
        axes = free_axes([factor], value.shape)
        grid = [a for a, n in enumerate(value.shape) if n > 1 and a not in keep]
        labels = spread(state.moves, factor, value.shape, axes, value.shape, keep, grid)
        shape = [n if a in keep else 1 for a, n in enumerate(resized(others, axis, length))]
        parts.append(np.broadcast_to(labels, shape))
    whole = resized(others, axis, sum(lengths))
    check_limit(math.prod(n for a, n in enumerate(whole) if a in keep), MAX_LABELS, "labels of a concatenation")
    return np.concatenate(parts, axis=axis), whole


def joined_along(state: State, values: Sequence[Operand], axis: int, shape: tuple[int, ...]) -> Factors:
    """Concatenate values along an axis along which no labels vary: the result is a join of all of them.

    Args:
        state: The state of the lowering.
        values: The values.
        axis: The axis.
        shape: The shape of the result.

    Returns:
        The labels of the result, whose via names the axis.
    """

    def step(vias: tuple[int, ...]) -> int:
        return state.builder.via("Concat", (), vias)

    operands = [Operand(v.factors, resized(v.shape, axis, 1)) for v in values]
    thin = resized(shape, axis, 1)
    factors = combine(state, operands, thin, "Concat", range(len(operands)), step, lambda _, via: via)
    along = (("axis", free_axes(factors, shape).index(axis)),)
    return tuple(map_via(f, lambda v: state.builder.via("Along", along, (v,))) for f in factors)


def resized(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    """The shape with a different size of one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])
