"""Product-sum: the contraction of two activations, as in attention; it ties queries to keys and separates heads."""

from __future__ import annotations

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct
from .grid import free_axes
from .joins import Factors, Operand, gathered, group_by_axes, independent, join, reordered
from .labels import compress, map_via, vias_of
from .state import State, align

__all__ = ["product_sum"]


def product_sum(
    state: State,
    left: Factors,
    right: Factors,
    letters: tuple[str, str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> Factors:
    """Contract two activations.

    Creates one `product` node per distinct pair of labels and one `sum` node per distinct multiset of products; a
    contracted axis without labels needs no sum node. Scales are moved behind the product.

    Args:
        state: The state of the lowering.
        left: Labels of the first operand.
        right: Labels of the second operand.
        letters: Axes of both operands and of the result, as in einsum.
        shapes: The shapes of the operands.

    Returns:
        The labels of the result.
    """
    a, b, out = letters
    every = "".join(dict.fromkeys(out + a + b))
    left, left_scale = _unscale(state, left)
    right, right_scale = _unscale(state, right)
    operands = [_operand(state, left, a, shapes[0], every), _operand(state, right, b, shapes[1], every)]
    shape = np.broadcast_shapes(*(o.shape for o in operands))
    met = [_product(state, members) for members in group_by_axes(state, operands, shape, apart=False)]
    summed = [i for i, t in enumerate(every) if t not in out]
    grid = free_axes(met, shape)
    factors = []
    for labels in met:
        inside = [i for i in summed if labels.shape[i] > 1]
        if inside:
            labels = gathered(state, labels, inside, NodeKind.SUM, LinkRole.SUM, tuple(shape[i] for i in grid))
        over = tuple(grid.index(i) for i in summed if i in grid)
        if over:
            labels = map_via(labels, lambda v, over=over: state.builder.via("Sum", (("axes", over),), (v,)))  # type: ignore[misc]
        factors.append(compress(align(labels, every, out)))
    scale = left_scale * right_scale
    if scale != 1:
        factors[0] = map_via(factors[0], lambda v: state.step((v,), lambda x: scale * x, "Scale", {}))
    return independent(state, factors)


def _operand(state: State, factors: Factors, letters: str, shape: tuple[int, ...], every: str) -> Operand:
    """An operand over all letters, of size 1 along those that it lacks."""
    sizes = dict(zip(letters, shape, strict=True))
    target = "".join(t for t in every if t in letters)
    factors = reordered(state, factors, tuple(sizes[t] for t in target), letters, target)
    return Operand(tuple(align(f, target, every) for f in factors), tuple(sizes.get(t, 1) for t in every))


def _unscale(state: State, factors: Factors) -> tuple[Factors, float]:
    """Split a common trailing scale off the labels of one factor, which the bilinear product allows."""
    for i, factor in enumerate(factors):
        found = {state.functions.scale(state.moves.before(int(v)))[1] for v in distinct(vias_of(factor))}
        if len(found) == 1 and found != {1.0}:
            bare = map_via(factor, lambda v: state.moves.under((v,), lambda p: state.functions.scale(p[0])[0]))
            return (*factors[:i], bare, *factors[i + 1 :]), found.pop()
    return factors, 1.0


def _product(state: State, members: list[tuple[int, np.ndarray]]) -> np.ndarray:
    parts = [f for _, f in members]
    return parts[0] if len(parts) == 1 else join(state, parts, LinkRole.PRODUCT, (0, 1), kind=NodeKind.PRODUCT)
