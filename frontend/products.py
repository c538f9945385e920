"""Product-sum: two activations are multiplied and summed (attention). It ties q to k and separates heads."""

from __future__ import annotations

import numpy as np

from .joins import Factors, _components, gathered, independent, join
from .labels import compress, map_via, varying, vias_of
from .state import State, align

__all__ = ["product_sum"]


def product_sum(
    state: State,
    left: Factors,
    right: Factors,
    letters: tuple[str, str, str],
    shapes: tuple[tuple[int, ...], tuple[int, ...]],
) -> Factors:
    """Factors over the result's letters of `sum over contracted letters of left * right`.

    letters: of left, right and the result, as in einsum. One `product` node per distinct pair of ports and one `sum`
    node per distinct set of products; a contracted axis without labels needs no sum node. Scales are pulled out.
    """
    a, b, out = letters
    every = "".join(dict.fromkeys(out + a + b))
    sizes = [dict(zip(t, s, strict=True)) for t, s in zip((a, b), shapes, strict=True)]
    left, left_scale = _unscale(state, left)
    right, right_scale = _unscale(state, right)
    items = [(0, align(f, a, every)) for f in left] + [(1, align(f, b, every)) for f in right]
    _pin_against_free(state, items, every, sizes)
    groups = _components([set(varying(f)) for _, f in items], [i for i, _ in items])
    if all(len({items[j][0] for j in g}) == 1 for g in groups):
        groups = _meet(items, groups)
    summed = tuple(i for i, t in enumerate(every) if t not in out)
    factors = []
    for group in groups:
        members = [items[j] for j in group]
        labels = _product(state, members)
        if any(labels.shape[i] > 1 for i in summed):
            labels = gathered(state, labels, summed, "sum", "sum")
        factors.append(compress(align(labels, every, out)))
    scale = left_scale * right_scale
    if scale != 1:
        factors[0] = map_via(factors[0], lambda v: state.functions.step((v,), lambda x: scale * x, "Scale", {}))
    return independent(state, factors)


def _unscale(state: State, factors: Factors) -> tuple[Factors, float]:
    """Take one common trailing scale off the ports: the product is bilinear."""
    for i, factor in enumerate(factors):
        found = {state.functions.scale(int(v)) for v in np.unique(vias_of(factor))}
        scales = {scale for _, scale in found}
        if len(scales) == 1 and scales != {1.0}:
            bare = map_via(factor, lambda v: state.functions.scale(v)[0])
            return (*factors[:i], bare, *factors[i + 1 :]), scales.pop()
    return factors, 1.0


def _pin_against_free(
    state: State, items: list[tuple[int, np.ndarray]], every: str, sizes: list[dict[str, int]]
) -> None:
    """A labelled letter that the other operand has too, without labels, is ordered by it."""
    labelled = [{t for i, f in items if i == side for t in (every[x] for x in varying(f))} for side in (0, 1)]
    for side, factor in items:
        for axis in varying(factor):
            t = every[axis]
            if sizes[1 - side].get(t, 1) > 1 and t not in labelled[1 - side]:
                state.pin(factor)


def _meet(items: list[tuple[int, np.ndarray]], groups: list[list[int]]) -> list[list[int]]:
    """Make the first factor of each side one group: every product has two operands."""
    first = [next(g for g in groups if items[g[0]][0] == side) for side in (0, 1)]
    return [sorted(first[0] + first[1]), *(g for g in groups if g is not first[0] and g is not first[1])]


def _product(state: State, members: list[tuple[int, np.ndarray]]) -> np.ndarray:
    sides = [[f for i, f in members if i == side] for side in (0, 1)]
    parts = [f[0] if len(f) == 1 else join(state, f, "pair") for f in sides if f]
    return parts[0] if len(parts) == 1 else join(state, parts, "product", (0, 1), kind="product")
