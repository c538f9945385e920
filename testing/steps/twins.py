"""Twins: two branches from one value that differ in one respect, followed by weights of equal shape.

If lowering ignores that respect, the weights look interchangeable and a false symmetry shows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from ..sketch import NotApplicable, Sketch, Tensor
from .linear import matmul

__all__ = ["twins"]

_AXES = ("softmax", "reduce", "cumsum", "transpose", "reshape", "slice", "gather", "pad", "norm-written-out", "attach",
         "table", "expand", "concat", "einsum", "trilu")  # fmt: skip
Steps = Mapping[str, Callable[[Sketch], None]]


def twins(families: Steps) -> Callable[[Sketch], None]:
    """A step that draws one or two families and applies them twice to one value, with separate random choices."""

    def step(sketch: Sketch) -> None:
        x = _square(sketch) if sketch.chance(60) else sketch.pick(lambda t: sum(n > 1 for n in t.shape) > 1)
        names = [sketch.choice(_AXES if sketch.chance(60) else tuple(families)) for _ in range(sketch.integer(1, 2))]
        views = sketch.chance(60)
        a, b = (_branch(sketch, x, [families[n] for n in names], views) for _ in range(2))
        width = sketch.size(4)
        axes = [(i - a.rank, j - b.rank) for i, n in enumerate(a.shape) for j, m in enumerate(b.shape) if n == m > 1]
        here, there = sketch.choice(axes)
        sketch.put(sketch.node("Add", _weighed(sketch, a, here, width), _weighed(sketch, b, there, width)))

    return step


def _square(sketch: Sketch) -> Tensor:
    """A value with neurons on the last axis and two position axes of equal size, which are easily confused."""
    side, width = sketch.choice([2, 3, 4]), sketch.choice([4, 3, 6])
    return sketch.node("Tanh", matmul(sketch, sketch.input((1, side, side, 2)), width))


def _branch(sketch: Sketch, x: Tensor, steps: Sequence[Callable[[Sketch], None]], views: bool) -> Tensor:
    """Apply the steps to x alone. views: transpose it first, and mostly back afterwards where the shape allows it."""
    pool, shape = sketch.pool, x.shape
    try:
        order = _shuffled(sketch, x.rank) if views else list(range(x.rank))
        x = sketch.node("Transpose", x, perm=order)
        for step in steps:
            sketch.pool = [x]
            step(sketch)
            if len(sketch.pool) == 1:
                raise NotApplicable
            x = sketch.pool[-1]
        if x.shape == tuple(shape[a] for a in order) and sketch.chance(80):
            x = sketch.node("Transpose", x, perm=sorted(range(len(order)), key=order.__getitem__))
    finally:
        sketch.pool = pool
    return x


def _shuffled(sketch: Sketch, count: int) -> list[int]:
    left = list(range(count))
    return [left.pop(sketch.integer(0, len(left) - 1)) for _ in range(count)]


def _weighed(sketch: Sketch, x: Tensor, axis: int, width: int) -> Tensor:
    """[1, width]: contract an axis of x with a weight, then average over all others."""
    letters = "abcdef"[: x.rank]
    w = sketch.parameter((x.shape[axis], width), 0.5)
    contracted = letters[axis]
    out = "".join(t for t in letters if t != contracted) + "z"
    y = sketch.node("Tanh", sketch.node("Einsum", x, w, equation=f"{letters},{contracted}z->{out}"))
    rest = list(range(y.rank - 1))
    mean = sketch.node("ReduceMean", y, sketch.integers(rest), keepdims=0) if rest else y
    return sketch.node("Reshape", mean, sketch.integers([1, width]))
