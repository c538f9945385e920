"""Concatenation along a labelled axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..budget import MAX_LABELS, check_limit
from .grid import free_axes, spread
from .joins import Operand
from .labels import varying
from .state import State

__all__ = ["resized", "stack"]


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


def resized(shape: tuple[int, ...], axis: int, size: int) -> tuple[int, ...]:
    """The shape with a different size of one axis."""
    return (*shape[:axis], size, *shape[axis + 1 :])
