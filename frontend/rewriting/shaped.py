"""Adds nodes to the main graph and records the shapes of their outputs, so that no other inference is needed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ..errors import Unsupported
from ..inference.shapes import ValueInfo
from .editor import GraphEditor, remove_dead

__all__ = ["ShapedEditor"]

_FLOATS = {
    "float16": onnx_ir.DataType.FLOAT16,
    "bfloat16": onnx_ir.DataType.BFLOAT16,
    "float32": onnx_ir.DataType.FLOAT,
    "float64": onnx_ir.DataType.DOUBLE,
}


@dataclass(frozen=True, slots=True)
class ShapedEditor:
    """A graph editor that knows the shapes of what it adds. Nodes are inserted before the first argument."""

    editor: GraphEditor

    def shape(self, value: onnx_ir.Value | None) -> tuple[int, ...]:
        """The shape of a value. Raises `Unsupported` if it is unknown."""
        known = None if value is None else self.editor.known.get(value)
        if known is None or not known.dtype:
            raise Unsupported("a shape is unknown")
        return known.shape

    def constant(self, node: onnx_ir.Node, what: str, numbers: np.ndarray) -> onnx_ir.Value:
        """Add known numbers, which are no parameter."""
        value = self.editor.literal(f"{node.name}.{what}", numbers)
        self.editor.known[value] = ValueInfo(numbers.shape, str(numbers.dtype), numbers)
        return value

    def made(
        self, node: onnx_ir.Node, op: str, inputs: Sequence[onnx_ir.Value | None], shape: Sequence[int], dtype: str,
        attributes: Mapping[str, onnx_ir.Attr | str | int | Sequence[int]] | None = None, domain: str = "",
    ) -> onnx_ir.Value:  # fmt: skip
        """Add a node whose output has this shape and data type."""
        [value] = self.editor.add(node, op, inputs, attributes, domain)
        self.editor.known[value] = ValueInfo(tuple(shape), dtype)
        return value

    def like(
        self, node: onnx_ir.Node, op: str, value: onnx_ir.Value, inputs: Sequence[onnx_ir.Value], shape: Sequence[int],
        **attributes: str | int | Sequence[int],
    ) -> onnx_ir.Value:  # fmt: skip
        """Add a node whose first input is `value`, and whose output has its data type."""
        return self.made(node, op, [value, *inputs], shape, self.editor.known[value].dtype, attributes)

    def reshaped(self, node: onnx_ir.Node, value: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
        """Add a Reshape unless the value has the shape."""
        if self.shape(value) == tuple(shape):
            return value
        return self.like(node, "Reshape", value, [self.constant(node, "shape", np.array(shape, np.int64))], shape)

    def expanded(self, node: onnx_ir.Node, value: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
        """Add an Expand unless the value has the shape."""
        if self.shape(value) == tuple(shape):
            return value
        return self.like(node, "Expand", value, [self.constant(node, "size", np.array(shape, np.int64))], shape)

    def transposed(self, node: onnx_ir.Node, value: onnx_ir.Value, order: Sequence[int]) -> onnx_ir.Value:
        """Add a Transpose unless the axes are in order."""
        if list(order) == sorted(order):
            return value
        shape = self.shape(value)
        return self.like(node, "Transpose", value, [], [shape[a] for a in order], perm=list(order))

    def moved_axis(self, node: onnx_ir.Node, value: onnx_ir.Value, axis: int, to: int) -> onnx_ir.Value:
        """Add a Transpose that moves one axis unless it is there."""
        order = [a for a in range(len(self.shape(value))) if a != axis]
        order.insert(to, axis)
        return self.transposed(node, value, order)

    def is_float(self, value: onnx_ir.Value) -> bool:
        """Whether a value has floats that a product takes."""
        return self.editor.known[value].dtype in _FLOATS

    def as_type(self, node: onnx_ir.Node, value: onnx_ir.Value, like: onnx_ir.Value) -> onnx_ir.Value:
        """Add a Cast to the data type of another value unless it has it. Raises `Unsupported` if that is no float."""
        kind = self.editor.known[like].dtype
        if self.editor.known[value].dtype == kind:
            return value
        if kind not in _FLOATS:
            raise Unsupported(f"a code is multiplied by {kind}")
        return self.made(node, "Cast", [value], self.shape(value), kind, {"to": int(_FLOATS[kind])})

    def replace(self, node: onnx_ir.Node, value: onnx_ir.Value, output: int = 0) -> None:
        """Replace an output of a node by a value of its shape, and remove what nobody reads then."""
        self.editor.replace_output(node, output, value)
        remove_dead(node.outputs)
