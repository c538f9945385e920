"""How several tensors become one: their mean, an arc between two, or a base plus what was learned on top of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import numpy as np

__all__ = ["Method", "average"]

Method = Literal["mean", "slerp", "task-arithmetic", "ties"]

_KEPT = 0.2
"""The share of changes, the largest ones, that ties keeps (Yadav et al. 2023, section 4)."""

_PARALLEL = 1e-6
"""The sine of an angle below which the arc between two tensors is a straight line."""


def average(
    method: str, tensors: Sequence[np.ndarray], weights: Sequence[float], base: np.ndarray | None
) -> np.ndarray:
    """Merge the tensors that several networks have for one parameter, in float64.

    Args:
        method: One of `Method`.
        tensors: The tensors, of one shape and dtype.
        weights: The weight of each.
        base: The tensor of the network that they were fine-tuned from; None for methods without one.

    Returns:
        The merged tensor, of their dtype; the first one if they are no floats.
    """
    if tensors[0].dtype.kind not in "fV" and tensors[0].dtype.name != "bfloat16":
        return tensors[0]
    exact = [np.asarray(t, dtype=np.float64) for t in tensors]
    if base is None:
        made = _METHODS[method](exact, weights)
    else:
        start = np.asarray(base, dtype=np.float64)
        made = start + _METHODS[method]([t - start for t in exact], weights)
    return made.astype(tensors[0].dtype)


def _weighted(tensors: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    return np.asarray(sum(w * t for w, t in zip(weights, tensors, strict=True)))


def _slerp(tensors: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Along the great circle between two directions; the norm is the weighted mean of both."""
    a, b = tensors
    sizes = [float(np.linalg.norm(t)) for t in tensors]
    cosine = float(np.vdot(a, b)) / (sizes[0] * sizes[1]) if all(sizes) else 1.0
    angle = float(np.arccos(np.clip(cosine, -1, 1)))
    if np.sin(angle) < _PARALLEL:
        return _weighted(tensors, weights)
    parts = [np.sin(w * angle) / np.sin(angle) * t / s for w, t, s in zip(weights, tensors, sizes, strict=True)]
    return np.asarray(sum(parts)) * float(np.dot(weights, sizes))


def _ties(changes: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """Trim each change to its largest entries, elect a sign per entry, and average the changes of that sign."""
    kept = np.stack([w * _trimmed(c) for w, c in zip(weights, changes, strict=True)])
    agree = np.sign(kept) == np.sign(kept.sum(axis=0))
    count = (agree & (kept != 0)).sum(axis=0)
    return np.where(count > 0, np.where(agree, kept, 0).sum(axis=0) / np.maximum(count, 1), 0)


def _trimmed(change: np.ndarray) -> np.ndarray:
    size = np.abs(change)
    least = np.quantile(size, 1 - _KEPT) if size.size else 0
    return np.where(size >= least, change, 0)


_METHODS: Mapping[str, Callable[[Sequence[np.ndarray], Sequence[float]], np.ndarray]] = {
    "mean": _weighted, "slerp": _slerp, "task-arithmetic": _weighted, "ties": _ties,
}  # fmt: skip
