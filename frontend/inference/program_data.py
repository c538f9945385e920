"""Which initializers are data of the program (shapes, indices, literals) rather than parameters."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import onnx_ir as ir

from ..budget import FOLDED
from ..rewriting.order import walk
from .attributes import DOMAIN
from .literals import is_literal

__all__ = ["MOVEMENT", "STORED", "initializer_data", "quantised"]

_DEQUANTISERS = frozenset({"DequantizeLinear", "Dequantize", "DequantizeBits"})
STORED = _DEQUANTISERS | {"Sparse"}
"""Operators that make a tensor from the form in which its parameters are stored."""

_QUANTISED_OPS = _DEQUANTISERS | frozenset(
    {
        "QuantizeLinear", "Quantize", "QLinearConv", "QLinearMatMul", "MatMulInteger", "ConvInteger", "QGemm",
        "QAttention", "QEmbedLayerNormalization", "DynamicQuantizeLSTM", "DynamicQuantizeMatMul",
        "MatMulIntegerToFloat", "MatMulNBits", "MatMulBnb4", "GatherBlockQuantized", "QMoE",
    }
)  # fmt: skip
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
# Operands that are never learned, by operator and place.
_SETTINGS = frozenset({
    ("Resize", 1), ("Resize", 2), ("Upsample", 1), ("Pad", 2), ("Clip", 1), ("Clip", 2), ("Dropout", 1),
    ("OneHot", 2), ("Range", 0), ("Range", 1), ("Range", 2), ("NonMaxSuppression", 3), ("NonMaxSuppression", 4),
})  # fmt: skip


def quantised(graph: ir.Graph, find: Callable[[ir.Node], object | None]) -> set[ir.Value]:
    """The integer initializers that are stored weights: operands of quantised operators, data movement looked through.

    Scales and zero points of weights are among them; one of an activation that is a single number is a literal.
    find: the rule of a node. What an operator that neither ONNX nor a rule knows gets in 8 bits or less is taken for
    weights, as shapes and indices have more.
    """
    nodes = list(walk(graph))
    stored = _sources(n for n in nodes if n.op_type in _QUANTISED_OPS)
    foreign = [n for n in nodes if n.domain not in ("", DOMAIN) and find(n) is None]
    small = {v for v in _sources(foreign) if v.const_value is not None and _small(v.const_value)}
    return {v for v in stored | small if v.is_initializer() and not is_literal(v)}


def _sources(nodes: Iterable[ir.Node]) -> set[ir.Value]:
    """The operands of nodes, and what data movement makes them from."""
    found: set[ir.Value] = set()
    todo = [v for node in nodes for v in node.inputs if v is not None]
    while todo:
        value = todo.pop()
        if value in found:
            continue
        found.add(value)
        producer = value.producer()
        if producer is not None and producer.op_type in MOVEMENT | {"Step"}:
            todo.extend(v for v in producer.inputs[:1] if v is not None)
    return found


def _small(tensor: ir.TensorProtocol) -> bool:
    return tensor.dtype.is_integer() and tensor.dtype.bitwidth <= 8 and tensor.size > 1


def initializer_data(value: ir.Value) -> np.ndarray | None:
    """The numbers of an initializer that is no parameter: integers, booleans, strings, literals, settings, nothing.

    None for parameters, and for more than `budget.FOLDED` elements.
    """
    tensor = value.const_value
    if tensor is None or tensor.size > FOLDED:
        return None
    learnable = tensor.dtype.is_floating_point() or tensor.dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128)
    parameter = learnable and tensor.size > 0 and not is_literal(value) and not _setting(value)
    return None if parameter else tensor.numpy()


def _setting(value: ir.Value) -> bool:
    """Whether all that reads it, data movement looked through, takes it for a setting."""
    uses = value.uses()
    return bool(uses) and all(
        (use.node.op_type, use.idx) in _SETTINGS
        or (use.node.op_type in MOVEMENT and all(_setting(output) for output in use.node.outputs))
        for use in uses
    )
