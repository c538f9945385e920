"""Vectors of integers some entries of which depend on data: entries are traced through operators that move them.

In place of each entry that depends on data stands a mark; an entry is known if it is the same for different marks.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir

from .folding import fold
from .value_info import MAX_SHAPE_DATA, ValueInfo, shape_of

__all__ = ["DEEPEST", "WHOLE", "moved_entries", "partly_known"]

DEEPEST = 64
"""The most operators through which a value is followed."""

WHOLE = ("int64", "int32")
"""The types of integers that may be sizes."""

_SELECTIONS = frozenset(
    ["Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Shape", "Slice", "Split", "Squeeze",
     "Transpose", "Unsqueeze"]
)  # fmt: skip
"""Operators each entry of whose result is an entry of an operand."""


def partly_known(
    value: onnx_ir.Value | None, known: Mapping[onnx_ir.Value, ValueInfo], opset: int
) -> list[int | None] | None:
    """The entries of a vector of integers, None where an entry depends on data; None if nothing is known of it."""
    if value is None or value not in known:
        return None
    found = [_traced(value, known, opset, mark, 0) for mark in (10**6, 3 * 10**6)]
    if found[0] is None or found[1] is None or found[0].shape != found[1].shape:
        return None
    pairs = zip(found[0].reshape(-1).tolist(), found[1].reshape(-1).tolist(), strict=True)
    return [int(a) if a == b else None for a, b in pairs]


def moved_entries(
    node: onnx_ir.Node, value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo], opset: int
) -> bool:
    """Whether all entries of an output of a node that moves entries are known from entries of operands that are."""
    found = [_traced_through(node, value, known, opset, mark, 0) for mark in (10**6, 3 * 10**6)]
    return found[0] is not None and found[1] is not None and np.array_equal(found[0], found[1])


def _traced(
    value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo], opset: int, mark: int, depth: int
) -> np.ndarray | None:
    """The data of a value, with `mark` for each entry that is computed from data."""
    entry, node = known.get(value), value.producer()
    if entry is None or entry.data is not None:
        return None if entry is None else entry.data
    if entry.dtype not in WHOLE or int(np.prod(entry.shape)) > MAX_SHAPE_DATA:
        return None
    made = None if node is None or depth > DEEPEST else _traced_through(node, value, known, opset, mark, depth)
    return np.full(entry.shape, mark, dtype=np.int64) if made is None else made


def _traced_through(
    node: onnx_ir.Node, value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo], opset: int, mark: int,
    depth: int,
) -> np.ndarray | None:  # fmt: skip
    """The entries of an output of a node that moves entries, as `_traced` gives them; None of any other node."""
    entry = known[value]
    if node.domain or node.op_type not in _SELECTIONS or entry.dtype not in WHOLE or not node.inputs:
        return None
    if node.op_type == "Shape":
        sized = known.get(node.inputs[0]) if node.inputs[0] is not None else None
        if sized is None:
            return None
        sizes = [mark if a in sized.by_data else n for a, n in enumerate(sized.shape)]
        return shape_of(node, sizes)
    arrays: list[np.ndarray | None] = []
    for index, operand in enumerate(node.inputs):
        if operand is None:
            arrays.append(None)
        elif index == 0 or node.op_type == "Concat":
            arrays.append(_traced(operand, known, opset, mark, depth + 1))
        else:
            arrays.append(known[operand].data if operand in known else None)
        if operand is not None and arrays[-1] is None:
            return None
    try:
        results = fold(node, opset, arrays)
    except Exception:
        return None  # The marks do not suit the operator.
    made = None if results is None else np.asarray(results[list(node.outputs).index(value)])
    return None if made is None or made.shape != entry.shape else made.astype(np.int64)
