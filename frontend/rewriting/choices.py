"""What depends on the choices of a router: where TopK's k entries lie in every value up to their sum.

An axis that holds the choices may be merged with others, as in [tokens * k, features]; entry i of an axis of size
outer * k * inner then belongs to choice i // inner % k.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from ..budget import MAX_LABELS
from ..errors import Unsupported
from ..primitives.functions import FUNCTIONS
from .editor import GraphEditor
from .moves import movement, reduced_axes
from .patterns.matching import Facts, is_one_number

__all__ = ["Choices", "Region"]


@dataclass(frozen=True, slots=True)
class Choices:
    """Where the choices lie in a value.

    axis: the axis. inner: how many consecutive entries belong to one choice. index: whether the entries are the numbers
    of the chosen experts. copies: of gathered weights, the axes along which all entries are copies, the axis of choices
    included as far as other axes are merged into it; None of other values. gated: whether the value depends on the
    scores of the choices, so that over all experts only the chosen ones count.
    """

    axis: int
    inner: int = 1
    index: bool = False
    copies: frozenset[int] | None = None
    gated: bool = False

    @property
    def weight(self) -> bool:
        """Whether the value is gathered weights."""
        return self.copies is not None


@dataclass(slots=True)
class Region:
    """What depends on one TopK, up to where the choices are summed.

    where: the values with an axis of choices. shapes: values whose shape is a constant operand of a node, to be written
    anew. gathers: nodes that gather an expert's weights, with the weights. scores: nodes that gather scores.
    masks: nodes that write one number where an expert is chosen. placed: nodes that write what the choices have to the
    places of the experts. summed: whether the choices are summed somewhere.
    indices: nodes that gather by known indices, with those of all experts. asked: values outside that repeat something
    for each choice. merged: contractions with gathered weights along an axis that holds more than the choices, with
    their terms, result and letter of that axis. spread: operands of elementwise nodes that are gathered weights.
    """

    router: onnx_ir.Node
    editor: GraphEditor
    facts: Facts
    chosen: int
    experts: int
    overridden: Callable[[onnx_ir.Node], bool]
    where: dict[onnx_ir.Value, Choices] = field(default_factory=dict)
    shapes: dict[onnx_ir.Node, tuple[int, ...]] = field(default_factory=dict)
    gathers: dict[onnx_ir.Node, onnx_ir.Value] = field(default_factory=dict)
    scores: set[onnx_ir.Node] = field(default_factory=set)
    indices: dict[onnx_ir.Node, np.ndarray] = field(default_factory=dict)
    masks: set[onnx_ir.Node] = field(default_factory=set)
    placed: set[onnx_ir.Node] = field(default_factory=set)
    summed: bool = False
    asked: dict[onnx_ir.Value, Choices] = field(default_factory=dict)
    merged: dict[onnx_ir.Node, tuple[list[str], str, str]] = field(default_factory=dict)
    spread: set[tuple[onnx_ir.Node, int]] = field(default_factory=set)

    @staticmethod
    def of(node: onnx_ir.Node, editor: GraphEditor, overridden: Callable[[onnx_ir.Node], bool]) -> Region | None:
        """The region of a TopK that takes a known number of a known number of scores."""
        facts = Facts(editor.known)
        shape, made = facts.shape(node.inputs[0]), facts.shape(node.outputs[0])
        if not shape or not made or len(node.outputs) < 2:
            return None
        axis = node.attributes.get_int("axis", -1) % len(shape)
        if not 0 < made[axis] <= shape[axis]:
            return None
        if overridden(node):
            return None
        region = Region(node, editor, facts, made[axis], shape[axis], overridden)
        region.where = {
            node.outputs[0]: Choices(axis, gated=True),
            node.outputs[1]: Choices(axis, index=True),
        }
        return region

    def explore(self) -> bool:
        """Find the choices in all values; returns whether they gather weights. Raises `Unsupported` if unclear."""
        for node in self.editor.graph:
            if node is not self.router and any(v in self.where for v in node.inputs):
                self._visit(node)
        for value, asked in self.asked.items():
            if any(u.node not in self.shapes and u.node not in self.indices and not self._inside(u.node)
                   for u in value.uses()):  # fmt: skip
                raise Unsupported("a value that is repeated for each choice is used elsewhere too")
            self.where[value] = asked
        if any(v.is_graph_output() for v in self.where):
            raise Unsupported("the choices are an output")
        return bool(self.gathers or self.masks or self.placed) or self.summed

    def _inside(self, node: onnx_ir.Node) -> bool:
        return any(v in self.where for v in node.inputs) or any(v in self.asked for v in node.outputs)

    def _visit(self, node: onnx_ir.Node) -> None:
        if node.domain not in ("", "ai.onnx") or self.overridden(node):
            raise Unsupported(f"{node.op_type} of the choices")
        if node.op_type in ("Shape", "Size") or (node.op_type == "CastLike" and node.inputs[0] not in self.where):
            return  # the shape and the type of the choices are those of all experts
        if any(self.where.get(v, Choices(0)).index for v in node.inputs if v is not None):
            self._visit_index(node)
            return
        visit = _VISITS.get(node.op_type)
        if visit is None and node.op_type in FUNCTIONS:
            visit = Region._elementwise
        if visit is None:
            raise Unsupported(f"{node.op_type} of the choices")
        visit(self, node)

    def _visit_index(self, node: onnx_ir.Node) -> None:
        """The numbers of the chosen experts are moved, or used to gather."""
        source = node.inputs[0]
        here = None if source is None else self.where.get(source)
        if here is not None and here.index:
            single = node.op_type in ("Max", "Min", "Sum", "Concat") and len(node.inputs) == 1
            if node.op_type in ("Cast", "Identity") or single:
                self.where[node.outputs[0]] = here
            elif node.op_type in _MOVES:
                Region._moved(self, node)
            else:
                raise Unsupported(f"{node.op_type} of the numbers of the chosen experts")
            return
        index = self.where.get(node.inputs[1]) if len(node.inputs) > 1 and node.inputs[1] is not None else None
        if source is None or index is None:
            raise Unsupported(f"{node.op_type} of the numbers of the chosen experts")
        shape, places = self.shape(source), self.shape(node.inputs[1])
        if node.op_type in ("Gather", "GatherND") and self.editor.is_weight(source):
            axis = node.attributes.get_int("axis", 0) if node.op_type == "Gather" else 0
            deep = node.op_type == "Gather" or (places[-1] == 1 and not node.attributes.get_int("batch_dims", 0))
            if axis or not deep or shape[0] != self.experts:
                raise Unsupported("the chosen experts index another axis")
            self.gathers[node] = source
            copies = frozenset(range(len(places) - (node.op_type == "GatherND"))) - {index.axis}
            self.where[node.outputs[0]] = Choices(index.axis, index.inner, copies=copies)
        elif node.op_type == "ScatterElements":
            self._scattered(node, index)
        elif node.op_type == "GatherElements" and source not in self.where:
            axis = node.attributes.get_int("axis", 0) % len(shape)
            if axis != index.axis or index.inner != 1 or shape != self.shape(self.router.inputs[0]):
                raise Unsupported("the chosen experts index another axis")
            self.scores.add(node)
            self.where[node.outputs[0]] = Choices(axis, gated=True)
        else:
            raise Unsupported(f"{node.op_type} by the numbers of the chosen experts")

    def _scattered(self, node: onnx_ir.Node, index: Choices) -> None:
        """One number, or what belongs to each of the choices, is written to their places among all experts."""
        x, _, updates = node.inputs
        shape, reduction = self.shape(x), node.attributes.get_string("reduction", "none")
        axis = node.attributes.get_int("axis", 0) % len(shape)
        if shape != self.shape(self.router.inputs[0]) or (axis, index.inner) != (index.axis, 1) or reduction != "none":
            raise Unsupported("the chosen experts index another axis")
        at = None if updates is None else self.where.get(updates)
        if at is None and is_one_number(x, self.facts) and is_one_number(updates, self.facts):
            self.masks.add(node)
        elif at is not None and (at.axis, at.inner, at.weight) == (axis, 1, False) and x not in self.where:
            self.placed.add(node)
        else:
            raise Unsupported("something is written for each of the choices")

    def shape(self, value: onnx_ir.Value | None) -> tuple[int, ...]:
        """The shape of a value. Raises `Unsupported` if it is unknown."""
        shape = self.facts.shape(value)
        if shape is None:
            raise Unsupported("a shape is unknown")
        return shape

    def _numbers(self, value: onnx_ir.Value | None) -> tuple[int, ...]:
        found = self.facts.integers(value)
        if found is None:
            raise Unsupported("axes or sizes are unknown")
        return found

    def _found(self, numbers: np.ndarray) -> Choices:
        """Where the choice of each entry varies. Raises `Unsupported` unless it counts along one axis."""
        axes = [a for a, n in enumerate(numbers.shape) if n > 1 and (np.diff(numbers, axis=a) != 0).any()]
        if not axes and self.chosen == 1:
            raise Unsupported("a single choice leaves no trace in a shape")
        if len(axes) != 1:
            raise Unsupported("choices vary along several axes")
        line = np.moveaxis(numbers, axes[0], 0).reshape(numbers.shape[axes[0]], -1)[:, 0]
        inner = int(np.flatnonzero(line != line[0])[0])
        if (line != np.arange(len(line)) // inner % self.chosen).any() or len(line) % (inner * self.chosen):
            raise Unsupported("choices are not in order")
        return Choices(axes[0], inner)

    def _numbered(self, shape: Sequence[int], at: Choices) -> np.ndarray:
        """The choice of each entry of a value of this shape."""
        if math.prod(shape) > MAX_LABELS:
            raise Unsupported("the value is too large")
        line = np.arange(shape[at.axis]) // at.inner % self.chosen
        return np.broadcast_to(line.reshape([-1 if a == at.axis else 1 for a in range(len(shape))]), shape)

    def _moved(self, node: onnx_ir.Node) -> None:
        """Data movement of the choices; sizes that a Reshape or an Expand is given are written anew."""
        source = node.inputs[0]
        if source is None or source not in self.where:
            raise Unsupported(f"{node.op_type} by the choices")
        here, shape = self.where[source], self.shape(source)
        if here.weight:
            self._moved_weights(node, here)
            return
        at = self._found(movement(node, self.facts)(self._numbered(shape, here)))
        self.where[node.outputs[0]] = Choices(at.axis, at.inner, here.index, gated=here.gated)
        self._resize(node, at)

    def _moved_weights(self, node: onnx_ir.Node, here: Choices) -> None:
        """Gathered weights whose axes are permuted, or which get or lose axes of size 1."""
        shape = self.shape(node.inputs[0])
        if node.op_type not in ("Transpose", "Squeeze", "Unsqueeze"):
            raise Unsupported(f"{node.op_type} of gathered weights")
        if node.op_type == "Transpose":
            order = tuple(node.attributes.get_ints("perm", ())) or tuple(range(len(shape)))[::-1]
            new = {old: place for place, old in enumerate(order)}
        else:
            if not self._names_axes(node):
                raise Unsupported("which axes are squeezed is not said")
            axes = reduced_axes(node, self.facts, max(len(shape), len(self.shape(node.outputs[0]))))
            if node.op_type == "Unsqueeze":
                left = [a for a in range(len(shape) + len(axes)) if a not in axes]
                new = dict(enumerate(left))
            else:
                left = [a for a in range(len(shape)) if a not in axes]
                new = {old: place for place, old in enumerate(left)}
        if here.axis not in new:
            raise Unsupported("the axis of choices is dropped")
        copies = frozenset(new[a] for a in here.copies or () if a in new)
        self.where[node.outputs[0]] = Choices(new[here.axis], here.inner, copies=copies)

    def _names_axes(self, node: onnx_ir.Node) -> bool:
        return "axes" in node.attributes or (len(node.inputs) > 1 and node.inputs[1] is not None)

    def _resize(self, node: onnx_ir.Node, at: Choices) -> None:
        if node.op_type in ("Reshape", "Expand"):
            self.shapes[node] = self.scaled(self.shape(node.outputs[0]), at)

    def scaled(self, shape: Sequence[int], at: Choices) -> tuple[int, ...]:
        """The shape with all experts in place of the chosen ones; of gathered weights, each expert's once."""
        if at.copies is not None:
            return tuple(self.experts if a == at.axis else 1 if a in at.copies else n for a, n in enumerate(shape))
        return tuple(n // self.chosen * self.experts if a == at.axis else n for a, n in enumerate(shape))

    def _elementwise(self, node: onnx_ir.Node) -> None:
        rank = len(self.shape(node.outputs[0]))
        inside = [(i, v, self.where[v]) for i, v in enumerate(node.inputs) if v is not None and v in self.where]
        places = {(len(self.shape(v)) - at.axis, at.inner) for _, v, at in inside}
        if len(places) != 1:
            raise Unsupported("choices in different places meet")
        [(back, inner)] = places
        # What is put side by side is gated only if each part is.
        parts = [at.gated for _, _, at in inside]
        gated = all(parts) and len(parts) == len(node.inputs) if node.op_type == "Concat" else any(parts)
        for value in node.inputs:
            if value is not None and value not in self.where:
                self._ask(value, len(self.shape(value)) - back, inner)
        if not all(at.weight for _, _, at in inside):
            self.spread |= {(node, i) for i, _, at in inside if at.weight}
            self.where[node.outputs[0]] = Choices(rank - back, inner, gated=gated)
            return
        if not all(v is None or v in self.where or self.editor.is_constant(v) for v in node.inputs):
            self.spread |= {(node, i) for i, _, _ in inside}
            self.where[node.outputs[0]] = Choices(rank - back, inner)
            return
        copies = [{a + rank - len(self.shape(v)) for a in at.copies or ()} for _, v, at in inside]
        self.where[node.outputs[0]] = Choices(rank - back, inner, copies=frozenset(set.intersection(*copies)))

    def _ask(self, value: onnx_ir.Value, axis: int, inner: int) -> None:
        """An operand that meets the choices is broadcast along their axis, or repeats what it is for each of them."""
        shape = self.shape(value)
        if axis < 0 or shape[axis] == 1:
            return
        if shape[axis] % (inner * self.chosen):
            raise Unsupported("an operand does not fit the choices")
        at = Choices(axis, inner)
        if self.asked.setdefault(value, at) != at or value in self.where:
            raise Unsupported("choices in different places meet")
        node = value.producer()
        if node is None or node.domain not in ("", "ai.onnx"):
            raise Unsupported("an operand differs between the choices")
        source = node.inputs[0] if node.inputs else None
        if source is None:
            raise Unsupported("an operand differs between the choices")
        if node.op_type == "Expand" and not self._holds(source, len(shape) - axis):
            if inner != 1 or shape[axis] != self.chosen:
                raise Unsupported("choices are merged with other axes while they are made")
            self._resize(node, at)
        elif node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            before = self._found(self._numbered(shape, at).reshape(self.shape(source)))
            self._resize(node, at)
            self._ask(source, before.axis, before.inner)
        elif node.op_type == "Transpose":
            order = tuple(node.attributes.get_ints("perm", ())) or tuple(range(len(shape)))[::-1]
            self._ask(source, order[axis], inner)
        elif node.op_type in ("Cast", "Identity"):
            self._ask(source, axis, inner)
        elif node.op_type == "Gather":
            self._ask_indices(node, at)
        elif node.op_type in FUNCTIONS:
            for operand in node.inputs:
                if operand is not None:
                    self._ask(operand, axis - len(shape) + len(self.shape(operand)), inner)
        else:
            raise Unsupported("an operand differs between the choices")

    def _holds(self, source: onnx_ir.Value, back: int) -> bool:
        """Whether a value that is expanded has the axis, counted from the end, already."""
        shape = self.shape(source)
        return len(shape) >= back and shape[len(shape) - back] > 1

    def _ask_indices(self, node: onnx_ir.Node, at: Choices) -> None:
        """Known indices that pick the same for each choice."""
        data, source = self.facts.data(node.inputs[1]), node.inputs[0]
        if data is None or source is None:
            raise Unsupported("an operand differs between the choices")
        own = at.axis - node.attributes.get_int("axis", 0) % len(self.shape(source))
        if not 0 <= own < data.ndim:
            raise Unsupported("an operand differs between the choices")
        size = data.shape[own]
        lines = np.moveaxis(data, own, 0).reshape(size // (self.chosen * at.inner), self.chosen, at.inner, -1)
        if (lines != lines[:, :1]).any():
            raise Unsupported("an operand differs between the choices")
        rest = [n for a, n in enumerate(data.shape) if a != own]
        every = np.repeat(lines[:, :1], self.experts, axis=1).reshape(size // self.chosen * self.experts, *rest)
        self.indices[node] = np.moveaxis(every, 0, own)

    def _reduced(self, node: onnx_ir.Node) -> None:
        source = node.inputs[0]
        assert source is not None
        here, shape = self.where[source], self.shape(source)
        axes = reduced_axes(node, self.facts, len(shape))
        if here.axis in axes:
            self._whole(source, here, here.gated)
            if node.op_type == "ReduceMean":
                raise Unsupported("a mean over the chosen experts")
            return
        keep = node.attributes.get_int("keepdims", 1)
        axis = here.axis if keep else here.axis - sum(a < here.axis for a in axes)
        self.where[node.outputs[0]] = Choices(axis, here.inner, gated=here.gated)

    def _whole(self, value: onnx_ir.Value, here: Choices, gated: bool) -> None:
        """Check that an axis, over which there is a sum, has the choices alone, and that only these count."""
        if here.inner != 1 or self.shape(value)[here.axis] != self.chosen:
            raise Unsupported("a sum over choices and others")
        if not gated:
            raise Unsupported("a sum that does not say which experts are chosen")
        self.summed = True

    def _normalised(self, node: onnx_ir.Node) -> None:
        source = node.inputs[0]
        assert source is not None
        here = self.where[source]
        along = node.attributes.get_int("axis", -1) % len(self.shape(source)) == here.axis
        if along and (here.inner != 1 or self.shape(source)[here.axis] != self.chosen):
            raise Unsupported("a softmax over choices and others")
        if along and not here.gated:
            raise Unsupported("a softmax that does not say which experts are chosen")
        self.where[node.outputs[0]] = here

    def _split(self, node: onnx_ir.Node) -> None:
        source = node.inputs[0]
        if source is None or source not in self.where:
            raise Unsupported("the choices are sizes")
        here, rank = self.where[source], len(self.shape(source))
        if node.op_type == "Slice":
            axes = self._numbers(node.inputs[3]) if len(node.inputs) > 3 else tuple(range(rank))
        else:
            axes = (node.attributes.get_int("axis", 0),)
        if here.axis in [a % rank for a in axes]:
            raise Unsupported("some of the choices are picked")
        for output in node.outputs:
            self.where[output] = here

    def _concat(self, node: onnx_ir.Node) -> None:
        rank = len(self.shape(node.outputs[0]))
        axis = node.attributes.get_int("axis", 0) % rank
        if any(self.where[v].axis == axis for v in node.inputs if v in self.where):
            raise Unsupported("something is added to the choices")
        self._elementwise(node)

    def _product(self, node: onnx_ir.Node) -> None:
        x, y = node.inputs
        rank = max(len(self.shape(x)), len(self.shape(y)), 2)
        batch = "abcdefgh"[: rank - 2]
        if min(len(self.shape(x)), len(self.shape(y))) < 2:
            raise Unsupported("a vector meets the choices")
        left = batch[rank - len(self.shape(x)) :] + "mk"
        right = batch[rank - len(self.shape(y)) :] + "kn"
        self._einsum(node, [left, right], batch + "mn")

    def _gemm(self, node: onnx_ir.Node) -> None:
        left = "km" if node.attributes.get_int("transA", 0) else "mk"
        right = "nk" if node.attributes.get_int("transB", 0) else "kn"
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        if bias in self.where or (bias is not None and not self.editor.is_constant(bias)):
            raise Unsupported("a bias meets the choices")
        self._einsum(node, [left, right], "mn")

    def _contracted(self, node: onnx_ir.Node) -> None:
        terms, arrow, out = node.attributes["equation"].as_string().replace(" ", "").partition("->")
        if not arrow or "." in terms or any(len(set(t)) < len(t) for t in terms.split(",")):
            raise Unsupported("an equation that is not spelled out")
        self._einsum(node, terms.split(","), out)

    def _einsum(self, node: onnx_ir.Node, terms: Sequence[str], out: str) -> None:
        found = {(term[self.where[v].axis], self.where[v].inner) for v, term in zip(node.inputs, terms, strict=False)
                 if v is not None and v in self.where}  # fmt: skip
        if len(found) != 1:
            raise Unsupported("choices in different places meet")
        [(letter, inner)] = found
        for value, term in zip(node.inputs, terms, strict=False):
            if value is not None and value not in self.where and letter in term:
                if letter not in out and self.shape(value)[term.index(letter)] == 1:
                    raise Unsupported("an operand differs between the choices")
                self._ask(value, term.index(letter), inner)
        gated = any(self.where[v].gated for v in node.inputs if v is not None and v in self.where)
        if letter in out:
            self.where[node.outputs[0]] = Choices(out.index(letter), inner, gated=gated)
        else:
            value = next(v for v in node.inputs if v in self.where)
            assert value is not None
            self._whole(value, self.where[value], gated)
            return
        weights = [(v, t) for v, t in zip(node.inputs, terms, strict=False) if v in self.where and self.where[v].weight]
        if len(weights) > 1:
            raise Unsupported("gathered weights meet each other")
        for value, term in weights:
            if node.op_type == "Gemm":
                raise Unsupported("Gemm with gathered weights")
            if self.shape(value)[term.index(letter)] != self.chosen:
                self.merged[node] = (list(terms), out, letter)


_MOVES = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Expand"})
_VISITS: Mapping[str, Callable[[Region, onnx_ir.Node], None]] = {
    **dict.fromkeys(_MOVES, Region._moved),
    **dict.fromkeys(
        ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL2", "ReduceSumSquare"), Region._reduced
    ),
    **dict.fromkeys(("Softmax", "LogSoftmax"), Region._normalised),
    **dict.fromkeys(("Cast", "Identity"), Region._elementwise),
    **dict.fromkeys(("Split", "Slice"), Region._split),
    "Concat": Region._concat,
    "MatMul": Region._product,
    "Gemm": Region._gemm,
    "Einsum": Region._contracted,
}
