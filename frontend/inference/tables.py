"""Finds parameter tables that a guessed size reads only in part, such as a position table longer than the sequence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx_ir

from ..budget import MAX_FOLDED_ELEMENTS

__all__ = ["LONGEST", "partial_reads"]

LONGEST = 2048
"""The longest table that a guessed dimension is extended to; longer sequences have masks that are too large to fold."""

assert LONGEST**2 <= MAX_FOLDED_ELEMENTS


def partial_reads(
    model: onnx_ir.Model, shapes: Mapping[onnx_ir.Value, Sequence[int]], data: Mapping[onnx_ir.Value, np.ndarray]
) -> Iterator[tuple[int, int, int]]:
    """Find the parameter tables that the graph slices, or gathers from at known indices, only in part.

    Args:
        model: The model.
        shapes: Shapes of all values.
        data: The data of those that are not parameters.

    Yields:
        (rows, rows read, elements not read) per table.
    """
    constant: dict[onnx_ir.Value, bool] = {}
    for node in model.graph:
        if node.domain or node.op_type not in ("Slice", "Gather"):
            continue
        table, places, made = node.inputs[0], node.inputs[1] if len(node.inputs) > 1 else None, node.outputs[0]
        if table is None or table not in shapes or table in data or not _is_constant(table, data, constant):
            continue
        before = shapes[table]
        if node.op_type == "Slice" and made in shapes:
            for rows, read in zip(before, shapes[made], strict=True):
                if read < rows:
                    yield rows, read, int(np.prod(before, dtype=np.int64)) // rows * (rows - read)
        elif node.op_type == "Gather" and places is not None and places in data:
            read = len(np.unique(data[places]))
            rows = before[node.attributes.get_int("axis", 0)]
            if read < rows:
                yield rows, read, int(np.prod(before, dtype=np.int64)) // rows * (rows - read)


def _is_constant(
    value: onnx_ir.Value, data: Mapping[onnx_ir.Value, np.ndarray], memo: dict[onnx_ir.Value, bool]
) -> bool:
    """Whether a value is computed from initializers and known data alone."""
    waiting = [value]
    while waiting:
        top = waiting[-1]
        node = top.producer()
        if top in memo or top.is_initializer() or top in data or node is None:
            memo.setdefault(top, top.is_initializer() or top in data)
            waiting.pop()
            continue
        inputs = [v for v in node.inputs if v is not None]
        missing = [v for v in inputs if v not in memo]
        if missing:
            waiting += missing
            continue
        memo[top] = bool(inputs) and all(memo[v] for v in inputs)
        waiting.pop()
    return memo[value]
