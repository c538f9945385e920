"""Signs and scales of one network that bring it closest to another one.

Scales have a normal form: of all networks that a rescaling makes of one, that with the smallest sum of squared
parameters, a convex problem in the logarithms. Two networks in normal form differ by permutations and signs alone.
Networks that were trained alike are closer as they are; from there, scales go down the slope of the distance. Signs
follow from products of parameters of both networks, neuron by neuron from the inputs on.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..ir.graph import ParameterGraph
from ..symmetry import Rescaling, Rescalings, symmetries
from .similarity import Values

__all__ = ["balancing", "best_scales", "best_signs"]

_PRECISE = {"maxiter": 5000, "maxfun": 10000, "ftol": 0, "gtol": 1e-9, "maxcor": 30}
_LN2 = float(np.log(2))


def balancing(graph: ParameterGraph, values: Values) -> Rescaling | None:
    """The scale symmetry after which the sum of squared parameters is smallest; None if there are no scales.

    Args:
        graph: The graph.
        values: Parameters by name.

    Returns:
        The symmetry.
    """
    from scipy.optimize import minimize

    [group] = symmetries(graph, ("scale",)).rescalings
    if not group.dimension:
        return None
    numbers = np.arange(group.dimension)
    squares = _sums(graph, values, values)

    def size(amounts: np.ndarray) -> tuple[float, np.ndarray]:
        exponents = group.exponents(group.changes(numbers, amounts))
        parts = [None if s is None else s * np.exp2(2 * e) for s, e in zip(squares, exponents, strict=True)]
        total = sum(float(p.sum()) for p in parts if p is not None)
        return float(np.log(total)), 2 * _LN2 * group.pulled_back(parts) / total

    found = minimize(size, np.zeros(group.dimension), jac=True, method="L-BFGS-B", options=_PRECISE)
    return Rescaling(group, numbers, found.x)


def best_scales(graph: ParameterGraph, a: Values, b: Values) -> Rescaling | None:
    """Scales of a network that bring its parameters closer to another network's, from what they are now.

    Args:
        graph: The graph of both networks.
        a: Parameters of the reference, by name.
        b: Parameters of the network that is scaled.

    Returns:
        The symmetry; None if there are no scales.
    """
    from scipy.optimize import minimize

    [group] = symmetries(graph, ("scale",)).rescalings
    if not group.dimension:
        return None
    numbers = np.arange(group.dimension)
    products, squares = _sums(graph, a, b), _sums(graph, b, b)
    size = _total(squares) or 1.0

    def excess(amounts: np.ndarray) -> tuple[float, np.ndarray]:
        factors = [np.exp2(e) for e in group.exponents(group.changes(numbers, amounts))]
        own = [None if s is None else s * f * f for s, f in zip(squares, factors, strict=True)]
        shared = [None if p is None else p * f for p, f in zip(products, factors, strict=True)]
        slopes = [None if s is None or p is None else s - p for s, p in zip(own, shared, strict=True)]
        return (_total(own) - 2 * _total(shared)) / size, 2 * _LN2 * group.pulled_back(slopes) / size

    found = minimize(excess, np.zeros(group.dimension), jac=True, method="L-BFGS-B", options=_PRECISE)
    return Rescaling(group, numbers, found.x)


def best_signs(graph: ParameterGraph, a: Values, b: Values) -> Rescaling | None:
    """The sign symmetry of a network that brings its parameters closest to another network's.

    Args:
        graph: The graph of both networks.
        a: Parameters of the reference, by name.
        b: Parameters of the network whose signs change.

    Returns:
        The symmetry; None if there are no signs.
    """
    [group] = symmetries(graph, ("sign",)).rescalings
    if not group.dimension:
        return None
    numbers, products = np.arange(group.dimension), _sums(graph, a, b)
    bits = np.zeros(group.dimension)
    first = graph.group_of(group.starts[0])
    for layer in np.unique(first).tolist():
        here = first == layer
        bits[here] = _votes(group, products, bits, first <= layer)[here] < 0
    return Rescaling(group, numbers, _improved(group, products, bits))


def _votes(
    group: Rescalings, products: Sequence[np.ndarray | None], bits: np.ndarray, decided: np.ndarray
) -> np.ndarray:
    """By generator, how much the parameters that depend on decided ones alone gain from its present sign."""
    open_ = group.depends(np.flatnonzero(~decided))
    signed = _signed(group, products, bits)
    return group.pulled_back([None if s is None else np.where(o, 0, s) for s, o in zip(signed, open_, strict=True)])


def _signed(group: Rescalings, products: Sequence[np.ndarray | None], bits: np.ndarray) -> list[np.ndarray | None]:
    """The products after the changes of sign."""
    exponents = group.exponents(group.changes(np.arange(group.dimension), bits))
    return [None if p is None else p * (1 - 2 * (e % 2)) for p, e in zip(products, exponents, strict=True)]


def _improved(group: Rescalings, products: Sequence[np.ndarray | None], bits: np.ndarray) -> np.ndarray:
    """Change further signs as long as that brings the networks closer."""
    rng = np.random.default_rng(0)
    signed = _signed(group, products, bits)
    best, share = _total(signed), 1.0
    while share * group.dimension >= 1 or share == 1:
        gains = group.pulled_back(signed)
        flips = (gains < 0) & (rng.random(group.dimension) < share)
        other = np.where(flips, 1 - bits, bits)
        made = _signed(group, products, other)
        if flips.any() and _total(made) > best:
            bits, signed, best = other, made, _total(made)
        elif not (gains < 0).any():
            break
        else:
            share /= 2
    return bits


def _total(parts: Sequence[np.ndarray | None]) -> float:
    return sum(float(p.sum()) for p in parts if p is not None)


def _sums(graph: ParameterGraph, a: Values, b: Values) -> list[np.ndarray | None]:
    """The products of the parameters of two networks on every edge, summed over slots: float64 [B, N, K] by block."""
    found: list[np.ndarray | None] = []
    for block in graph.edges:
        if block.constant or block.tied or not block.size:
            found.append(None)
            continue
        x, y = (block.view.read(v[block.view.name]) for v in (a, b))
        found.append(np.einsum("bnks,bnks->bnk", x, y, dtype=np.float64, casting="same_kind"))
    return found
