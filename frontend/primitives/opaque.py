"""Opaque join: outputs depend on all entries of all operands, in order, in an unknown way."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import numpy as np

from ...ir import LinkRole, NodeKind
from ..errors import Unsupported
from .joins import join
from .labels import map_via
from .state import State
from .values import Op, Value

__all__ = ["opaque_join"]

_LIMIT = 1 << 16


def opaque_join(
    state: State, op: Op, stream: Callable[[Value], Value], one_label: Callable[[Value], np.ndarray], fresh: bool
) -> list[Value | None]:
    """Join all operands of an operator in one node, of which each output is a different function.

    Args:
        state: The state of the lowering.
        op: The operator.
        stream: Converts an operand to an activation.
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
    values = {i: stream(v) for i, v in operands.items() if 0 not in v.shape}
    if sum(f.size for v in values.values() for f in v.factors) > _LIMIT:
        raise Unsupported("a result depends on too many neurons")
    labels = [one_label(v).reshape(1) for v in values.values()]
    if list(values) != list(range(len(values))):
        attributes["operands"] = tuple(values)
    node = (
        join(state, labels, LinkRole.OPAQUE_JOIN, list(values))
        if labels
        else state.ports(NodeKind.INPUT, 1, 0, pinned=True)
    )
    if fresh:
        state.pin(node)
    return [None if r is None else _output(state, op, i, node, attributes) for i, r in enumerate(op.results)]


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
