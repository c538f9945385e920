"""Places: whether moved labels still tell which entries of a value a neuron stands for.

A neuron is repeated along free axes. Where a reshape merges a free axis with a labelled one, its places become entries
with equal labels. That says enough while all labels of the merged axis repeat alike (`tile x distinct x run`).
"""

from __future__ import annotations

import numpy as np

from .labels import occurrence, periodic, varying
from .state import State
from .values import Value

__all__ = ["diverge", "numbered", "regular", "settle"]


def numbered(state: State, x: Value, factor: np.ndarray) -> np.ndarray:
    """Number of the place that each entry of `x` is for its neuron, int64, broadcastable to the shape of `x`."""
    free = tuple(n if factor.shape[a] == 1 and a not in x.same else 1 for a, n in enumerate(x.shape))
    numbers = np.arange(np.prod(free, dtype=np.int64)).reshape(free)
    if state.is_merged(factor):
        numbers = numbers + numbers.size * occurrence(factor)
    return numbers


def settle(state: State, labels: np.ndarray, places: np.ndarray) -> None:
    """Look at the labels of a moved value and its places (of the value's shape); pin what has lost its places."""
    if not labels.size:
        return
    axes = list(varying(labels))
    rest = [a for a in range(labels.ndim) if a not in axes]
    rows = places.transpose(axes + rest).reshape(*(labels.shape[a] for a in axes), -1)
    flat = rows.reshape(-1, rows.shape[-1])
    if (flat == flat[0]).all():
        return
    state.merge(labels)
    splits = [periodic(np.moveaxis(labels, a, -1).reshape(-1, labels.shape[a])) for a in axes]
    split = rows.reshape(*(n for three in splits for n in three), -1)
    distinct = tuple(slice(0, 1) if a % 3 == 1 and a < 3 * len(axes) else slice(None) for a in range(split.ndim))
    if not (split == split[distinct]).all():
        state.pin(labels)


def diverge(state: State, labels: np.ndarray) -> None:
    """Entries with equal labels, which may have been copies, become different; pin those that do not repeat alike."""
    if len(np.unique(labels)) == labels.size:
        return
    state.merge(labels)
    if not regular(labels):
        state.pin(labels)


def regular(classes: np.ndarray) -> bool:
    """Whether numbers repeat alike along every axis, so that equal ones are places of one thing."""
    count = 1
    for axis in varying(classes):
        count *= periodic(np.moveaxis(classes, axis, -1).reshape(-1, classes.shape[axis]))[1]
    return len(np.unique(classes)) == count
