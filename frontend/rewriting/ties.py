"""Which scores are equal for parameters or inputs of measure zero only: then it does not matter which comes first.

Of equal scores ArgMax takes the first, so their order counts. Rectified or rounded numbers are often equal.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir

from ..model.keys import DOMAIN
from .editor import GraphEditor
from .patterns.matching import Facts, is_one_number, producer

__all__ = ["all_distinct"]

_DEEPEST = 200
_FARTHEST = 100
"""Steps back from scores to features that may all be zero."""
_INCREASING = frozenset(
    {"Atan", "Cast", "CastLike", "Exp", "Identity", "Log", "Neg", "Sigmoid", "Softplus", "Softsign", "Sqrt", "Tanh"}
)
_MOVES = frozenset({"Cast", "CastLike", "Flatten", "Identity", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_PARTS = frozenset({"Expand", "Slice", "Split", "TopK"})
_NORMS = frozenset({"ReduceL1", "ReduceL2", "ReduceMean", "ReduceSum", "ReduceSumSquare"})
_EXTREMES = frozenset({"ReduceMax", "ReduceMin"})
_SMOOTH = (
    _MOVES | _NORMS | {"Add", "Sub", "Sum", "Mul", "MatMul", "Pow", "Neg", "Exp", "DequantizeLinear", "Dequantize"}
)
_LEVEL = frozenset(
    {"Ceil", "Clip", "Floor", "HardSigmoid", "HardSwish", "Max", "Min", "Relu", "Round", "Shrink", "Sign"}
    | {"ThresholdedRelu", "Where"}
)
"""Functions that are zero for many inputs."""
_NEVER_ZERO = frozenset({"Cos", "Cosh", "Exp", "LogSoftmax", "Sigmoid", "Softmax", "Softplus", "RandomNormalLike"})


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
        self.vanishing: dict[onnx_ir.Value, bool] = {}

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
        if kind in ("Cast", "CastLike") and "float" not in self.editor.known[value].dtype:
            return False
        if kind in _INCREASING:
            return self.distinct(first, place, depth - 1)
        if kind in _MOVES or kind in _NORMS or kind in _EXTREMES:
            before = self._before(node, place)
            if before is None:
                return self._split_off(node, place, depth)
            return self.distinct(first, before, depth - 1)
        if kind in _PARTS:
            return value is node.outputs[0] and self._varies(first, place) and self.distinct(first, place, depth - 1)
        if kind == "Chosen":  # some of the entries along another axis, zero in place of the others
            elsewhere = node.attributes.get_int("axis", -1) != len(self.editor.known[value].shape) - place
            return elsewhere and not node.attributes.get_int("mask", 0) and self.distinct(first, place, depth - 1)
        if kind in ("Where", "ScatterElements"):
            return self._masked(node, place, depth)
        if kind in ("Add", "Sub", "Sum"):
            given = [v for v in node.inputs if v is not None and self._varies(v, place)]
            if len(set(given)) < len(given):
                return False
            return any(self._own(v, _DEEPEST) or self.distinct(v, place, depth - 1) for v in given)
        if kind in ("Mul", "Div", "Pow"):
            return self._scaled(node, place, depth)
        return self._contracted(node, place, depth)

    def _split_off(self, node: onnx_ir.Node, place: int, depth: int) -> bool:
        """Whether the entries come from one larger axis, as groups of experts do, whose entries all differ."""
        old, new = (self.facts.shape(v) for v in (node.inputs[0], node.outputs[0]))
        if node.op_type != "Reshape" or old is None or new is None or node.inputs[0] is None:
            return False
        behind = math.prod(new[len(new) - place + 1 :])
        for axis, size in enumerate(old):
            after = math.prod(old[axis + 1 :])
            if size and behind % after == 0 and (size * after) % (behind * self.count) == 0:
                whole = _Ties(self.editor, self.facts, size)
                return whole.distinct(node.inputs[0], len(old) - axis, depth - 1)
        return False

    def _masked(self, node: onnx_ir.Node, place: int, depth: int) -> bool:
        """Scores of which some are replaced by one number, which keeps them from being chosen."""
        kept = [v for v in node.inputs[:1] if v is not None]
        if node.op_type == "Where":
            kept = [v for v in node.inputs[1:] if v is not None and not is_one_number(v, self.facts)]
        elif not is_one_number(node.inputs[2], self.facts):
            return False
        return len(kept) == 1 and self.distinct(kept[0], place, depth - 1)

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
        """A square, a multiple by what is almost never zero, or scores of which a mask leaves out some."""
        x, y = node.inputs[:2]
        if x is None or y is None:
            return False
        if x is y:
            return _kind(node) == "Mul" and self.distinct(x, place, depth - 1)
        for one, other in ((x, y), (y, x)) if _kind(node) == "Mul" else ((x, y),):
            number = self.facts.scalar(other)
            fine = bool(number) if number is not None else self._is_mask(other) or not self._vanishes(other, _FARTHEST)
            if fine and self.distinct(one, place, depth - 1):
                return True
        return False

    def _is_mask(self, value: onnx_ir.Value) -> bool:
        """Whether a value is 1 where scores take part and 0 elsewhere."""
        node = value.producer()
        while node is not None and (_kind(node) in _MOVES or _kind(node) == "Expand") and node.inputs[0] is not None:
            value = node.inputs[0]
            node = value.producer()
        entry = self.editor.known.get(value)
        kind = "" if node is None else node.op_type
        return kind in ("Chosen", "Ranked", "OneHot", "ScatterElements") or (
            entry is not None and entry.dtype == "bool"
        )

    def _contracted(self, node: onnx_ir.Node, place: int, depth: int) -> bool:
        """A product with a weight that has numbers of its own for each entry, or with such a bias."""
        if node.domain or node.op_type not in ("MatMul", "Gemm", "Einsum", "Conv") or len(node.inputs) < 2:
            return False
        bias = node.inputs[2] if len(node.inputs) > 2 and node.op_type != "Einsum" else None
        rank = len(self.editor.known[node.outputs[0]].shape)
        if node.op_type == "Einsum":
            sides = self._einsum_sides(node, place)
        elif place != (rank - 1 if node.op_type == "Conv" else 1):
            return False
        else:
            sides = (node.inputs[0], node.inputs[1])
            if bias is not None and self._varies(bias, 1) and self._own(bias, _DEEPEST):
                return True
        if sides is None or bias is not None or any(v is None for v in sides):
            return False
        x, w = sides
        assert x is not None
        assert w is not None
        return self._own(w, _DEEPEST) and not self._own(x, _DEEPEST) and not self._vanishes(x, _FARTHEST)

    def _einsum_sides(self, node: onnx_ir.Node, place: int) -> tuple[onnx_ir.Value | None, onnx_ir.Value | None] | None:
        """The operand without the letter of the compared axis, and the one with it."""
        terms, arrow, out = node.attributes["equation"].as_string().replace(" ", "").partition("->")
        parts = terms.split(",")
        if not arrow or "." in terms or len(parts) != 2 or len(out) < place:
            return None
        holds = [out[-place] in part for part in parts]
        return {(False, True): (node.inputs[0], node.inputs[1]), (True, False): (node.inputs[1], node.inputs[0])}.get(
            (holds[0], holds[1])
        )

    def _vanishes(self, value: onnx_ir.Value | None, depth: int) -> bool:
        """Whether all entries may be zero at once for many inputs, as those of rectified features are."""
        node = None if value is None else value.producer()
        if value is None or node is None or not node.inputs:
            return False
        if value not in self.vanishing:
            self.vanishing[value] = depth > 0 and self._may_vanish(value, node, depth - 1)
        return self.vanishing[value]

    def _may_vanish(self, value: onnx_ir.Value, node: onnx_ir.Node, depth: int) -> bool:
        kind, entry = _kind(node), self.editor.known.get(value)
        if self._own(value, _DEEPEST) or kind in _NEVER_ZERO:
            return False
        if kind in _LEVEL or entry is None or "float" not in entry.dtype:
            return True
        if kind in ("Add", "Sub", "Sum", "Concat"):
            return all(self._vanishes(v, depth) for v in node.inputs if v is not None)
        inputs = node.inputs
        if kind in ("Gemm", "Conv", "LayerNormalization", "BatchNormalization") and len(inputs) > 2:
            return False  # It has a bias.
        if kind in _MOVES or kind in _PARTS or kind in _NORMS or kind in ("Gather", "GatherND", "Pad", "Tile"):
            inputs = inputs[:1]
        return any(self._vanishes(v, depth) for v in inputs)

    def _own(self, value: onnx_ir.Value, depth: int) -> bool:
        """Whether a value is a smooth function of stored numbers: entries are almost never equal, or zero."""
        if not depth or not self.editor.is_weight(value):
            return False
        node = value.producer()
        if node is None:
            return value.is_initializer()
        given = [v for v in node.inputs if v is not None and self.editor.data(v) is None]
        if self._on_a_sphere(node):
            given = [v for v in node.inputs[:1] if v is not None]
        elif _kind(node) not in _SMOOTH and not self._picks_each_once(node):
            return False
        return all(self._own(v, depth - 1) for v in given)

    def _picks_each_once(self, node: onnx_ir.Node) -> bool:
        """Whether a node returns entries of its operand, none of them twice."""
        if _kind(node) in ("Slice", "Split"):
            return True
        numbers, shape = self.facts.data(node.inputs[-1]), self.facts.shape(node.inputs[0])
        if _kind(node) != "Gather" or numbers is None or not shape:
            return False
        return len(np.unique(numbers % shape[node.attributes.get_int("axis", 0)])) == numbers.size

    def _on_a_sphere(self, node: onnx_ir.Node) -> bool:
        """Whether a node divides vectors of at least two entries by one number each, such as their norms."""
        shape = self.facts.shape(node.outputs[0])
        if _kind(node) in ("LpNormalize", "RMSNormalize") and shape is not None:
            return math.prod(shape[a] for a in node.attributes.get_ints("axes", ())) > 1
        divisor = node.inputs[1] if _kind(node) == "Div" else None
        while (spread := producer(divisor, "Expand")) is not None:
            divisor = spread.inputs[0]
        by = self.facts.shape(divisor)
        if shape is None or by is None:
            return False
        each = (*(1 for _ in shape[len(by) :]), *by)
        return any(n == 1 < m for n, m in zip(each, shape, strict=True))

    def _varies(self, value: onnx_ir.Value, place: int) -> bool:
        shape = self.facts.shape(value)
        return shape is not None and len(shape) >= place and shape[-place] == self.count


def _kind(node: onnx_ir.Node) -> str:
    """The operator of the standard domain; a chain is its operator."""
    if node.domain == DOMAIN and node.op_type == "Chain":
        operator = node.attributes["op"].as_string()
        return "Sum" if operator == "Add" else operator
    return node.op_type if not node.domain or node.op_type in _OF_DIALECT else ""


_OF_DIALECT = frozenset({"Softmax", "LogSoftmax", "RMSNormalize", "LpNormalize", "Dequantize", "Chosen"})
