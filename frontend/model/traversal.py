"""Graph traversal: what a node reads (bodies included), and topological order without modifying the graph."""

from __future__ import annotations

import heapq
from collections.abc import Callable

import onnx_ir

from ...ir.printable import printable

__all__ = ["CycleError", "Reads", "describe", "every_node", "needed_nodes", "reads", "subgraphs", "topological"]

Reads = dict[onnx_ir.Graph, dict[onnx_ir.Value, None]]
"""By graph: the values that its nodes read, nodes of nested bodies included."""


class CycleError(ValueError):
    """The nodes form a cycle; `node` lies on it."""

    def __init__(self, node: onnx_ir.Node) -> None:
        super().__init__(f"a cycle runs through {describe(node)}")
        self.node = node


def describe(node: onnx_ir.Node) -> str:
    """Describe a node for messages: its operator and its name, or its outputs if it has no name."""
    op = printable(f"{node.domain}::{node.op_type}" if node.domain else node.op_type)
    if node.name:
        return f"{op} node {node.name!r}"
    return f"{op} node with outputs {[o.name for o in node.outputs if o.name]}"


def every_node(graph: onnx_ir.Graph | onnx_ir.Function) -> list[onnx_ir.Node]:
    """The nodes of a graph and of all bodies, each node before those of its bodies.

    The same as `list(graph.all_nodes())`, which takes several times longer where few nodes have bodies.
    """
    found: list[onnx_ir.Node] = []
    for node in graph:
        found.append(node)
        for body in subgraphs(node):
            found += every_node(body)
    return found


def subgraphs(node: onnx_ir.Node) -> list[onnx_ir.Graph]:
    """The subgraphs in a node's attributes (branches, loop bodies)."""
    found: list[onnx_ir.Graph] = []
    for attribute in node.attributes.data.values():
        kind = attribute.type
        if kind is onnx_ir.AttributeType.GRAPH and not attribute.is_ref():
            found.append(attribute.as_graph())
        elif kind is onnx_ir.AttributeType.GRAPHS and not attribute.is_ref():
            found.extend(attribute.as_graphs())
    return found


def reads(node: onnx_ir.Node, memo: Reads | None = None) -> list[onnx_ir.Value]:
    """The values that a node and its bodies read; values that the bodies themselves define are included.

    Args:
        node: The node.
        memo: Cache of what bodies read; valid as long as they do not change.
    """
    # onnx_ir's analyze_implicit_usage omits values that a body returns unchanged, and its sets have no order.
    values = [v for v in node.inputs if v is not None]
    for body in subgraphs(node):
        values.extend(_read_in(body, {} if memo is None else memo))
    return values


def _read_in(graph: onnx_ir.Graph, memo: Reads) -> dict[onnx_ir.Value, None]:
    if graph not in memo:
        memo[graph] = dict.fromkeys([*(v for inner in graph for v in reads(inner, memo)), *graph.outputs])
    return memo[graph]


def needed_nodes(graph: onnx_ir.Graph, is_known: Callable[[onnx_ir.Value], bool]) -> set[onnx_ir.Node]:
    """The nodes that the outputs depend on through values that are not known, so not for their shape alone."""
    found: set[onnx_ir.Node] = set()
    memo: Reads = {}
    waiting = list(graph.outputs)
    while waiting:
        value = waiting.pop()
        node = None if is_known(value) else value.producer()
        if node is not None and node not in found:
            found.add(node)
            waiting += reads(node, memo)
    return found


def topological(graph: onnx_ir.Graph, memo: Reads | None = None) -> list[onnx_ir.Node]:
    """The nodes in topological order; the graph's own order if it is topological.

    Args:
        graph: The graph, which is not modified.
        memo: As for `reads`.

    Raises:
        CycleError: There is no such order.
    """
    # Graph.sort would reorder the caller's model and does not report which node lies on a cycle.
    memo = {} if memo is None else memo
    nodes = list(graph)
    seen: set[onnx_ir.Node] = set()
    for node in nodes:
        for value in reads(node, memo):
            producer = value.producer()
            if producer is not None and producer not in seen and producer.graph is graph:
                return _kahn(nodes, memo)
        seen.add(node)
    return nodes


def _kahn(nodes: list[onnx_ir.Node], memo: Reads) -> list[onnx_ir.Node]:
    position = {node: i for i, node in enumerate(nodes)}
    before = [
        {position[p] for v in reads(node, memo) if (p := v.producer()) is not None and p in position} for node in nodes
    ]
    after: list[list[int]] = [[] for _ in nodes]
    for i, earlier in enumerate(before):
        for j in earlier:
            after[j].append(i)
    missing = [len(b) for b in before]
    ready = [i for i, count in enumerate(missing) if count == 0]
    order: list[onnx_ir.Node] = []
    while ready:
        i = heapq.heappop(ready)
        order.append(nodes[i])
        for j in after[i]:
            missing[j] -= 1
            if missing[j] == 0:
                heapq.heappush(ready, j)
    if len(order) < len(nodes):
        raise CycleError(nodes[_on_cycle(before, missing)])
    return order


def _on_cycle(before: list[set[int]], missing: list[int]) -> int:
    """The index of a node on a cycle: walk back among the nodes that never became ready until one repeats."""
    at = next(i for i, count in enumerate(missing) if count)
    walked: set[int] = set()
    while at not in walked:
        walked.add(at)
        at = next(j for j in before[at] if missing[j])
    return at
