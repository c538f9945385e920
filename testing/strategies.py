"""A hypothesis strategy for whole networks: valid ONNX models with parameters, from all operator families."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any

import onnx
from hypothesis import strategies as st

from .sketch import NotApplicable, Sketch, Tensor
from .steps import STEPS
from .steps.linear import matmul
from .steps.sources import embedded

__all__ = ["FAMILIES", "network", "networks"]

FAMILIES: tuple[str, ...] = tuple(STEPS)
"""Names of the operator families that `networks` draws from."""

_OPSETS = (21, 18, 23)
_TRIES = 4
_TWINS = 20


def networks(max_steps: int = 8, ops: Sequence[str] = FAMILIES) -> st.SearchStrategy[onnx.ModelProto]:
    """Create a strategy for random networks: float32, batch 1, tiny shapes, distinct random initializers.

    All pass ONNX's checker. A failing network shrinks to few steps, and hypothesis replays it.

    Args:
        max_steps: Largest number of steps; a step is an operator or a small module (attention, a residual block).
        ops: Operator families to draw from, all by default. Inputs, their first weights and the heads are always there.

    Returns:
        The strategy.

    Raises:
        ValueError: A family is unknown.
    """
    return _networks(max_steps, _checked(ops))


def network(seed: int, max_steps: int = 8, ops: Sequence[str] = FAMILIES) -> onnx.ModelProto:
    """One random network, the same for the same seed; arguments as for `networks`."""
    return _network(random.Random(seed).randint, max_steps, _checked(ops))


def _checked(ops: Sequence[str]) -> tuple[str, ...]:
    unknown = set(ops) - set(FAMILIES)
    if unknown:
        raise ValueError(f"unknown families {sorted(unknown)}; choose from {', '.join(FAMILIES)}")
    return tuple(ops)


@st.composite
def _networks(draw: Callable[[st.SearchStrategy[Any]], Any], max_steps: int, ops: tuple[str, ...]) -> onnx.ModelProto:
    return _network(lambda low, high: draw(st.integers(low, high)), max_steps, ops)


def _network(integer: Callable[[int, int], int], max_steps: int, ops: tuple[str, ...]) -> onnx.ModelProto:
    sketch = Sketch(integer, _OPSETS[integer(0, len(_OPSETS) - 1)])
    for _ in range(1 if integer(0, 3) < 3 else 2):
        _enter(sketch)
    for _ in range(integer(1, max_steps)):
        for _ in range(_TRIES):
            if sketch.try_step(STEPS["twins" if "twins" in ops and sketch.chance(_TWINS) else sketch.choice(ops)]):
                break
    return sketch.model(_outputs(sketch))


def _enter(sketch: Sketch) -> None:
    """Add a graph input and, in most cases, a weight after it."""
    kind = sketch.integer(0, 6)
    if kind == 6:
        sketch.put(embedded(sketch, sketch.input((1, sketch.size(4)), onnx.TensorProto.INT64)))
        return
    shapes = {0: (1,), 1: (1,), 2: (sketch.size(3),), 3: (1, 3), 4: (1,), 5: (1, 2, 2)}
    rank = {0: 2, 1: 3, 2: 2, 3: 3, 4: 4, 5: 4}[kind]
    lead = shapes[kind]
    shape = (*lead, *(sketch.size(4) for _ in range(rank - len(lead))))
    x = sketch.input(shape)
    sketch.put(x)
    if sketch.chance(80):
        sketch.try_step(lambda s: s.put(_first(s, x)))


def _first(sketch: Sketch, x: Tensor) -> Tensor:
    if x.rank < 3 or sketch.chance(60):
        return matmul(sketch, x)
    w = sketch.parameter((sketch.size(), x.shape[1], *[1] * (x.rank - 2)), 0.7)
    return sketch.node("Conv", x, w)


def _outputs(sketch: Sketch) -> list[Tensor]:
    """Add a head to each of the last few values that nothing reads."""
    leaves = sketch.leaves()[: sketch.integer(1, 3)]
    if not leaves:
        x = sketch.pool[-1] if sketch.pool else sketch.input((1, 2))
        leaves = [sketch.node("Identity", matmul(sketch, x))]
    return [_head(sketch, x) for x in leaves]


def _head(sketch: Sketch, x: Tensor) -> Tensor:
    """The value itself, or contracted over one axis (perhaps with a mean over the others) or over all of them."""
    kept = len(sketch.nodes)
    try:
        return _contracted(sketch, x)
    except NotApplicable:
        del sketch.nodes[kept:]
        return x


def _contracted(sketch: Sketch, x: Tensor) -> Tensor:
    way = sketch.integer(0, 4)
    if way == 0 and x.rank >= 2:
        return matmul(sketch, x, 2)
    if way == 1:
        flat = sketch.node("Reshape", x, sketch.integers([1, -1]))
        return matmul(sketch, flat, 2)
    if way in (2, 3) and max(x.shape, default=1) > 1:
        axis = sketch.axis(x)
        letters = "abcdef"[: x.rank]
        out = letters.replace(letters[axis], "z")
        w = sketch.parameter((x.shape[axis], 2), 0.5)
        y = sketch.node("Einsum", x, w, equation=f"{letters},{letters[axis]}z->{out}")
        rest = [a for a in range(x.rank) if a != axis and x.shape[a] > 1]
        return sketch.node("ReduceMean", y, sketch.integers(rest)) if way == 3 and rest else y
    return x
