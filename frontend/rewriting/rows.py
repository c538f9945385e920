"""Indices that spell out what an axis of a batch, or a mask, says: rows that read themselves, entries where it is true.

Exporters number the rows of a batch, to pick from each an entry of its own, or list the places where a mask is true.
Written with a batch axis, and with the mask, these nodes do not depend on how many rows there are.
"""

from __future__ import annotations

import math

import numpy as np
import onnx_ir as ir

from ..inference.shapes import Known
from .matching import Facts, operands, producer
from .rewriting import Writer

__all__ = ["by_row"]

_SAME_NUMBERS = frozenset({"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Expand", "Transpose", "Flatten"})


def by_row(model: ir.Model, known: dict[ir.Value, Known]) -> int:
    """Rewrite, in place, the nodes of a normalised model that pick or put by numbered rows; how many there were.

    | found | put in its place |
    |---|---|
    | GatherND(x, [row, i, ...]) | GatherND<batch_dims = 1>(x, [i, ...]) |
    | Gather(x as [rows * n, m], row * n + i), 0 <= i < n | GatherND<batch_dims = 1>(x, [i]) |
    | ScatterND(x, places where a mask is true, one number) | Where(mask, number, x) |

    Indices that are known stay: what they move is followed entry by entry.
    known: the result of `shapes.infer`, which gains the new values.
    """
    facts = Facts(known)
    found = 0
    for node in list(model.graph.all_nodes()):
        rewrite = _REWRITES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        inputs = [v for v in node.inputs if v is not None]
        if rewrite is not None and len(inputs) > 1 and facts.data(inputs[1]) is None:
            found += rewrite(_Rewriter(node, known), inputs, facts)
    return found


class _Rewriter(Writer):
    """A writer that notes the shapes of what it makes."""

    def __init__(self, node: ir.Node, known: dict[ir.Value, Known]) -> None:
        super().__init__(node)
        self._known = known

    def shaped(self, op: str, shape: tuple[int, ...], like: ir.Value, *inputs: ir.Value, **attributes: int) -> ir.Value:
        """A new node whose output has a shape, and the type of `like`."""
        value = self.one(op, *inputs, attributes=attributes)
        self._known[value] = Known(shape, self._known[like].dtype)
        return value

    def number(self, *numbers: int) -> ir.Value:
        """A constant of int64."""
        array = np.array(numbers, dtype=np.int64)
        value = self.one("Constant", attributes={"value": ir.Attr("value", ir.AttributeType.TENSOR, ir.Tensor(array))})
        self._known[value] = Known(array.shape, "int64", array)
        return value


def _gather_nd(writer: _Rewriter, inputs: list[ir.Value], facts: Facts) -> bool:
    """The first of the indices is the row; the others stay."""
    x, indices = inputs
    joined = producer(indices, "Concat")
    shape, out = facts.shape(x), facts.shape(writer.node.outputs[0])
    if joined is None or shape is None or out is None or writer.integer("batch_dims"):
        return False
    row, *others = (v for v in joined.inputs if v is not None)
    numbers, all_indices = facts.data(row), facts.shape(indices)
    if not others or numbers is None or all_indices is None or numbers.shape[-1] != 1:
        return False
    if joined.attributes.get_int("axis", 0) % numbers.ndim != numbers.ndim - 1 or not _counts(numbers, shape[0]):
        return False
    if len(others) > 1:
        rest = (*all_indices[:-1], all_indices[-1] - 1)
        picked = writer.shaped("Concat", rest, indices, *others, axis=-1)
    else:
        picked = others[0]
    writer.replace([writer.shaped("GatherND", out, x, x, picked, batch_dims=1)])
    return True


