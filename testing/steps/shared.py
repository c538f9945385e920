"""Weights that all heads share, or all features of a head; zeros beside which something is written."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import NotApplicable, Sketch, Tensor
from .linear import matmul
from .weights import vector, weight

__all__ = ["STEPS"]


def _by_head(sketch: Sketch, x: Tensor, heads: int) -> Tensor:
    """[1, heads, positions, features] of [1, positions, features]."""
    d = sketch.integer(1, 4)
    h = sketch.node("Reshape", matmul(sketch, x, heads * d), sketch.integers([1, x.shape[1], heads, d]))
    return sketch.node("Transpose", h, perm=[0, 2, 1, 3])


def _kernel(sketch: Sketch, t: Tensor) -> Tensor:
    """A convolution along positions, which may stay where it is along the features."""
    heads, wide = t.shape[1], sketch.integer(1, 3)
    across = 1 if sketch.chance(80) else 2
    pads = [wide // 2, 0, wide // 2, 0] if sketch.chance(85) else [wide // 2, 1, wide // 2, 1]
    strides = [1, 1] if sketch.chance(80) else [1, 2]
    if sketch.chance(30):
        mixed = sketch.parameter((heads, sketch.size(3), wide, across))
        return sketch.node("ConvTranspose", t, mixed, pads=pads, strides=strides)
    group = heads if sketch.chance(60) else 1
    kernel = sketch.parameter((group * sketch.integer(1, 2), heads // group, wide, across))
    bias = [vector(sketch, kernel.shape[:1])] if sketch.chance(30) else []
    return sketch.node("Conv", t, kernel, *bias, group=group, pads=pads, strides=strides)


def _shared(sketch: Sketch) -> None:
    """Heads that meet shared weights once or twice, and are merged."""
    t = _by_head(
        sketch, sketch.pick(lambda t: t.rank == 3 and t.shape[0] == 1 and t.shape[1] <= 5), sketch.integer(1, 3)
    )
    for _ in range(sketch.integer(1, 2)):
        way = sketch.integer(0, 3)
        if way == 0:
            t = _kernel(sketch, t)
        elif way == 1:
            t = sketch.node("MatMul", weight(sketch, (t.shape[1], t.shape[2], t.shape[2])), t)
        else:
            t = sketch.node("MatMul", t, weight(sketch, (t.shape[-1], sketch.size(3))))
            t = sketch.node("Add", t, vector(sketch, t.shape[-1:])) if way == 3 else t
        t = sketch.node(sketch.choice(["Relu", "Tanh", "Neg"]), t)
    merged = sketch.node("Transpose", t, perm=[0, 2, 1, 3])
    flat = sketch.node("Reshape", merged, sketch.integers([1, t.shape[2], t.shape[1] * t.shape[3]]))
    sketch.put(matmul(sketch, flat, sketch.size()))


def _states(sketch: Sketch) -> None:
    """Queries read states half of which are zeros, or copies of a number of each row."""
    x = sketch.pick(lambda t: t.rank == 2 and t.shape[0] > 1)
    keys, width = sketch.integer(1, 3), sketch.integer(1, 4)
    if keys * width * 2 > 64:
        raise NotApplicable
    h, q, k = (matmul(sketch, x, n) for n in (width, keys, keys))
    outer = sketch.node("MatMul", sketch.node("Transpose", k, perm=[1, 0]), h)
    rest = sketch.node("ConstantOfShape", sketch.integers([keys, width]), like=Tensor("", (keys, width)))
    if sketch.chance(40):
        number = sketch.node("ReduceMax", outer, sketch.integers([1]))
        rest = sketch.node("Expand", number, sketch.integers([keys, width]))
    states = sketch.node("Concat", *([rest, outer] if sketch.chance(70) else [outer, rest]), axis=0)
    ends = []
    for start in (0, keys):
        part = sketch.node("Slice", states, *(sketch.integers([n]) for n in (start, start + keys, 0)))
        ends.append(sketch.node("MatMul", sketch.node("Exp", q) if start else q, part))
    sketch.put(sketch.node("Tanh", sketch.node("Add", sketch.node("Add", *ends), h)))


STEPS: Mapping[str, Callable[[Sketch], None]] = {"shared": _shared, "states": _states}
