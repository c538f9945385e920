"""Label tensors: which node, through which operations, each entry of a value comes from.

A *label* is one int64: the node id in the high bits and the via (the trace of operations since the node) in the low
bits; -1 means no node. A label tensor has the rank of its value and size 1 along every axis on which labels are
constant.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ...ir.arrays import distinct

__all__ = [
    "NONE",
    "compress",
    "constant_along",
    "distinct_vias",
    "map_via",
    "nodes_of",
    "periodic",
    "to_labels",
    "unlabelled",
    "unrepeated",
    "varying",
    "vias_of",
]

_SHIFT = 24
_MASK = (1 << _SHIFT) - 1
NONE = -1


def to_labels(node: np.ndarray | int, via: np.ndarray | int = 0) -> np.ndarray:
    """Pack nodes and vias, broadcast against each other, into labels (int64)."""
    return np.asarray(node, dtype=np.int64) << _SHIFT | np.asarray(via, dtype=np.int64)


def nodes_of(labels: np.ndarray) -> np.ndarray:
    """Node ids of labels, int64, same shape; -1 for no node."""
    return labels >> _SHIFT


def vias_of(labels: np.ndarray) -> np.ndarray:
    """Via ids of labels, int64, same shape; meaningless where there is no node."""
    return labels & _MASK


def unlabelled(rank: int) -> np.ndarray:
    """The label tensor of a value of this rank without nodes."""
    return np.full((1,) * rank, NONE, dtype=np.int64)


def constant_along(array: np.ndarray, axis: int) -> bool:
    """Whether an array is constant along an axis."""
    first = array[(slice(None),) * axis + (slice(0, 1),)]
    return array.shape[axis] == 1 or array.strides[axis] == 0 or bool((array == first).all())


def compress(labels: np.ndarray) -> np.ndarray:
    """Reduce every axis on which labels are constant to size 1."""
    # Drop zero-stride axes first, so that comparisons only read what is in memory.
    labels = labels[tuple(slice(0, 1) if stride == 0 else slice(None) for stride in labels.strides)]
    for axis, size in enumerate(labels.shape):
        if size > 1 and constant_along(labels, axis):
            labels = labels[(slice(None),) * axis + (slice(0, 1),)]
    return labels


def varying(labels: np.ndarray) -> tuple[int, ...]:
    """The axes on which a compressed label tensor varies."""
    return tuple(axis for axis, size in enumerate(labels.shape) if size > 1)


def distinct_vias(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct vias of labels, int64 [d], and the index of each label's via, of the labels' shape."""
    vias = vias_of(labels)
    first = vias.reshape(-1)[:1]
    if (vias == first).all():
        return first, np.zeros(labels.shape, np.int64)
    distinct, inverse = np.unique(vias, return_inverse=True)
    return distinct, inverse.reshape(labels.shape)


def map_via(labels: np.ndarray, step: Callable[[int], int]) -> np.ndarray:
    """Replace the via of every label by `step(via)`, which is called once per distinct via."""
    vias = vias_of(labels)
    if vias.size and (vias == vias.flat[0]).all():
        via = int(vias.flat[0])
        more = step(via) - via
        return np.where(labels < 0, labels, labels + more) if more else labels
    vias, which = distinct_vias(labels)
    change = np.array([step(int(v)) - int(v) for v in vias], dtype=np.int64)
    return np.where(labels < 0, labels, labels + change[which]) if change.any() else labels


def unrepeated(numbers: np.ndarray) -> bool:
    """Whether all entries are distinct."""
    flat = numbers.reshape(-1)
    return bool((flat[1:] > flat[:-1]).all()) or len(distinct(flat)) == len(flat)


def periodic(labels: np.ndarray) -> tuple[int, int, int]:
    """Factor the last axis of labels [rows, n] into tile x distinct x run.

    Returns:
        (t, c, r) with t * c * r = n such that every row is `tile(repeat(c labels, r), t)`; (1, n, 1) if there is no
        such pattern.
    """
    n = labels.shape[-1]
    head = labels[0]
    changes = np.flatnonzero(head[1:] != head[:-1])
    run = int(changes[0]) + 1 if changes.size else n
    if n % run or not (labels.reshape(-1, n // run, run) == labels[:, ::run, None]).all():
        run = 1
    short = labels[:, ::run]
    again = np.flatnonzero(short[0] == short[0, 0])
    period = int(again[1]) if again.size > 1 else short.shape[1]
    if short.shape[1] % period or not (short.reshape(len(short), -1, period) == short[:, None, :period]).all():
        period = short.shape[1]
    return short.shape[1] // period, period, run
