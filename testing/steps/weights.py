"""Weights: separate initializers, shared ones, views of larger tensors, or computed ones."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..sketch import Sketch, Tensor
from .derived import derived

__all__ = ["vector", "weight"]


def weight(sketch: Sketch, shape: Sequence[int], fan: int | None = None) -> Tensor:
    """A float value of this shape that depends on no input. fan: the number of products that are summed."""
    shape = tuple(shape)
    scale = 1 / math.sqrt(max(1, fan if fan is not None else shape[0]))
    way = sketch.integer(0, 99)
    if way < 70 or not shape:
        return sketch.parameter(shape, scale)
    if way < 82:
        return _tied(sketch, shape) or sketch.parameter(shape, scale)
    if way < 88 and len(shape) > 1:
        return _moved(sketch, shape, scale)
    return _dequantised(sketch, shape, scale) if way < 91 else derived(sketch, shape, scale)


def vector(sketch: Sketch, shape: Sequence[int], positive: bool = False) -> Tensor:
    """A float value to add or multiply, sometimes one that is used elsewhere."""
    if sketch.chance(10) and not positive:
        return _tied(sketch, tuple(shape)) or sketch.parameter(shape)
    return sketch.parameter(shape, positive=positive)


def _tied(sketch: Sketch, shape: tuple[int, ...]) -> Tensor | None:
    """An existing tensor, transposed if necessary."""
    same = [t for t in sketch.weights if t.shape == shape]
    turned = [t for t in sketch.weights if t.rank == len(shape) > 1 and t.shape[::-1] == shape]
    if not same and not turned:
        return None
    found = sketch.choice([*same, *turned])
    if found.shape == shape and (len(shape) < 2 or shape[::-1] != shape or sketch.chance(50)):
        return found
    return sketch.node("Transpose", found)


def _moved(sketch: Sketch, shape: tuple[int, ...], scale: float) -> Tensor:
    """A slice, a transpose or a row of a larger tensor."""
    way = sketch.integer(0, 2)
    if way == 0:
        return sketch.node("Transpose", sketch.parameter(shape[::-1], scale))
    if way == 1:
        large = sketch.parameter((shape[0] + 2, *shape[1:]), scale)
        bounds = [sketch.integers([v]) for v in (1, 1 + shape[0], 0)]
        return sketch.node("Slice", large, *bounds)
    stacked = sketch.parameter((2, *shape), scale)
    return sketch.node("Gather", stacked, sketch.integers(sketch.integer(0, 1)), axis=0)


def _rounded(sketch: Sketch, shape: tuple[int, ...], scale: float) -> Tensor:
    """A float tensor that the network rounds, with scales along any axis, and dequantises with the same or others."""
    grids = [_grid(sketch, shape, scale) for _ in range(2)]
    (first, own), (second, other) = grids if sketch.chance(50) else [grids[0]] * 2
    return sketch.node("DequantizeLinear", sketch.node("QuantizeLinear", sketch.parameter(shape, scale), *first, **own),
                       *second, **other)  # fmt: skip


def _grid(sketch: Sketch, shape: tuple[int, ...], scale: float) -> tuple[list[Tensor], dict[str, Any]]:
    """Scale and zero point, per tensor or along an axis."""
    axis = -1 if not shape or sketch.chance(40) else sketch.integer(0, len(shape) - 1)
    size = () if axis < 0 else (shape[axis],)
    steps = sketch.initializer(np.asarray(sketch.numbers(size, scale / 30, positive=True), dtype=np.float32))
    points = sketch.initializer(np.asarray(np.round(sketch.numbers(size) * 9), dtype=np.int8))
    return [steps, points], {"axis": axis} if size else {}


def _dequantised(sketch: Sketch, shape: tuple[int, ...], scale: float) -> Tensor:
    if sketch.chance(50):
        return _rounded(sketch, shape, scale)
    steps = np.round(sketch.numbers(shape) * 100).astype(np.int8)
    stored = sketch.initializer(steps)
    if not shape or sketch.chance(40):
        return sketch.node("DequantizeLinear", stored, sketch.initializer(np.array(scale / 100, np.float32)))
    axis = sketch.integer(0, len(shape) - 1)
    scales = sketch.initializer(sketch.numbers((shape[axis],), scale / 100, positive=True))
    return sketch.node("DequantizeLinear", stored, scales, axis=axis)
