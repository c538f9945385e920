"""Shape, dtype and known data of a value, from arrays or from ONNX types."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from ..budget import oversize_reason
from ..model.protos import dtype_name

__all__ = ["MAX_SHAPE_DATA", "ValueInfo", "hint", "inference_key", "of_array", "of_type", "shape_of"]


MAX_SHAPE_DATA = 64
"""Most elements of an operand on whose data a shape may depend."""


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """What is known of a value at compile time.

    Attributes:
        shape: The concrete shape; () for a sequence or an optional.
        dtype: NumPy's name ("float32", "bfloat16", ...), "string" for strings, "" for a sequence or an optional.
        data: The value itself where it follows from shapes, integers and literals alone; None for parameters and
            whatever depends on them or on the inputs. May be a zero-stride view: do not write to it.
        by_data: The axes whose sizes the network computes from its inputs and parameters.
    """

    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None
    by_data: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raise `ValueError` for a shape beyond the budget."""
        if reason := oversize_reason(self.shape):
            raise ValueError(f"a value would have {reason}")


def of_array(array: np.ndarray) -> ValueInfo:
    """The info of a value whose data is known."""
    return ValueInfo(array.shape, "string" if array.dtype.kind in "OUS" else array.dtype.name, array)


def of_type(found: onnx.TypeProto) -> ValueInfo | None:
    """The info of an inferred type; None if a dimension is unknown."""
    if not found.HasField("tensor_type"):
        return ValueInfo((), "") if found.WhichOneof("value") else None
    tensor = found.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    if not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return ValueInfo(tuple(d.dim_value for d in tensor.shape.dim), dtype_name(onnx_ir.DataType(tensor.elem_type)))


def inference_key(node: onnx_ir.Node, inputs: Sequence[ValueInfo | None]) -> Hashable:
    """A key that is equal for nodes for which the schema infers the same outputs."""
    attributes = tuple(
        (name, id(a) if isinstance(a.value, (list, dict)) or not isinstance(a.value, Hashable) else a.value)
        for name, a in node.attributes.items()
    )
    operands = tuple(k and (k.shape, k.dtype, None if (a := hint(node, k)) is None else a.tobytes()) for k in inputs)
    return node.domain, node.op_type, attributes, operands, tuple(bool(o.name) for o in node.outputs)


def hint(node: onnx_ir.Node, known: ValueInfo | None) -> np.ndarray | None:
    """The data of an operand that an output shape may depend on (Reshape's target, Resize's scales), else None."""
    if known is None or known.data is None or known.data.size > MAX_SHAPE_DATA:
        return None
    if known.dtype in ("int64", "int32") or node.op_type in ("Resize", "Upsample"):
        return known.data
    return None


def shape_of(node: onnx_ir.Node, shape: Sequence[int]) -> np.ndarray:
    """The output of a Shape or Size node."""
    if node.op_type == "Size":
        return np.array(np.prod(shape, dtype=np.int64))
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(shape))
    return np.array(shape[start:end], dtype=np.int64)
