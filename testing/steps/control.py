"""If, Loop and Scan, whose bodies are drawn from the other families and read outer values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from onnx import TensorProto

from ..sketch import NotApplicable, Sketch, Tensor
from . import elementwise, linear, movement, normalisation, recurrent, reduction
from .linear import matmul
from .weights import weight

__all__ = ["STEPS"]

_INSIDE: Mapping[str, Callable[[Sketch], None]] = {
    **elementwise.STEPS,
    **linear.STEPS,
    **movement.STEPS,
    **normalisation.STEPS,
    **reduction.STEPS,
    **recurrent.STEPS,
}


def _made_of(sketch: Sketch, x: Tensor) -> Tensor:
    """A value of the shape of x, computed from x and perhaps outer values."""
    if sketch.chance(15):
        return x
    sketch.pool.append(x)
    y = x
    for _ in range(sketch.integer(1, 2)):
        if sketch.try_step(_INSIDE[sketch.choice(list(_INSIDE))]):
            y = sketch.pool[-1]
    if y.shape == x.shape:
        return y
    if y.rank == x.rank > 0 and y.shape[:-1] == x.shape[:-1]:
        return matmul(sketch, y, x.shape[-1])
    mean = sketch.node("ReduceMean", y, keepdims=0) if y.rank else y
    return sketch.node(sketch.choice(["Add", "Mul"]), x, mean, like=x)


def _decision(sketch: Sketch, x: Tensor) -> Tensor:
    """A condition that depends on x."""
    total = sketch.node("ReduceSum", x, keepdims=0) if x.rank else x
    return sketch.node("Greater", total, sketch.literal(0.2))


def _true(sketch: Sketch) -> Tensor:
    return sketch.initializer(np.array(True))


def _if(sketch: Sketch) -> None:
    x = sketch.pick()
    way = sketch.integer(0, 3)
    if way == 0:
        condition = sketch.initializer(np.array(sketch.chance(50)))
    elif way == 1:
        condition = sketch.input((), TensorProto.BOOL)
    else:
        condition = _decision(sketch, sketch.pick())
    bodies = {name: sketch.body([], lambda _: [_made_of(sketch, x)]) for name in ("then_branch", "else_branch")}
    sketch.put(*sketch.around("If", [condition], [x], **bodies))


def _start(sketch: Sketch, row: Tensor) -> Tensor:
    """The initial state of the shape of `row`: zeros, a parameter, or a present value."""
    if sketch.chance(25):
        return weight(sketch, row.shape, 4)
    same = [t for t in sketch.pool if t.shape == row.shape]
    if same and sketch.chance(50):
        return sketch.choice(same)
    return sketch.initializer(np.zeros(row.shape, np.float32))


def _next(sketch: Sketch, state: Tensor, row: Tensor) -> Tensor:
    """The next state, from the present one and a row of its shape."""
    met = sketch.node(sketch.choice(["Add", "Mul", "Sub"]), _made_of(sketch, state), _made_of(sketch, row))
    return sketch.node(sketch.choice(["Tanh", "Sigmoid", "Softsign"]), met)


def _scan(sketch: Sketch) -> None:
    x = sketch.pick(lambda t: t.rank >= 2)
    axis = sketch.choice([a for a, n in enumerate(x.shape) if n <= 4])
    row = Tensor("", (*x.shape[:axis], *x.shape[axis + 1 :]))
    options: dict[str, Any] = {"num_scan_inputs": 1, "scan_input_axes": [axis]}
    if sketch.chance(30):
        options["scan_input_directions"] = [1]
    place = sketch.integer(0, row.rank)
    options["scan_output_axes"] = [place]
    stacked = Tensor("", (*row.shape[:place], x.shape[axis], *row.shape[place:]))
    states = sketch.integer(0, 2)

    def draw(inputs: list[Tensor]) -> list[Tensor]:
        ends = [_next(sketch, state, inputs[-1]) for state in inputs[:-1]]
        if len(ends) == 2 and sketch.chance(40):
            ends = ends[::-1]
        return [*ends, _made_of(sketch, sketch.choice([*ends, inputs[-1]]))]

    starts = [_start(sketch, row) for _ in range(states)]
    body = sketch.body([row] * (states + 1), draw)
    made = sketch.around("Scan", [*starts, x], [*[row] * states, stacked], body=body, **options)
    sketch.put(made[-1] if sketch.chance(60) else sketch.choice(made))


def _loop(sketch: Sketch) -> None:
    x = sketch.pick()
    trips, states = sketch.integer(1, 3), sketch.integer(1, 2)
    decided, numbered = sketch.chance(25), sketch.chance(25)
    rows = [t for t in sketch.pool if t.rank == x.rank + 1 and t.shape[1:] == x.shape and t.shape[0] >= trips]
    read = sketch.choice(rows) if rows and sketch.chance(60) else None

    def draw(inputs: list[Tensor]) -> list[Tensor]:
        number, going, *carried = inputs
        row = x if read is None else sketch.node("Gather", read, number, axis=0)
        if numbered:
            row = sketch.node("Add", row, sketch.node("Cast", number, to=TensorProto.FLOAT))
        ends = [_next(sketch, state, row) for state in carried]
        again = _decision(sketch, sketch.choice(ends)) if decided else going
        return [again, *ends, _made_of(sketch, ends[0])]

    count, true = sketch.integers(trips), _true(sketch)
    body = sketch.body([count, true, *[x] * states], draw)
    starts = [x, *(_start(sketch, x) for _ in range(states - 1))]
    stacked = Tensor("", (trips, *x.shape))
    made = sketch.around("Loop", [count, true, *starts], [*[x] * states, stacked], body=body)
    sketch.put(sketch.choice(made[:-1] if decided else made))


def _layers(sketch: Sketch) -> None:
    """A scan over the weights of layers."""
    x = sketch.pick(lambda t: t.rank >= 2)
    if x.shape[-1] > 4:
        raise NotApplicable
    layers = [weight(sketch, (2, x.shape[-1], x.shape[-1]), x.shape[-1]), weight(sketch, (2, x.shape[-1]), 4)]

    def draw(inputs: list[Tensor]) -> list[Tensor]:
        product = sketch.node("MatMul", inputs[0], inputs[1])
        return [sketch.node("Tanh", sketch.node("Add", product, inputs[2]))]

    rows = [Tensor("", t.shape[1:]) for t in layers]
    body = sketch.body([x, *rows], draw)
    sketch.put(*sketch.around("Scan", [x, *layers], [x], body=body, num_scan_inputs=2))


STEPS: Mapping[str, Callable[[Sketch], None]] = {"branch": _if, "scan": _scan, "loop": _loop, "layers": _layers}
