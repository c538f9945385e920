"""How a network uses a graph input: as a table index, mask, length, operand of a comparison, or normalised value."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import onnx_ir

from ..frontend.inference.folding import core
from ..frontend.inference.shapes import ValueInfo

__all__ = ["Uses", "uses_of"]

_INDEXING = {"Gather": 1, "GatherElements": 1, "GatherND": 1, "ScatterElements": 1, "ScatterND": 1}
_MOVING = {
    "Cast", "CastLike", "Clip", "Concat", "Expand", "Flatten", "Gather", "Identity", "Pad", "Reshape", "Slice", "Split",
    "Squeeze", "Tile", "Transpose", "Unsqueeze",
}  # fmt: skip
_PASSING = {"Where": (1, 2), "Min": (0, 1), "Max": (0, 1), "Abs": (0,)}
_RECURRENT = {"LSTM": 4, "GRU": 4, "RNN": 4, "ReverseSequence": 1}
_SIZES = {"Range": (0, 1), "Loop": (0,), "TopK": (1,), "ConstantOfShape": (0,), "Reshape": (1,), "Tile": (1,)}
_COMPARING = {"Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"}
_LOGICAL = {"Not", "And", "Or", "Xor"}
_MOST_CHOICES = 16
_LEAST, _LARGE = 1e-6, 1e3
_SAMPLE = 1 << 16


@dataclass(slots=True)
class Uses:
    """Requirements on the values of an input.

    Attributes:
        range: (low, high), high excluded, of integers that index tables; None if they do not.
        lengths: Sizes of the axes that they are lengths along.
        choices: Numbers with which they are compared.
        mask: Whether they are compared, negated or multiplied with values.
        additive_mask: Whether they are mapped to 0 and a very large number, as in additive attention masks.
        numbers: Whether they are used in arithmetic.
        shift: Mean of floats that a normalisation standardises.
        scale: Standard deviation of such floats.
        positive: Whether their logarithm or root is taken.
    """

    range: tuple[int, int] | None = None
    lengths: set[int] = field(default_factory=set)
    choices: set[int] = field(default_factory=set)
    mask: bool = False
    additive_mask: bool = False
    numbers: bool = False
    shift: float = 0.0
    scale: float = 1.0
    positive: bool = False


class _Affine(NamedTuple):
    """A value as an affine function of the input: factor * input + offset."""

    factor: float = 1.0
    offset: float = 0.0


def uses_of(value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo]) -> Uses:
    """Follow a value through data movement and affine arithmetic to its uses.

    Args:
        value: A graph input.
        known: What shape inference knows of the model's values.

    Returns:
        The requirements of all uses.
    """
    found = Uses()
    seen, queue = {value}, [(value, _Affine())]
    while queue:
        here, line = queue.pop()
        for node, place in here.uses():
            after = _after(node, place, line, known)
            if after is None:
                _note(found, node, place, line, known)
                continue
            for output in node.outputs:
                if output not in seen:
                    seen.add(output)
                    queue.append((output, after))
    return found


def _after(node: onnx_ir.Node, place: int, line: _Affine, known: Mapping[onnx_ir.Value, ValueInfo]) -> _Affine | None:
    """The output of a node as an affine function of the input, if it is one."""
    op = node.op_type
    if (op in _MOVING and (place == 0 or op == "Concat")) or place in _PASSING.get(op, ()):
        return line
    if op == "BatchNormalization" and place == 0:
        scale, bias, mean, variance = (_number(v, known) for v in node.inputs[1:5])
        if None in (scale, bias, mean, variance):
            return None
        # Ignore scale and bias: this is about the distribution that the normalisation expects.
        deviation = max(float(variance or 0), _LEAST) ** 0.5
        return _Affine(line.factor / deviation, (line.offset - float(mean or 0)) / deviation)
    if op not in ("Add", "Sub", "Mul", "Div"):
        return None
    other = _number(node.inputs[1 - place], known, size=op in ("Mul", "Div"))
    if other is None or (op == "Div" and (place == 1 or other == 0)) or (op == "Mul" and other == 0):
        return None
    if op == "Add":
        return _Affine(line.factor, line.offset + other)
    if op == "Sub":
        return _Affine(line.factor, line.offset - other) if place == 0 else _Affine(-line.factor, other - line.offset)
    factor = other if op == "Mul" else 1 / other
    return _Affine(line.factor * factor, line.offset * factor)


def _note(found: Uses, node: onnx_ir.Node, place: int, line: _Affine, known: Mapping[onnx_ir.Value, ValueInfo]) -> None:
    op = node.op_type
    if _INDEXING.get(op) == place:
        _within(found, _rows(node, known), line)
    elif op == "OneHot" and place == 0:
        depth = _number(node.inputs[1], known)
        _within(found, None if depth is None else int(depth), line)
    elif op in _COMPARING:
        _compared(found, node.inputs[1 - place], line, known)
    elif op in _LOGICAL or (op == "Where" and place == 0):
        found.mask = True
    elif _RECURRENT.get(op) == place:
        axis = node.attributes.get_int("time_axis", 0)
        found.lengths.add(_size(node.inputs[0], axis, known))
    elif op == "Slice" and place in (1, 2):
        found.lengths.add(max(_shape(node.inputs[0], known), default=1))
    elif place in _SIZES.get(op, ()):
        found.lengths.add(3)
    elif op in ("Log", "Sqrt", "Pow") and place == 0:
        found.positive = True
    elif abs(line.factor) >= _LARGE and line.offset in (0.0, -line.factor):
        found.additive_mask = True
    elif op not in ("Shape", "Size"):
        found.mask = found.mask or op in ("Mul", "Sub")
        found.numbers = True
        if line != _Affine() and abs(line.factor) > _LEAST:
            found.shift, found.scale = -line.offset / line.factor, 1 / abs(line.factor)


def _within(found: Uses, rows: int | None, line: _Affine) -> None:
    """Restrict the range to integers whose affine image indexes one of the rows."""
    if not rows or not line.factor:
        return
    ends = sorted(((0 - line.offset) / line.factor, (rows - 1 - line.offset) / line.factor))
    low, high = int(np.ceil(ends[0])), int(np.floor(ends[1])) + 1
    if found.range is not None:
        low, high = max(low, found.range[0]), min(high, found.range[1])
    found.range = (low, high)


def _compared(
    found: Uses, other: onnx_ir.Value | None, line: _Affine, known: Mapping[onnx_ir.Value, ValueInfo]
) -> None:
    """Note a comparison, with a threshold or with the positions along an axis."""
    data = known[other].data if other is not None and other in known else None
    if data is not None and data.size == 1 and data.dtype.kind in "iuf" and line.factor:
        number = (float(data.reshape(-1)[0]) - line.offset) / line.factor
        if np.isfinite(number) and len(found.choices) < _MOST_CHOICES and number not in (0.0, 1.0):
            found.choices.add(round(number))
            return
    elif data is not None and data.size > 1 and data.dtype.kind in "iu":
        found.lengths.add(data.size)
        return
    found.mask = True


def _rows(node: onnx_ir.Node, known: Mapping[onnx_ir.Value, ValueInfo]) -> int:
    axis = 0 if node.op_type.endswith("ND") else node.attributes.get_int("axis", 0)
    return _size(node.inputs[0], axis, known)


def _size(value: onnx_ir.Value | None, axis: int, known: Mapping[onnx_ir.Value, ValueInfo]) -> int:
    shape = _shape(value, known)
    return shape[axis] if -len(shape) <= axis < len(shape) else 0


def _shape(value: onnx_ir.Value | None, known: Mapping[onnx_ir.Value, ValueInfo]) -> tuple[int, ...]:
    return known[value].shape if value is not None and value in known else ()


def _number(value: onnx_ir.Value | None, known: Mapping[onnx_ir.Value, ValueInfo], size: bool = False) -> float | None:
    """A constant as one number, its mean or, with `size`, its root mean square; None if it is not constant."""
    data = known[value].data if value is not None and value in known else None
    if data is None and value is not None and value.const_value is not None:
        data = value.const_value.numpy()
    if data is None or not data.size or data.dtype.kind not in "iuf":
        return None
    numbers = core(data).reshape(-1)[:_SAMPLE].astype(np.float64)
    number = float(np.sqrt(np.mean(numbers**2)) if size and data.size > 1 else numbers.mean())
    return number if np.isfinite(number) else None
