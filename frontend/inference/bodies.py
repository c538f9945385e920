"""Shape inference of control flow: the outputs of If, Loop and Scan, by way of their bodies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Protocol

import numpy as np
import onnx_ir

from ...ir import LoweringError
from ..model.traversal import subgraphs
from .counted import differing
from .value_info import ValueInfo

__all__ = ["BODIES", "Walk"]

Infos = list[ValueInfo | None]


class Walk(Protocol):
    """The inference that meets a body.

    Attributes:
        known: What has been inferred so far.
        misfits: Branches that cannot run on these shapes.
        unsure: Values of which the data is an assumption.
    """

    known: dict[onnx_ir.Value, ValueInfo]
    misfits: set[onnx_ir.Graph]
    unsure: Collection[onnx_ir.Value]

    def graph(self, graph: onnx_ir.Graph) -> None:
        """Infer the nodes of a graph whose inputs are known."""

    def opset(self, node: onnx_ir.Node) -> int:
        """The version of the operator set of a node."""
        ...


def _branches(walk: Walk, node: onnx_ir.Node, inputs: Infos) -> Infos:
    """Outputs of the branch that is taken; if that is unknown, of the first branch that can run."""
    names = ["then_branch", "else_branch"]
    condition = _data(walk, node, inputs, 0)
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
    if len(names) == 1:
        return [k and ValueInfo(k.shape, k.dtype, k.data) for k in results[0]]
    return [k and ValueInfo(k.shape, k.dtype, None, differing(k, others)) for k, *others in zip(*results, strict=False)]


def _loop(walk: Walk, node: onnx_ir.Node, inputs: Infos) -> Infos:
    body = subgraphs(node)[0]
    trips, condition = _data(walk, node, inputs, 0), _data(walk, node, inputs, 1)
    assumed = inputs[0].data if inputs and inputs[0] is not None else None
    count = 1 if assumed is None else max(int(assumed.reshape(-1)[0]), 0)
    start: Sequence[ValueInfo | None] = [ValueInfo((), "int64"), ValueInfo((), "bool"), *inputs[2:]]
    _enter(walk, body, start)
    ends = [walk.known.get(v) for v in body.outputs[1:]]
    carried = len(inputs) - 2
    pairs = zip(ends, inputs[2:], strict=False)
    finals = [k and ValueInfo(k.shape, k.dtype, None, differing(k, [at])) for k, at in pairs]
    again = body.outputs[0]
    steady = again is body.inputs[1] or ((known := walk.known.get(again)) is not None and known.data is not None)
    exact = trips is not None and steady and (node.inputs[1] is None or condition is not None)
    rows = frozenset[int]() if exact else frozenset({0})
    return finals[:carried] + [k and ValueInfo((count, *k.shape), k.dtype, None, rows) for k in ends[carried:]]


def _data(walk: Walk, node: onnx_ir.Node, inputs: Infos, place: int) -> np.ndarray | None:
    """The data of an operand, None if it is only assumed."""
    entry = inputs[place] if place < len(inputs) else None
    return None if entry is None or node.inputs[place] in walk.unsure else entry.data


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
