"""Distances between the parameters of two networks, in all and by tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir import ParameterGraph
from .similarity import Values

__all__ = ["LayerDistance", "distance", "layer_distances"]


@dataclass(frozen=True, slots=True)
class LayerDistance:
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
    """The distance of every parameter tensor, before and after an alignment, the farthest first.

    Args:
        graph: The graph of the reference.
        a: Its parameters.
        b: Those of the other network, before.
        aligned: The same, after.

    Returns:
        One entry per tensor.
    """
    sizes = {n: _square(a[n], None) for n in a}
    found = [
        LayerDistance(n, _ratio(_square(a[n], b[n]), sizes[n]), _ratio(_square(a[n], aligned[n]), sizes[n]))
        for n in graph.parameters if n in a
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda layer: -layer.after))


def _square(x: np.ndarray, y: np.ndarray | None) -> float:
    difference = np.asarray(x, np.float64) if y is None else np.asarray(x, np.float64) - y
    return float(np.vdot(difference, difference))


def _ratio(some: float, whole: float) -> float:
    return float(np.sqrt(some / whole)) if whole else float(some > 0)
