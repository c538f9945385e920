"""Computed weights: functions, products and sums of stored tensors, hypernetworks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ..sketch import NotApplicable, Sketch, Tensor

__all__ = ["STEPS", "derived"]

Shape = tuple[int, ...]


def derived(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """A float value of this shape, computed from parameters alone; a parameter if the drawn form does not allow it."""
    try:
        made = sketch.choice(_FORMS)(sketch, shape, scale)
    except NotApplicable:
        return sketch.parameter(shape, scale)
    return sketch.choice(_FUNCTIONS)(sketch, made) if sketch.chance(20) else made


def _stored(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """A parameter, sometimes one that is used elsewhere too."""
    same = [t for t in sketch.weights if t.shape == shape]
    return sketch.choice(same) if same and sketch.chance(30) else sketch.parameter(shape, scale)


def _function(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    return sketch.choice(_FUNCTIONS)(sketch, _stored(sketch, shape, scale))


def _softplus(sketch: Sketch, w: Tensor) -> Tensor:
    return sketch.node("Softplus", w)


def _one_more(sketch: Sketch, w: Tensor) -> Tensor:
    return sketch.node("Add", sketch.literal(1.0), w)


def _negative(sketch: Sketch, w: Tensor) -> Tensor:
    return sketch.node("Neg", w)


def _times_literal(sketch: Sketch, w: Tensor) -> Tensor:
    return sketch.node("Mul", w, sketch.literal(0.75))


def _times_exp(sketch: Sketch, w: Tensor) -> Tensor:
    """A learned temperature."""
    return sketch.node("Mul", w, sketch.node("Exp", sketch.parameter((), 0.5)))


def _masked(sketch: Sketch, w: Tensor) -> Tensor:
    """A constant mask of zeros and ones, as in MADE."""
    mask = np.ones(w.shape, np.float32)
    if w.rank < 2:
        mask[::2] = 0
    else:
        mask[...] = np.tril(np.ones(w.shape[-2:], np.float32))
    return sketch.node("Mul", w, sketch.initializer(mask))


def _scaled(sketch: Sketch, w: Tensor) -> Tensor:
    """One number per entry of an axis."""
    if not w.rank:
        return w
    axis = sketch.integer(0, w.rank - 1)
    scales = sketch.parameter([n if a == axis else 1 for a, n in enumerate(w.shape)])
    return sketch.node(sketch.choice(["Mul", "Div", "Add"]), w, scales)


_FUNCTIONS = (_softplus, _one_more, _negative, _times_literal, _times_exp, _masked, _scaled)


def _turned(sketch: Sketch, w: Tensor) -> Tensor:
    """The last two axes exchanged."""
    return sketch.node("Transpose", w, perm=[*range(w.rank - 2), w.rank - 1, w.rank - 2])


def _antisymmetric(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """Antisymmetric or symmetric: w - w^T or w + w^T."""
    if len(shape) < 2 or shape[-1] != shape[-2]:
        raise NotApplicable
    w = _stored(sketch, shape, scale)
    return sketch.node(sketch.choice(["Sub", "Add"]), w, _turned(sketch, w))


def _product(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    if len(shape) < 2:
        raise NotApplicable
    rank = sketch.integer(1, 3)
    return sketch.node("MatMul", sketch.parameter((*shape[:-1], rank), scale), sketch.parameter((rank, shape[-1])))


def _low_rank(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """Low-rank update: W + s A B."""
    product = _product(sketch, shape, scale)
    factor = sketch.literal(0.5) if sketch.chance(50) else sketch.parameter(())
    update = sketch.node("Mul", product, factor) if sketch.chance(60) else product
    return sketch.node("Add", _stored(sketch, shape, scale), update)


def _outer(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """One vector per axis, as an outer product or sum."""
    if not shape:
        raise NotApplicable
    made: Tensor | None = None
    op = sketch.choice(["Mul", "Add"])
    for axis, n in enumerate(shape):
        vector = sketch.parameter([n if a == axis else 1 for a in range(len(shape))], scale if not axis else 1.0)
        made = vector if made is None else sketch.node(op, made, vector)
    assert made is not None
    return made


def _kron(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """Kronecker product of two matrices."""
    if len(shape) != 2:
        raise NotApplicable
    (m, p), (n, q) = (_factors(sketch, size) for size in shape)
    a, b = sketch.parameter((m, 1, n, 1), scale), sketch.parameter((1, p, 1, q))
    return sketch.node("Reshape", sketch.node("Mul", a, b), sketch.integers(shape))


def _factors(sketch: Sketch, size: int) -> tuple[int, int]:
    first = sketch.choice([n for n in range(1, size + 1) if size % n == 0])
    return first, size // first


def _normed(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """Weight normalisation: g v / |v|, with the norm over all axes but one."""
    if len(shape) < 2:
        raise NotApplicable
    axis = sketch.choice([0, len(shape) - 1])
    v = _stored(sketch, shape, scale)
    g = sketch.parameter([n if a == axis else 1 for a, n in enumerate(shape)])
    rest = sketch.integers([a for a in range(len(shape)) if a != axis])
    if sketch.opset >= 18 and sketch.chance(50):
        norm = sketch.node("ReduceL2", v, rest, keepdims=1)
    else:
        norm = sketch.node("Sqrt", sketch.node("ReduceSum", sketch.node("Mul", v, v), rest, keepdims=1))
    return sketch.node("Mul", g, sketch.node("Div", v, norm))


def _mixture(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """A bank of weights, averaged with learned coefficients."""
    shares = sketch.node("Softmax", sketch.parameter((3, *[1] * len(shape))), axis=0)
    bank = sketch.node("Mul", sketch.parameter((3, *shape), scale), shares)
    return sketch.node("ReduceSum", bank, sketch.integers([0]), keepdims=0)


def _generated(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """A small hypernetwork on a learned code."""
    hidden, size = sketch.integer(2, 3), math.prod(shape)
    code = sketch.node("Tanh", sketch.node("MatMul", sketch.parameter((1, 2)), sketch.parameter((2, hidden))))
    flat = sketch.node("MatMul", code, sketch.parameter((hidden, size), scale))
    return sketch.node("Reshape", flat, sketch.integers(shape))


def _joined(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """A concatenation of two differently computed parts."""
    axis = sketch.choice([a for a, n in enumerate(shape) if n > 1])
    half = shape[axis] // 2
    sizes = (half, shape[axis] - half)
    parts = [
        sketch.choice(_FUNCTIONS)(sketch, sketch.parameter([n if a == axis else m for a, m in enumerate(shape)], scale))
        for n in sizes
    ]
    return sketch.node("Concat", *parts, axis=axis)


def _part_of_sum(sketch: Sketch, shape: Shape, scale: float) -> Tensor:
    """A sum of two tensors, transposed, sliced or gathered."""
    way = sketch.integer(0, 2)
    if not shape or (way == 0 and len(shape) < 2):
        raise NotApplicable
    stored = (*shape[:-2], shape[-1], shape[-2]) if way == 0 else (shape[0] + 1, *shape[1:])
    made = sketch.node("Add", _stored(sketch, stored, scale), sketch.parameter(stored, scale))
    if way == 0:
        return _turned(sketch, made)
    if way == 1:
        return sketch.node("Slice", made, *(sketch.integers([v]) for v in (1, 1 + shape[0], 0)))
    rows = list(range(shape[0], 0, -1))
    return sketch.node("Gather", made, sketch.integers(rows), axis=0)


_FORMS = (
    _function,
    _function,
    _low_rank,
    _product,
    _normed,
    _antisymmetric,
    _outer,
    _kron,
    _mixture,
    _generated,
    _joined,
    _part_of_sum,
)


def _layer(sketch: Sketch) -> None:
    """A layer with a computed weight, followed by a nonlinearity."""
    x = sketch.pick(lambda t: t.rank >= 2)
    w = derived(sketch, (x.shape[-1], sketch.size()), 1 / math.sqrt(x.shape[-1]))
    sketch.put(sketch.node(sketch.choice(["Tanh", "Relu", "Sigmoid"]), sketch.node("MatMul", x, w)))


def _series(sketch: Sketch) -> None:
    """Two layers that share a square tensor, transformed in the second."""
    x = sketch.pick(lambda t: t.rank >= 2 and t.shape[-1] > 1)
    width = x.shape[-1]
    w = sketch.parameter((width, width), 1 / math.sqrt(width))
    turned = _turned(sketch, w) if sketch.chance(30) else w
    second = sketch.choice(_FUNCTIONS)(sketch, turned)
    for each in (w, second):
        x = sketch.node("Tanh", sketch.node("MatMul", x, each))
    sketch.put(x)


def _norm(sketch: Sketch) -> None:
    """A scale 1 + w after a normalisation, as in Gemma."""
    x = sketch.pick(lambda t: t.rank >= 2 and t.shape[-1] > 1)
    options: dict[str, Any] = {} if sketch.opset >= 18 else {"axes": [-1]}
    axes = [sketch.integers([-1])] if sketch.opset >= 18 else []
    square = sketch.node("ReduceMean", sketch.node("Mul", x, x), *axes, keepdims=1, **options)
    root = sketch.node("Sqrt", sketch.node("Add", square, sketch.literal(1e-5)))
    scale = sketch.choice(_FUNCTIONS)(sketch, sketch.parameter(x.shape[-1:]))
    sketch.put(sketch.node("Mul", sketch.node("Div", x, root), scale))


STEPS: Mapping[str, Callable[[Sketch], None]] = {
    "derived": _layer,
    "derived-series": _series,
    "derived-norm": _norm,
}
