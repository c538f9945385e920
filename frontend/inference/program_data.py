"""Tells initializers that are program data (shapes, indices, literals) from parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir

from ..budget import MAX_FOLDED_ELEMENTS
from ..dialect import internal_ops
from ..model.keys import ML_DOMAIN
from ..model.traversal import every_node
from .literals import is_literal

__all__ = ["MOVEMENT", "STORED", "initializer_data", "is_mask", "quantised"]

STORED = internal_ops(lambda op: op.stores) | {"DequantizeLinear"}
"""Operators that decode a tensor from the form in which it is stored (quantised, sparse)."""

_QUANTISED_OPS = internal_ops(lambda op: op.quantised) | frozenset(
    {
        "DequantizeLinear", "QuantizeLinear", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "QGemm",
        "QAttention", "QEmbedLayerNormalization", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "QMoE",
    }
)  # fmt: skip
_SELECTING = internal_ops(lambda op: op.selects)
# Operators between packed integers and the cast to float; _BITS are those that unpack.
_BITS = frozenset({"BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor"})
_INTEGER = _BITS | {"Add", "Div", "Mod", "Mul", "Neg", "Sub", "Where"}
MOVEMENT = frozenset(
    [
        "Identity",
        "Transpose",
        "Reshape",
        "Squeeze",
        "Unsqueeze",
        "Flatten",
        "Slice",
        "Split",
        "Concat",
        "Gather",
        "Expand",
        "Cast",
        "Pad",
        "Tile",
    ]
)
# (operator, operand index) of operands that are never learned.
_SETTINGS = frozenset({
    ("Resize", 1), ("Resize", 2), ("Upsample", 1), ("Pad", 2), ("Clip", 1), ("Clip", 2), ("Dropout", 1),
    ("OneHot", 2), ("Range", 0), ("Range", 1), ("Range", 2), ("NonMaxSuppression", 3), ("NonMaxSuppression", 4),
})  # fmt: skip


def quantised(graph: onnx_ir.Graph, find: Callable[[onnx_ir.Node], object | None]) -> set[onnx_ir.Value]:
    """The integer initializers that are stored weights, and their scales and zero points.

    These are the operands of quantised operators, also through data movement. Integers that are cast to float, or read
    by an operator that neither ONNX nor a rule knows, count as weights if they have at most 8 bits and are no mask
    (shapes and indices are wider), or if bits are unpacked from them on the way. A scale or zero point of an activation
    that is a single number is a literal.

    Args:
        graph: The main graph.
        find: The rule of a node, None if it has none.

    Returns:
        The stored weights among the initializers.
    """
    nodes = every_node(graph)
    stored = _sources(n for n in nodes if n.op_type in _QUANTISED_OPS)
    foreign = [n for n in nodes if n.domain not in ("", ML_DOMAIN) and find(n) is None]
    casts = [n for n in nodes if not n.domain and _makes_floats(n)]
    small = {v for v in _sources(foreign) if v.const_value is not None and _is_small_integers(v.const_value)}
    numbers = _sources(casts, _INTEGER)
    packed = _sources((n for n in nodes if n.op_type in _BITS and n.outputs[0] in numbers), _INTEGER)
    for value in numbers:
        tensor = value.const_value
        if (
            tensor is not None
            and (_is_small_integers(tensor) or (value in packed and _is_integer_array(tensor)))
            and not is_mask(tensor)
        ):
            small.add(value)
    return {v for v in stored | small if v.is_initializer() and not is_literal(v)}


def _sources(nodes: Iterable[onnx_ir.Node], through: frozenset[str] = frozenset()) -> set[onnx_ir.Value]:
    """The operands of nodes, and their sources through data movement and the operators `through`."""
    found: set[onnx_ir.Value] = set()
    todo = [v for node in nodes for v in _operands(node)]
    while todo:
        value = todo.pop()
        if value in found:
            continue
        found.add(value)
        producer = value.producer()
        if producer is None:
            continue
        if producer.op_type in through or producer.op_type == "Concat":
            todo.extend(_operands(producer))
        elif producer.op_type in MOVEMENT | _SELECTING:
            todo.extend(v for v in producer.inputs[:1] if v is not None)
    return found


def _operands(node: onnx_ir.Node) -> Iterable[onnx_ir.Value]:
    """The inputs that are present, except the shift amount of BitShift."""
    inputs = node.inputs[:1] if node.op_type == "BitShift" else node.inputs
    return (v for v in inputs if v is not None)


def _makes_floats(node: onnx_ir.Node) -> bool:
    """Whether a node casts to a floating-point type."""
    if node.op_type == "Cast":
        kind = node.attributes.get_int("to", 0)
        return bool(kind) and onnx_ir.DataType(kind).is_floating_point()
    like = node.inputs[1] if node.op_type == "CastLike" and len(node.inputs) > 1 else None
    return like is not None and like.dtype is not None and like.dtype.is_floating_point()


def is_mask(tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether all elements are 0 or 1; of large tensors only the first ones are read."""
    numbers = tensor.numpy().reshape(-1)
    return all(bool(((part == 0) | (part == 1)).all()) for part in (numbers[:64], numbers[:MAX_FOLDED_ELEMENTS]))


def _is_integer_array(tensor: onnx_ir.TensorProtocol) -> bool:
    return tensor.dtype.is_integer() and tensor.size > 1


def _is_small_integers(tensor: onnx_ir.TensorProtocol) -> bool:
    return _is_integer_array(tensor) and tensor.dtype.bitwidth <= 8


def initializer_data(value: onnx_ir.Value) -> np.ndarray | None:
    """The data of an initializer that is not a parameter: integers, booleans, strings, literals, settings, or empty.

    None for parameters, and for more than `budget.FOLDED` elements.
    """
    tensor = value.const_value
    if tensor is None or tensor.size > MAX_FOLDED_ELEMENTS:
        return None
    learnable = tensor.dtype.is_floating_point() or tensor.dtype in (
        onnx_ir.DataType.COMPLEX64,
        onnx_ir.DataType.COMPLEX128,
    )
    parameter = learnable and tensor.size > 0 and not is_literal(value) and not _is_setting(value)
    return None if parameter else tensor.numpy()


def _is_setting(value: onnx_ir.Value) -> bool:
    """Whether all uses of a value, also through data movement, are operands that are never learned."""
    uses = value.uses()
    return bool(uses) and all(
        (use.node.op_type, use.idx) in _SETTINGS
        or (use.node.op_type in MOVEMENT and all(_is_setting(output) for output in use.node.outputs))
        for use in uses
    )
