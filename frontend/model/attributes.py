"""Node attributes as Python values, with the defaults of the schema filled in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import onnx
import onnx_ir

__all__ = ["attribute_values", "defaults"]


def attribute_values(node: onnx_ir.Node, opset: int) -> dict[str, Any]:
    """Attributes and defaults by name: lists as tuples, bytes as str, tensors as NumPy arrays, graphs unchanged."""
    return {**defaults(node.domain, node.op_type, opset), **{n: _plain(a) for n, a in node.attributes.items()}}


@lru_cache(maxsize=4096)
def defaults(domain: str, op: str, opset: int) -> dict[str, Any]:
    """The attribute defaults of an operator's schema by name, {} without a schema. Shared: do not modify."""
    try:
        schema = onnx.defs.get_schema(op, opset, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return {}
    defaults = {
        name: onnx.helper.get_attribute_value(a.default_value)
        for name, a in schema.attributes.items()
        if a.default_value.type
    }
    return {name: _decoded(v) for name, v in defaults.items()}


def _decoded(value: Any) -> Any:
    """Bytes as str, lists as tuples."""
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return tuple(_decoded(v) for v in value) if isinstance(value, list | tuple) else value


def _plain(attribute: onnx_ir.Attr) -> Any:
    value = attribute.value
    if attribute.type in (onnx_ir.AttributeType.FLOATS, onnx_ir.AttributeType.INTS, onnx_ir.AttributeType.STRINGS):
        return tuple(value)
    return value.numpy() if attribute.type == onnx_ir.AttributeType.TENSOR else _decoded(value)
