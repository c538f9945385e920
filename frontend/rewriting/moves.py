"""Data movement of nodes as functions of arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx_ir

from ..errors import Unsupported
from .patterns.matching import Facts

__all__ = ["MOVES", "movement", "reduced_axes"]

Movement = Callable[[np.ndarray], np.ndarray]

_RESHAPES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})


def movement(node: onnx_ir.Node, facts: Facts, output: int = 0) -> Movement:
    """The data movement of a node as a function of an array of the shape of its first operand.

    Args:
        node: A node of one of the operators `MOVES`.
        facts: What is known about its operands.
        output: Which output the function gives.

    Raises:
        Unsupported: A shape or an index is unknown, or the operator moves no data.
    """
    find = MOVES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
    shape, made = facts.shape(node.inputs[0]), facts.shape(node.outputs[output])
    if find is None or shape is None or made is None:
        raise Unsupported(f"{node.op_type} moves no data, or the shapes are unknown")
    return find(node, facts, shape, made, output)


def reduced_axes(node: onnx_ir.Node, facts: Facts, rank: int) -> tuple[int, ...]:
    """The axes of a reduction, by attribute or operand; none given means all, unless the node says none.

    Raises:
        Unsupported: They are unknown.
    """
    own = tuple(node.attributes.get_ints("axes", ()))
    if not own and len(node.inputs) > 1 and node.inputs[1] is not None:
        found = facts.integers(node.inputs[1])
        if found is None:
            raise Unsupported("axes are unknown")
        own = found
    if not own and node.attributes.get_int("noop_with_empty_axes", False):
        return ()
    return tuple(a % rank for a in own) or tuple(range(rank))


def _same(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    return lambda a: a


def _only(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    """Operators that are the identity for a single operand."""
    if len(node.inputs) != 1:
        raise Unsupported("there are other operands")
    return lambda a: a


def _reshape(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    return lambda a: a.reshape(made)


def _transpose(
    node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int
) -> Movement:
    order = tuple(node.attributes.get_ints("perm", ())) or tuple(range(len(shape)))[::-1]
    return lambda a: a.transpose(order)


def _expand(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    return lambda a: np.broadcast_to(a, made)


def _gather(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    indices, axis = facts.data(node.inputs[1]), node.attributes.get_int("axis", 0)
    if indices is None:
        raise Unsupported("the indices are not known")
    return lambda a: np.take(a, indices, axis=axis)


def _slice(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    names = ("starts", "ends", "axes", "steps")
    if len(node.inputs) > 1:
        given = [None if v is None else facts.integers(v) for v in node.inputs[1:]]
        if any(n is None and v is not None for n, v in zip(given, node.inputs[1:], strict=True)):
            raise Unsupported("what is sliced is not known")
    else:
        given = [tuple(node.attributes.get_ints(n, ())) or None for n in names]
    given += [None] * (4 - len(given))
    starts, ends = given[0] or (), given[1] or ()
    axes, steps = given[2] or tuple(range(len(starts))), given[3] or (1,) * len(starts)
    cuts = [slice(None)] * len(shape)
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        # An end before the first entry, which ONNX writes as a large negative number, is None in Python.
        cuts[axis] = slice(start, None if step < 0 and end < -shape[axis] else end, step)
    return lambda a: a[tuple(cuts)]


def _split(node: onnx_ir.Node, facts: Facts, shape: tuple[int, ...], made: tuple[int, ...], output: int) -> Movement:
    axis = node.attributes.get_int("axis", 0) % len(shape)
    start = 0
    for value in node.outputs[:output]:
        size = facts.shape(value)
        if size is None:
            raise Unsupported("a shape is unknown")
        start += size[axis]
    cuts = (*[slice(None)] * axis, slice(start, start + made[axis]))
    return lambda a: a[cuts]


MOVES: Mapping[str, Callable[[onnx_ir.Node, Facts, tuple[int, ...], tuple[int, ...], int], Movement]] = {
    **dict.fromkeys(("Cast", "Identity"), _same),
    **dict.fromkeys(("Max", "Min", "Sum", "Mean", "Concat"), _only),
    **dict.fromkeys(_RESHAPES, _reshape),
    "Transpose": _transpose,
    "Expand": _expand,
    "Gather": _gather,
    "Slice": _slice,
    "Split": _split,
}
"""The operators that move data, as `movement` describes them."""
