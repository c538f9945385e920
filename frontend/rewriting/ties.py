"""Which scores are equal for parameters or inputs of measure zero only: then it does not matter which comes first.

Of equal scores ArgMax takes the first, so their order counts. Rectified or rounded numbers are often equal.
"""

from __future__ import annotations

import math

import onnx_ir

from ..model.keys import DOMAIN
from .editor import GraphEditor
from .patterns.matching import Facts

__all__ = ["all_distinct"]

_DEEPEST = 200
_INCREASING = frozenset({"Exp", "Identity", "Neg", "Sqrt"})
_MOVES = frozenset({"Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_ZERO_AT_ZERO = frozenset({"Atan", "Elu", "Erf", "Gelu", "Mish", "Neg", "Selu", "Silu", "Softsign", "Sqrt", "Tanh"})
_NEVER_ZERO = frozenset({"Cosh", "Exp", "Sigmoid", "Softmax", "Softplus"})
_NORMS = frozenset({"ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
_SMOOTH = _MOVES | _NORMS | {"Add", "Sub", "Sum", "Mul", "Pow", "Neg", "Exp"}


def all_distinct(scores: onnx_ir.Value, axis: int, editor: GraphEditor) -> bool:
    """Whether the entries along an axis differ for almost all parameters and inputs.

    They do if each has a parameter of its own that shifts it, or if each is the product of a weight of its own with
    numbers that are almost never zero.

    Args:
        scores: The scores.
        axis: The axis, at least 0.
        editor: The graph, with what is known of its values.
    """
    shape = Facts(editor.known).shape(scores)
    if shape is None or shape[axis] < 2:
        return False
    return _Ties(editor, Facts(editor.known), shape[axis]).distinct(scores, len(shape) - axis, _DEEPEST)


class _Ties:
    """The search, backwards from scores of which `count` are compared; they lie along axis -place of a value."""

    def __init__(self, editor: GraphEditor, facts: Facts, count: int) -> None:
        self.editor, self.facts, self.count = editor, facts, count

    def distinct(self, value: onnx_ir.Value, place: int, depth: int) -> bool:
        """Whether parameters of their own tell the entries of a value apart."""
        node = value.producer()
        if node is None or not depth or not node.inputs or node.inputs[0] is None or not self._varies(value, place):
            return False
        kind, first = _kind(node), node.inputs[0]
        if kind in ("Softmax", "LogSoftmax"):
            axis = node.attributes.get_int("axis", -1)
            along = axis % len(self.editor.known[value].shape) == len(self.editor.known[value].shape) - place
            return along and self.distinct(first, place, depth - 1)
        if kind in _INCREASING:
            return self.distinct(first, place, depth - 1)
        if kind in _MOVES or kind in _NORMS:
            before = self._before(node, place)
            return before is not None and self.distinct(first, before, depth - 1)
        if kind in ("Add", "Sub", "Sum"):
            given = [v for v in node.inputs if v is not None and self._varies(v, place)]
            if len(set(given)) < len(given):
                return False
            return any(self._own(v, _DEEPEST) or self.distinct(v, place, depth - 1) for v in given)
        if kind in ("Mul", "Div", "Pow"):
            return self._scaled(node, place, depth)
        return self._contracted(node, place, depth)

    def _before(self, node: onnx_ir.Node, place: int) -> int | None:
        """Where the scores lie in the operand of a move or a reduction; None if they are reduced or merged."""
        old, new = (self.facts.shape(v) for v in (node.inputs[0], node.outputs[0]))
        if old is None or new is None:
            return None
        axis = len(new) - place
        if node.op_type == "Transpose":
            order = node.attributes.get_ints("perm", tuple(reversed(range(len(old)))))
            return len(old) - order[axis]
        behind = math.prod(new[axis + 1 :])
        if node.op_type in _MOVES:
            return next((len(old) - a for a, n in enumerate(old)
                         if n == new[axis] and math.prod(old[a + 1 :]) == behind), None)  # fmt: skip
        given = self.facts.integers(node.inputs[1]) if len(node.inputs) > 1 else node.attributes.get_ints("axes", ())
        if not given:
            return None
        reduced = {a % len(old) for a in given}
        kept = [a for a in range(len(old)) if a not in reduced]
        found = axis if len(new) == len(old) else kept[axis] if axis < len(kept) else -1
        return None if found in reduced or found < 0 else len(old) - found

    def _scaled(self, node: onnx_ir.Node, place: int, depth: int) -> bool:
        """A square, or a multiple by a number that is not zero."""
        x, y = node.inputs[:2]
        if x is None or y is None:
            return False
        if x is y:
            return _kind(node) == "Mul" and self.distinct(x, place, depth - 1)
        factor = self.facts.scalar(y)
        if factor is None and _kind(node) == "Mul":
            x, factor = y, self.facts.scalar(x)
        return bool(factor) and self.distinct(x, place, depth - 1)

    def _contracted(self, node: onnx_ir.Node, place: int, depth: int) -> bool:
        """A product with a weight, of numbers that are not zero or with a bias for each entry."""
        if node.op_type not in ("MatMul", "Gemm") or node.domain or place != 1:
            return False
        x, w = node.inputs[:2]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias is not None and self._varies(bias, 1) and self._own(bias, _DEEPEST):
            return True
        if x is None or w is None or not self._own(w, _DEEPEST):
            return False
        return not self._own(x, _DEEPEST) and bias is None and self._nonzero(x, depth - 1)

    def _nonzero(self, value: onnx_ir.Value, depth: int) -> bool:
        """Whether entries are almost never zero."""
        node = value.producer()
        if node is None:
            return value.is_graph_input() and "float" in self.editor.known[value].dtype
        if not depth or not node.inputs or node.inputs[0] is None:
            return False
        kind, first = _kind(node), node.inputs[0]
        if kind in _NEVER_ZERO:
            return True
        if kind in _ZERO_AT_ZERO or kind in _MOVES:
            return self._nonzero(first, depth - 1)
        if kind in ("Add", "Sub", "Sum"):
            return any(v is not None and self._own(v, _DEEPEST) for v in node.inputs)
        if kind in ("MatMul", "Gemm", "Conv") and len(node.inputs) > 1 and node.inputs[1] is not None:
            bias = node.inputs[2] if len(node.inputs) > 2 else None
            if bias is not None and self._own(bias, _DEEPEST):
                return True
            return bias is None and self._own(node.inputs[1], _DEEPEST) and self._nonzero(first, depth - 1)
        return False

    def _own(self, value: onnx_ir.Value, depth: int) -> bool:
        """Whether a value is a smooth function of stored floats, so that its entries are almost never equal or zero."""
        if not depth or not self.editor.is_weight(value):
            return False
        node = value.producer()
        if node is None:
            entry = self.editor.known.get(value)
            return value.is_initializer() and entry is not None and "float" in entry.dtype
        given = [v for v in node.inputs if v is not None and self.editor.data(v) is None]
        return _kind(node) in _SMOOTH and all(self._own(v, depth - 1) for v in given)

    def _varies(self, value: onnx_ir.Value, place: int) -> bool:
        shape = self.facts.shape(value)
        return shape is not None and len(shape) >= place and shape[-place] == self.count


def _kind(node: onnx_ir.Node) -> str:
    """The operator of the standard domain; a chain is its operator."""
    if node.domain == DOMAIN and node.op_type == "Chain":
        operator = node.attributes["op"].as_string()
        return "Sum" if operator == "Add" else operator
    return node.op_type if not node.domain or node.op_type in _OF_DIALECT else ""


_OF_DIALECT = frozenset({"Softmax", "LogSoftmax"})
