"""Parameters that start as activations or are looked up: class tokens, learned queries, embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from onnx import TensorProto

from ..sketch import Sketch, Tensor
from .linear import matmul
from .weights import vector, weight

__all__ = ["STEPS", "embedded"]


def _token(sketch: Sketch) -> None:
    """A parameter concatenated to a value along any axis, on either side or both."""
    x = sketch.pick(lambda t: t.rank >= 2)
    axis = sketch.integer(0, x.rank - 1)
    shape = [1 if a == axis else n for a, n in enumerate(x.shape)]
    token = vector(sketch, shape)
    if sketch.chance(30):
        small = vector(sketch, [*[1] * (x.rank - 1), shape[-1]])
        token = sketch.node("Expand", small, sketch.integers(shape))
    sketch.put(sketch.node("Concat", *([token, x] if sketch.chance(50) else [x, token]), axis=axis))


def _learned(sketch: Sketch) -> None:
    """A parameter as an activation, through weights of its own."""
    shape = [1, sketch.size(4), sketch.size(4)] if sketch.chance(70) else [1, sketch.size()]
    start = sketch.parameter(shape)
    sketch.put(sketch.node("Tanh", matmul(sketch, start)))


def embedded(sketch: Sketch, places: Tensor) -> Tensor:
    """Rows of a table of four, by integer index."""
    axis = 1 if sketch.chance(15) else 0
    width = sketch.size()
    table = weight(sketch, (width, 4) if axis else (4, width), 1)
    return sketch.node("Gather", table, places, axis=axis)


def _looked_up(sketch: Sketch) -> None:
    """Rows of a table, by ArgMax."""
    x = sketch.pick(lambda t: any(1 < n <= 4 for n in t.shape))
    axis = sketch.choice([a for a, n in enumerate(x.shape) if 1 < n <= 4])
    sketch.put(embedded(sketch, sketch.node("ArgMax", x, axis=axis, keepdims=0)))


def _one_hot(sketch: Sketch) -> None:
    """ArgMax as a one-hot vector."""
    x = sketch.pick(lambda t: any(1 < n <= 4 for n in t.shape))
    axis = sketch.choice([a for a, n in enumerate(x.shape) if 1 < n <= 4])
    places = sketch.node("ArgMax", x, axis=axis, keepdims=0)
    ends = sketch.initializer(np.array([0.0, 1.0], np.float32))
    made = sketch.node("OneHot", places, sketch.integers(x.shape[axis]), ends, axis=sketch.choice([-1, axis]))
    sketch.put(made)


def _position(sketch: Sketch) -> None:
    """Add the first rows of a longer position table."""
    x = sketch.pick(lambda t: t.rank >= 2)
    n, d = x.shape[-2:]
    table = sketch.parameter((n + 1, d))
    if sketch.chance(50):
        rows = sketch.node("Slice", table, *(sketch.integers([v]) for v in (0, n, 0)))
    else:
        rows = sketch.node("Gather", table, sketch.integers([*range(n)]), axis=0)
    sketch.put(sketch.node("Add", x, rows))


def _tokens_in(sketch: Sketch) -> None:
    """Another integer input, embedded by a table."""
    places = sketch.input((1, sketch.size(4)), TensorProto.INT64)
    sketch.put(embedded(sketch, places))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "token": _token,
    "learned": _learned,
    "looked-up": _looked_up,
    "one-hot": _one_hot,
    "position": _position,
    "tokens-in": _tokens_in,
}
