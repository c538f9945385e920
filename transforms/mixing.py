"""Matrices that bring a network closest to another one: orthogonal Procrustes in each space that can be mixed.

In a space that any invertible matrix may mix, both networks are put into balanced form first, where the parameters in
front of it and behind it have one covariance; balanced networks of one function differ by an orthogonal matrix.
"""

from __future__ import annotations

import numpy as np

from ..ir import ParameterGraph
from ..ir.vocabulary import Matrices
from ..symmetry import Mixing, Space, symmetries
from ..symmetry.spaces import gram, mean_axis
from .similarity import Values

__all__ = ["absorbed", "best_mixing", "normal_form"]

_LEAST = 1e-10
"""Eigenvalues are at least so large, relative to the largest."""


def absorbed(graph: ParameterGraph, values: Values, kind: str) -> Mixing | None:
    """The symmetry that mixes nothing, but takes the scales of normalisations into the weights.

    Args:
        graph: The graph.
        values: Parameters by name.
        kind: "orthogonal" or "linear".

    Returns:
        The symmetry; None if there are no spaces of this kind.
    """
    [group] = symmetries(graph, (kind,)).mixings
    every = tuple(np.eye(space.size) for space in group.spaces)
    return Mixing(group, tuple(range(len(every))), every) if every else None


def best_mixing(
    graph: ParameterGraph, a: Values, b: Values, kind: str, known: np.ndarray | None = None, balanced: bool = True
) -> Mixing | None:
    """The matrices of a kind that bring a network's parameters closest to another network's.

    Args:
        graph: The graph of both networks.
        a: Parameters of the reference, by name.
        b: Parameters of the network that is mixed.
        kind: "orthogonal" or "linear".
        known: bool [num_nodes], the nodes whose order is the same in both networks; all by default.
        balanced: Whether spaces that any matrix may mix are balanced in both networks; else they are turned only.

    Returns:
        The symmetry; None if there are no spaces of this kind.
    """
    [group] = symmetries(graph, (kind,)).mixings
    matrices = tuple(_best(graph, space, a, b, known, balanced) for space in group.spaces)
    return Mixing(group, tuple(range(len(matrices))), matrices) if matrices else None


def normal_form(graph: ParameterGraph, values: Values) -> Mixing | None:
    """The linear symmetry after which every space that any matrix may mix has a normal form.

    It is balanced, its neurons are the principal directions of what is in front of them, the largest first, and the sum
    of the parameters in front of each is positive. Networks that differ by linear symmetries have one normal form.

    Args:
        graph: The graph.
        values: Parameters by name.

    Returns:
        The symmetry; None if there are no such spaces.
    """
    [group] = symmetries(graph, ("linear",)).mixings
    every = {n: np.ones_like(v) for n, v in values.items()}
    matrices = []
    for space in group.spaces:
        balanced = _balancing(graph, space, values)
        front = gram(graph, space, values, values, False)
        _, vectors = np.linalg.eigh(balanced @ front @ balanced.T)
        matrix = vectors.T[::-1] @ balanced
        sums = matrix @ gram(graph, space, values, every, False)[:, 0]
        matrices.append(np.where(sums < 0, -1, 1)[:, None] * matrix)
    return Mixing(group, tuple(range(len(matrices))), tuple(matrices)) if matrices else None


def _best(
    graph: ParameterGraph, space: Space, a: Values, b: Values, known: np.ndarray | None, balanced: bool
) -> np.ndarray:
    front, behind = (gram(graph, space, a, b, dual, known) for dual in (False, True))
    if space.matrices is not Matrices.ALL or not balanced:
        return _procrustes(front + behind, space.matrices)
    own, other = (_balancing(graph, space, values) for values in (a, b))
    turned = own @ front @ other.T + np.linalg.inv(own).T @ behind @ np.linalg.inv(other)
    return np.asarray(np.linalg.solve(own, _procrustes(turned, Matrices.ORTHOGONAL) @ other))


def _procrustes(products: np.ndarray, matrices: Matrices) -> np.ndarray:
    """The orthogonal matrix with the largest inner product with a matrix [d, d] (Schoenemann 1966)."""
    if matrices is Matrices.CENTRED:
        axis = mean_axis(len(products))
        inner = np.eye(len(products))
        inner[1:, 1:] = _procrustes((axis @ products @ axis)[1:, 1:], Matrices.ORTHOGONAL)
        return np.asarray(axis @ inner @ axis)
    left, _, right = np.linalg.svd(products)
    return np.asarray(left @ right)


def _balancing(graph: ParameterGraph, space: Space, values: Values) -> np.ndarray:
    """The symmetric matrix M after which both sides of a space have one covariance: M P M = M^-1 Q M^-1."""
    front, behind = (gram(graph, space, values, values, dual) for dual in (False, True))
    root, inverse = _power(front, 0.5), _power(front, -0.5)
    return _power(inverse @ _power(root @ behind @ root, 0.5) @ inverse, 0.5)


def _power(matrix: np.ndarray, power: float) -> np.ndarray:
    """A power of a symmetric matrix without negative eigenvalues; the smallest ones are raised a little."""
    values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
    values = np.maximum(values, _LEAST * max(float(values[-1]), 1e-30))
    return np.asarray((vectors * values**power) @ vectors.T)
