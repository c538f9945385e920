"""Replaces nodes that enumerate the rows of a batch by nodes that do not depend on the number of rows.

Exporters number the rows to pick an entry from each, list the positions where a mask is true, or concatenate a constant
once per row. A batch axis, the mask itself, and Tile express the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir

from ..budget import MAX_LABELS
from ..inference.shapes import ValueInfo
from ..model.keys import DOMAIN
from ..model.traversal import every_node
from .bounds import below, narrows
from .editor import NodeWriter
from .patterns.matching import Facts, core, operands, producer, same

__all__ = ["batch_rows"]

_IN_ORDER = frozenset({"Cast", "Identity", "Reshape", "Unsqueeze", "Squeeze", "Flatten"})


def batch_rows(
    model: onnx_ir.Model, known: dict[onnx_ir.Value, ValueInfo], keep: Callable[[onnx_ir.Node], bool]
) -> int:
    """Rewrite the nodes of a normalised model that enumerate rows, in place; returns how many were.

    | found | replaced by |
    |---|---|
    | GatherND(x, [row, i, ...]), the row in any column | GatherND<batch_dims = 1>(x, [i, ...]), x with its rows first |
    | the same, x a stored tensor of few entries per row | Einsum of x and the code of i (OneHot) |
    | GatherND(x, [i]), x a stored tensor | Gather(x, i) |
    | Gather(x as [rows * n, m], row * n + i), 0 <= i < n | GatherND<batch_dims = 1>(x, [i]) |
    | Gather(x as [n * rows, m], i * rows + row), 0 <= i < n | likewise |
    | ScatterND(x, [row, i], updates) | ScatterElements<axis = 1>(x, i, updates) |
    | ScatterND(x, positions where a mask is true, one entry) | Where(mask, entry, x) |
    | Concat(x, x, ..., x), x a constant | Tile(x) |

    Nodes with known indices stay: their movement is tracked entry by entry.
    known: the result of `shapes.infer`, which gains the new values. keep: whether a node stays, since it has a rule
    that is not built in.
    """
    facts = Facts(known)
    found = 0
    for node in every_node(model.graph):
        rewrite = _REWRITES.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        inputs = [v for v in node.inputs if v is not None]
        if rewrite is not None and not keep(node) and len(inputs) > 1 and facts.data(inputs[1]) is None:
            found += rewrite(_Rewriter(node, known), inputs, facts)
    return found


class _Rewriter(NodeWriter):
    """A writer that records the shapes of new values."""

    def __init__(self, node: onnx_ir.Node, known: dict[onnx_ir.Value, ValueInfo]) -> None:
        super().__init__(node)
        self._known = known

    def shaped(
        self,
        op: str,
        shape: Sequence[int],
        like: onnx_ir.Value,
        *inputs: onnx_ir.Value,
        **attributes: int | str | Sequence[int],
    ) -> onnx_ir.Value:
        """Add a node whose output has this shape and the type of `like`."""
        value = self.one(op, *inputs, attributes=attributes)
        self._known[value] = ValueInfo(tuple(shape), self._known[like].dtype)
        return value

    def reshaped(self, value: onnx_ir.Value, *shape: int) -> onnx_ir.Value:
        """Add a Reshape."""
        return self.shaped("Reshape", shape, value, value, self.numbers_of(shape))

    def numbers_of(self, numbers: Sequence[int]) -> onnx_ir.Value:
        """Add an int64 constant."""
        return self.constant(np.array(numbers, dtype=np.int64))

    def constant(self, array: np.ndarray) -> onnx_ir.Value:
        """Add a constant."""
        value = self.one(
            "Constant", attributes={"value": onnx_ir.Attr("value", onnx_ir.AttributeType.TENSOR, onnx_ir.Tensor(array))}
        )
        self._known[value] = ValueInfo(array.shape, str(array.dtype), array)
        return value


def _gather_nd(writer: _Rewriter, inputs: list[onnx_ir.Value], facts: Facts) -> bool:
    """Turn the index that numbers the rows into a batch axis; the others stay."""
    x, indices = inputs
    shape, out, columns = facts.shape(x), facts.shape(writer.node.outputs[0]), _columns(indices, facts)
    all_indices = facts.shape(indices)
    if shape is None or out is None or all_indices is None or writer.integer("batch_dims"):
        return False
    if all_indices[-1] == 1:
        return _gather(writer, inputs, facts) or _of_table(writer, x, indices, facts)
    for place, (axis, column) in enumerate(columns):
        along = _counts_along(facts.data(column), shape[axis], all_indices[:-1])
        if along is None:
            continue
        others = [v for i, (_, v) in enumerate(columns) if i != place]
        rest = (*all_indices[:-1], all_indices[-1] - 1)
        picked = writer.shaped("Concat", rest, indices, *others, axis=-1) if len(others) > 1 else others[0]
        order = (axis, *(a for a in range(len(shape)) if a != axis))
        if axis:
            x = writer.shaped("Transpose", [shape[a] for a in order], x, x, perm=order)
        if rest[-1] == 1 and _has_codes(writer, x, math.prod(rest) * shape[order[1]], facts):
            _by_code(writer, x, picked, along, facts)
            return True
        if facts.shape(picked) != rest:
            picked = writer.shaped("Expand", rest, indices, picked, writer.numbers_of(rest))
        first = (along, *(a for a in range(len(out)) if a != along))
        if along:
            turned = (*first[: len(rest) - 1], len(rest) - 1)
            picked = writer.shaped("Transpose", [rest[a] for a in turned], indices, picked, perm=turned)
        found = writer.shaped("GatherND", [out[a] for a in first], x, x, picked, batch_dims=1)
        back = sorted(range(len(out)), key=first.__getitem__)
        writer.replace([writer.shaped("Transpose", out, x, found, perm=back) if along else found])
        return True
    return False


def _by_code(writer: _Rewriter, x: onnx_ir.Value, index: onnx_ir.Value, along: int, facts: Facts) -> None:
    """Write a number of each row's own table as a product of the table with the code of the index.

    x: [rows, entries, ...]. index: [*grid, 1], whose axis `along` is that of the rows. So a row is a feature, which
    its table distinguishes from others.
    """
    shape, out = facts.shape(x), facts.shape(writer.node.outputs[0])
    assert shape is not None
    assert out is not None
    grid, dtype = out[: len(out) - len(shape) + 2], facts.known[x].dtype
    row_of = writer.reshaped(index, *(facts.shape(index) or ())[:-1])
    ends = writer.constant(np.array([0, 1], dtype=dtype))
    code = writer.shaped(
        "OneHot", (*(facts.shape(row_of) or ()), shape[1]), x, row_of, writer.numbers_of([shape[1]]), ends
    )
    letters = "abcdefghijklmnopqrstuvwxyz"
    places, rest = letters[: len(grid)], letters[len(grid) : len(out)]
    equation = f"{places}Z,{places[along]}Z{rest}->{places}{rest}"
    writer.replace([writer.shaped("Einsum", out, x, code, x, equation=equation)])


def _has_codes(writer: _Rewriter, x: onnx_ir.Value, size: int, facts: Facts) -> bool:
    """Whether codes of this size may pick from a stored tensor."""
    graph, floats = writer.node.graph, ("float16", "float32", "float64")
    einsum = graph is not None and graph.opset_imports.get("", 1) >= 12
    return einsum and size <= MAX_LABELS and _is_stored(x, facts) and facts.known[x].dtype in floats


def _is_stored(value: onnx_ir.Value | None, facts: Facts) -> bool:
    """Whether a value is a stored tensor, moved or not, that is a parameter."""
    while (move := producer(value, "Transpose", "Identity")) is not None:
        value = move.inputs[0]
    return value is not None and value.is_initializer() and facts.data(value) is None


def _of_table(writer: _Rewriter, x: onnx_ir.Value, indices: onnx_ir.Value, facts: Facts) -> bool:
    """Write rows of a stored tensor, moved or not, as an embedding does."""
    shape, out = facts.shape(indices), facts.shape(writer.node.outputs[0])
    if not _is_stored(x, facts) or shape is None or out is None:
        return False
    writer.replace([writer.shaped("Gather", out, x, x, writer.reshaped(indices, *shape[:-1]), axis=0)])
    return True


def _columns(indices: onnx_ir.Value, facts: Facts) -> list[tuple[int, onnx_ir.Value]]:
    """The values that index tuples are concatenated from, each with its first axis; [] if they are not."""
    joined = producer(indices, "Concat")
    if joined is None:
        return []
    found, axis = [], 0
    for value in joined.inputs:
        shape = facts.shape(value)
        if value is None or not shape or joined.attributes.get_int("axis", 0) % len(shape) != len(shape) - 1:
            return []
        found.append((axis, value))
        axis += shape[-1]
    return found if len(found) > 1 else []


def _gather(writer: _Rewriter, inputs: list[onnx_ir.Value], facts: Facts) -> bool:
    """Rewrite a Gather from flattened rows of x, consecutive or interleaved, by an index into all of them."""
    flat, indices = inputs
    source = producer(_unmoved(flat, facts), "Flatten", "Reshape")
    x = None if source is None else source.inputs[0]
    shape, size, out = facts.shape(x), facts.shape(flat), facts.shape(writer.node.outputs[0])
    if x is None or writer.integer("axis") or shape is None or len(shape) < 2 or not size or out is None:
        return False
    if 0 in shape or size[0] != shape[0] * shape[1]:
        return False
    indices = _in_order(indices, size[0], facts)
    for index, offset in operands(producer(indices, "Add")):
        numbers, count = facts.data(offset), facts.shape(indices)
        if numbers is None or numbers.dtype.kind not in "iu" or not count:
            continue
        first, second = shape[:2]
        along = _counts_along(_column(numbers, count, second), first, count)
        coded = _has_codes(writer, x, math.prod(count) * second, facts)
        if along is not None and coded and below(index, second, facts):
            whole = writer.shaped("Expand", count, index, index, writer.numbers_of(count))
            _by_code(writer, x, writer.reshaped(whole, *count, 1), along, facts)
            return True
        after = _row_numbers(np.broadcast_to(numbers, count), first, second)
        beside = None if after else _factor(index, second, facts)
        if after and below(index, second, facts):
            rows, own = first, index
        elif (
            beside is not None
            and below(beside, first, facts)
            and _row_numbers(np.broadcast_to(numbers, count), second, 1)
        ):
            rows, own = second, beside
            x = writer.shaped("Transpose", (second, first, *shape[2:]), x, x, perm=(1, 0, *range(2, len(shape))))
        else:
            continue
        each = math.prod(count) // rows
        if facts.shape(own) != count:
            own = writer.shaped("Expand", count, own, own, writer.numbers_of(count))
        one = writer.reshaped(own, rows, each, 1)
        picked = writer.shaped("GatherND", (rows, each, *shape[2:]), x, x, one, batch_dims=1)
        writer.replace([writer.reshaped(picked, *out)])
        return True
    return False


def _unmoved(value: onnx_ir.Value, facts: Facts) -> onnx_ir.Value:
    """The value before nodes that do not change it."""
    while (node := producer(value, "Identity", "Expand", "Concat", "Transpose")) is not None and node.inputs:
        source, shape = node.inputs[0], facts.shape(value)
        order = list(node.attributes.get_ints("perm", ()))
        moves = node.op_type == "Transpose" and (not order or order != sorted(order))
        if source is None or shape is None or facts.shape(source) != shape or moves:
            break
        value = source
    return value


def _in_order(value: onnx_ir.Value, size: int, facts: Facts) -> onnx_ir.Value:
    """The value before nodes that keep the order of its entries and, for numbers below `size`, their values."""
    while True:
        value = _unmoved(value, facts)
        node = producer(value, *_IN_ORDER)
        if node is None or node.inputs[0] is None or narrows(node, size):
            return value
        value = node.inputs[0]


def _row_numbers(numbers: np.ndarray, rows: int, step: int) -> bool:
    """Whether numbers are `step` times the index of the row that they belong to, with equally many per row."""
    flat = numbers.reshape(-1)
    return len(flat) % rows == 0 and bool((flat.reshape(rows, -1) == step * np.arange(rows)[:, None]).all())


def _column(numbers: np.ndarray, grid: Sequence[int], by: int) -> np.ndarray | None:
    """Multiples of `by` on a grid, divided by it, as a column of index tuples; None if they are no multiples."""
    if by < 1 or (numbers % by).any():
        return None
    return np.broadcast_to(numbers // by, grid)[..., None]


def _factor(index: onnx_ir.Value, by: int, facts: Facts) -> onnx_ir.Value | None:
    """The other factor, of the same shape, if `index` is a product with the number `by`."""
    for value, factor in operands(producer(index, "Mul")):
        numbers = facts.data(factor)
        if numbers is not None and numbers.size and (numbers == by).all() and facts.shape(value) == facts.shape(index):
            return value
    return None


def _scatter_nd(writer: _Rewriter, inputs: list[onnx_ir.Value], facts: Facts) -> bool:
    """Rewrite a ScatterND of rows of updates into rows of x, or of one entry where a mask is true."""
    if writer.node.attributes.get_string("reduction", "none") != "none":
        return False
    return _by_number(writer, inputs, facts) or _by_mask(writer, inputs, facts)


def _by_number(writer: _Rewriter, inputs: list[onnx_ir.Value], facts: Facts) -> bool:
    x, indices, updates = inputs
    shape, columns = facts.shape(x), _columns(indices, facts)
    if shape is None or len(columns) != 2 or facts.shape(updates) is None:
        return False
    (_, row), (axis, index) = columns
    count = facts.shape(index)
    if axis != 1 or not count or count[-1] != 1 or not _counts(facts.data(row), shape[0]) or count[0] != shape[0]:
        return False
    rows, each, rest = shape[0], math.prod(count) // shape[0], shape[2:]
    place = writer.reshaped(index, rows, each, *(1 for _ in rest))
    place = writer.shaped("Expand", (rows, each, *rest), index, place, writer.numbers_of((rows, each, *rest)))
    put = writer.reshaped(updates, rows, each, *rest)
    writer.replace([writer.shaped("ScatterElements", shape, x, x, place, put, axis=1)])
    return True


def _by_mask(writer: _Rewriter, inputs: list[onnx_ir.Value], facts: Facts) -> bool:
    x, indices, updates = inputs
    listed = producer(indices, "Transpose")
    places = None if listed is None else producer(listed.inputs[0], "NonZero")
    if listed is None or places is None or tuple(listed.attributes.get_ints("perm", (1, 0))) != (1, 0):
        return False
    mask = places.inputs[0]
    shape, covered = facts.shape(x), facts.shape(mask)
    if mask is None or shape is None or covered is None or covered != shape[: len(covered)]:
        return False
    mask, covered = _narrowest(mask, covered, facts)
    rest = shape[len(covered) :]
    entry = _repeated(updates, rest, facts)
    if entry is None or facts.known[mask].dtype != "bool":
        return False
    if rest and facts.shape(mask) != (*covered, *(1 for _ in rest)):
        mask = writer.reshaped(mask, *covered, *(1 for _ in rest))
    if facts.shape(entry):
        entry = writer.reshaped(entry, *(rest if math.prod(facts.shape(entry) or ()) > 1 else (1,)))
    writer.replace([writer.shaped("Where", shape, x, mask, entry, x)])
    return True


def _concat(writer: _Rewriter, inputs: list[onnx_ir.Value], facts: Facts) -> bool:
    """Rewrite a concatenation of copies of one constant."""
    shape, out = facts.shape(inputs[0]), facts.shape(writer.node.outputs[0])
    if not shape or out is None or not core(inputs[0]).is_initializer() or not all(same(v, inputs[0]) for v in inputs):
        return False
    axis = writer.integer("axis") % len(shape)
    repeats = writer.numbers_of([len(inputs) if a == axis else 1 for a in range(len(shape))])
    writer.replace([writer.shaped("Tile", out, inputs[0], inputs[0], repeats)])
    return True


def _counts(numbers: np.ndarray | None, rows: int) -> bool:
    """Whether index columns [rows, ..., 1] are 0, 1, ... along the first axis, as many as there are rows."""
    if numbers is None or numbers.dtype.kind not in "iu" or numbers.shape[-1] != 1 or numbers.shape[0] != rows:
        return False
    return bool((numbers == np.arange(rows).reshape(-1, *(1 for _ in numbers.shape[1:]))).all())


def _counts_along(numbers: np.ndarray | None, rows: int, grid: Sequence[int]) -> int | None:
    """The axis of a grid of index tuples along which a column [..., 1] is 0, 1, ..., as many as there are rows."""
    if numbers is None or numbers.dtype.kind not in "iu" or numbers.ndim != len(grid) + 1 or numbers.shape[-1] != 1:
        return None
    for axis, size in enumerate(grid):
        count = np.arange(rows).reshape(-1, *(1 for _ in grid[axis + 1 :]), 1)
        if size == rows == numbers.shape[axis] and (numbers == count).all():
            return axis
    return None


def _narrowest(mask: onnx_ir.Value, covered: tuple[int, ...], facts: Facts) -> tuple[onnx_ir.Value, tuple[int, ...]]:
    """A mask before it was expanded along its last axes, and the shape of the remaining ones."""
    node = producer(mask, "Expand")
    source = None if node is None else node.inputs[0]
    before = facts.shape(source)
    if source is None or before is None or len(before) != len(covered):
        return mask, covered
    kept = max((a + 1 for a, n in enumerate(before) if n > 1), default=0)
    return (source, covered[:kept]) if before[:kept] == covered[:kept] else (mask, covered)


def _repeated(value: onnx_ir.Value | None, entry: tuple[int, ...], facts: Facts) -> onnx_ir.Value | None:
    """The scalar, or the value of the shape of an entry, that a value repeats; None if it is not built like this."""
    while value is not None:
        shape, node = facts.shape(value), producer(value, "Expand", "Reshape", "Identity")
        if shape is not None and math.prod(shape) == 1:
            return value
        source = _expanded(value) if node is None else node.inputs[0]
        before = facts.shape(source)
        if node is not None and node.op_type == "Expand" and before is not None and _is_entry(before, entry):
            return source
        value = source
    return None


def _expanded(value: onnx_ir.Value) -> onnx_ir.Value | None:
    """What an Expand to a size that depends on data gives."""
    node = value.producer()
    if node is None or (node.domain, node.op_type) != (DOMAIN, "ByData"):
        return None
    return node.inputs[0] if node.attributes["of"].as_string() == "Expand" else None


def _is_entry(shape: tuple[int, ...], entry: tuple[int, ...]) -> bool:
    """Whether a shape is that of an entry, up to leading axes of size 1."""
    return bool(entry) and shape[-len(entry) :] == entry and math.prod(shape) == math.prod(entry)


_REWRITES = {"GatherND": _gather_nd, "Gather": _gather, "ScatterND": _scatter_nd, "Concat": _concat}
