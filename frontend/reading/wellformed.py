"""What a model must keep for a lowering to rely on: refused with the file, the node and the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import onnx
import onnx_ir

from ...ir.errors import LoadError
from ..budget import AXES, MOST_OPERANDS, absurd
from ..model.traversal import CycleError, Reads, describe, topological

__all__ = ["check_graphs", "check_names", "check_tensor", "wrong_size"]

_BODIES = {onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS}
_NEWEST = 2**31 - 1


def check_names(graph: onnx.GraphProto, where: str) -> None:
    """No two inputs, initializers or node outputs of one name (an input may share its name with its default value)."""
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
                raise LoadError(f"{where}: {node.op_type} node {node.name!r} makes {name!r}, which is made already")
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
    """It has a data type, a possible shape, and (where the numbers are in the message) as many as that needs."""
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
    if reason := absurd(shape):
        raise LoadError(f"{where}: tensor {tensor.name!r} has {reason}; export the model again")
    if tensor.dtype is onnx_ir.DataType.STRING:
        _check_strings(tensor, where)
    if not isinstance(tensor, onnx_ir.TensorProtoTensor):
        return
    raw = tensor.raw
    if raw.HasField("raw_data"):
        if tensor.dtype is onnx_ir.DataType.STRING:
            raise LoadError(
                f"{where}: tensor {tensor.name!r} of strings has raw bytes; the file is damaged, export it again"
            )
        if len(raw.raw_data) != tensor.nbytes:
            raise LoadError(wrong_size(where, tensor, len(raw.raw_data)))
        return
    count = len(getattr(raw, onnx.helper.tensor_dtype_to_field(raw.data_type)))
    if count != _numbers(tensor):
        raise LoadError(
            f"{where}: tensor {tensor.name!r} holds {count} numbers, its shape {list(shape)} of {tensor.dtype} needs "
            f"{_numbers(tensor)}; export or download the model again"
        )


def _check_strings(tensor: onnx_ir.TensorProtocol, where: str) -> None:
    """Strings are in a field of their own, one for each element; bytes say nothing of where one ends."""
    count = len(tensor.raw) if isinstance(tensor, onnx_ir.StringTensor) else -1
    if isinstance(tensor, onnx_ir.TensorProtoTensor) and not tensor.raw.HasField("raw_data"):
        count = len(tensor.raw.string_data)
    if count != tensor.size:
        raise LoadError(
            f"{where}: tensor {tensor.name!r} of {tensor.size} strings has {max(count, 0)} of them; "
            "the file is damaged, export it again"
        )


def wrong_size(where: str, tensor: onnx_ir.TensorProtocol, length: int) -> str:
    """The complaint about a tensor of another size than its shape says."""
    return (
        f"{where}: tensor {tensor.name!r} holds {length} bytes, its shape {list(tensor.shape)} of {tensor.dtype} "
        f"needs {tensor.nbytes}; export or download the model again"
    )


def _numbers(tensor: onnx_ir.TensorProtocol) -> int:
    """Entries of a tensor's typed field."""
    if tensor.dtype in (onnx_ir.DataType.COMPLEX64, onnx_ir.DataType.COMPLEX128):
        return 2 * tensor.size
    if tensor.dtype is onnx_ir.DataType.STRING or tensor.dtype.bitwidth >= 8:
        return tensor.size
    return -(-tensor.size * tensor.dtype.bitwidth // 8)


def check_graphs(model: onnx_ir.Model, where: str, sort: bool) -> None:
    """Every value is made by something, once and in an order that exists; operators have a version and their settings.

    sort: put nodes that do not stand in such an order into it.
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
                if value is not None and _dangling(value):
                    raise LoadError(f"{where}: {describe(node)} reads {value.name!r}, which nothing makes")
        for value in graph.outputs:
            if _dangling(value):
                raise LoadError(f"{where}: output {value.name!r} is made by no node")
        try:
            order = topological(graph, memo)
        except CycleError as error:
            raise LoadError(f"{where}: {error}; a feed-forward order of the nodes does not exist") from error
        if sort and order != list(graph):
            graph.extend(order)
    if not model.graph.outputs:
        raise LoadError(f"{where}: the graph has no outputs, so there is nothing to lower")
    if not {"", "ai.onnx"} & model.opset_imports.keys() and (first := _first_default(model.graph)) is not None:
        raise LoadError(
            f"{where}: {describe(first)} is of the default domain, but the model imports no opset of it; "
            "add an opset_import with domain '' and the version it was made for"
        )


def _check_text(graph: onnx_ir.Graph, where: str) -> None:
    """Names are text (protobuf hands on what is not UTF-8 as bytes), inputs have a type, values few axes."""
    for value in (*graph.inputs, *graph.initializers.values()):
        if isinstance(value.name, bytes):
            raise LoadError(f"{where}: the name {value.name!r} is not text; the file is damaged, export it again")
    for value in (*graph.inputs, *(o for node in graph for o in node.outputs)):
        if value.shape is not None and len(value.shape) > AXES:
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
    """Versions are possible; attributes are of the types that schemas name, and those that must be there are."""
    for domain, version in imports.items():
        if not 0 < version <= _NEWEST:
            raise LoadError(
                f"{where}: imports version {version} of the operators of {domain or 'ai.onnx'!r}, which cannot be; "
                "the file is damaged, export it again"
            )
    for node in graph.all_nodes():
        kinds, required, least, needed = _settings(
            node.domain, node.op_type, imports.get(node.domain, imports.get("ai.onnx", 1))
        )
        if len(node.inputs) < least:
            raise LoadError(
                f"{where}: {describe(node)} has {len(node.inputs)} operands, it needs {least}; export the model again"
            )
        if len(node.inputs) > MOST_OPERANDS:
            raise LoadError(f"{where}: {describe(node)} has {len(node.inputs):,} operands, more than {MOST_OPERANDS:,}")
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
                    f"{where}: {describe(node)}: attribute {name!r} refers to one of a function, but stands in none; "
                    "export the model again"
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
def _settings(
    domain: str, op: str, version: int
) -> tuple[dict[str, onnx_ir.AttributeType], frozenset[str], int, tuple[int, ...]]:
    """Types of attributes by name, which must be there, least operands, and which; nothing if there is no schema."""
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


def _dangling(value: onnx_ir.Value) -> bool:
    return value.producer() is None and not value.is_graph_input() and not value.is_initializer()
