"""Reads constant expressions of a model operator by operator, and builds replacements of the nodes that read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence, Set
from math import prod

import numpy as np
import onnx_ir
from onnx_ir.tape import Tape

from ..inference.shapes import ValueInfo
from ..model.keys import SYNTHETIC
from .editor import NodeWriter

__all__ = ["Expressions", "NotLinear"]

Take = Callable[[onnx_ir.Value, int], onnx_ir.Value]


class NotLinear(Exception):
    """An expression is not linear in its tensors, or a product with it cannot be distributed over them."""


class Expressions:
    """Reads the constant operands of a node, and builds the nodes that replace it.

    known: gains the new values. mixed: the values with entries that depend on several parameter elements.
    """

    def __init__(self, node: onnx_ir.Node, known: dict[onnx_ir.Value, ValueInfo], mixed: Set[onnx_ir.Value]) -> None:
        self.node = node
        self._known = known
        self._mixed = mixed
        self._writer = NodeWriter(node)
        self._numbers: list[onnx_ir.Value] = []
        self._pushed: set[onnx_ir.Value] = set()

    def computed(self, value: onnx_ir.Value) -> bool:
        """Whether a value is an inner node of the expression; others are its leaves."""
        return value in self._pushed or value in self._mixed

    def operator(self, value: onnx_ir.Value) -> str:
        """The standard operator that produces a value; "" if there is none, and for casts of integers to floats."""
        node = value.producer()
        if node is None or node.domain:
            return ""
        before = self._known.get(node.inputs[0]) if node.op_type in ("Cast", "CastLike") and node.inputs[0] else None
        return "" if before is not None and before.dtype.startswith(("int", "uint", "bool")) else node.op_type

    def inputs(self, value: onnx_ir.Value) -> list[onnx_ir.Value]:
        """The operands of the node that produces a value; only the first for data movement."""
        node = value.producer()
        assert node is not None
        if node.op_type in _MOVING:
            return [v for v in node.inputs[:1] if v is not None]
        return [v for v in node.inputs if v is not None]

    def shape(self, value: onnx_ir.Value) -> tuple[int, ...]:
        """The shape of a value. Raises `NotLinear` if it is unknown."""
        entry = self._known.get(value)
        if entry is None:
            raise NotLinear
        return entry.shape

    def _data(self, value: onnx_ir.Value | None) -> np.ndarray | None:
        entry = None if value is None else self._known.get(value)
        return None if entry is None else entry.data

    def permutation(self, value: onnx_ir.Value) -> tuple[int, ...]:
        """The permutation of the Transpose that produces a value."""
        node = value.producer()
        assert node is not None
        rank = len(self.shape(value))
        return tuple(node.attributes.get_ints("perm", tuple(reversed(range(rank)))))

    def axis(self, value: onnx_ir.Value) -> int:
        """The axis of the Concat that produces a value."""
        node = value.producer()
        assert node is not None
        return node.attributes.get_int("axis", 1) % len(self.shape(value))

    def reduced(self, value: onnx_ir.Value) -> list[int]:
        """The axes of the reduction that produces a value."""
        node = value.producer()
        assert node is not None
        source = node.inputs[0]
        assert source is not None
        rank = len(self.shape(source))
        given: Sequence[int] | np.ndarray | None = node.attributes.get_ints("axes", None)
        if given is None and len(node.inputs) > 1 and node.inputs[1] is not None:
            given = self._data(node.inputs[1])
            if given is None:
                raise NotLinear
        if given is None or len(given) == 0:
            return [] if node.attributes.get_int("noop_with_empty_axes", 0) else list(range(rank))
        return sorted(int(a) % rank for a in given)

    def gemm(self, value: onnx_ir.Value) -> tuple[float, float, tuple[bool, bool]]:
        """Alpha, beta, and which operands of a Gemm are transposed."""
        node = value.producer()
        assert node is not None
        get = node.attributes
        flipped = bool(get.get_int("transA", 0)), bool(get.get_int("transB", 0))
        return get.get_float("alpha", 1.0), get.get_float("beta", 1.0), flipped

    def equation(self, value: onnx_ir.Value) -> tuple[list[str], str]:
        """The terms and the result of an Einsum. Raises `NotLinear` if the result or axes are implicit."""
        node = value.producer()
        assert node is not None
        text = node.attributes["equation"].as_string().replace(" ", "")
        left, arrow, out = text.partition("->")
        if not arrow or "." in text:
            raise NotLinear
        return left.split(","), out

    def parts(self, value: onnx_ir.Value) -> list[tuple[int, Take]]:
        """(axis, function that takes the same part of another value) of a Slice, Split or Gather at known indices."""
        node = value.producer()
        assert node is not None
        source = node.inputs[0]
        assert source is not None
        old, new = self.shape(source), self.shape(value)
        if node.op_type == "Split":
            axis = node.attributes.get_int("axis", 0) % len(old)
            start = sum(self.shape(v)[axis] for v in node.outputs[: node.outputs.index(value)])
            return [(axis, lambda v, a: self.sliced(v, a, start, start + new[axis]))]
        if node.op_type == "Gather":
            places, axis = self._data(node.inputs[1]), node.attributes.get_int("axis", 0) % len(old)
            if places is None or places.ndim != 1:
                raise NotLinear
            return [(axis, lambda v, a: self._gathered(v, a, places))]
        given = [self._data(v) for v in node.inputs[1:]]
        if len(given) < 2 or any(g is None for g in given):
            raise NotLinear
        count = len(given[0].reshape(-1))  # type: ignore[union-attr]
        axes = np.arange(count) if len(given) < 3 else given[2]
        steps = np.ones(count, np.int64) if len(given) < 4 else given[3]
        found: list[tuple[int, Take]] = []
        for start, end, axis, step in zip(given[0], given[1], axes, steps, strict=True):  # type: ignore[arg-type]
            at = int(axis) % len(old)
            bounds = int(start), int(end), int(step)
            found.append((at, lambda v, a, bounds=bounds: self.sliced(v, a, *bounds)))  # type: ignore[misc]
        return found

    def one(
        self, op: str, *inputs: onnx_ir.Value, shape: Sequence[int], keep: Mapping[str, onnx_ir.Attr] | None = None,
        **attributes: int | float | str | Sequence[int],
    ) -> onnx_ir.Value:  # fmt: skip
        """Add a node with one output, of the data type of its first operand.

        Args:
            op: A standard operator.
            *inputs: Its operands.
            shape: The shape of its output.
            keep: Attributes of another node to copy.
            **attributes: Further attributes.
        """
        made = self._writer.one(op, *inputs, attributes={**(keep or {}), **attributes})
        dtype = self._known[inputs[0]].dtype
        self._known[made] = ValueInfo(tuple(shape), dtype)
        made.type = onnx_ir.TensorType(onnx_ir.DataType.from_numpy(np.dtype(dtype))) if dtype in _PLAIN else None
        return made

    def number(self, like: onnx_ir.Value, number: float) -> onnx_ir.Value:
        """A scalar literal of the data type of `like`."""
        return self._constant(np.asarray(number, dtype=_dtype(self._known[like].dtype)))

    def _constant(self, array: np.ndarray) -> onnx_ir.Value:
        graph = self.node.graph
        assert graph is not None
        name = f"{self.node.outputs[0].name}/constant.{len(self._numbers)}"
        while name in graph.initializers:
            name += "_"
        value = Tape(graph).initializer(onnx_ir.Tensor(array, name=name))
        value.meta[SYNTHETIC] = True
        self._known[value] = ValueInfo(array.shape, str(array.dtype), array)
        self._numbers.append(value)
        return value

    def reshaped(self, value: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
        """`value` reshaped; itself if it has this shape."""
        if self.shape(value) == tuple(shape):
            return value
        if prod(self.shape(value)) != prod(shape):
            raise NotLinear
        return self.one("Reshape", value, self._constant(np.asarray(shape, np.int64)), shape=shape)

    def expanded(self, value: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
        """`value` broadcast to a shape; itself if it has this shape."""
        if self.shape(value) == tuple(shape):
            return value
        return self.one("Expand", value, self._constant(np.asarray(shape, np.int64)), shape=shape)

    def transposed(self, value: onnx_ir.Value, perm: Sequence[int]) -> onnx_ir.Value:
        """`value` with its axes permuted; itself under the identity."""
        if list(perm) == sorted(perm):
            return value
        shape = self.shape(value)
        return self.one("Transpose", value, shape=[shape[a] for a in perm], perm=tuple(perm))

    def sum(self, value: onnx_ir.Value, axes: Sequence[int]) -> onnx_ir.Value:
        """The sum of `value` over axes, which are kept with size 1."""
        shape = [1 if a in axes else n for a, n in enumerate(self.shape(value))]
        opset = self.node.graph.opset_imports.get("", 1) if self.node.graph is not None else 1
        if opset >= 13:
            return self.one("ReduceSum", value, self._constant(np.asarray(axes, np.int64)), shape=shape, keepdims=1)
        return self.one("ReduceSum", value, shape=shape, keepdims=1, axes=tuple(axes))

    def sliced(self, value: onnx_ir.Value, axis: int, start: int, end: int, step: int = 1) -> onnx_ir.Value:
        """The slice `start:end:step` of one axis of `value`."""
        size = len(
            range(
                *slice(start, end if end >= -self.shape(value)[axis] else None, step).indices(self.shape(value)[axis])
            )
        )
        shape = [size if a == axis else n for a, n in enumerate(self.shape(value))]
        operands = [self._constant(np.array([n], np.int64)) for n in (start, end, axis, step)]
        return self.one("Slice", value, *operands, shape=shape)

    def _gathered(self, value: onnx_ir.Value, axis: int, places: np.ndarray) -> onnx_ir.Value:
        shape = [len(places) if a == axis else n for a, n in enumerate(self.shape(value))]
        return self.one("Gather", value, self._constant(places), shape=shape, axis=axis)

    def pushed(self, value: onnx_ir.Value, shape: Sequence[int]) -> onnx_ir.Value:
        """An elementwise operator with its operands reshaped instead of its result; axis 0 is unchanged."""
        node = value.producer()
        assert node is not None
        old = self.shape(value)
        operands = []
        for operand in self.inputs(value):
            own = (1,) * (len(old) - len(self.shape(operand))) + self.shape(operand)
            if own == old:
                operands.append(self.reshaped(operand, shape))
            elif all(n == 1 for n in own[1:]) and (own[0] == 1 or old[0] == shape[0]):
                operands.append(self.reshaped(operand, [own[0], *[1] * (len(shape) - 1)]))
            else:
                raise NotLinear
        made = self.one(node.op_type, *operands, shape=shape)
        self._pushed.add(made)
        return made

    def replace(self, result: onnx_ir.Value) -> None:
        """Replace the node by the added ones, and its output by `result`."""
        if result is self.node.outputs[0] or result.producer() is None:
            result = self.one("Identity", result, shape=self.shape(result))
        self._known[result] = ValueInfo(self.shape(result), self._known[self.node.outputs[0]].dtype)
        self._writer.replace([result])


_MOVING = frozenset(
    {"Identity", "Cast", "CastLike", "Dropout", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Slice",
     "Split", "Gather", "ReduceSum"}
)  # fmt: skip
_PLAIN = frozenset({"float16", "float32", "float64"})


def _dtype(name: str) -> np.dtype:
    return onnx_ir.DataType[name.upper()].numpy() if name == "bfloat16" else np.dtype(name)
