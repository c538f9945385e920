"""A random network under construction; shapes are inferred node by node, so the model is always valid."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper, shape_inference

__all__ = ["LARGEST", "ML", "NotApplicable", "Sketch", "Tensor"]

LARGEST = 192
"""Largest number of elements of a value; steps that exceed it are undone."""
_HIGHEST = 5

ML = "ai.onnx.ml"
_ML_VERSION = 3

T = TypeVar("T")


class NotApplicable(Exception):
    """A step does not apply to the values so far, and is undone."""


@dataclass(frozen=True, slots=True)
class Tensor:
    """A value of the network.

    Attributes:
        name: Its name.
        shape: Its shape.
        kind: Element type, as ONNX numbers it.
    """

    name: str
    shape: tuple[int, ...]
    kind: int = TensorProto.FLOAT

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)


class Sketch:
    """The nodes, initializers and values of a network so far.

    Attributes:
        integer: Draws an integer between its arguments, both included; every random choice uses it.
        opset: Version of the standard operator set.
        pool: Float values that steps choose operands from, oldest first.
        nodes: The nodes.
        inputs: The graph inputs.
        weights: The float initializers that `parameter` created.
    """

    def __init__(self, integer: Callable[[int, int], int], opset: int) -> None:
        self.integer = integer
        self.opset = opset
        self.pool: list[Tensor] = []
        self.nodes: list[onnx.NodeProto] = []
        self.inputs: list[Tensor] = []
        self.weights: list[Tensor] = []
        self._arrays: dict[str, np.ndarray] = {}
        self._tensors: dict[str, Tensor] = {}
        self._random = np.random.default_rng(integer(0, 2**16))
        self._count = 0
        self._made = 0

    def chance(self, percent: int) -> bool:
        """True with this probability; shrinks to False."""
        return self.integer(0, 99) >= 100 - percent

    def choice(self, options: Sequence[T]) -> T:
        """Choose one of the options; raises `NotApplicable` if there are none."""
        if not options:
            raise NotApplicable
        return options[self.integer(0, len(options) - 1)]

    def size(self, largest: int = 6) -> int:
        """Draw the size of a new axis, rarely 1."""
        return self.choice([n for n in (2, 3, 4, 6, 5, 1) if n <= largest])

    def pick(self, fits: Callable[[Tensor], bool] = lambda _: True) -> Tensor:
        """Choose a value from the pool, preferring recent ones; raises `NotApplicable` if none fits."""
        options = [t for t in reversed(self.pool) if fits(t)]
        if not options:
            raise NotApplicable
        last = len(options) - 1
        return options[min(self.integer(0, last), self.integer(0, last))]

    def axis(self, x: Tensor, first: int = 0) -> int:
        """Choose an axis of x of size > 1, from `first` on."""
        return self.choice([a for a in reversed(range(first, x.rank)) if x.shape[a] > 1])

    def some_axes(self, x: Tensor, fewest: int = 1) -> list[int]:
        """Choose a random subset of at least `fewest` axes of size > 1."""
        wide = [a for a in range(x.rank) if x.shape[a] > 1]
        axes = [a for a in wide if self.chance(50)]
        while len(axes) < min(fewest, len(wide)):
            axes = sorted({*axes, self.choice(wide)})
        if len(axes) < fewest:
            raise NotApplicable
        return axes

    def numbers(self, shape: Sequence[int], scale: float = 1.0, positive: bool = False) -> np.ndarray:
        """Draw distinct float32 numbers, bounded away from 0."""
        values = self._random.uniform(0.3, 1.2, tuple(shape)) * scale
        if not positive:
            values *= self._random.choice([-1.0, 1.0], tuple(shape))
        return values.astype(np.float32)

    def initializer(self, array: np.ndarray) -> Tensor:
        """Add an initializer with these values."""
        array = np.asarray(array)
        return self._new("w", array.shape, helper.np_dtype_to_tensor_dtype(array.dtype), array)

    def parameter(self, shape: Sequence[int], scale: float = 1.0, positive: bool = False) -> Tensor:
        """Add a float initializer of random numbers."""
        made = self.initializer(self.numbers(shape, scale, positive))
        self.weights.append(made)
        return made

    def integers(self, values: int | Sequence[int]) -> Tensor:
        """Add an int64 initializer."""
        return self.initializer(np.array(values, dtype=np.int64))

    def literal(self, value: float) -> Tensor:
        """Add a scalar Constant node, a literal of the program."""
        array = np.array(value, dtype=np.float32)
        return self.node("Constant", value=numpy_helper.from_array(array))

    def input(self, shape: Sequence[int], kind: int = TensorProto.FLOAT) -> Tensor:
        """Add a graph input."""
        made = self._new("x", tuple(shape), kind)
        self.inputs.append(made)
        return made

    def node(self, op: str, *operands: Tensor | None, like: Tensor | None = None, **attributes: Any) -> Tensor:
        """Add a node with one output. like: a value of the output's shape, where shape inference does not apply."""
        return self.split(op, 1, *operands, like=like, **attributes)[0]

    def split(
        self, op: str, outputs: int, *operands: Tensor | None, like: Tensor | None = None, **attributes: Any
    ) -> list[Tensor]:
        """Add a node with several outputs; raises `NotApplicable` for unfit operands and outputs that are too large."""
        number, self._made = self._made, self._made + 1
        names = [f"{op.lower()}_{number}_{i}" if outputs > 1 else f"{op.lower()}_{number}" for i in range(outputs)]
        schema = self._schema(op, attributes.get("domain", ""))
        node = helper.make_node(op, ["" if t is None else t.name for t in operands], names, **attributes)
        node.name = f"n{number}.{op}"
        made = [Tensor(n, like.shape, like.kind) for n in names] if like is not None else self._infer(schema, node)
        if any(math.prod(t.shape) > LARGEST or min(t.shape, default=1) < 1 or t.rank > _HIGHEST for t in made):
            raise NotApplicable
        self.nodes.append(node)
        for tensor in made:
            self._tensors[tensor.name] = tensor
        return made

    def body(self, operands: Sequence[Tensor], draw: Callable[[list[Tensor]], list[Tensor]]) -> onnx.GraphProto:
        """The nodes that `draw` adds, given body inputs like `operands` and outer values, as a graph of their own."""
        kept, pool = len(self.nodes), list(self.pool)
        inputs = [self._new("in", t.shape, t.kind) for t in operands]
        outputs = [self.node("Identity", t, like=t) for t in draw(inputs)]
        self._count += 1
        graph = helper.make_graph(
            self.nodes[kept:], f"body{self._count}", [*map(_info, inputs)], [*map(_info, outputs)]
        )
        del self.nodes[kept:]
        self.pool[:] = pool
        return graph

    def around(self, op: str, operands: Sequence[Tensor], results: Sequence[Tensor], **attributes: Any) -> list[Tensor]:
        """Add a node with bodies, whose outputs are like `results`; raises `NotApplicable` if they are too large."""
        if any(math.prod(t.shape) > LARGEST or t.rank > _HIGHEST for t in results):
            raise NotApplicable
        number, self._made = self._made, self._made + 1
        made = [Tensor(f"{op.lower()}_{number}_{i}", t.shape, t.kind) for i, t in enumerate(results)]
        node = helper.make_node(op, [t.name for t in operands], [t.name for t in made], f"n{number}.{op}", **attributes)
        self.nodes.append(node)
        self._tensors.update({t.name: t for t in made})
        return made

    def put(self, *made: Tensor) -> None:
        """Add values to the pool."""
        self.pool += [t for t in made if t.kind == TensorProto.FLOAT]

    def leaves(self) -> list[Tensor]:
        """Values of the pool that no node reads, newest first."""
        used = {name for node in self.nodes for name in _reads(node)}
        return [t for t in reversed(self.pool) if t.name not in used and t not in self.inputs]

    def try_step(self, step: Callable[[Sketch], None]) -> bool:
        """Try a step and return whether it applies; if it raises `NotApplicable`, it is undone."""
        lists: tuple[list[Any], ...] = (self.nodes, self.pool, self.weights, self.inputs)
        kept = [len(items) for items in lists]
        try:
            step(self)
        except NotApplicable:
            for items, length in zip(lists, kept, strict=True):
                del items[length:]
            return False
        return True

    def model(self, outputs: Sequence[Tensor]) -> onnx.ModelProto:
        """The checked model, without dead nodes, initializers and inputs."""
        nodes, used = self._needed(outputs)
        inputs = [_info(t) for t in self.inputs if t.name in used]
        arrays = [numpy_helper.from_array(a, n) for n, a in self._arrays.items() if n in used]
        graph = helper.make_graph(nodes, "drawn", inputs, [_info(t) for t in outputs], arrays)
        versions = {"": self.opset} | ({ML: _ML_VERSION} if any(n.domain == ML for n in nodes) else {})
        opsets = [helper.make_opsetid(domain, version) for domain, version in versions.items()]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        onnx.checker.check_model(model, full_check=True)
        return model

    def _needed(self, outputs: Sequence[Tensor]) -> tuple[list[onnx.NodeProto], set[str]]:
        used = {t.name for t in outputs}
        kept = []
        for node in reversed(self.nodes):
            if used & set(node.output):
                used.update(_reads(node))
                kept.append(node)
        return kept[::-1], used

    def _new(self, letter: str, shape: tuple[int, ...], kind: int, array: np.ndarray | None = None) -> Tensor:
        made = Tensor(f"{letter}{self._count}", shape, kind)
        self._count += 1
        self._tensors[made.name] = made
        if array is not None:
            self._arrays[made.name] = array
        return made

    def _schema(self, op: str, domain: str) -> onnx.defs.OpSchema:
        try:
            schema = onnx.defs.get_schema(op, _ML_VERSION if domain == ML else self.opset, domain)
        except onnx.defs.SchemaError as error:
            raise NotApplicable from error
        if schema.deprecated:
            raise NotApplicable
        return schema

    def _infer(self, schema: onnx.defs.OpSchema, node: onnx.NodeProto) -> list[Tensor]:
        types = {n: _type(self._tensors[n]) for n in node.input if n}
        data = {n: numpy_helper.from_array(self._arrays[n], n) for n in node.input if n in self._arrays}
        try:
            found = shape_inference.infer_node_outputs(
                schema, node, types, data, opset_imports=[helper.make_opsetid("", self.opset)]
            )
        except shape_inference.InferenceError as error:
            raise NotApplicable from error
        made = []
        for name in node.output:
            kind = found[name].tensor_type
            made.append(Tensor(name, tuple(d.dim_value for d in kind.shape.dim), kind.elem_type))
        return made


def _reads(node: onnx.NodeProto) -> set[str]:
    """The names that a node reads, including those read in its bodies."""
    inner = (n for a in node.attribute if a.type == onnx.AttributeProto.GRAPH for n in a.g.node)
    return set(node.input).union(*map(_reads, inner))


def _type(tensor: Tensor) -> onnx.TypeProto:
    return helper.make_tensor_type_proto(tensor.kind, tensor.shape)


def _info(tensor: Tensor) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(tensor.name, tensor.kind, tensor.shape)
