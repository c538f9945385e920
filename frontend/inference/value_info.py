"""What is known of a value, and how it follows from arrays, from ONNX's types and from what operators bound."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from ..budget import absurd
from ..model.protos import dtype_name

__all__ = ["HINTED", "ValueInfo", "at_most", "hint", "key", "of_array", "of_type", "shape_of"]


HINTED = 64
"""Elements of an operand that a shape may depend on, at most."""


@dataclass(frozen=True, slots=True)
class ValueInfo:
    """What is known of a value before the network runs.

    shape: concrete. dtype: NumPy's name ("float32", "bfloat16", ...), "string" for strings, "" for what is no tensor
    (a sequence, an optional), whose shape is ().
    data: the value itself, of that shape, where it follows from shapes, integers and literals; None for parameters and
    for all that depends on them or on the inputs. May be a zero-stride view: read it, do not write it.
    """

    shape: tuple[int, ...]
    dtype: str
    data: np.ndarray | None = None

    def __post_init__(self) -> None:
        """Raise `ValueError` for a shape beyond the budget."""
        if reason := absurd(self.shape):
            raise ValueError(f"a value would have {reason}")


def of_array(array: np.ndarray) -> ValueInfo:
    """A value whose numbers are known."""
    return ValueInfo(array.shape, "string" if array.dtype.kind in "OUS" else array.dtype.name, array)


def of_type(found: onnx.TypeProto) -> ValueInfo | None:
    """A type as inferred; None if it leaves a dimension open."""
    if not found.HasField("tensor_type"):
        return ValueInfo((), "") if found.WhichOneof("value") else None
    tensor = found.tensor_type
    if not tensor.elem_type or not tensor.HasField("shape"):
        return None
    if not all(d.HasField("dim_value") for d in tensor.shape.dim):
        return None
    return ValueInfo(tuple(d.dim_value for d in tensor.shape.dim), dtype_name(onnx_ir.DataType(tensor.elem_type)))


def key(node: onnx_ir.Node, inputs: Sequence[ValueInfo | None]) -> Hashable:
    """All that decides what the schema infers."""
    attributes = tuple(
        (name, id(a) if isinstance(a.value, (list, dict)) or not isinstance(a.value, Hashable) else a.value)
        for name, a in node.attributes.items()
    )
    operands = tuple(k and (k.shape, k.dtype, None if (a := hint(node, k)) is None else a.tobytes()) for k in inputs)
    return node.domain, node.op_type, attributes, operands, tuple(bool(o.name) for o in node.outputs)


def hint(node: onnx_ir.Node, known: ValueInfo | None) -> np.ndarray | None:
    """The data of an input that a shape may depend on (Reshape's target, Resize's scales)."""
    if known is None or known.data is None or known.data.size > HINTED:
        return None
    if known.dtype in ("int64", "int32") or node.op_type in ("Resize", "Upsample"):
        return known.data
    return None


def shape_of(node: onnx_ir.Node, known: ValueInfo) -> np.ndarray:
    """What a Shape or Size node gives."""
    if node.op_type == "Size":
        return np.array(np.prod(known.shape, dtype=np.int64))
    start = node.attributes.get_int("start", 0)
    end = node.attributes.get_int("end", len(known.shape))
    return np.array(known.shape[start:end], dtype=np.int64)


def at_most(node: onnx_ir.Node, inputs: Sequence[ValueInfo | None]) -> ValueInfo | None:
    """NonZero counts as if all were non-zero; Compress as if all were kept, where it is not known what is.

    MaxUnpool makes the shape that it is told, of which ONNX infers nothing.
    """
    if node.op_type not in ("NonZero", "Compress", "MaxUnpool") or node.domain or inputs[0] is None:
        return None
    shape = inputs[0].shape
    if node.op_type == "MaxUnpool":
        told = inputs[2].data if len(inputs) > 2 and inputs[2] is not None else None
        return None if told is None else ValueInfo(tuple(told.tolist()), inputs[0].dtype)
    if node.op_type == "NonZero":
        return ValueInfo((len(shape), math.prod(shape)), "int64")
    axis = node.attributes.get_int("axis", 0)
    if "axis" not in node.attributes:
        shape = (math.prod(shape),)
    condition = inputs[1].data if inputs[1] is not None else None
    kept = shape[axis] if condition is None else int(np.count_nonzero(condition[: shape[axis]]))
    return ValueInfo((*shape[:axis], kept, *shape[axis % len(shape) + 1 :]), inputs[0].dtype)
