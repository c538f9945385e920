"""Messages over an edge list, assignments to slices, and copies along axes of neurons or positions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from onnx import TensorProto

from ..sketch import NotApplicable, Sketch, Tensor

__all__ = ["STEPS"]

_REDUCTIONS = ("add", "add", "none", "max", "mul")


def _places(sketch: Sketch, x: Tensor, places: Sequence[int]) -> Tensor:
    """An index vector, known or computed from a value."""
    known = sketch.integers(places)
    if not sketch.chance(60):
        return known
    # The greatest of one number is the first: 0, but only the running network knows.
    one = sketch.node("Reshape", sketch.node("ReduceSum", x, keepdims=0), sketch.integers([1]))
    return sketch.node("Add", known, sketch.node("ArgMax", one, axis=0, keepdims=0))


def _along(sketch: Sketch, index: Tensor, axis: int, shape: Sequence[int]) -> Tensor:
    """An index vector along an axis, with copies along all others."""
    line = sketch.node("Reshape", index, sketch.integers([-1 if a == axis else 1 for a in range(len(shape))]))
    return sketch.node("Expand", line, sketch.integers(shape))


def _constant(sketch: Sketch, shape: Sequence[int]) -> Tensor:
    """Zeros, another number, or a parameter."""
    if sketch.chance(25):
        return sketch.parameter(shape)
    number = sketch.choice([0.0, 0.0, 1.0])
    return sketch.initializer(np.full(shape, number, np.float32))


def _scattered(
    sketch: Sketch, data: Tensor, index: Tensor, updates: Tensor, axis: int, reduction: str
) -> Tensor:  # fmt: skip
    """Updates written along an axis, one by one or as whole slices."""
    if sketch.chance(50):
        where = _along(sketch, index, axis, updates.shape)
        return sketch.node("ScatterElements", data, where, updates, axis=axis, reduction=reduction)
    perm = [axis, *(a for a in range(data.rank) if a != axis)]
    first, put = (sketch.node("Transpose", t, perm=perm) if axis else t for t in (data, updates))
    column = sketch.node("Reshape", index, sketch.integers([-1, 1]))
    made = sketch.node("ScatterND", first, column, put, reduction=reduction)
    return sketch.node("Transpose", made, perm=np.argsort(perm).tolist()) if axis else made


def _messages(sketch: Sketch) -> None:
    """Entries picked along an axis, changed, and reduced at other entries of it."""
    x = sketch.pick(lambda t: t.rank >= 2 and max(t.shape) > 1)
    axis = sketch.axis(x)
    n, reduction = x.shape[axis], sketch.choice(_REDUCTIONS)
    count = sketch.integer(1, n if reduction == "none" else n + 2)
    source = [sketch.integer(0, n - 1) for _ in range(count)]
    goal = list(range(count)) if reduction == "none" else [sketch.integer(0, n - 1) for _ in range(count)]
    sent = sketch.node("Gather", x, _places(sketch, x, source), axis=axis)
    sent = sketch.node(sketch.choice(["Tanh", "Relu"]), sent)
    data = x if sketch.chance(30) else _constant(sketch, x.shape)
    sketch.put(_scattered(sketch, data, _places(sketch, x, goal), sent, axis, reduction))


def _assigned(sketch: Sketch) -> None:
    """A value written to a slice of a larger one."""
    x = sketch.pick(lambda t: t.rank >= 2 and max(t.shape) > 1)
    axis = sketch.axis(x)
    n, more = x.shape[axis], sketch.integer(0, 2)
    shape = [m + more if a == axis else m for a, m in enumerate(x.shape)]
    start = sketch.integer(0, more)
    places = list(range(start, start + n))
    data = _constant(sketch, shape)
    if sketch.chance(30):
        other = sketch.pick(lambda t: t.rank == x.rank and list(t.shape) == shape)
        data = sketch.node("Sigmoid", other)
    updates = sketch.node("Tanh", x)
    if sketch.chance(30) and x.rank >= 2:
        # Only the first entries along another axis.
        beside = sketch.choice([a for a in range(x.rank) if a != axis and x.shape[a] > 1])
        ends = (sketch.integers([v]) for v in (0, x.shape[beside] - 1, beside))
        part = sketch.node("Slice", updates, *ends)
        where = _along(sketch, _places(sketch, x, places), axis, part.shape)
        sketch.put(sketch.node("ScatterElements", data, where, part, axis=axis))
        return
    sketch.put(_scattered(sketch, data, _places(sketch, x, places), updates, axis, "none"))


def _picked(sketch: Sketch) -> None:
    """The same entries along an axis for all others, as torch.gather picks them with an expanded index."""
    x = sketch.pick(lambda t: t.rank >= 2 and max(t.shape) > 1)
    axis = sketch.axis(x)
    count = sketch.integer(1, x.shape[axis])
    index = _places(sketch, x, [sketch.integer(0, x.shape[axis] - 1) for _ in range(count)])
    shape = [count if a == axis else n for a, n in enumerate(x.shape)]
    sketch.put(sketch.node("GatherElements", x, _along(sketch, index, axis, shape), axis=axis))


def _shifted(sketch: Sketch) -> None:
    """A constant in front of, or behind, a value along an axis; perhaps without its last entry."""
    x = sketch.pick(lambda t: t.rank >= 2)
    axis = sketch.integer(0, x.rank - 1)
    body = x
    if x.shape[axis] > 1 and sketch.chance(50):
        body = sketch.node("Slice", x, *(sketch.integers([v]) for v in (0, x.shape[axis] - 1, axis)))
    pad = _constant(sketch, [1 if a == axis else n for a, n in enumerate(x.shape)])
    parts = [body, pad] if sketch.chance(30) else [pad, body]
    sketch.put(sketch.node("Concat", *parts, axis=axis))


def _repeated(sketch: Sketch) -> None:
    """A value combined with copies of one of its means, or of a value computed from it."""
    x = sketch.pick(lambda t: t.rank >= 2 and max(t.shape) > 1)
    axes = [sketch.axis(x)]
    mean = sketch.node("ReduceMean", x, sketch.integers(axes), keepdims=1) if sketch.opset >= 18 else None
    if mean is None or math.prod(x.shape) > 96:
        raise NotApplicable
    copies = sketch.node("Expand", mean, sketch.integers(x.shape))
    way = sketch.integer(0, 2)
    if way == 0:
        sketch.put(sketch.node(sketch.choice(["Mul", "Add", "Max"]), x, sketch.node("Sigmoid", copies)))
    elif way == 1:
        above = sketch.node("Greater", copies, sketch.literal(-0.2))
        sketch.put(sketch.node("Where", above, x, sketch.literal(0.0)))
    else:
        above = sketch.node("Cast", sketch.node("Less", copies, sketch.literal(0.4)), to=TensorProto.FLOAT)
        sketch.put(sketch.node("Concat", sketch.node("Mul", x, above), copies, axis=sketch.integer(0, x.rank - 1)))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "messages": _messages,
    "assigned": _assigned,
    "picked": _picked,
    "shifted": _shifted,
    "repeated": _repeated,
}
