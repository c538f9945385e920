"""Shape inference of control flow: the outputs of If, Loop and Scan, by way of their bodies."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir

from ...ir import LoweringError
from ..model.traversal import subgraphs
from .value_info import ValueInfo

__all__ = ["BODIES", "Walk"]

Infos = list[ValueInfo | None]


class Walk(Protocol):
    """The inference that meets a body.

    Attributes:
        known: What has been inferred so far.
        misfits: Branches that cannot run on these shapes.
    """

    known: dict[onnx_ir.Value, ValueInfo]
    misfits: set[onnx_ir.Graph]

    def graph(self, graph: onnx_ir.Graph) -> None:
        """Infer the nodes of a graph whose inputs are known."""

    def opset(self, node: onnx_ir.Node) -> int:
        """The version of the operator set of a node."""
        ...


def _branches(walk: Walk, node: onnx_ir.Node, inputs: Infos) -> Infos:
    """Outputs of the branch that is taken; if that is unknown, of the first branch that can run."""
    names = ["then_branch", "else_branch"]
    condition = inputs[0].data if inputs and inputs[0] is not None else None
    if condition is not None:
        names = names[:1] if condition.reshape(-1)[0] else names[1:]
    results: list[Infos] = []
    errors: list[LoweringError] = []
    for name in names:
        branch = node.attributes[name].as_graph()
        try:
            walk.graph(branch)
            results.append([walk.known.get(v) for v in branch.outputs])
        except LoweringError as error:
            errors.append(error)
            walk.misfits.add(branch)
    if not results:
        raise errors[0]
    return [None if k is None else ValueInfo(k.shape, k.dtype, k.data if len(names) == 1 else None) for k in results[0]]


def _loop(walk: Walk, node: onnx_ir.Node, inputs: Infos) -> Infos:
    body = subgraphs(node)[0]
    trips = inputs[0].data if inputs and inputs[0] is not None else None
    count = 1 if trips is None else max(int(trips.reshape(-1)[0]), 0)
    start: Sequence[ValueInfo | None] = [ValueInfo((), "int64"), ValueInfo((), "bool"), *inputs[2:]]
    _enter(walk, body, start)
    ends = [walk.known.get(v) for v in body.outputs[1:]]
    carried = len(inputs) - 2
    finals = [k and ValueInfo(k.shape, k.dtype) for k in ends[:carried]]
    return finals + [k and ValueInfo((count, *k.shape), k.dtype) for k in ends[carried:]]


def _scan(walk: Walk, node: onnx_ir.Node, inputs: Infos) -> Infos:
    body = subgraphs(node)[0]
    if walk.opset(node) < 9:
        return [None] * len(node.outputs)
    scanned = node.attributes["num_scan_inputs"].as_int()
    if not 0 < scanned <= len(inputs):
        raise ValueError(f"num_scan_inputs is {scanned}, but it has {len(inputs)} inputs")
    states = len(inputs) - scanned
    axes = _ints(node, "scan_input_axes", scanned)
    rows = [
        k and ValueInfo(tuple(np.delete(k.shape, a).tolist()), k.dtype)
        for k, a in zip(inputs[states:], axes, strict=True)
    ]
    lengths = [k.shape[a] for k, a in zip(inputs[states:], axes, strict=True) if k is not None]
    _enter(walk, body, [*inputs[:states], *rows])
    ends = [walk.known.get(v) for v in body.outputs]
    places = _ints(node, "scan_output_axes", len(ends) - states)
    stacked = [
        ValueInfo(tuple(np.insert(k.shape, a, lengths[0]).tolist()), k.dtype) if k and lengths else None
        for k, a in zip(ends[states:], places, strict=True)
    ]
    return [k and ValueInfo(k.shape, k.dtype) for k in ends[:states]] + stacked


def _enter(walk: Walk, body: onnx_ir.Graph, start: Sequence[ValueInfo | None]) -> None:
    """Infer a loop body; carried values change between iterations, so their data is unknown."""
    for value, known in zip(body.inputs, start, strict=False):
        if known is not None:
            walk.known[value] = ValueInfo(known.shape, known.dtype)
    walk.graph(body)


def _ints(node: onnx_ir.Node, name: str, count: int) -> list[int]:
    attribute = node.attributes.get(name)
    return [0] * count if attribute is None else list(attribute.as_ints())


BODIES: Mapping[str, Callable[[Walk, onnx_ir.Node, Infos], Infos]] = {"If": _branches, "Loop": _loop, "Scan": _scan}
"""By operator: infers the outputs of a node from its operands."""
