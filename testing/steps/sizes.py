"""Sizes that the network computes, and tables whose rows the greatest score chooses."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from onnx import TensorProto

from ..sketch import Sketch, Tensor

__all__ = ["STEPS"]


def _scored(sketch: Sketch, x: Tensor) -> Tensor:
    """The value, or scores of it by a weight."""
    return sketch.node("MatMul", x, sketch.parameter((x.shape[-1], sketch.size()))) if sketch.chance(60) else x


def _count(sketch: Sketch, x: Tensor) -> Tensor:
    """How many entries are positive, as a vector of one integer."""
    mask = sketch.node("Greater", _scored(sketch, x), sketch.literal(0.1))
    places = Tensor("", (len(mask.shape), math.prod(mask.shape)), TensorProto.INT64)
    listed = sketch.node("NonZero", mask, like=places)
    shape = sketch.node("Shape", listed, like=Tensor("", (2,), TensorProto.INT64))
    return sketch.node("Gather", shape, sketch.integers([1]), axis=0)


def _size(sketch: Sketch, x: Tensor, largest: int) -> Tensor:
    """A computed integer from 1 to `largest`, as a vector."""
    top = sketch.node("ReduceMax", sketch.node("Abs", _scored(sketch, x)), keepdims=0)
    whole = sketch.node("Cast", sketch.node("Ceil", top), to=TensorProto.INT64)
    above = sketch.node("Max", sketch.node("Reshape", whole, sketch.integers([1])), sketch.integers([1]))
    return sketch.node("Min", above, sketch.integers([largest]))


def _as_factor(sketch: Sketch, number: Tensor) -> Tensor:
    return sketch.node("Mul", sketch.node("Cast", number, to=TensorProto.FLOAT), sketch.literal(0.25))


def _counted(sketch: Sketch) -> None:
    """A value times how many entries are positive."""
    x, y = sketch.pick(lambda t: t.rank > 0), sketch.pick(lambda t: t.rank > 0)
    sketch.put(sketch.node("Mul", y, _as_factor(sketch, _count(sketch, x))))


def _cut(sketch: Sketch) -> None:
    """Entries or copies along an axis, as many as the network computes; reduced, or their number."""
    x = sketch.pick(lambda t: t.rank > 1 and max(t.shape) > 1)
    axis = sketch.axis(x)
    number = _size(sketch, sketch.pick(lambda t: t.rank > 0), x.shape[axis])
    if sketch.chance(60):
        ends = sketch.integers([0]), number, sketch.integers([axis])
        cut = sketch.node("Slice", x, *ends, like=x)
    else:
        mean = sketch.node("ReduceMean", x, sketch.integers([axis]), keepdims=1)
        sizes = [number if a == axis else sketch.integers([1]) for a in range(x.rank)]
        cut = sketch.node("Expand", mean, sketch.node("Concat", *sizes, axis=0), like=x)
    if sketch.chance(25):
        length = sketch.node("Gather", sketch.node("Shape", cut), sketch.integers([axis]), axis=0)
        sketch.put(sketch.node("Mul", x, _as_factor(sketch, length)))
        return
    op = sketch.choice(["ReduceSum", "ReduceMean", "ReduceMax"])
    sketch.put(sketch.node(op, cut, sketch.integers([axis]), keepdims=1))


def _codebook(sketch: Sketch) -> None:
    """The row of a table that belongs to the greatest score, or that is nearest."""
    x, count = sketch.pick(lambda t: t.rank > 1), sketch.size()
    if sketch.chance(60):
        scores = sketch.node("MatMul", x, sketch.parameter((x.shape[-1], count)))
        if sketch.chance(50):
            scores = sketch.node("Add", scores, sketch.parameter((count,)))
        table = sketch.parameter((count, sketch.size()))
    else:
        table = sketch.parameter((count, x.shape[-1]))
        apart = sketch.node("Sub", sketch.node("Unsqueeze", x, sketch.integers([-2])), table)
        scores = sketch.node("ReduceSum", sketch.node("Mul", apart, apart), sketch.integers([-1]), keepdims=0)
    op = sketch.choice(["ArgMax", "ArgMin"])
    sketch.put(sketch.node("Gather", table, sketch.node(op, scores, axis=-1, keepdims=0), axis=0))


STEPS: Mapping[str, Callable[[Sketch], None]] = {"counted": _counted, "cut": _cut, "codebook": _codebook}
