"""Induction variables of loops: values computed from the iteration number alone, and indexing by it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from ..model.traversal import reads
from .editor import GraphEditor, origin

__all__ = ["counters", "limit", "program_values", "read_by_step", "same_number"]

_SAME_NUMBER = frozenset({"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape"})


def program_values(
    editor: GraphEditor, body: onnx_ir.Graph, numbers: Sequence[onnx_ir.Value], carried: Sequence[onnx_ir.Value],
    initials: Sequence[onnx_ir.Value], ends: Sequence[onnx_ir.Value],
) -> set[onnx_ir.Value]:  # fmt: skip
    """The values of a body that depend only on `numbers` and known data, not on parameters or inputs."""
    candidates = {
        inner: end
        for inner, initial, end in zip(carried, initials, ends, strict=True)
        if editor.data(initial) is not None
    }
    while True:
        program = {*numbers, *candidates}
        for node in body:
            read = reads(node)
            if read and all(v in program or editor.data(v) is not None for v in read):
                program.update(node.outputs)
        kept = {inner: end for inner, end in candidates.items() if end in program or editor.data(end) is not None}
        if len(kept) == len(candidates):
            return program
        candidates = kept


def counters(
    editor: GraphEditor,
    node: onnx_ir.Node,
    iteration: onnx_ir.Value,
    carried: Sequence[onnx_ir.Value],
    initials: Sequence[onnx_ir.Value],
    ends: Sequence[onnx_ir.Value],
) -> dict[int, onnx_ir.Value]:
    """The carried values that start at a known number and grow by one, by index, as functions of the iteration."""
    found: dict[int, onnx_ir.Value] = {}
    for index, (inner, initial, end) in enumerate(zip(carried, initials, ends, strict=True)):
        start, entry = _whole(editor, initial), editor.known.get(initial)
        if start is None or entry is None or entry.shape or not _is_next(editor, origin(end), inner):
            continue
        value = iteration
        if start:
            [value] = editor.add(node, "Add", [value, editor.literal(f"{node.name}.start", np.array(start))])
        if entry.dtype != "int64":
            to = int(onnx_ir.DataType.from_numpy(np.dtype(entry.dtype)))
            [value] = editor.add(node, "Cast", [value], {"to": to})
        found[index] = value
    return found


def limit(
    editor: GraphEditor, again: onnx_ir.Value, carried: Sequence[onnx_ir.Value], initials: Sequence[onnx_ir.Value],
    ends: Sequence[onnx_ir.Value],
) -> int | None:  # fmt: skip
    """The trip count of a loop that runs while a carried counter is below a known number, else None."""
    test = origin(again).producer()
    if test is None or test.domain or test.op_type not in ("Less", "LessOrEqual"):
        return None
    counter, bound = (None if v is None else origin(v) for v in test.inputs)
    last = _whole(editor, bound)
    for inner, initial, end in zip(carried, initials, ends, strict=True):
        start = _whole(editor, initial)
        if start is None or last is None or not _is_next(editor, origin(end), inner):
            continue
        if counter is not None and same_number(counter) in (same_number(origin(end)), inner):
            # The test follows the iteration; it reads the counter either before or after the increment.
            late = same_number(counter) is inner
            return max(1, last - start + (test.op_type == "LessOrEqual") + late)
    return None


def _whole(editor: GraphEditor, value: onnx_ir.Value | None) -> int | None:
    """The data of an integer value of one element; None if it is unknown."""
    data = editor.data(value)
    return editor.number(value) if data is not None and data.dtype.kind in "iu" else None


def _is_next(editor: GraphEditor, end: onnx_ir.Value, inner: onnx_ir.Value) -> bool:
    adder = end.producer()
    if adder is None or adder.op_type != "Add" or adder.domain:
        return False
    operands = [None if v is None else origin(v) for v in adder.inputs]
    others = [v for v in operands if v is not inner]
    return len(others) == 1 and editor.number(others[0]) == 1


def read_by_step(
    editor: GraphEditor, body: onnx_ir.Graph, numbers: Sequence[onnx_ir.Value], marks: Mapping[str, int]
) -> None:
    """Replace each Gather of an outer value at the iteration number (one of `numbers`) by a Step.

    marks: attributes of the Step.
    """
    for node in list(body):
        if node.op_type != "Gather" or node.domain or len(node.inputs) != 2:
            continue
        value, index = node.inputs
        if value is None or index is None or same_number(index) not in numbers or not _is_outer(value, body):
            continue
        shape, place = editor.known.get(value), editor.known.get(index)
        if shape is None or place is None or len(place.shape) > 1:
            continue
        axis = node.attributes.get_int("axis", 0) % len(shape.shape)
        [row] = editor.internal(node, "Step", [value], {"axis": axis, "backward": 0, **marks})
        if place.shape:
            row = editor.unsqueezed(node, row, axis)
        node.outputs[0].replace_all_uses_with(row, replace_graph_outputs=True)
        body.remove(node)


def same_number(value: onnx_ir.Value) -> onnx_ir.Value:
    """The value before casts and changes of shape."""
    while (node := value.producer()) is not None and node.op_type in _SAME_NUMBER and not node.domain:
        source = node.inputs[0]
        if source is None:
            break
        value = source
    return value


def _is_outer(value: onnx_ir.Value, body: onnx_ir.Graph) -> bool:
    node = value.producer()
    return value not in body.inputs and (node is None or node.graph is not body)
