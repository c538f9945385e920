"""Validates a model: the invariants that lowering relies on. Errors name the file, the node and the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir

from ...ir import LoadError
from ..budget import MAX_AXES, MAX_OPERANDS, oversize_reason
from ..model.traversal import CycleError, Reads, describe, every_node, topological

__all__ = ["check_graphs", "check_names", "check_tensor", "wrong_size"]

_BODIES = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
_NEWEST = 2**31 - 1


def check_names(graph: onnx.GraphProto, where: str) -> None:
    """Check that inputs, initializers and node outputs have unique names; an input may share that of its default."""
    for kind, names in (
        ("input", [i.name for i in graph.input]),
        ("initializer", [t.name for t in graph.initializer]),
    ):
        if len(set(names)) < len(names) or "" in names:
            name = next((n for n, count in Counter(names).items() if n and count > 1), "")
            raise LoadError(f"{where}: {kind} {name!r} is named twice" if name else f"{where}: {kind} without a name")
    taken = {i.name for i in graph.input} | {t.name for t in graph.initializer}
    for node in graph.node:
        for name in node.output:
            if name in taken:
                raise LoadError(f"{where}: {node.op_type} node {node.name!r}: output {name!r} is already defined")
            if name:
                taken.add(name)
        for attribute in node.attribute:
            if attribute.type in _BODIES:
                if attribute.type == onnx.AttributeProto.GRAPH and not (
                    attribute.HasField("g") or attribute.ref_attr_name
                ):
                    raise LoadError(
                        f"{where}: {node.op_type} node {node.name!r}: attribute {attribute.name!r} lacks its graph; "
                        "export the model again"
                    )
                for body in (attribute.g, *attribute.graphs):
                    check_names(body, where)


def check_tensor(tensor: onnx_ir.TensorProtocol, where: str) -> None:
    """Check that a tensor has a data type, a valid shape and, if it is stored in the message, as many elements."""
    try:
        undefined = tensor.dtype is onnx_ir.DataType.UNDEFINED
    except ValueError as error:
        raise LoadError(f"{where}: tensor {tensor.name!r}: {error}; the file is damaged, export it again") from error
    if undefined:
        raise LoadError(f"{where}: tensor {tensor.name!r} has no data type; the file is damaged, export it again")
    shape = tensor.shape.numpy()
    if any(n < 0 for n in shape):
        raise LoadError(
            f"{where}: tensor {tensor.name!r} has the impossible shape {list(shape)}; export the model again"
        )
    if reason := oversize_reason(shape):
        raise LoadError(f"{where}: tensor {tensor.name!r} has {reason}; export the model again")
    if tensor.dtype is onnx_ir.DataType.STRING:
        _check_strings(tensor, where)
    if not isinstance(tensor, onnx_ir.TensorProtoTensor):
        return
    raw = tensor.raw
    if raw.HasField("raw_data"):
        if tensor.dtype is onnx_ir.DataType.STRING:
            raise LoadError(
                f"{where}: string tensor {tensor.name!r} has raw bytes; the file is damaged, export it again"
            )
        if len(raw.raw_data) != tensor.nbytes:
            raise LoadError(wrong_size(where, tensor, len(raw.raw_data)))
        return
    count = len(getattr(raw, onnx.helper.tensor_dtype_to_field(raw.data_type)))
    if count != _numbers(tensor):
        raise LoadError(
            f"{where}: tensor {tensor.name!r} has {count} numbers, but its shape {list(shape)} of {tensor.dtype} needs "
            f"{_numbers(tensor)}; export or download the model again"
        )


def _check_strings(tensor: onnx_ir.TensorProtocol, where: str) -> None:
    """Strings must be in their own field, one per element: raw bytes do not tell where a string ends."""
    count = len(tensor.raw) if isinstance(tensor, onnx_ir.StringTensor) else -1
    if isinstance(tensor, onnx_ir.TensorProtoTensor) and not tensor.raw.HasField("raw_data"):
        count = len(tensor.raw.string_data)
    if count != tensor.size:
        raise LoadError(
            f"{where}: tensor {tensor.name!r} of {tensor.size} strings has {max(count, 0)} of them; "
            "the file is damaged, export it again"
        )


def wrong_size(where: str, tensor: onnx_ir.TensorProtocol, length: int) -> str:
    """The message about a tensor whose size does not match its shape."""
    return (
        f"{where}: tensor {tensor.name!r} has {length} bytes, but its shape {list(tensor.shape)} of {tensor.dtype} "
        f"needs {tensor.nbytes}; export or download the model again"
    )


def _numbers(tensor: onnx_ir.TensorProtocol) -> int:
    """The number of entries that the typed field of a tensor needs."""
    if tensor.dtype in (onnx_ir.DataType.COMPLEX64, onnx_ir.DataType.COMPLEX128):
        return 2 * tensor.size
    if tensor.dtype is onnx_ir.DataType.STRING or tensor.dtype.bitwidth >= 8:
        return tensor.size
    return -(-tensor.size * tensor.dtype.bitwidth // 8)


def check_graphs(model: onnx_ir.Model, where: str, sort: bool) -> None:
    """Check that every value is defined, nodes have a topological order, and operators have valid attributes.

    Args:
        model: The model.
        where: Its name in messages.
        sort: Whether to put the nodes into topological order.

    Raises:
        LoadError: The model is invalid.
    """
    for imports in (model.opset_imports, *(f.opset_imports for f in model.functions.values())):
        if damaged := next((d for d in imports if isinstance(d, bytes)), None):
            raise LoadError(f"{where}: the domain {damaged!r} is not text; the file is damaged, export it again")
    for graph in (*model.graphs(), *(f.graph for f in model.functions.values())):
        _check_text(graph, where)
    for function in model.functions.values():
        _check_attributes(function.graph, function.opset_imports, f"{where}: function {function.name!r}", True)
    _check_attributes(model.graph, model.opset_imports, where, False)
    memo: Reads = {}
    for graph in model.graphs():
        for node in graph:
            for value in node.inputs:
                if value is not None and _undefined(value):
                    raise LoadError(f"{where}: {describe(node)} reads {value.name!r}, which is not defined")
        for value in graph.outputs:
            if _undefined(value):
                raise LoadError(f"{where}: output {value.name!r} is not defined")
        try:
            order = topological(graph, memo)
        except CycleError as error:
            raise LoadError(f"{where}: {error}; the nodes have no topological order") from error
        if sort and order != list(graph):
            graph.extend(order)
    if not model.graph.outputs:
        raise LoadError(f"{where}: the graph has no outputs, so there is nothing to lower")
    if not {"", "ai.onnx"} & model.opset_imports.keys() and (first := _first_default(model.graph)) is not None:
        raise LoadError(
            f"{where}: {describe(first)} is of the default domain, but the model does not import its opset; "
            "add an opset_import with domain '' and the version that it was exported for"
        )


def _check_text(graph: onnx_ir.Graph, where: str) -> None:
    """Names are text (protobuf returns invalid UTF-8 as bytes), inputs have data types, ranks fit the budget."""
    for value in (*graph.inputs, *graph.initializers.values()):
        if isinstance(value.name, bytes):
            raise LoadError(f"{where}: the name {value.name!r} is not text; the file is damaged, export it again")
    for value in (*graph.inputs, *(o for node in graph for o in node.outputs)):
        if value.shape is not None and len(value.shape) > MAX_AXES:
            what = "input" if value.is_graph_input() else "value"
            raise LoadError(f"{where}: {what} {value.name!r} has {len(value.shape)} axes; export the model again")
    for value in graph.inputs:
        if isinstance(value.type, onnx_ir.TensorType) and value.type.dtype is onnx_ir.DataType.UNDEFINED:
            raise LoadError(f"{where}: input {value.name!r} has no data type; export the model again")
    for node in graph:
        for name in (node.op_type, node.domain, node.name, *(o.name for o in node.outputs)):
            if isinstance(name, bytes):
                raise LoadError(f"{where}: the name {name!r} is not text; the file is damaged, export it again")


def _check_attributes(graph: onnx_ir.Graph, imports: Mapping[str, int], where: str, function: bool) -> None:
    """Opset versions are valid; attributes and operands match the schemas, and required ones are present."""
    for domain, version in imports.items():
        if not 0 < version <= _NEWEST:
            raise LoadError(
                f"{where}: imports the impossible version {version} of operator set {domain or 'ai.onnx'!r}; "
                "the file is damaged, export it again"
            )
    for node in every_node(graph):
        kinds, required, least, needed = _requirements(
            node.domain, node.op_type, imports.get(node.domain, imports.get("ai.onnx", 1))
        )
        if len(node.inputs) < least:
            raise LoadError(
                f"{where}: {describe(node)} has {len(node.inputs)} operands, it needs {least}; export the model again"
            )
        if len(node.inputs) > MAX_OPERANDS:
            raise LoadError(f"{where}: {describe(node)} has {len(node.inputs):,} operands, more than {MAX_OPERANDS:,}")
        left_out = next((i for i in needed if i < len(node.inputs) and node.inputs[i] is None), None)
        if left_out is not None:
            raise LoadError(f"{where}: {describe(node)} lacks its operand {left_out}; export the model again")
        found = node.attributes.data
        for name, attribute in found.items():
            kind = attribute.type
            if kind is onnx_ir.AttributeType.UNDEFINED:
                raise LoadError(f"{where}: {describe(node)}: attribute {name!r} has no type; export the model again")
            if not function and attribute.is_ref():
                raise LoadError(
                    f"{where}: {describe(node)}: attribute {name!r} refers to an attribute of a function, but the node "
                    "is outside of functions; export the model again"
                )
            if kind is not kinds.get(name, kind):
                raise LoadError(
                    f"{where}: {describe(node)}: attribute {name!r} is {kind.name}, it must be {kinds[name].name}; "
                    "export the model again"
                )
        if not required <= found.keys():
            name = min(required - found.keys())
            raise LoadError(f"{where}: {describe(node)} lacks its attribute {name!r}; export the model again")


@lru_cache(maxsize=4096)
def _requirements(
    domain: str, op: str, version: int
) -> tuple[dict[str, onnx_ir.AttributeType], frozenset[str], int, tuple[int, ...]]:
    """From the schema: attribute types by name, required attributes, minimal and required operands; empty without."""
    try:
        schema: Any = onnx.defs.get_schema(op, version, "" if domain == "ai.onnx" else domain)
    except onnx.defs.SchemaError:
        return {}, frozenset(), 0, ()
    kinds = {name: onnx_ir.AttributeType[a.type.name] for name, a in schema.attributes.items()}
    required = frozenset(name for name, a in schema.attributes.items() if a.required)
    single = onnx.defs.OpSchema.FormalParameterOption.Single
    return kinds, required, schema.min_input, tuple(i for i, p in enumerate(schema.inputs) if p.option == single)


def _first_default(graph: onnx_ir.Graph) -> onnx_ir.Node | None:
    return next((node for node in graph if not node.domain), None)


def _undefined(value: onnx_ir.Value) -> bool:
    return value.producer() is None and not value.is_graph_input() and not value.is_initializer()
