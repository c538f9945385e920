"""Conversions to the messages that ONNX's shape inference takes (nodes, types, tensors), and back; schemas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import onnx
import onnx_ir

__all__ = ["dtype_name", "inference_reason", "node_proto", "schema_of", "tensor_proto", "type_proto"]


def node_proto(node: onnx_ir.Node) -> onnx.NodeProto:
    """The node with canonical input and output names (i0, o0, ...), so that equal nodes serialize alike."""
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain)
    proto.input.extend("" if v is None else f"i{k}" for k, v in enumerate(node.inputs))
    proto.output.extend(f"o{k}" if v.name else "" for k, v in enumerate(node.outputs))
    for attribute in node.attributes.values():
        onnx_ir.serde.serialize_attribute_into(proto.attribute.add(), attribute)
    if node.op_type == "STFT" and "onesided" not in node.attributes:
        # The schema's default is 1, but its shape inference assumes 0.
        proto.attribute.append(onnx.helper.make_attribute("onesided", 1))
    return proto


@lru_cache(maxsize=4096)
def type_proto(shape: tuple[int, ...], dtype: str) -> onnx.TypeProto | None:
    """The ONNX type of a tensor of this shape and NumPy dtype name; None for a sequence or an optional."""
    if not dtype:
        return None
    kind = onnx_ir.DataType.STRING if dtype == "string" else onnx_ir.DataType.from_numpy(np.dtype(dtype))
    return onnx.helper.make_tensor_type_proto(int(kind), shape)


def tensor_proto(array: np.ndarray) -> onnx.TensorProto:
    """The ONNX message of an array."""
    return onnx.numpy_helper.from_array(np.asarray(array, order="C"))


@lru_cache(maxsize=4096)
def schema_of(op: str, version: int, domain: str) -> onnx.defs.OpSchema | None:
    """The schema of an operator at an opset version; None if there is none or it is deprecated."""
    try:
        schema = onnx.defs.get_schema(op, version, domain)
    except onnx.defs.SchemaError:
        return None
    return None if schema.deprecated else schema


@lru_cache(maxsize=64)
def dtype_name(dtype: onnx_ir.DataType) -> str:
    """NumPy's name of a data type, "string" for strings."""
    return "string" if dtype == onnx_ir.DataType.STRING else dtype.numpy().name


def inference_reason(error: Exception) -> str:
    """The reason in an error of ONNX, in one line."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300].split("Error] ")[-1].rstrip(".") if lines else "shape inference failed"
