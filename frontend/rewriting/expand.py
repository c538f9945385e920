"""Expands operators without a rule to the function body by which ONNX defines them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import onnx
import onnx_ir

from ..inference.shapes import ValueInfo
from ..model.keys import BODY_DOMAIN
from ..model.opsets import upgrade
from ..model.protos import type_proto
from ..model.traversal import subgraphs
from ..rules.registry import Rule

__all__ = ["expand", "has_body"]

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "ai.onnx.preview")


def expand(
    model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], find: Callable[[onnx_ir.Node], Rule | None]
) -> bool:
    """Turn nodes without a rule into calls of local functions, which the next normalisation inlines.

    Args:
        model: A normalised model.
        known: The result of `shapes.infer`; bodies may depend on types and shapes of operands.
        find: The rule of a node.

    Returns:
        Whether any node was expanded.
    """
    count = 0
    for node in model.graph:
        if find(node) is not None or node.domain not in _DOMAINS or subgraphs(node) or _is_data(node, known):
            continue
        body = _body(node, model.graph.opset_imports.get(node.domain, 1), known)
        if body is None:
            continue
        del body.output[len(node.outputs) :]
        _produce_all(body)
        body.domain, body.name = BODY_DOMAIN, f"{node.op_type}.{count + 1}"
        function = onnx_ir.serde.deserialize_function(body)
        if not _raise_opset(function, model.graph.opset_imports):
            continue
        count += 1
        _name_apart(function, count)
        model.functions[function.identifier()] = function
        node.domain, node.op_type = function.domain, function.name
        node.resize_inputs(len(function.inputs))
    if count:
        model.graph.opset_imports[BODY_DOMAIN] = 1
    return count > 0


def has_body(node: onnx_ir.Node, opset: int) -> bool:
    """Whether ONNX defines the operator by a function."""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return False
    return bool(schema.has_function or schema.has_context_dependent_function)


def _body(node: onnx_ir.Node, opset: int, known: Mapping[onnx_ir.Value, ValueInfo]) -> onnx.FunctionProto | None:
    """The schema's function for this node, attributes left as references; None if it has none."""
    try:
        schema: Any = onnx.defs.get_schema(node.op_type, opset, node.domain)
    except onnx.defs.SchemaError:
        return None
    if schema.has_function:
        version = _latest(schema.function_opset_versions, opset)
        text = schema.get_function_with_opset_version(version)
        return text if isinstance(text, onnx.FunctionProto) else onnx.FunctionProto.FromString(text)
    if schema.has_context_dependent_function:
        types = [_type(known.get(v)) if v is not None else b"" for v in node.inputs]
        if None in types:
            return None
        version = _latest(schema.context_dependent_function_opset_versions, opset)
        proto = onnx_ir.serde.serialize_node(node).SerializeToString()
        text = schema.get_context_dependent_function_with_opset_version(version, proto, types)
        return onnx.FunctionProto.FromString(text) if text else None
    return None


def _is_data(node: onnx_ir.Node, known: Mapping[onnx_ir.Value, ValueInfo]) -> bool:
    return all(v in known and known[v].data is not None for v in node.outputs)


def _raise_opset(function: onnx_ir.Function, imports: Mapping[str, int]) -> bool:
    """Upgrade a body to the opset versions of the model; returns whether that is possible."""
    for domain, version in dict(function.opset_imports).items():
        wanted = imports.get(domain, version)
        if upgrade([n for n in function.all_nodes() if n.domain == domain], domain, version, wanted):
            return False
        function.opset_imports[domain] = wanted
    return True


def _produce_all(body: onnx.FunctionProto) -> None:
    """Add a placeholder, which nothing reads, for each optional output that a body leaves out."""
    produced = {o for n in body.node for o in n.output} | set(body.input)
    for name in body.output:
        if name not in produced:
            body.node.append(onnx.helper.make_node("Identity", [body.input[0]], [name]))


def _name_apart(function: onnx_ir.Function, number: int) -> None:
    """Make names unique across bodies; inlining would otherwise try one number after another for each."""
    for node in function.all_nodes():
        node.name = f"{node.name or node.op_type}.{number}"
        for value in node.outputs:
            value.name = f"{value.name}.{number}"


def _latest(versions: list[int], opset: int) -> int:
    return max((v for v in versions if v <= opset), default=versions[0])


def _type(known: ValueInfo | None) -> bytes | None:
    proto = None if known is None else type_proto(known.shape, known.dtype)
    return None if proto is None else proto.SerializeToString()
