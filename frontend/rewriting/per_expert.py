"""What values are for every expert: the axis of experts comes first, so that it broadcasts against all other values."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from ..budget import MAX_LABELS
from ..errors import Unsupported
from ..model.keys import DOMAIN
from ..primitives.functions import FUNCTIONS
from .codes import Codes, Index, Router, thin
from .moves import MOVES, movement, reduced_axes
from .shaped import ShapedEditor

__all__ = ["Form", "Forms"]

_LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, slots=True)
class Form:
    """What a value is for every expert.

    Attributes:
        value: [experts, *axes], of size 1 along axes of the original value that are copies.
        numbers: Which entry of the router's index each entry of the original value belongs to, of size 1 along axes
            that do not matter.
    """

    value: onnx_ir.Value
    numbers: np.ndarray


@dataclass(slots=True)
class Forms:
    """Makes values for every expert, from weights that some routers' index picks.

    Attributes:
        codes: The codes of indices.
        routers: The routers.
        made: Values as they are for every expert.
    """

    codes: Codes
    routers: tuple[Router, ...]
    made: dict[onnx_ir.Value, Form] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """The number of experts."""
        return self.routers[0].count

    @property
    def write(self) -> ShapedEditor:
        """The editor of the graph."""
        return self.codes.write

    def table(self, node: onnx_ir.Node) -> tuple[onnx_ir.Value, int, Index] | None:
        """The weights of all experts that a node gathers from, their axis, and by which index."""
        if node.op_type not in ("Gather", "GatherND") or not self.codes.editor.is_weight(node.inputs[0]):
            return None
        table, index = node.inputs[0], self.codes.index(node.inputs[1])
        if (
            table is None
            or index is None
            or index.shift is not None
            or index.key != tuple(r.index for r in self.routers)
        ):
            return None
        shape, axis = self.write.shape(table), node.attributes.get_int("axis", 0)
        if node.op_type == "GatherND":
            if node.attributes.get_int("batch_dims", 0) or index.numbers.shape[-1] != 1:
                return None
            axis, index = 0, Index(index.routers, index.numbers[..., 0])
        axis %= len(shape)
        return (table, axis, index) if shape[axis] == self.count else None

    def visit(self, node: onnx_ir.Node) -> None:
        """Make what the outputs of a node are for every expert. Raises `Unsupported` if that is not understood."""
        find = _FORMS.get((node.domain if node.domain == DOMAIN else "", node.op_type))
        if node.domain not in ("", "ai.onnx", DOMAIN) or self.codes.overridden(node):
            raise Unsupported(f"{node.op_type} of gathered weights")
        if self.table(node) is not None:
            find = Forms._gathered
        if find is None and node.op_type in FUNCTIONS and node.domain != DOMAIN:
            find = Forms._elementwise
        if find is None:
            raise Unsupported(f"{node.op_type} of gathered weights")
        find(self, node)

    def _form(self, value: onnx_ir.Value | None) -> Form:
        found = None if value is None else self.made.get(value)
        if found is None:
            raise Unsupported("a value is not there for every expert")
        return found

    def tail(self, form: Form) -> tuple[int, ...]:
        """The axes behind that of experts, of size 1 where entries of the original value are copies."""
        return self.write.shape(form.value)[1:]

    def _add(self, node: onnx_ir.Node, value: onnx_ir.Value, numbers: np.ndarray, output: int = 0) -> None:
        self.made[node.outputs[output]] = Form(value, thin(numbers))

    def _gathered(self, node: onnx_ir.Node) -> None:
        found = self.table(node)
        assert found is not None
        table, axis, index = found
        shape, rank = self.write.shape(table), index.numbers.ndim
        first = self.write.moved_axis(node, table, axis, 0)
        value = self.write.reshaped(node, first, (shape[axis], *shape[:axis], *(1,) * rank, *shape[axis + 1 :]))
        ones = (1,) * axis, (1,) * (len(shape) - axis - 1)
        self._add(node, value, index.numbers.reshape(ones[0] + index.numbers.shape + ones[1]))

    def _moved(self, node: onnx_ir.Node) -> None:
        """Data movement; copies stay copies as far as they can."""
        form, shape = self._form(node.inputs[0]), self.write.shape(node.inputs[0])
        if any(v in self.made for v in node.inputs[1:]):
            raise Unsupported("a size is computed for every expert")
        for place in range(len(node.outputs)):
            move = movement(node, self.codes.facts, place)
            self._add(node, self._movement(node, form, place), move(np.broadcast_to(form.numbers, shape)), place)

    def _movement(self, node: onnx_ir.Node, form: Form, place: int) -> onnx_ir.Value:
        write, tail, made = self.write, self.tail(form), self.write.shape(node.outputs[place])
        shape = self.write.shape(node.inputs[0])
        if node.op_type == "Cast":
            kind = self.codes.editor.known[node.outputs[0]].dtype
            return write.made(node, "Cast", [form.value], (self.count, *tail), kind, dict(node.attributes))
        if node.op_type == "Transpose":
            order = tuple(node.attributes.get_ints("perm", ())) or tuple(range(len(tail)))[::-1]
            return write.transposed(node, form.value, (0, *(a + 1 for a in order)))
        if node.op_type == "Expand":
            return write.reshaped(node, form.value, (self.count, *(1,) * (len(made) - len(tail)), *tail))
        if node.op_type in ("Gather", "Slice", "Split"):
            return self._part(node, form, place)
        if node.op_type in ("Reshape", "Flatten", "Squeeze", "Unsqueeze"):
            kept = _regrouped(shape, tail, made)
            whole = form.value if kept else write.expanded(node, form.value, (self.count, *shape))
            return write.reshaped(node, whole, (self.count, *(kept or made)))
        return form.value

    def _part(self, node: onnx_ir.Node, form: Form, place: int) -> onnx_ir.Value:
        """Known entries along one axis or several, one axis after the other."""
        shape, move = self.write.shape(node.inputs[0]), movement(node, self.codes.facts, place)
        if node.op_type == "Gather":
            axis = node.attributes.get_int("axis", 0) % len(shape)
            picks = {axis: np.asarray(self.codes.facts.data(node.inputs[1]), np.int64)}
        else:
            made = self.write.shape(node.outputs[place])
            picks = {a: np.arange(n) for a, n in enumerate(shape)}
            for axis in picks:
                line = np.arange(shape[axis]).reshape([-1 if a == axis else 1 for a in range(len(shape))])
                picks[axis] = np.moveaxis(move(np.broadcast_to(line, shape)), axis, 0).reshape(made[axis], -1)[:, 0]
            picks = {a: p for a, p in picks.items() if len(p) != shape[a] or (p != np.arange(shape[a])).any()}
        value = form.value
        for axis, numbers in picks.items():
            now = self.write.shape(value)
            if now[axis + 1] == 1 and shape[axis] > 1:
                value = self.write.reshaped(node, value, (*now[: axis + 1], *(1,) * numbers.ndim, *now[axis + 2 :]))
                continue
            index = self.write.constant(node, "entries", numbers)
            goal = (*now[: axis + 1], *numbers.shape, *now[axis + 2 :])
            value = self.write.like(node, "Gather", value, [index], goal, axis=axis + 1)
        return value

    def _aligned(self, node: onnx_ir.Node, rank: int) -> list[onnx_ir.Value | None]:
        """The operands for every expert, with this many axes behind that of experts; others as they are."""
        found: list[onnx_ir.Value | None] = []
        for value in node.inputs:
            form = None if value is None else self.made.get(value)
            if form is not None:
                tail = self.tail(form)
                value = self.write.reshaped(node, form.value, (self.count, *(1,) * (rank - len(tail)), *tail))
            elif value is not None and len(self.write.shape(value)) > rank:
                raise Unsupported("an operand has more axes than the result")
            found.append(value)
        return found

    def _elementwise(self, node: onnx_ir.Node) -> None:
        made = self.write.shape(node.outputs[0])
        operands = self._aligned(node, len(made))
        numbers = _agreed([self.made[v].numbers for v in node.inputs if v is not None and v in self.made], len(made))
        tails = [self.write.shape(v) for v in operands if v is not None]
        shape = np.broadcast_shapes((self.count, *(1,) * len(made)), *tails)
        kind = self.codes.editor.known[node.outputs[0]].dtype
        self._add(
            node,
            self.write.made(node, node.op_type, operands, shape, kind, dict(node.attributes), node.domain),
            numbers,
        )

    def _along(self, node: onnx_ir.Node, form: Form, axes: Iterable[int]) -> None:
        """Check that entries along axes belong to one choice, and that none are left out as copies."""
        shape, tail = self.write.shape(node.inputs[0]), self.tail(form)
        if any(form.numbers.shape[a] != 1 or tail[a] != shape[a] for a in axes):
            raise Unsupported("what belongs to several choices is mixed")

    def _normalised(self, node: onnx_ir.Node) -> None:
        form, rank = self._form(node.inputs[0]), len(self.write.shape(node.inputs[0]))
        attributes: dict[str, onnx_ir.Attr | int | str] = dict(node.attributes)
        if node.domain == DOMAIN and "axes" in node.attributes:
            axes = [a % rank for a in node.attributes["axes"].as_ints()]
        else:
            axis = node.attributes.get_int("axis", -1) % rank
            axes = [axis] if "Softmax" in node.op_type else list(range(axis, rank))
            attributes["axis"] = axis - rank
            if node.domain != DOMAIN and self.codes.editor.opset < 13:
                raise Unsupported("an older softmax")
        self._along(node, form, axes)
        if any(v in self.made for v in node.inputs[1:]) or len([o for o in node.outputs if o.name]) > 1:
            raise Unsupported("a normalisation with other operands")
        inputs = [form.value, *node.inputs[1:]]
        kind = self.codes.editor.known[node.outputs[0]].dtype
        shape = self.write.shape(form.value)
        value = self.write.made(node, node.op_type, inputs, shape, kind, attributes, node.domain)
        self._add(node, value, form.numbers)

    def _reduced(self, node: onnx_ir.Node) -> None:
        form, rank = self._form(node.inputs[0]), len(self.write.shape(node.inputs[0]))
        axes = sorted(reduced_axes(node, self.codes.facts, rank))
        self._along(node, form, axes)
        keep = bool(node.attributes.get_int("keepdims", 1))
        inputs: list[onnx_ir.Value | None] = [form.value]
        attributes: dict[str, onnx_ir.Attr | int | list[int]] = {"keepdims": int(keep)}
        if self.codes.editor.opset >= (13 if node.op_type == "ReduceSum" else 18):
            inputs.append(self.write.constant(node, "axes", np.array([a + 1 for a in axes], np.int64)))
        else:
            attributes["axes"] = [a + 1 for a in axes]
        rest = [1 if a in axes else n for a, n in enumerate(self.tail(form)) if keep or a not in axes]
        numbers = form.numbers if keep else form.numbers.squeeze(tuple(axes))
        kind = self.codes.editor.known[node.outputs[0]].dtype
        shape = (self.count, *rest)
        self._add(node, self.write.made(node, node.op_type, inputs, shape, kind, attributes), numbers)

    def _concat(self, node: onnx_ir.Node) -> None:
        made = self.write.shape(node.outputs[0])
        axis = node.attributes.get_int("axis", 0) % len(made)
        numbers = _agreed([self.made[v].numbers for v in node.inputs if v in self.made and v], len(made))
        if numbers.shape[axis] != 1:
            raise Unsupported("choices are joined")
        parts = []
        for value in node.inputs:
            assert value is not None
            every = self.made[value].value if value in self.made else value
            parts.append(self.write.expanded(node, every, (self.count, *self.write.shape(value))))
        kind = self.codes.editor.known[node.outputs[0]].dtype
        shape = (self.count, *made)
        self._add(node, self.write.made(node, "Concat", parts, shape, kind, {"axis": axis + 1}), numbers)

    def _product(self, node: onnx_ir.Node) -> None:
        shapes = [self.write.shape(v) for v in node.inputs]
        rank = max(map(len, shapes))
        if min(map(len, shapes)) < 2:
            raise Unsupported("a vector meets gathered weights")
        batch = _LETTERS[: rank - 2]
        terms = [batch[rank - len(shape) :] + end for shape, end in zip(shapes, ("yz", "zx"), strict=True)]
        numbers = self._contracted_numbers(node, terms, batch + "yx")
        operands = self._aligned(node, rank)
        sizes = [self.write.shape(v) for v in operands]
        shape = (*np.broadcast_shapes((self.count, *(1,) * (rank - 2)), *(s[:-2] for s in sizes)),
                 sizes[0][-2], sizes[1][-1])  # fmt: skip
        kind = self.codes.editor.known[node.outputs[0]].dtype
        self._add(node, self.write.made(node, "MatMul", operands, shape, kind), numbers)

    def _gemm(self, node: onnx_ir.Node) -> None:
        """As MatMul and Add."""
        write, shapes = self.write, [self.write.shape(v) for v in node.inputs[:2]]
        bias = node.inputs[2] if len(node.inputs) > 2 else None
        plain = all(node.attributes.get_float(n, 1.0) == 1.0 for n in ("alpha", "beta"))
        if not plain or bias in self.made:
            raise Unsupported("a scaled product, or a bias for each choice")
        terms = [letters[::-1] if node.attributes.get_int(turned, 0) else letters
                 for letters, turned in (("yz", "transA"), ("zx", "transB"))]  # fmt: skip
        numbers = self._contracted_numbers(node, terms, "yx")
        operands: list[onnx_ir.Value | None] = []
        for value, term, wanted in zip(node.inputs[:2], terms, ("yz", "zx"), strict=True):
            assert value is not None
            every = self.made[value].value if value in self.made else value
            rank = len(write.shape(every))
            order = (*range(rank - 2), rank - 1, rank - 2) if term != wanted else tuple(range(rank))
            operands.append(write.transposed(node, every, order))
        sizes = [write.shape(v) for v in operands]
        kind = self.codes.editor.known[node.outputs[0]].dtype
        shape = (self.count, sizes[0][-2], sizes[1][-1])
        value = write.made(node, "MatMul", operands, shape, kind)
        if bias is not None:
            whole = np.broadcast_shapes(shape, write.shape(bias))
            value = write.made(node, "Add", [value, bias], whole, kind)
        assert len(shapes) == 2
        self._add(node, value, numbers)

    def _einsum(self, node: onnx_ir.Node) -> None:
        written, arrow, out = node.attributes["equation"].as_string().replace(" ", "").partition("->")
        terms = written.split(",")
        if not arrow or "." in written or any(len(set(t)) < len(t) for t in terms):
            raise Unsupported("an equation that is not spelled out")
        numbers = self._contracted_numbers(node, terms, out)
        letter = next(c for c in reversed(_LETTERS) if c not in written)
        operands, parts, sizes = [], [], {letter: self.count}
        for value, term in zip(node.inputs, terms, strict=True):
            every = self.made[value].value if value in self.made and value is not None else value
            parts.append(letter + term if value in self.made else term)
            operands.append(every)
            for c, n in zip(parts[-1], self.write.shape(every), strict=True):
                sizes[c] = max(n, sizes.get(c, 1))
        kind = self.codes.editor.known[node.outputs[0]].dtype
        equation = {"equation": f"{','.join(parts)}->{letter}{out}"}
        shape = (self.count, *(sizes[c] for c in out))
        self._add(node, self.write.made(node, "Einsum", operands, shape, kind, equation), numbers)

    def _contracted_numbers(self, node: onnx_ir.Node, terms: list[str], out: str) -> np.ndarray:
        """The choices of the result of a contraction, none of which are summed over."""
        found = []
        for value, term in zip(node.inputs, terms, strict=False):
            if value is None or value not in self.made:
                continue
            form, shape = self.made[value], self.write.shape(value)
            summed = [a for a, c in enumerate(term) if c not in out]
            if any(form.numbers.shape[a] != 1 or self.tail(form)[a] != shape[a] for a in summed):
                raise Unsupported("what belongs to several choices is mixed")
            sizes = dict(zip(term, form.numbers.shape, strict=True))
            kept = [c for c in out if c in term]
            lying = form.numbers.squeeze(tuple(summed)).transpose(
                [[c for c in term if c in out].index(c) for c in kept]
            )
            found.append(lying.reshape([sizes.get(c, 1) for c in out]))
        return _agreed(found, len(out))


def _agreed(numbers: list[np.ndarray], rank: int) -> np.ndarray:
    """The choices of entries in which several values meet, with this many axes. Raises `Unsupported` if they differ."""
    found = [n.reshape((1,) * (rank - n.ndim) + n.shape) for n in numbers]
    if not found or np.prod(np.broadcast_shapes(*(n.shape for n in found))) > MAX_LABELS:
        raise Unsupported("the value is too large")
    first, *others = np.broadcast_arrays(*found)
    if any((first != other).any() for other in others):
        raise Unsupported("different choices meet")
    return thin(first)


def _regrouped(shape: tuple[int, ...], tail: tuple[int, ...], made: tuple[int, ...]) -> list[int] | None:
    """What a Reshape makes of axes of which some are copies, of size 1; None if it merges these with others."""
    old, new = np.cumprod(shape).tolist(), np.cumprod(made).tolist()
    if not old or not new or 0 in shape:
        return None
    ends = sorted(set(old) & set(new))
    copies = {bisect_left(ends, end) for end, n, m in zip(old, shape, tail, strict=True) if m < n}
    if any(bisect_left(ends, end) in copies for end, m in zip(old, tail, strict=True) if m > 1):
        return None
    return [1 if bisect_left(ends, end) in copies else n for end, n in zip(new, made, strict=True)]


_FORMS: Mapping[tuple[str, str], Callable[[Forms, onnx_ir.Node], None]] = {
    **{("", op): Forms._moved for op in MOVES if op not in FUNCTIONS and op != "Concat"},
    **{
        ("", op): Forms._reduced
        for op in ("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean", "ReduceL2", "ReduceSumSquare", "ReduceProd")
    },
    **{("", op): Forms._normalised for op in ("Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization")},
    **{
        (DOMAIN, op): Forms._normalised
        for op in ("Softmax", "LogSoftmax", "Standardize", "RMSNormalize", "LpNormalize")
    },
    ("", "Concat"): Forms._concat,
    ("", "MatMul"): Forms._product,
    ("", "Gemm"): Forms._gemm,
    ("", "Einsum"): Forms._einsum,
}
