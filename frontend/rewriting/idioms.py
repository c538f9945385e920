"""Fuses idioms with a reduction, written in primitive operators, into one node of the dialect.

This makes exporters and opsets agree. Elementwise idioms (SiLU, GELU, ...) need no fusion: they stay on their neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir
from onnx_ir.tape import Tape

from ..dialect import declared
from ..inference.shapes import ValueInfo, infer
from ..model.keys import DOMAIN
from ..model.traversal import every_node
from .editor import remove_dead
from .patterns.forms import Match, find
from .patterns.matching import Facts, data_inputs, producer, same

__all__ = ["recognise"]


def recognise(
    model: onnx_ir.Model,
    known: dict[onnx_ir.Value, ValueInfo] | None = None,
    keep: Callable[[onnx_ir.Node], bool] = lambda node: False,
) -> int:
    """Fuse, in place, the idioms of a normalised model; returns how many were found.

    They become Standardize, RMSNormalize, LpNormalize, Softmax and LogSoftmax (see `dialect`). The output value keeps
    its name, type and shape. Normalisation operators count as idioms if their scale and bias are trivial and were only
    written because the operator requires them. An idiom is not fused if a value inside it is a graph output or is used
    outside of all idioms (for more than its shape or type). Dead nodes are removed, but not the literals they used.

    known: the result of `shapes.infer`, which gains the new values; inferred here by default. keep: whether a node
    stays, since it has a rule that is not built in.
    """
    known = infer(model) if known is None else known
    facts = Facts(known)
    found = [match for node in every_node(model.graph) if (match := find(node, facts)) is not None]
    chosen = _admissible([m for m in found if not any(map(keep, (m.anchor, *_inside(m, facts))))], facts)
    for match in reversed(chosen):
        _rewrite(match, known)
    if chosen:
        model.graph.opset_imports[DOMAIN] = 1
    return len(chosen)


def _admissible(matches: list[Match], facts: Facts) -> list[Match]:
    """The matches whose inner values are only used by matches, and that do not contain each other."""
    inner = {m.anchor: _inside(m, facts) for m in matches}
    while True:
        anchors = {m.anchor for m in matches}
        owned = anchors.union(*(inner[m.anchor] for m in matches))
        kept = [
            m for m in matches
            if anchors.isdisjoint(inner[m.anchor]) and all(_private(node, owned) for node in inner[m.anchor])
        ]  # fmt: skip
        if len(kept) == len(matches):
            return kept
        matches = kept


def _inside(match: Match, facts: Facts) -> set[onnx_ir.Node]:
    """The nodes that compute the match from its inputs, without the last one (the anchor)."""
    found: set[onnx_ir.Node] = set()
    waiting = list(data_inputs(match.anchor)) if match.written_out else []
    while waiting:
        value = waiting.pop()
        node = producer(value)
        if (
            node is None
            or node in found
            or facts.data(value) is not None
            or any(same(value, root) for root in match.inputs)
        ):
            continue
        found.add(node)
        waiting += data_inputs(node)
    return found


def _private(node: onnx_ir.Node, owned: set[onnx_ir.Node]) -> bool:
    """Whether only `owned` nodes use a node's outputs; uses of just their shape or type do not count."""
    return not any(value.is_graph_output() for value in node.outputs) and all(
        use.node in owned or use.node.op_type in ("Shape", "Size") or (use.node.op_type == "CastLike" and use.idx == 1)
        for value in node.outputs
        for use in value.uses()
    )


def _rewrite(match: Match, known: dict[onnx_ir.Value, ValueInfo]) -> None:
    """Replace the anchor of the idiom by its fused form."""
    anchor = match.anchor
    graph, old = anchor.graph, anchor.outputs[0]
    assert graph is not None
    nodes = _nodes(match, known)
    new = nodes[-1].outputs[0]
    new.metadata_props.update(old.metadata_props)
    nodes[-1].name = anchor.name
    for node in nodes:
        node.metadata_props.update(anchor.metadata_props)
    before = [v for v in anchor.inputs if v is not None]
    onnx_ir.convenience.replace_nodes_and_values(graph, anchor, [anchor], nodes, [old], [new])
    remove_dead(before)


def _nodes(match: Match, known: dict[onnx_ir.Value, ValueInfo]) -> Sequence[onnx_ir.Node]:
    """The nodes that replace the anchor: the idiom, after a cast and before a scale and a shift if needed."""
    shape, dtype = known[match.x].shape, known[match.x].dtype
    out = known.get(match.anchor.outputs[0])
    tape = Tape()

    def add(domain: str, op: str, *inputs: onnx_ir.Value, **attributes: int | float | tuple[int, ...]) -> onnx_ir.Value:
        name = f"{match.anchor.outputs[0].name}/{op}"
        made = tape.op(op, inputs, attributes, domain=domain, name=name)
        made.name = name
        known[made] = ValueInfo(shape, dtype)
        return made

    y = match.x
    if out is not None and out.dtype != dtype:
        dtype = out.dtype
        y = add("", "Cast", y, to=int(onnx_ir.DataType.from_numpy(np.dtype(dtype))))
    y = add(DOMAIN, declared(match.op), y, **match.attributes)
    for op, operand in (("Mul", match.scale), ("Add", match.shift)):
        if operand is not None:
            shape = np.broadcast_shapes(shape, known[operand].shape)
            y = add("", op, y, operand)
    return tape.nodes
