"""Operators of unknown structure: outputs that depend on all operands in order, and opaque nodes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct
from ..errors import Unsupported
from .joins import join
from .labels import map_via, nodes_of, to_labels
from .state import State
from .values import Op, Value

__all__ = ["opaque", "opaque_join"]

_LIMIT = 1 << 16


def opaque_join(
    state: State, op: Op, as_activation: Callable[[Value], Value], one_label: Callable[[Value], np.ndarray], fresh: bool
) -> list[Value | None]:
    """Join all operands of an operator in one node, of which each output is a different function.

    Args:
        state: The state of the lowering.
        op: The operator.
        as_activation: Converts an operand to an activation.
        one_label: Joins the labels of an activation into one.
        fresh: Whether to pin the node.

    Returns:
        The outputs, None where one is left out.

    Raises:
        Unsupported: The operands have more than 65,536 labels.
    """
    operands: dict[int, Value] = {}
    attributes = {n: _plain(v) for n, v in op.attributes.items()} | {"op": op.type}
    attributes["shapes"] = tuple(() if v is None else v.shape for v in op.inputs)
    for index, value in enumerate(op.inputs):
        if value is not None and value.data is not None and value.data.dtype.kind in "OUS":
            attributes[f"operand{index}"] = _mark(value.data)
        elif value is not None:
            operands[index] = value
    values = {i: as_activation(v) for i, v in operands.items() if 0 not in v.shape}
    if sum(f.size for v in values.values() for f in v.factors) > _LIMIT:
        raise Unsupported("a result depends on too many neurons")
    labels = [one_label(v).reshape(1) for v in values.values()]
    if list(values) != list(range(len(values))):
        attributes["operands"] = tuple(values)
    node = (
        join(state, labels, LinkRole.OPAQUE_JOIN, list(values))
        if labels
        else state.labelled_nodes(NodeKind.INPUT, 1, 0, pinned=True)
    )
    if fresh:
        state.pin(node)
    return [None if r is None else _output(state, op, i, node, attributes) for i, r in enumerate(op.results)]


def opaque(state: State, op: Op) -> list[Value | None]:
    """Pin the operands of an operator and link them to one node, which feeds one pinned node per output.

    Args:
        state: The state of the lowering.
        op: The operator.

    Returns:
        The outputs, None where one is left out.
    """
    labels = [np.zeros(0, dtype=np.int64)]
    for factor in (f for value in op.inputs if value is not None for f in value.factors):
        state.pin(factor)
        labels.append(distinct(factor))
    sources = np.concatenate(labels)
    depth = state.depth(sources)
    middle = state.nodes(NodeKind.OPAQUE, 1, depth, pinned=True)
    state.links(np.repeat(middle, len(sources)), sources, LinkRole.OPAQUE, operand=np.arange(len(sources)))
    outputs: list[Value | None] = []
    for index, result in enumerate(op.results):
        if result is None:
            outputs.append(None)
            continue
        node = state.labelled_nodes(NodeKind.OPAQUE, 1, depth, pinned=True)
        via = state.builder.via("Opaque", (("op", op.type), ("output", index)))
        state.links(nodes_of(node), to_labels(middle, via), LinkRole.OPAQUE, operand=np.array([index]))
        shape = result.shape or ()
        outputs.append(Value(result.name, shape, result.dtype, (node.reshape((1,) * len(shape)),)))
    return outputs


def _plain(value: Any) -> Any:
    """An attribute as it appears in a via step."""
    return value if isinstance(value, int | float | str | tuple) else _mark(value)


def _mark(value: Any) -> str:
    text = repr((value.shape, str(value.dtype), value.tolist()) if isinstance(value, np.ndarray) else value)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _output(state: State, op: Op, index: int, node: np.ndarray, attributes: dict[str, Any]) -> Value:
    result = op.results[index]
    assert result is not None
    items = {**attributes, "output": index}.items()
    label = map_via(node, lambda via: state.builder.via("OpaqueJoin", items, (via,)))
    shape = result.shape or ()
    return Value(result.name, shape, result.dtype, (label.reshape((1,) * len(shape)),))
