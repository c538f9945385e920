"""Routers: the greatest scores choose experts, rows of a table, or what is written back to their places."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from onnx import TensorProto

from ..sketch import Sketch, Tensor

__all__ = ["STEPS"]


@dataclass(frozen=True, slots=True)
class _Choice:
    """x [tokens, features], scores [tokens, count], index [tokens, k], and the k greatest scores if TopK gave it."""

    x: Tensor
    scores: Tensor
    index: Tensor
    values: Tensor | None

    @property
    def count(self) -> int:
        return self.scores.shape[-1]

    @property
    def k(self) -> int:
        return self.index.shape[-1]


def _chosen(sketch: Sketch, most: int = 3) -> _Choice:
    """Choose by scores of a value's features. A bias keeps scores apart where all features are zero."""
    x = sketch.pick(lambda t: t.rank >= 2 and t.shape[-1] > 1)
    if x.rank > 2:
        x = sketch.node("Reshape", x, sketch.integers([-1, x.shape[-1]]))
    count = sketch.integer(2, 4)
    line = sketch.node("MatMul", x, sketch.parameter((x.shape[-1], count)))
    scores = sketch.node("Add", line, sketch.parameter((count,)))
    if sketch.chance(30):
        scores = sketch.node("Softmax", scores, axis=-1)
    if sketch.chance(50):
        index = sketch.node(sketch.choice(["ArgMax", "ArgMin"]), scores, axis=1, keepdims=sketch.integer(0, 1))
        index = index if index.rank == 2 else sketch.node("Unsqueeze", index, sketch.integers([1]))
        return _Choice(x, scores, index, None)
    k = sketch.integers([sketch.integer(1, min(most, count))])
    values, index = sketch.split("TopK", 2, scores, k, axis=1, largest=sketch.integer(0, 1))
    return _Choice(x, scores, index, values)


def _code(sketch: Sketch, choice: _Choice) -> Tensor:
    """Whether each entry is one of the chosen ones: [tokens, count]."""
    way = sketch.integer(0, 2)
    if way == 0:
        values = sketch.initializer(np.array([0, 1], np.float32))
        hot = sketch.node("OneHot", choice.index, sketch.integers(choice.count), values, axis=-1)
        return sketch.node("ReduceSum", hot, sketch.integers([1]), keepdims=0)
    if way == 1:
        rise = sketch.node("Unsqueeze", choice.index, sketch.integers([2]))
        hot = sketch.node("Equal", rise, sketch.integers(list(range(choice.count))))
        return sketch.node(
            "ReduceSum", sketch.node("Cast", hot, to=TensorProto.FLOAT), sketch.integers([1]), keepdims=0
        )
    zeros = sketch.initializer(np.zeros(choice.scores.shape, np.float32))
    ones = sketch.initializer(np.ones(choice.index.shape, np.float32))
    return sketch.node("ScatterElements", zeros, choice.index, ones, axis=1)


def _masked(sketch: Sketch) -> None:
    """Experts that all run, of which the chosen ones count; perhaps the tokens of one by its number."""
    choice = _chosen(sketch)
    shape = (choice.count, choice.x.shape[-1], sketch.size(3))
    every = sketch.node("Einsum", choice.x, sketch.parameter(shape), equation="ti,eih->teh")
    every = sketch.node(sketch.choice(["Tanh", "Relu"]), every)
    if sketch.chance(20):
        one = sketch.node("Equal", choice.index, sketch.integers([sketch.integer(0, choice.count - 1)]))
        sketch.put(sketch.node("Cast", one, to=TensorProto.FLOAT))
    sketch.put(sketch.node("Einsum", _code(sketch, choice), every, equation="te,teh->th"))


def _written(sketch: Sketch) -> None:
    """What belongs to the chosen ones, written back to their places among all."""
    choice = _chosen(sketch)
    values = choice.values
    if values is None:
        values = sketch.node("GatherElements", choice.scores, choice.index, axis=1)
    if sketch.chance(50):
        values = sketch.node(*sketch.choice([("Softmax", values), ("Sigmoid", values)]))
    rest = sketch.initializer(np.full(choice.scores.shape, sketch.choice([0.0, -9.0]), np.float32))
    if sketch.chance(20):
        rest = sketch.node("Tanh", choice.scores)
    made = sketch.node("ScatterElements", rest, choice.index, values, axis=1)
    sketch.put(sketch.node(sketch.choice(["Softmax", "Sigmoid"]), made))


