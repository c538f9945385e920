"""Calls of local functions: counts the nodes that inlining would create, before it is done."""

from __future__ import annotations

from collections.abc import Callable, Collection

import onnx_ir

from ...ir import LoadError
from ..budget import MAX_INLINED_NODES, MAX_INLINING_FACTOR
from ..model.traversal import describe

__all__ = ["check_calls"]

Key = tuple[str, str, str]


def check_calls(model: onnx_ir.Model, keep: Callable[[onnx_ir.Function], bool]) -> Collection[Key]:
    """The functions to inline: those that the main graph calls, directly or not, except those to `keep`.

    Raises `LoadError` if they are recursive, or inlining would create more nodes than the budget allows.
    """
    functions = {key: function for key, function in model.functions.items() if not keep(function)}
    sizes: dict[Key, int] = {}
    calls = [node for node in model.graph.all_nodes() if node.op_identifier() in functions]
    for node in calls:
        _measure(node.op_identifier(), functions, sizes)
    made = sum(sizes[node.op_identifier()] for node in calls)
    written = sum(1 for graph in (model.graph, *(f.graph for f in functions.values())) for _ in graph.all_nodes())
    if made > (most := max(MAX_INLINED_NODES, MAX_INLINING_FACTOR * written)):
        largest = max(calls, key=lambda node: sizes[node.op_identifier()])
        raise LoadError(
            f"{describe(largest)}: inlining functions makes {made:,} nodes of the {written:,} in the file, more than "
            f"{most:,}; export the model with its functions inlined, or with fewer calls"
        )
    return sizes.keys()


def _measure(start: Key, functions: dict[Key, onnx_ir.Function], sizes: dict[Key, int]) -> None:
    """Add to `sizes` the number of nodes of a function, and of each that it calls, after inlining."""
    waiting, stack = set[Key](), [start]
    while stack:
        key = stack[-1]
        if key in sizes:
            stack.pop()
            continue
        nodes = list(functions[key].all_nodes())
        calls = [c for node in nodes if (c := node.op_identifier()) in functions and c not in sizes]
        if not calls:
            sizes[key] = sum(sizes.get(node.op_identifier(), 1) for node in nodes)
            continue
        waiting.add(key)
        if not waiting.isdisjoint(calls):
            raise LoadError(
                f"function {key[1]!r} of domain {key[0]!r} calls itself, or one that calls it; "
                "functions must not be recursive, export the model again"
            )
        stack += calls
