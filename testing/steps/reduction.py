"""Reductions, softmax, and operators that depend on the order along an axis."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from onnx import TensorProto

from ..sketch import Sketch

__all__ = ["STEPS"]

_REDUCTIONS = (
    "ReduceMean",
    "ReduceSum",
    "ReduceMax",
    "ReduceMin",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceSumSquare",
    "ReduceL1",
    "ReduceProd",
)


def _reduce(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    op = sketch.choice(_REDUCTIONS)
    if sketch.opset >= 18 and sketch.chance(8):
        sketch.put(sketch.node(op, x, noop_with_empty_axes=1))
        return
    sketch.put(sketch.node(op, x, sketch.integers(sketch.some_axes(x)), keepdims=sketch.integer(0, 1)))


def _softmax(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    sketch.put(sketch.node(sketch.choice(["Softmax", "Softmax", "LogSoftmax", "Hardmax"]), x, axis=sketch.axis(x)))


def _top(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    axis = sketch.axis(x)
    k = sketch.integers([sketch.integer(1, x.shape[axis])])
    values, places = sketch.split("TopK", 2, x, k, axis=axis)
    sketch.put(sketch.node("Cast", places, to=TensorProto.FLOAT) if sketch.chance(30) else values)


def _running(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    options: dict[str, Any] = {name: 1 for name in ("exclusive", "reverse") if sketch.chance(20)}
    sketch.put(sketch.node("CumSum", x, sketch.integers(sketch.axis(x)), **options))


def _place(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: max(t.shape, default=1) > 1)
    op = sketch.choice(["ArgMax", "ArgMin"])
    places = sketch.node(op, x, axis=sketch.axis(x), keepdims=sketch.integer(0, 1))
    sketch.put(sketch.node("Cast", places, to=TensorProto.FLOAT))


def _triangle(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    sketch.put(sketch.node("Trilu", x, sketch.integers(sketch.integer(-1, 1)), upper=sketch.integer(0, 1)))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "reduce": _reduce,
    "softmax": _softmax,
    "top-k": _top,
    "cumsum": _running,
    "argmax": _place,
    "trilu": _triangle,
}
