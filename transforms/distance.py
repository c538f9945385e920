"""Distances between the parameters of two networks: in all, by layer and by tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir import ParameterGraph
from .layers import layers
from .similarity import Values

__all__ = ["LayerDistance", "TensorDistance", "distance", "layer_distances"]


@dataclass(frozen=True, slots=True)
class TensorDistance:
    """How far a parameter tensor is from that of another network.

    Attributes:
        name: The tensor.
        before: The norm of the difference, relative to the norm of the reference's tensor.
        after: The same after an alignment.
    """

    name: str
    before: float
    after: float

    def to_json(self) -> dict[str, object]:
        """The distances as JSON data."""
        return {"name": self.name, "before": self.before, "after": self.after}


@dataclass(frozen=True, slots=True)
class LayerDistance:
    """How far the parameters of a layer are from those of another network.

    Attributes:
        name: The layer, see `gmnc.transforms.layers`.
        before: The norm of the difference of all its parameters, relative to the norm of the reference's.
        after: The same after an alignment.
        tensors: The distances of its tensors, the farthest first.
    """

    name: str
    before: float
    after: float
    tensors: tuple[TensorDistance, ...]

    def to_json(self) -> dict[str, object]:
        """The distances as JSON data."""
        return {
            "name": self.name, "before": self.before, "after": self.after,
            "tensors": [tensor.to_json() for tensor in self.tensors],
        }  # fmt: skip


def distance(a: Values, b: Values) -> float:
    """The norm of the difference of all parameters, relative to that of the first network's.

    Args:
        a: Parameters by name.
        b: Parameters of the same names and shapes.

    Returns:
        The distance; 0 for networks without parameters.
    """
    return _ratio(sum(_square(a[n], b[n]) for n in a), sum(_square(a[n], None) for n in a))


def layer_distances(graph: ParameterGraph, a: Values, b: Values, aligned: Values) -> tuple[LayerDistance, ...]:
    """The distance of every layer, before and after an alignment, the farthest first.

    Args:
        graph: The graph of the reference.
        a: Its parameters.
        b: Those of the other network, before.
        aligned: The same, after.

    Returns:
        One entry per layer.
    """
    found = []
    for layer in layers(graph):
        names = [n for n in layer.tensors if n in a]
        # By tensor: the size of the reference's, and of the differences before and after.
        squares = np.array([[_square(a[n], None), _square(a[n], b[n]), _square(a[n], aligned[n])] for n in names])
        tensors = [
            TensorDistance(n, _ratio(before, size), _ratio(after, size))
            for n, (size, before, after) in zip(names, squares.tolist(), strict=True)
        ]
        size, before, after = squares.sum(axis=0).tolist()
        ordered = sorted(tensors, key=lambda tensor: -tensor.after)
        found.append(LayerDistance(layer.name, _ratio(before, size), _ratio(after, size), tuple(ordered)))
    return tuple(sorted(found, key=lambda layer: -layer.after))


def _square(x: np.ndarray, y: np.ndarray | None) -> float:
    difference = np.asarray(x, np.float64) if y is None else np.asarray(x, np.float64) - y
    return float(np.vdot(difference, difference))


def _ratio(some: float, whole: float) -> float:
    return float(np.sqrt(some / whole)) if whole else float(some > 0)
