"""Local functions that import another opset version than the model: unified if their operators are unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import onnx
import onnx_ir

from ...ir import LoadError

__all__ = ["changed", "import_alike"]

# Attributes added later whose defaults keep the earlier behaviour.
_ADDED = frozenset({"round_mode", "saturate", "stash_type"})


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
        used = {(n.domain, n.op_type) for n in function.all_nodes() if n.op_identifier() not in functions}
        for domain, version in dict(function.opset_imports).items():
            names = {"", "ai.onnx"} if domain in ("", "ai.onnx") else {domain}
            wanted = next((imports[name] for name in names if name in imports), version)
            for op in changed({op for of, op in used if of in names}, domain, version, wanted):
                raise LoadError(
                    f"function {function.domain}::{function.name} imports opset {version} of {domain or 'ai.onnx'}, "
                    f"the model {wanted}, and {op} differs between them; convert it to the model's version"
                )
            imports[domain] = function.opset_imports[domain] = wanted


def changed(ops: Iterable[str], domain: str, old: int, new: int) -> list[str]:
    """The operators that differ between two opsets, other than in the types they accept, or that have no schema."""
    return sorted(op for op in ops if old != new and not _unchanged(op, domain, old, new))


def _unchanged(op: str, domain: str, old: int, new: int) -> bool:
    domain = "" if domain == "ai.onnx" else domain
    try:
        before, after = (onnx.defs.get_schema(op, version, domain) for version in (old, new))
    except onnx.defs.SchemaError:
        return False
    if before.since_version == after.since_version:
        return True
    return not before.deprecated and not after.deprecated and _signature(before) == _signature(after)


def _signature(schema: onnx.defs.OpSchema) -> tuple[Any, ...]:
    """Operands, outputs and attributes with their defaults."""
    attributes = sorted(
        (n, a.required, a.default_value.SerializeToString()) for n, a in schema.attributes.items() if n not in _ADDED
    )
    return [(v.name, v.option) for v in schema.inputs], [(v.name, v.option) for v in schema.outputs], attributes
