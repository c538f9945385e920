"""Whether the scores of a router may be equal: then the first entry is chosen, and entries are not interchangeable."""

from __future__ import annotations

import onnx_ir

from ..model.keys import DOMAIN
from .moves import MOVES
from .patterns.matching import Facts, producer

__all__ = ["may_tie"]

_LEVEL = frozenset(
    {"Relu", "Clip", "HardSigmoid", "HardSwish", "ThresholdedRelu", "Shrink", "Round", "Floor", "Ceil", "Sign", "Not"}
    | {"Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Equal", "QuantizeLinear", "DequantizeLinear"}
)
_RISING = frozenset(
    {"Softmax", "LogSoftmax", "Sigmoid", "Tanh", "Exp", "Log", "Softplus", "Sqrt", "Neg", "Add", "Sub", "Mul", "Div"}
)
_RISING_INTERNAL = frozenset({"Softmax", "LogSoftmax"})
_MANY = 16
"""So many rectified features are never all zero at once."""


def may_tie(scores: onnx_ir.Value | None, facts: Facts) -> bool:
    """Whether scores are equal for many inputs, since a step in front of them has one value for many.

    Scores that are equal by chance alone do not count, nor do those that a mask makes equal, which are not chosen.
    """
    value = scores
    while value is not None and (node := value.producer()) is not None:
        standard = node.domain in ("", "ai.onnx")
        if node.domain == DOMAIN and node.op_type in _RISING_INTERNAL:
            value = node.inputs[0]
        elif not standard:
            return node.op_type in ("Quantize", "Dequantize", "DynamicQuantize")
        elif node.op_type in _LEVEL:
            return True
        elif node.op_type in ("MatMul", "Gemm", "Einsum"):
            return len(node.inputs) == 2 and any(_may_vanish(v, facts) for v in node.inputs)
        elif node.op_type in _RISING or node.op_type in MOVES:
            before = _moving(node, facts)
            if before is None:
                return False
            value = before
        else:
            return False
    return False


def _moving(node: onnx_ir.Node, facts: Facts) -> onnx_ir.Value | None:
    """The only operand that is not one number; None if there are others, which keep equal ones apart."""
    if node.op_type in MOVES and node.op_type not in ("Max", "Min", "Sum", "Mean", "Concat"):
        return node.inputs[0]
    found = [v for v in node.inputs if v is not None and facts.scalar(v) is None]
    return found[0] if len(found) == 1 else None


def _may_vanish(value: onnx_ir.Value | None, facts: Facts) -> bool:
    """Whether all features of a value may be zero at once: few that were rectified."""
    shape = facts.shape(value)
    while (node := producer(value, *MOVES)) is not None:
        value = node.inputs[0]
    rectified = producer(value, "Relu", "ThresholdedRelu", "HardSwish", "Clip") is not None
    return rectified and shape is not None and bool(shape) and shape[-1] < _MANY
