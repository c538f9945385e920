"""Function bodies that import another opset version than the model: their nodes are upgraded to the model's."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain

import numpy as np
import onnx
import onnx_ir

from ...ir import LoadError

__all__ = ["import_alike", "upgrade"]

_ADDED = frozenset(
    [
        "allowzero", "batch_dims", "block_size", "end", "noop_with_empty_axes", "num_outputs", "output_dtype",
        "precision", "round_mode", "saturate", "sparse_value", "start", "stash_type", "value_float", "value_floats",
        "value_int", "value_ints", "value_string", "value_strings",
    ]
)  # fmt: skip
"""Attributes added later whose defaults keep the earlier behaviour."""

_MOVED = frozenset({"axes", "split", "starts", "ends"})
"""Attributes, lists of integers, that later versions take as an operand of the same name."""


def import_alike(model: onnx_ir.Model, keep: Callable[[onnx_ir.Function], bool]) -> None:
    """Make functions import the opset versions of the model, in place.

    Args:
        model: The model.
        keep: Functions to leave as they are, like those that nothing calls.

    Raises:
        LoadError: An operator of a function differs between both versions.
    """
    imports, functions = model.opset_imports, model.functions
    everywhere = list(chain(model.graph.all_nodes(), *(f.all_nodes() for f in functions.values())))
    called = {node.op_identifier() for node in everywhere}
    for identifier, function in functions.items():
        if identifier not in called or keep(function):
            continue
        own = [n for n in function.all_nodes() if n.op_identifier() not in functions]
        for domain, version in dict(function.opset_imports).items():
            names = {"", "ai.onnx"} if domain in ("", "ai.onnx") else {domain}
            wanted = next((imports[name] for name in names if name in imports), version)
            for op in upgrade([n for n in own if n.domain in names], domain, version, wanted):
                raise LoadError(
                    f"function {function.domain}::{function.name} imports opset {version} of {domain or 'ai.onnx'}, "
                    f"the model {wanted}, and {op} differs between them; convert it to the model's version"
                )
            imports[domain] = function.opset_imports[domain] = wanted


def upgrade(nodes: Iterable[onnx_ir.Node], domain: str, old: int, new: int) -> list[str]:
    """Rewrite nodes of one opset version as nodes of another that compute the same.

    An attribute that became an operand becomes a Constant. Nodes change only if all of them can be rewritten.

    Args:
        nodes: Nodes of one domain, in a graph or a function.
        domain: The domain.
        old: The version that they are written for.
        new: The version to rewrite them for.

    Returns:
        The operators that cannot be rewritten, in alphabetical order: they are defined differently, or unknown.
    """
    if old == new:
        return []
    domain = "" if domain == "ai.onnx" else domain
    edits = {node: _edits(node, domain, old, new) for node in nodes}
    stuck = sorted({node.op_type for node, found in edits.items() if found is None})
    for node, found in edits.items() if not stuck else ():
        for name, place in (found or {}).items():
            _make_operand(node, name, place)
        if node.op_type == "Split" and old < 18 <= new and len(node.inputs) < 2:
            node.attributes.add(onnx_ir.AttrInt64("num_outputs", len(node.outputs)))
    return stuck


def _edits(node: onnx_ir.Node, domain: str, old: int, new: int) -> dict[str, int] | None:
    """The attributes of a node to turn into operands, each with its place; None if the operator has another meaning."""
    try:
        before, after = (onnx.defs.get_schema(node.op_type, version, domain) for version in (old, new))
    except onnx.defs.SchemaError:
        return None
    if before.since_version == after.since_version:
        return {}
    if before.deprecated or after.deprecated or not _same_operands(node, before, after):
        return None
    places = {operand.name: k for k, operand in enumerate(after.inputs)}
    edits: dict[str, int] = {}
    for name in sorted({*before.attributes, *after.attributes}):
        if name not in before.attributes:
            if name not in _ADDED or after.attributes[name].required:
                return None
        elif name not in after.attributes:
            if name in node.attributes:
                if not _can_move(node, name, places):
                    return None
                edits[name] = places[name]
            elif _default(before, name):
                return None
        elif _default(before, name) != _default(after, name):
            return None
    return edits


def _same_operands(node: onnx_ir.Node, before: onnx.defs.OpSchema, after: onnx.defs.OpSchema) -> bool:
    """Whether operands and outputs mean the same; later versions may add optional ones, and former attributes."""
    for old, new in ((before.inputs, after.inputs), (before.outputs, after.outputs)):
        if [(v.name, v.option) for v in old] != [(v.name, v.option) for v in new[: len(old)]]:
            return False
        optional = onnx.defs.OpSchema.FormalParameterOption.Optional
        if not all(v.option == optional or v.name in node.attributes for v in new[len(old) :]):
            return False
    return True


def _can_move(node: onnx_ir.Node, name: str, places: dict[str, int]) -> bool:
    attribute = node.attributes[name]
    is_list = attribute.type == onnx_ir.AttributeType.INTS and not attribute.is_ref()
    return name in _MOVED and name in places and is_list and len(node.inputs) <= max(places.values())


def _default(schema: onnx.defs.OpSchema, name: str) -> bytes:
    return bytes(schema.attributes[name].default_value.SerializeToString())


def _make_operand(node: onnx_ir.Node, name: str, place: int) -> None:
    """Turn a list of integers in an attribute into an operand."""
    graph = node.graph
    assert graph is not None
    numbers = np.array(node.attributes.pop(name).as_ints(), dtype=np.int64)
    made = onnx_ir.node("Constant", [], {"value": onnx_ir.tensor(numbers)})
    made.outputs[0].name = f"{node.outputs[0].name}/{name}"
    graph.insert_before(node, made)
    if len(node.inputs) <= place:
        node.resize_inputs(place + 1)
    node.replace_input_with(place, made.outputs[0])
