"""Bounds of computed indices: whether they are sure to lie within an axis."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir

from .patterns.matching import Facts, producer

__all__ = ["below", "narrows"]

_SAME = frozenset({"Cast", "Expand", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_UNKNOWN = (-math.inf, math.inf)
_BOUNDED: dict[str, Callable[[Iterable[float]], float]] = {"Add": sum, "Max": max, "Min": min}


def below(index: onnx_ir.Value | None, size: int, facts: Facts) -> bool:
    """Whether indices are known to lie between 0 and `size` - 1.

    Args:
        index: The indices.
        size: The size of the axis that they index.
        facts: What is known of values.
    """
    least, most = _bounds(index, size, facts)
    return least >= 0 and most < size


def _bounds(index: onnx_ir.Value | None, size: int, facts: Facts) -> tuple[float, float]:
    """Between which numbers the entries of a value lie, infinite where that is not known.

    size: Of the axis that they index; types that cannot represent its numbers are no bounds.
    """
    numbers, node = facts.data(index), producer(index)
    if numbers is not None and numbers.size and numbers.dtype.kind in "iuf":
        return float(numbers.min()), float(numbers.max())
    if index is None or node is None or not node.inputs:
        return _UNKNOWN
    if node.op_type in ("ArgMax", "ArgMin", "TopK"):
        picked, last = (1, -1) if node.op_type == "TopK" else (0, 0)
        shape = facts.shape(node.inputs[0]) if index is node.outputs[picked] else None
        return _UNKNOWN if shape is None else (0, shape[node.attributes.get_int("axis", last)] - 1)
    if node.op_type == "Mod":
        divisor = facts.integers(node.inputs[1])
        whole = not node.attributes.get_int("fmod", 0)
        return (0, max(divisor) - 1) if whole and divisor and min(divisor) > 0 else _UNKNOWN
    if node.op_type == "Clip":
        ends = [*node.inputs, None, None]
        x, low, high = (_bounds(v, size, facts) if v is not None else _UNKNOWN for v in ends[:3])
        least = x[0] if ends[1] is None else max(x[0], low[0])
        most = x[1] if ends[1] is None else max(x[1], low[1])
        return (least, most) if ends[2] is None else (min(least, high[0]), min(most, high[1]))
    if node.op_type in _BOUNDED and all(v is not None for v in node.inputs):
        some = [_bounds(v, size, facts) for v in node.inputs]
        return _BOUNDED[node.op_type](b[0] for b in some), _BOUNDED[node.op_type](b[1] for b in some)
    if node.op_type in _SAME and not narrows(node, size):
        least, most = _bounds(node.inputs[0], size, facts)
        cast = node.op_type == "Cast" and -math.inf < least and most < math.inf  # towards zero
        return (math.floor(least), math.trunc(most)) if cast else (least, most)
    return _UNKNOWN


def narrows(node: onnx_ir.Node, size: int) -> bool:
    """Whether a node casts to a type that cannot represent all indices of an axis.

    Args:
        node: The node.
        size: The size of the axis.
    """
    to = node.attributes.get_int("to", 0) if node.op_type == "Cast" else 0
    kind = onnx_ir.DataType(to).numpy() if to else np.dtype(np.int64)
    return kind.kind not in "iu" or size - 1 > np.iinfo(kind).max
