"""Queries on a graph for idiom recognition: what produced a value, what is known about it, which values are equal.

They do not modify the graph, and read no parameter values except those of tiny tensors with an exporter's own name.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ...inference.literals import is_exporters_own, is_literal
from ...inference.shapes import ValueInfo

__all__ = [
    "Facts",
    "Reduction",
    "core",
    "data_inputs",
    "difference",
    "is_one_number",
    "operand",
    "operands",
    "producer",
    "reduction",
    "restores",
    "same",
    "strip",
]

_CASTS = frozenset({"Cast", "CastLike", "Identity"})
_MOVES = frozenset({"Reshape", "Expand", "Unsqueeze", "Squeeze"})
_BINARY = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min"})
_PURE = (
    _CASTS | _MOVES | _BINARY
    | {"ReduceMean", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceMax", "ReduceLogSumExp"}
    | {"Sqrt", "Reciprocal", "Exp", "Log", "Abs", "Neg", "Transpose", "Shape"}
)  # fmt: skip
_MOST_ELEMENTS = 4096


@dataclass(frozen=True, slots=True)
class Reduction:
    """`node` reduces `source` over `axes`, counted from the end, in ascending order."""

    node: onnx_ir.Node
    source: onnx_ir.Value
    axes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Facts:
    """What `shapes.infer` found out about values, as idiom recognition needs it."""

    known: Mapping[onnx_ir.Value, ValueInfo]

    def shape(self, value: onnx_ir.Value | None) -> tuple[int, ...] | None:
        """The concrete shape of a value, None if it is unknown."""
        known = None if value is None else self.known.get(value)
        return None if known is None or not known.dtype else known.shape

    def data(self, value: onnx_ir.Value | None) -> np.ndarray | None:
        """The data of a value that follows from shapes, integers and literals, else None."""
        known = None if value is None else self.known.get(value)
        if value is None or known is None:
            return None
        cast = producer(value, "CastLike") if known.data is None else None
        return known.data if cast is None else self.data(cast.inputs[0])

    def scalar(self, value: onnx_ir.Value | None) -> float | None:
        """The number in a literal of one element; None for parameters."""
        data = self.data(value)
        return None if data is None or data.size != 1 or data.dtype.kind in "OUS" else float(data.reshape(-1)[0])

    def integers(self, value: onnx_ir.Value | None) -> tuple[int, ...] | None:
        """The elements of a small integer constant, else None."""
        data = self.data(value)
        small = data is not None and data.size <= 64 and data.dtype.kind in "iu"
        return tuple(int(i) for i in data.reshape(-1)) if data is not None and small else None

    def uniform(self, value: onnx_ir.Value | None, like: onnx_ir.Value) -> float | None:
        """The value that all elements of a tensor share, if the tensor comes from the exporter alone, else None.

        Such a tensor is computed from literals, or its name shows that it belongs to no module (not even through
        folding, unless of the shape of `like`). A parameter that happens to be all ones does not count.
        """
        if value is None:
            return None
        numbers = self.data(value)
        if numbers is None:
            value = core(value)
            numbers = self.data(value)
        if numbers is None and is_exporters_own(value, like.name or ""):
            tensor = value.const_value
            numbers = tensor.numpy() if tensor is not None and tensor.size <= _MOST_ELEMENTS else None
        if numbers is None:
            return None
        numbers = numbers[tuple(slice(None) if step else slice(1) for step in numbers.strides)]
        if not 0 < numbers.size <= _MOST_ELEMENTS:
            return None
        first = numbers.reshape(-1)[0]
        return float(first) if (numbers == first).all() else None


def is_one_number(value: onnx_ir.Value | None, facts: Facts) -> bool:
    """Whether a program constant is one number throughout."""
    data = facts.data(value)
    if data is not None:
        return bool(data.size) and bool((data == data.reshape(-1)[0]).all())
    node = producer(value, "Expand", "ConstantOfShape", "Cast", "CastLike", "Identity")
    if node is None or node.op_type == "ConstantOfShape":
        return node is not None
    return is_one_number(node.inputs[0], facts)


def producer(value: onnx_ir.Value | None, *ops: str) -> onnx_ir.Node | None:
    """The node of the standard domain that produces `value`, if there is one of a type in `ops` (any by default)."""
    node = None if value is None else value.producer()
    if node is None or node.domain not in ("", "ai.onnx") or (ops and node.op_type not in ops):
        return None
    return node


def operand(node: onnx_ir.Node) -> onnx_ir.Value:
    """The first input of an operator that requires it."""
    value = node.inputs[0]
    assert value is not None
    return value


def operands(node: onnx_ir.Node | None) -> Iterable[tuple[onnx_ir.Value, onnx_ir.Value]]:
    """Both orders of the two operands of a commutative node; () if there is no node or another number of operands."""
    values = () if node is None else node.inputs
    if len(values) != 2 or values[0] is None or values[1] is None:
        return ()
    return (values[0], values[1]), (values[1], values[0])


def difference(value: onnx_ir.Value) -> tuple[onnx_ir.Value, onnx_ir.Value] | None:
    """The operands (a, b) if the value is a - b, else None."""
    node = producer(value, "Sub")
    if node is None or node.inputs[1] is None:
        return None
    return operand(node), node.inputs[1]


def data_inputs(node: onnx_ir.Node) -> tuple[onnx_ir.Value, ...]:
    """The inputs that carry data, as opposed to shapes, axes, limits and types."""
    inputs = node.inputs if node.op_type in _BINARY else node.inputs[:1]
    return tuple(v for v in inputs if v is not None)


def strip(value: onnx_ir.Value) -> onnx_ir.Value:
    """The value before casts between float types and aliases."""
    return _back(value, _CASTS)


def core(value: onnx_ir.Value) -> onnx_ir.Value:
    """The value before casts, aliases and changes of shape, which `restores` checks afterwards."""
    return _back(value, _CASTS | _MOVES)


def same(a: onnx_ir.Value | None, b: onnx_ir.Value | None, depth: int = 5) -> bool:
    """Whether two values are equal up to float casts: identical, equal literals, or a pure op of equal values."""
    if a is None or b is None:
        return a is b
    a, b = strip(a), strip(b)
    if a is b:
        return True
    if a.const_value is not None or b.const_value is not None:
        return _same_literal(a, b)
    p, q = producer(a), producer(b)
    if depth == 0 or p is None or q is None or p.op_type != q.op_type or p.op_type not in _PURE:
        return False
    if len(p.inputs) != len(q.inputs) or _settings(p) != _settings(q):
        return False
    return all(same(x, y, depth - 1) for x, y in zip(p.inputs, q.inputs, strict=True))


def reduction(value: onnx_ir.Value | None, facts: Facts, *ops: str) -> Reduction | None:
    """The reduction (one of `ops`) behind a value, through casts and changes of shape."""
    node = None if value is None else producer(core(value), *ops)
    shape = None if node is None else facts.shape(node.inputs[0])
    if node is None or shape is None:
        return None
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        axes = facts.integers(node.inputs[1])
    else:
        axes = tuple(node.attributes.get_ints("axes", ()))
    if axes is None or (not axes and node.attributes.get_int("noop_with_empty_axes", 0) == 1):
        return None
    rank = len(shape)
    return Reduction(node, operand(node), tuple(sorted(a % rank - rank for a in axes)) or tuple(range(-rank, 0)))


def restores(value: onnx_ir.Value, found: Reduction, x: onnx_ir.Value, facts: Facts) -> bool:
    """Whether `value`, computed pointwise from a reduction of `x`, broadcasts to `x` as if the axes had been kept."""
    moves = _moves(value, found.node)
    full, shape = facts.shape(x), facts.shape(value)
    if moves is None or full is None or shape is None or facts.shape(found.source) != full:
        return False
    gone = {a + len(full) for a in found.axes}
    reduced = tuple(1 if i in gone else n for i, n in enumerate(full))
    kept = bool(found.node.attributes.get_int("keepdims", 1)) or (not moves and gone == set(range(len(gone))))
    for node in moves:
        out = facts.shape(node.outputs[0])
        if out == reduced:
            kept = True
        elif not (kept and out == full and node.op_type == "Expand"):
            return False
    ones = (1,) * (len(full) - len(shape))
    return kept and len(shape) <= len(full) and all(n in (1, m) for n, m in zip(ones + shape, full, strict=True))


def _moves(value: onnx_ir.Value, source: onnx_ir.Node, depth: int = 16) -> list[onnx_ir.Node] | None:
    """The nodes that change the shape between `source` and `value`, innermost first; None if it is not upstream."""
    node = producer(value)
    if node is source:
        return []
    if node is None or depth == 0:
        return None
    for before in data_inputs(node):
        found = _moves(before, source, depth - 1)
        if found is not None:
            return [*found, node] if node.op_type in _MOVES else found
    return None


def _back(value: onnx_ir.Value, through: frozenset[str]) -> onnx_ir.Value:
    while True:
        node = producer(value)
        if node is None or node.op_type not in through or _truncates(node):
            return value
        value = operand(node)


def _truncates(node: onnx_ir.Node) -> bool:
    """Whether a cast changes more than the precision, judging by the declared types."""
    if node.op_type not in ("Cast", "CastLike"):
        return False
    target = node.attributes.get_int("to", 0)
    types = [t for v in (*node.inputs, *node.outputs) if v is not None and (t := v.dtype) is not None]
    floats = [t.is_floating_point() for t in ([*types, onnx_ir.DataType(target)] if target else types)]
    return any(floats) and not all(floats)


def _same_literal(a: onnx_ir.Value, b: onnx_ir.Value) -> bool:
    p, q = a.const_value, b.const_value
    if p is None or q is None or p.size > 64 or q.size > 64 or tuple(p.shape) != tuple(q.shape):
        return False
    if not all(v.dtype.is_integer() or is_literal(c) for v, c in ((p, a), (q, b))):
        return False
    return bool(np.array_equal(p.numpy(), q.numpy()))


def _settings(node: onnx_ir.Node) -> dict[str, object]:
    return {name: attribute.value for name, attribute in node.attributes.items()}
