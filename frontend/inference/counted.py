"""Outputs whose sizes depend on values of operands: the number of entries that are not zero, of iterations, ..."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir

from ..model.keys import DOMAIN
from .value_info import ValueInfo

__all__ = ["counted", "differing", "upper_bound"]

Infos = Sequence[ValueInfo | None]


def upper_bound(node: onnx_ir.Node, inputs: Infos) -> ValueInfo | None:
    """The largest output of NonZero (all entries non-zero) and of Compress (all entries kept, if the mask is unknown).

    Also the output of MaxUnpool whose shape is an operand, which ONNX does not infer.
    """
    if node.op_type not in ("NonZero", "Compress", "MaxUnpool") or node.domain or inputs[0] is None:
        return None
    shape = inputs[0].shape
    if node.op_type == "MaxUnpool":
        given = inputs[2].data if len(inputs) > 2 and inputs[2] is not None else None
        return None if given is None else ValueInfo(tuple(given.tolist()), inputs[0].dtype)
    if node.op_type == "NonZero":
        return ValueInfo((len(shape), math.prod(shape)), "int64")
    axis = node.attributes.get_int("axis", 0)
    if "axis" not in node.attributes:
        shape = (math.prod(shape),)
    condition = inputs[1].data if inputs[1] is not None else None
    kept = shape[axis] if condition is None else int(np.count_nonzero(condition[: shape[axis]]))
    return ValueInfo((*shape[:axis], kept, *shape[axis % len(shape) + 1 :]), inputs[0].dtype)


def counted(node: onnx_ir.Node, inputs: Infos, outputs: Infos) -> list[frozenset[int]]:
    """For each output, the axes whose sizes depend on values of operands that are not known.

    Args:
        node: The node.
        inputs: Its operands.
        outputs: Its outputs, None where the shape is not known.
    """
    find = _COUNTED.get((node.domain, node.op_type))
    if find is None:
        return [frozenset()] * len(outputs)
    return [frozenset() if k is None or k.data is not None else find(node, inputs, i, k) for i, k in enumerate(outputs)]


def differing(one: ValueInfo, others: Infos) -> frozenset[int]:
    """The axes whose sizes depend on which of several values is taken."""
    rank = len(one.shape)
    if any(k is None or len(k.shape) != rank for k in others):
        return frozenset(range(rank))
    return frozenset(a for a, n in enumerate(one.shape) for k in others if k is not None and k.shape[a] != n)


def _compressed(node: onnx_ir.Node, inputs: Infos, index: int, made: ValueInfo) -> frozenset[int]:
    if inputs[1] is not None and inputs[1].data is not None:
        return frozenset()
    return frozenset({node.attributes.get_int("axis", 0) % len(made.shape)})


def _unique(node: onnx_ir.Node, inputs: Infos, index: int, made: ValueInfo) -> frozenset[int]:
    if index == 2:
        return frozenset()
    return frozenset({node.attributes.get_int("axis", 0) % len(made.shape) if index == 0 else 0})


def _chosen(node: onnx_ir.Node, inputs: Infos, index: int, made: ValueInfo) -> frozenset[int]:
    return differing(made, inputs[:2])


def _rows(node: onnx_ir.Node, inputs: Infos, index: int, made: ValueInfo) -> frozenset[int]:
    """The rows of a loop whose number of iterations depends on data."""
    carried, rows = node.attributes["carried"].as_int(), node.attributes["rows"].as_int()
    if index < carried or len(inputs) == 3 * carried + rows:
        return frozenset()
    return frozenset({node.attributes["axes"].as_ints()[index - carried] % len(made.shape)})


_COUNTED: Mapping[tuple[str, str], Callable[[onnx_ir.Node, Infos, int, ValueInfo], frozenset[int]]] = {
    ("", "NonZero"): lambda node, inputs, index, made: frozenset({1}),
    ("", "NonMaxSuppression"): lambda node, inputs, index, made: frozenset({0}),
    ("", "Compress"): _compressed,
    ("", "Unique"): _unique,
    (DOMAIN, "Choice"): _chosen,
    (DOMAIN, "LoopEnd"): _rows,
}
"""By domain and operator: the axes of an output of which nothing but the shape is known."""