def _gather(writer: _Rewriter, inputs: list[ir.Value], facts: Facts) -> bool:
    """Rows of x lie one after the other, and the index counts through them all."""
    flat, indices = inputs
    source = producer(flat, "Flatten", "Reshape")
    x = None if source is None else source.inputs[0]
    shape, size, out = facts.shape(x), facts.shape(flat), facts.shape(writer.node.outputs[0])
    if x is None or writer.integer("axis") or shape is None or len(shape) < 2 or not size or out is None:
        return False
    if 0 in shape or size[0] != shape[0] * shape[1]:
        return False
    for index, offset in operands(producer(indices, "Add")):
        numbers, count = facts.data(offset), facts.shape(index)
        if numbers is None or numbers.dtype.kind not in "iu" or not count:
            continue
        if numbers.ndim > len(count) or count[0] != shape[0] or count != facts.shape(indices):
            continue
        numbers = numbers.reshape((1,) * (len(count) - numbers.ndim) + numbers.shape)
        whole = numbers // shape[1]
        if (numbers % shape[1]).any() or not _counts(whole, shape[0]) or not _below(index, shape[1], facts):
            continue
        one = writer.shaped("Reshape", (*count, 1), index, index, writer.number(*count, 1))
        picked = writer.shaped("GatherND", (*count, *shape[2:]), x, x, one, batch_dims=1)
        if out != (*count, *shape[2:]):
            picked = writer.shaped("Reshape", out, x, picked, writer.number(*out))
        writer.replace([picked])
        return True
    return False


def _scatter_nd(writer: _Rewriter, inputs: list[ir.Value], facts: Facts) -> bool:
    """One number is put where a mask is true."""
    x, indices, updates = inputs
    listed = producer(indices, "Transpose")
    places = None if listed is None else producer(listed.inputs[0], "NonZero")
    if listed is None or places is None or tuple(listed.attributes.get_ints("perm", (1, 0))) != (1, 0):
        return False
    mask, number = places.inputs[0], _repeated(updates, facts)
    shape, covered = facts.shape(x), facts.shape(mask)
    if mask is None or number is None or shape is None or covered is None or covered != shape[: len(covered)]:
        return False
    if facts.known[mask].dtype != "bool" or writer.node.attributes.get_string("reduction", "none") != "none":
        return False
    if len(covered) < len(shape):
        wide = (*covered, *(1 for _ in shape[len(covered) :]))
        mask = writer.shaped("Reshape", wide, mask, mask, writer.number(*wide))
    if facts.shape(number):
        number = writer.shaped("Reshape", (1,), number, number, writer.number(1))
    writer.replace([writer.shaped("Where", shape, x, mask, number, x)])
    return True


def _counts(numbers: np.ndarray, rows: int) -> bool:
    """Whether the entries along the first axis are 0, 1, ..., as many as there are rows, whatever the others."""
    count = np.arange(rows).reshape(-1, *(1 for _ in numbers.shape[1:]))
    return numbers.dtype.kind in "iu" and numbers.shape[0] == rows and bool((numbers == count).all())


def _below(index: ir.Value | None, size: int, facts: Facts) -> bool:
    """Whether indices are of entries of an axis of this size, counted from the front."""
    while index is not None:
        numbers, node = facts.data(index), producer(index)
        if numbers is not None:
            return numbers.size > 0 and bool((numbers >= 0).all() and (numbers < size).all())
        if node is None:
            return False
        if node.op_type in ("ArgMax", "ArgMin", "TopK"):
            picked, last = (1, -1) if node.op_type == "TopK" else (0, 0)
            shape = facts.shape(node.inputs[0]) if index is node.outputs[picked] else None
            return shape is not None and shape[node.attributes.get_int("axis", last)] <= size
        if node.op_type == "Mod":
            divisor = facts.integers(node.inputs[1])
            whole = not node.attributes.get_int("fmod", 0)
            return whole and divisor is not None and all(0 < d <= size for d in divisor)
        index = node.inputs[0] if node.op_type in _SAME_NUMBERS else None
    return False


def _repeated(value: ir.Value | None, facts: Facts) -> ir.Value | None:
    """The value of one element that this one repeats, if it is made so."""
    while value is not None:
        shape, node = facts.shape(value), producer(value, "Expand", "Reshape", "Identity")
        if shape is not None and math.prod(shape) == 1:
            return value
        value = None if node is None else node.inputs[0]
    return None


_REWRITES = {"GatherND": _gather_nd, "Gather": _gather, "ScatterND": _scatter_nd}
