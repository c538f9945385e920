"""An index from ArgMax or ArgMin that only looks up a table becomes a product of a mask with the table.

The index says which of K scores is the greatest. If all it does is address the rows of tables with K rows, or make a
one-hot code, the order of the scores does not matter: they move together with the rows of the tables (the codes of a
vector quantiser). The mask has one entry per score, 1 for the greatest and 0 for the others. Scores that may be equal
(see `ties`) stay, as their order then counts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ..errors import Unsupported
from ..inference.shapes import ValueInfo
from .editor import GraphEditor
from .patterns.matching import Facts
from .ties import all_distinct

__all__ = ["dense_lookups"]

_RESHAPES = frozenset({"Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})


def dense_lookups(
    model: onnx_ir.Model, known: dict[onnx_ir.Value, ValueInfo], overridden: Callable[[onnx_ir.Node], bool]
) -> int:
    """Rewrite what such indices look up in a normalised model, in place.

    Args:
        model: The model.
        known: The result of `shapes.infer`, which gains the new values.
        overridden: Whether a rule from outside lowers a node, which then stays.

    Returns:
        How many indices were rewritten.
    """
    editor, found = GraphEditor(model.graph, known, set()), 0
    for node in list(model.graph):
        if node.domain or node.op_type not in ("ArgMax", "ArgMin", "TopK") or overridden(node):
            continue
        try:
            lookup = _Lookup.of(node, editor, overridden)
        except Unsupported:
            continue
        if lookup is not None and lookup.readers:
            lookup.rewrite()
            found += 1
    return found


@dataclass(slots=True)
class _Lookup:
    """All that reads an index. readers: each with the value of the index that it reads."""

    node: onnx_ir.Node
    editor: GraphEditor
    facts: Facts
    axis: int
    count: int
    readers: dict[onnx_ir.Node, onnx_ir.Value]

    @staticmethod
    def of(node: onnx_ir.Node, editor: GraphEditor, overridden: Callable[[onnx_ir.Node], bool]) -> _Lookup | None:
        """The readers of an index of one entry per row of scores. Raises `Unsupported` if one does something else."""
        facts = Facts(editor.known)
        shape, index = facts.shape(node.inputs[0]), node.outputs[-1]
        if not shape:
            return None
        axis = node.attributes.get_int("axis", -1 if node.op_type == "TopK" else 0) % len(shape)
        if node.op_type == "TopK":
            chosen = facts.shape(index)
            if len(node.outputs) < 2 or not chosen or chosen[axis] != 1 or node.outputs[0].uses():
                return None
            if node.outputs[0].is_graph_output():
                return None
        if node.inputs[0] is None or not all_distinct(node.inputs[0], axis, editor):
            return None
        found = _Lookup(node, editor, facts, axis, shape[axis], {})
        waiting, rows = [index], math.prod(shape) // max(shape[axis], 1)
        while waiting:
            value = waiting.pop()
            numbers = facts.shape(value)
            if value.is_graph_output() or numbers is None or math.prod(numbers) != rows:
                raise Unsupported("the index is used otherwise")
            for use in value.uses():
                if use.node.graph is not editor.graph or overridden(use.node):
                    raise Unsupported("the index is used otherwise")
                if use.idx == 0 and use.node.op_type in _RESHAPES and not use.node.domain:
                    waiting.append(use.node.outputs[0])
                elif found.looks_up(use.node, use.idx):
                    found.readers[use.node] = value
                else:
                    raise Unsupported("the index is used otherwise")
        return found

    def looks_up(self, node: onnx_ir.Node, place: int) -> bool:
        """Whether a node gathers rows of a weight with one row per score, or writes a one-hot code."""
        if node.domain or any(v not in self.editor.known for v in (*node.inputs, *node.outputs) if v is not None):
            return False
        read, index = node.inputs[1 - place] if place < 2 <= len(node.inputs) else None, node.inputs[place]
        shape, made = self.facts.shape(read), self.facts.shape(node.outputs[0])
        at = self.facts.shape(index)
        if node.op_type == "Gather":
            first = bool(shape) and node.attributes.get_int("axis", 0) in (0, -len(shape or ()))
            matrix = first and (shape or ())[0] == self.count and len(shape or ()) <= 2
            return place == 1 and matrix and self.editor.is_weight(read)
        last = made is not None and at is not None and made[-1:] == (self.count,)
        if node.op_type == "OneHot":
            values = self.facts.data(node.inputs[2])
            along = node.attributes.get_int("axis", -1) in (-1, len(at or ()))
            return place == 0 and last and along and values is not None and values.reshape(-1).tolist() == [0, 1]
        if node.op_type == "ScatterElements":
            along = node.attributes.get_int("axis", 0) in (-1, len(at or ()) - 1)
            plain = node.attributes.get_string("reduction", "none") == "none"
            ones, zeros = self.facts.data(node.inputs[2]), self.facts.data(node.inputs[0])
            ones, zeros = ones if ones is not None and (ones == 1).all() else None, zeros
            alike = at is not None and made is not None and at == (*made[:-1], 1)
            return place == 1 and last and along and plain and alike and ones is not None and not _any(zeros)
        return False

    def rewrite(self) -> None:
        """Replace all readers by the mask, or by its product with the table."""
        mask = self._mask()
        for node, index in self.readers.items():
            entry, at = self.editor.known[node.outputs[0]], self.editor.known[index].shape
            if node.op_type == "Gather":
                made = self._picked(node, mask, at)
            else:
                made = self._cast(node, self._reshaped(node, mask, entry.shape), entry.dtype)
            self.editor.known[made] = entry
            self.editor.replace_output(node, 0, made)
            self.editor.graph.remove(node, safe=True)

    def _mask(self) -> onnx_ir.Value:
        """1 for the greatest (smallest) score of each row, 0 for the others; the scores lie along the last axis."""
        scores = self.node.inputs[0]
        assert scores is not None
        entry = self.editor.known[scores]
        rank = len(entry.shape)
        if self.axis != rank - 1:
            order = [*(a for a in range(rank) if a != self.axis), self.axis]
            shape = tuple(entry.shape[a] for a in order)
            [scores] = self.editor.add(self.node, "Transpose", [scores], {"perm": order})
            self.editor.known[scores] = entry = ValueInfo(shape, entry.dtype)
        largest = self.node.attributes.get_int("largest", 1) if self.node.op_type == "TopK" else None
        settings: Mapping[str, int] = {
            "k": 1, "axis": rank - 1, "mask": 1,
            "largest": int(self.node.op_type == "ArgMax") if largest is None else largest,
        }  # fmt: skip
        [mask] = self.editor.internal(self.node, "Chosen", [scores], settings)
        self.editor.known[mask] = entry
        return mask

    def _picked(self, node: onnx_ir.Node, mask: onnx_ir.Value, at: tuple[int, ...]) -> onnx_ir.Value:
        """The product of the mask with a table."""
        table = node.inputs[0]
        assert table is not None
        entry = self.editor.known[table]
        mask = self._reshaped(node, self._cast(node, mask, entry.dtype), (*at, self.count))
        if len(entry.shape) != 2:
            table = self._reshaped(node, table, (self.count, math.prod(entry.shape[1:])))
        [product] = self.editor.add(node, "MatMul", [mask, table])
        self.editor.known[product] = ValueInfo((*at, math.prod(entry.shape[1:])), entry.dtype)
        return product if len(entry.shape) == 2 else self._reshaped(node, product, (*at, *entry.shape[1:]))

    def _reshaped(self, node: onnx_ir.Node, value: onnx_ir.Value, shape: tuple[int, ...]) -> onnx_ir.Value:
        entry = self.editor.known[value]
        if entry.shape == shape:
            return value
        numbers = np.array(shape, np.int64)
        size = self.editor.literal(f"{node.name}.shape", numbers)
        self.editor.known[size] = ValueInfo(numbers.shape, "int64", numbers)
        [made] = self.editor.add(node, "Reshape", [value, size])
        self.editor.known[made] = ValueInfo(shape, entry.dtype)
        return made

    def _cast(self, node: onnx_ir.Node, value: onnx_ir.Value, dtype: str) -> onnx_ir.Value:
        entry = self.editor.known[value]
        if entry.dtype == dtype:
            return value
        to = onnx_ir.DataType.from_numpy(np.dtype(dtype))
        [made] = self.editor.add(node, "Cast", [value], {"to": int(to)})
        self.editor.known[made] = ValueInfo(entry.shape, dtype)
        return made


def _any(numbers: np.ndarray | None) -> bool:
    """Whether any number of a constant is not zero, or unknown."""
    return numbers is None or bool(np.any(numbers))
