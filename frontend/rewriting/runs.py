"""Merges long runs of elementwise operators on one value into one operator, which is lowered in one step.

Every later pass and every walk of the lowering takes time per node. A run is lowered to the same graph as its
operators, one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Set

import onnx_ir

from ..dialect import declared
from ..inference.literals import is_literal
from ..model.attributes import attribute_values
from ..model.keys import DOMAIN
from ..model.traversal import reads
from ..primitives.functions import FUNCTIONS, PREDICATES

__all__ = ["merge_runs"]

SHORTEST = 64
"""Shorter runs stay as they are: they take little time, and what other passes look for is shorter than this."""

_OPERATORS = (FUNCTIONS.keys() - PREDICATES - {"Sum"}) | {"Identity"}
"""The operators in runs; the type of their result is that of their operand."""

_PLAIN = {onnx_ir.AttributeType.INT, onnx_ir.AttributeType.FLOAT, onnx_ir.AttributeType.STRING}

Run = list[onnx_ir.Node]
Numbers = Set[onnx_ir.Value]
"""The floats of the program, which are broadcast to any shape."""


def merge_runs(model: onnx_ir.Model, overridden: Callable[[onnx_ir.Node], bool]) -> int:
    """Replace, in place, each long run on a value that depends on the network's inputs by one `Run`.

    Intermediate values must be used once, and not be graph outputs.

    Args:
        model: A normalised model.
        overridden: Whether a rule that is not built in lowers a node: such nodes are in no run.

    Returns:
        How many runs were replaced.
    """
    graph = model.graph
    if len(graph) < SHORTEST:
        return 0
    numbers = {v for v in graph.initializers.values() if _is_number(v)}
    runs = [run for run in _runs(graph, numbers, overridden) if len(run) >= SHORTEST]
    active = _active(graph) if runs else set()
    runs = [run for run in runs if _operand(run[0], numbers) in active]
    for run in runs:
        _replace(graph, run, numbers)
    if runs:
        graph.opset_imports[DOMAIN] = 1
    return len(runs)


def _runs(graph: onnx_ir.Graph, numbers: Numbers, overridden: Callable[[onnx_ir.Node], bool]) -> list[Run]:
    """All runs, of any length."""
    runs: dict[onnx_ir.Value, Run] = {}
    for node in graph:
        x = _operand(node, numbers)
        if x is None or overridden(node):
            continue
        ends = x in runs and len(x.uses()) == 1 and not x.is_graph_output()
        run = runs.pop(x) if ends else []
        run.append(node)
        runs[node.outputs[0]] = run
    return list(runs.values())


def _operand(node: onnx_ir.Node, numbers: Numbers) -> onnx_ir.Value | None:
    """The value that a node computes one number from each number of, None if it does anything else."""
    own = node.attributes.data.values()
    if node.op_type not in _OPERATORS or node.domain or len(node.outputs) != 1:
        return None
    # The bounds of Clip were attributes before opset 11; its rule makes operands of them.
    if own and (node.op_type == "Clip" or any(a.is_ref() or a.type not in _PLAIN for a in own)):
        return None
    values = [v for v in node.inputs if v is None or v not in numbers]
    return values[0] if len(values) == 1 else None


def _is_number(value: onnx_ir.Value) -> bool:
    """Whether a value is a float of the program."""
    tensor = value.const_value
    return (
        tensor is not None
        and value.is_initializer()
        and len(tensor.shape) == 0
        and tensor.dtype.is_floating_point()
        and is_literal(value)
    )


def _active(graph: onnx_ir.Graph) -> set[onnx_ir.Value]:
    """The values that are computed from entries of the network's inputs."""
    found = {v for v in graph.inputs if not v.is_initializer()}
    for node in graph:
        if node.op_type not in ("Shape", "Size") and not found.isdisjoint(reads(node)):
            found.update(node.outputs)
    return found


def _replace(graph: onnx_ir.Graph, run: Run, numbers: Numbers) -> None:
    """Replace the nodes of a run by one."""
    last, x, opset = run[-1], _operand(run[0], numbers), graph.opset_imports.get("", 1)
    assert x is not None
    steps = [_step(node, opset, numbers) for node in run if node.op_type != "Identity"]
    own = {"steps": onnx_ir.AttrStrings("steps", steps)}
    merged = onnx_ir.node(declared("Run"), [x], own, domain=DOMAIN, name=last.name)
    merged.metadata_props.update(last.metadata_props)
    [old], [new] = last.outputs, merged.outputs
    new.name, new.shape, new.type = old.name, old.shape, old.type
    onnx_ir.convenience.replace_nodes_and_values(graph, last, run, [merged], [old], [new])


def _step(node: onnx_ir.Node, opset: int, numbers: Numbers) -> str:
    """A node as text: see `unary_step`."""
    operands = [v.const_value.numpy().item() if v in numbers else None for v in node.inputs]  # type: ignore[union-attr]
    return json.dumps([node.op_type, attribute_values(node, opset), operands])
