"""Values that weights alone write and read: residual streams behind normalisations, chains of linear layers."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import Sketch, Tensor
from .weights import vector, weight

__all__ = ["STEPS"]


def _normalised(sketch: Sketch, x: Tensor) -> Tensor:
    """x, or x normalised over its last axis, perhaps with a scale and a shift."""
    way = sketch.integer(0, 4)
    if way == 0:
        return x
    width = x.shape[-1:]
    if way == 1:
        y = sketch.node("LpNormalization", x, axis=x.rank - 1, p=2 if sketch.chance(80) else 1)
    elif way == 2 and sketch.opset >= 23:
        return sketch.node("RMSNormalization", x, vector(sketch, width), axis=-1, like=x)
    elif way == 3:
        shift = [vector(sketch, width)] if sketch.chance(50) else []
        return sketch.node("LayerNormalization", x, vector(sketch, width), *shift, axis=-1, like=x)
    else:
        mean = sketch.node("ReduceMean", sketch.node("Mul", x, x), sketch.integers([-1]))
        y = sketch.node("Div", x, sketch.node("Sqrt", sketch.node("Add", mean, sketch.literal(1e-2))))
    return sketch.node("Mul", y, vector(sketch, width)) if sketch.chance(60) else y


def _dense(sketch: Sketch, x: Tensor, width: int) -> Tensor:
    y = sketch.node("MatMul", x, weight(sketch, (x.shape[-1], width)))
    return sketch.node("Add", y, vector(sketch, (width,))) if sketch.chance(40) else y


def _changed(sketch: Sketch, x: Tensor) -> Tensor:
    """A step on x that mixtures of its features can take too, or one that they cannot."""
    way = sketch.integer(0, 9)
    if way == 0:
        return sketch.node("Add", x, vector(sketch, x.shape[1:]))
    if way == 1:
        return sketch.node("Mul", x, vector(sketch, x.shape[-1:]))
    if way == 2:
        return sketch.node("Mul", x, _dense(sketch, x, 1))
    if way == 3:
        return sketch.node("Mul", x, _dense(sketch, x, x.shape[-1]))
    if way == 4 and x.rank > 2:
        return sketch.node("Add", x, sketch.node("ReduceMean", x, sketch.integers([1])))
    if way == 5:
        return sketch.node(sketch.choice(["Relu", "Tanh", "Neg"]), x)
    return x


def _stream(sketch: Sketch) -> None:
    """A residual stream with up to three branches."""
    x = _dense(sketch, sketch.pick(lambda t: t.rank >= 2), sketch.size())
    for _ in range(sketch.integer(1, 3)):
        inner = _dense(sketch, _normalised(sketch, x), sketch.size())
        if sketch.chance(70):
            inner = sketch.node(sketch.choice(["Relu", "Gelu", "Tanh"]), inner)
        branch = _dense(sketch, _changed(sketch, inner), x.shape[-1])
        x = _changed(sketch, sketch.node("Add", x, branch)) if sketch.chance(80) else branch
    sketch.put(_dense(sketch, _normalised(sketch, x), sketch.size()))


def _chain(sketch: Sketch) -> None:
    """Linear layers in a row, perhaps with their Gram matrix or with what lies between them."""
    x = _dense(sketch, sketch.pick(lambda t: t.rank >= 2), sketch.size())
    if sketch.chance(30):
        axes = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
        scores = sketch.node("MatMul", x, sketch.node("Transpose", x, perm=axes))
        x = sketch.node("MatMul", sketch.node("Softmax", scores, axis=-1), x)
    sketch.put(_dense(sketch, _changed(sketch, x), sketch.size()))


STEPS: Mapping[str, Callable[[Sketch], None]] = {"stream": _stream, "linear-chain": _chain}
