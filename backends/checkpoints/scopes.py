"""What exporters note about tensors in the ONNX file: the module that reads one, and what it was folded from."""

from __future__ import annotations

import ast
from typing import Any

from ...ir import ParameterGraph

__all__ = ["folded_from", "modules_of"]

_SCOPES = "pkg.torch.onnx.name_scopes"
_FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"


def modules_of(graph: ParameterGraph) -> dict[str, list[str]]:
    """The module paths of the nodes that read each tensor.

    Args:
        graph: A graph with its model; one from a store has none.

    Returns:
        Paths such as "blocks.0.mlp", the innermost first, by the tensor's name; those that several nodes in different
        modules read are left out.
    """
    found: dict[str, list[str]] = {}
    several: set[str] = set()
    for part in () if graph.model is None else graph.model.graphs():
        for node in part:
            for value in node.inputs:
                if value is None or value.name not in graph.parameters:
                    continue
                paths = _paths(node)
                if found.setdefault(value.name, paths) != paths:
                    several.add(value.name)
    return {name: paths for name, paths in found.items() if name not in several}


def _paths(node: Any) -> list[str]:
    """Module paths, the innermost first."""
    scopes = _strings(node.metadata_props.get(_SCOPES))
    if scopes:
        return scopes[::-1]
    path: list[str] = []
    # The older exporter names a node "/blocks/blocks.0/mlp/mlp.1/MatMul".
    for part in (node.name or "").strip("/").split("/")[:-1]:
        if path and part.startswith(f"{path[-1]}."):
            path[-1] = part
        else:
            path.append(part)
    return [".".join(path[: n + 1]) for n in reversed(range(len(path)))]


def folded_from(graph: ParameterGraph) -> dict[str, list[str]]:
    """The tensors that the optimizer of onnxscript computed each tensor from.

    Args:
        graph: A graph with its model; one from a store has none.

    Returns:
        Names by the tensor's name, those of intermediate values among them.
    """
    found = {}
    for part in () if graph.model is None else graph.model.graphs():
        for name, value in part.initializers.items():
            if name in graph.parameters and (sources := _strings(value.metadata_props.get(_FOLDED_FROM))):
                found[name] = sources
    return found


def _strings(noted: str | None) -> list[str]:
    """The non-empty strings of a list that is written in Python's syntax; empty if it is none."""
    try:
        found = ast.literal_eval(noted or "[]")
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [entry for entry in found if isinstance(entry, str) and entry] if isinstance(found, list) else []