def _looked_up(sketch: Sketch) -> None:
    """Rows of a table; perhaps the next ones, or the scores are those of the table itself."""
    choice = _chosen(sketch)
    index, table = choice.index, sketch.parameter((choice.count + 1, sketch.size(3)))
    if sketch.chance(20):
        index = sketch.node("Add", index, sketch.integers([1]))
    else:
        ends = (sketch.integers([v]) for v in (0, choice.count, 0))
        table = sketch.parameter((choice.count, sketch.size(3))) if sketch.chance(60) else sketch.node(
            "Slice", table, *ends)  # fmt: skip
    rows = sketch.node("Gather", table, index, axis=0)
    way = sketch.integer(0, 2)
    if way == 0:
        sketch.put(sketch.node("ReduceSum", rows, sketch.integers([1]), keepdims=0))
    elif way == 1:
        sketch.put(sketch.node("ReduceSum", sketch.node("Mul", rows, sketch.parameter((choice.k, 1))),
                               sketch.integers([1]), keepdims=0))  # fmt: skip
    else:
        sketch.put(rows)


def _nearest(sketch: Sketch) -> None:
    """The row of a codebook that is nearest, perhaps as the value plus the difference."""
    x = sketch.pick(lambda t: t.rank >= 2 and t.shape[-1] > 1)
    table = sketch.parameter((sketch.integer(2, 4), x.shape[-1]))
    squares = sketch.node("ReduceSum", sketch.node("Mul", table, table), sketch.integers([1]), keepdims=0)
    products = sketch.node("MatMul", x, sketch.node("Transpose", table, perm=[1, 0]))
    distance = sketch.node("Sub", squares, sketch.node("Mul", products, sketch.literal(2.0)))
    index = sketch.node("ArgMin", distance, axis=-1, keepdims=0)
    rows = sketch.node("Gather", table, index, axis=0)
    if sketch.chance(50):
        rows = sketch.node("Add", x, sketch.node("Sub", rows, x))
    sketch.put(rows)
    if sketch.chance(20):
        sketch.put(sketch.node("Cast", index, to=TensorProto.FLOAT))


def _gathered(sketch: Sketch) -> None:
    """Experts whose weights are gathered, with biases, weights of the choices, or neither."""
    choice = _chosen(sketch, 2)
    n, d, h, o = choice.count, choice.x.shape[-1], sketch.size(3), sketch.size(2)
    shares = None if choice.values is None or sketch.chance(30) else sketch.node("Softmax", choice.values, axis=-1)
    first = sketch.node("Gather", sketch.parameter((n, d, h)), choice.index, axis=0)
    y = sketch.node("Einsum", choice.x, first, equation="ti,tkih->tkh")
    if sketch.chance(40):
        y = sketch.node("Add", y, sketch.node("Gather", sketch.parameter((n, h)), choice.index, axis=0))
    y = sketch.node(sketch.choice(["Tanh", "Relu"]), y)
    if sketch.chance(15):
        sketch.put(sketch.node("ReduceSum", y, sketch.integers([1]), keepdims=0))
    if sketch.chance(15):
        # The units of a token's choice meet the weights of another token's.
        y = sketch.node("Gather", y, sketch.integers(list(range(y.shape[0]))[::-1]), axis=0)
    second = sketch.node("Gather", sketch.parameter((n, h, o)), choice.index, axis=0)
    if sketch.chance(50):
        y = sketch.node("Einsum", y, second, equation="tkh,tkho->tko")
    else:
        y = sketch.node("MatMul", sketch.node("Unsqueeze", y, sketch.integers([2])), second)
        y = sketch.node("Squeeze", y, sketch.integers([2]))
    if sketch.chance(30):
        y = sketch.node("Add", y, sketch.node("Gather", sketch.parameter((n, o)), choice.index, axis=0))
    if shares is not None:
        y = sketch.node("Mul", y, sketch.node("Unsqueeze", shares, sketch.integers([2])))
    if sketch.chance(15):
        y = sketch.node("Mul", y, sketch.parameter((choice.k, 1)))
    sketch.put(sketch.node("ReduceSum", y, sketch.integers([1]), keepdims=0))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "masked": _masked,
    "written": _written,
    "looked-up": _looked_up,
    "nearest": _nearest,
    "routed": _gathered,
}
