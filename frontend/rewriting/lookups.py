"""What reads the indices that a router chose, as functions of their codes: comparisons, tables, scores, masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ..errors import Unsupported
from .codes import Codes, Index, Router
from .patterns.matching import is_one_number
from .shaped import ShapedEditor

__all__ = ["Lookups"]

Make = Callable[[], onnx_ir.Value]

_COMPARED = frozenset({"OneHot", "Equal"})


@dataclass(frozen=True, slots=True)
class Lookups:
    """Replaces the readers of a router's indices.

    | found | replaced by |
    |---|---|
    | OneHot(i), Equal(i, [0, 1, ...]) | the code of i |
    | Equal(i, e) | entry e of the code |
    | Gather(table, i) | MatMul(code, table) |
    | GatherElements(x, i) | the sum of x times the code |
    | ScatterElements(x, i, u), one entry chosen | u where the entry was chosen, else x; the code of two numbers |
    """

    codes: Codes

    def compare(self, router: Router) -> bool:
        """Replace comparisons of the indices with the numbers of the entries; returns whether there are any."""
        found = False
        for node, operand in list(self.codes.readers(router)):
            make = self._reader(node, operand) if operand >= 0 and node.op_type in _COMPARED else None
            if make is not None:
                self.write.replace(node, make())
                found = True
        return found

    def resolve(self, router: Router) -> bool:
        """Replace all that reads the indices, unless something reads them that may count; returns whether it did."""
        readers = list(self.codes.readers(router))
        if not readers or any(self._reader(node, operand) is None for node, operand in readers):
            return False
        for node, operand in readers:
            # Anew, since one may read what replaced another.
            make = self._reader(node, operand)
            if make is not None:
                self.write.replace(node, make())
        return True

    @property
    def write(self) -> ShapedEditor:
        """The editor of the graph."""
        return self.codes.write

    def _reader(self, node: onnx_ir.Node, operand: int) -> Make | None:
        """What makes the result of a reader from codes, None if it may read the index as a number."""
        find = _READERS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if find is None or operand < 0 or self.codes.overridden(node):
            return None
        index = self.codes.index(node.inputs[operand])
        try:
            return None if index is None else find(self, node, operand, index)
        except Unsupported:
            return None

    def _one_hot(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        depth, values = self.codes.editor.number(node.inputs[1]), self.codes.facts.data(node.inputs[2])
        if operand or depth != index.router.count or values is None or values.reshape(-1).tolist() != [0, 1]:
            return None
        rank = index.numbers.ndim
        axis = node.attributes.get_int("axis", -1) % (rank + 1)
        return lambda: self.write.moved_axis(node, self.codes.code(index), rank, axis)

    def _equal(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        """The other operand is one number, or 0, 1, 2, ... along an axis along which the index is broadcast."""
        numbers = self.codes.facts.data(node.inputs[1 - operand])
        made, shape, count = self.write.shape(node.outputs[0]), index.numbers.shape, index.router.count
        if numbers is None or numbers.dtype.kind not in "iuf" or not numbers.size:
            return None
        if (numbers == numbers.reshape(-1)[0]).all():
            number = float(numbers.reshape(-1)[0])
            if math.prod(made) != math.prod(shape) or number not in range(count):
                return None
            return lambda: self.write.reshaped(node, self._entry(node, index, int(number)), made)
        line = numbers.reshape((1,) * (len(made) - numbers.ndim) + numbers.shape)
        here = (1,) * (len(made) - len(shape)) + shape
        [axis, *others] = [a for a, n in enumerate(line.shape) if n > 1]
        if others or here[axis] != 1 or line.size != count or (line.reshape(-1) != np.arange(count)).any():
            return None
        if made != (*here[:axis], count, *here[axis + 1 :]):
            return None
        rest = (*here[:axis], *here[axis + 1 :])
        return lambda: self.write.moved_axis(
            node, self.write.reshaped(node, self.codes.code(index), (*rest, count)), len(rest), axis
        )

    def _entry(self, node: onnx_ir.Node, index: Index, number: int) -> onnx_ir.Value:
        place = self.write.constant(node, "entry", np.array(number, np.int64))
        code, shape = self.codes.code(index), index.numbers.shape
        return self.write.like(node, "Gather", code, [place], shape, axis=len(shape))

    def _gather(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        table, axis = node.inputs[0], node.attributes.get_int("axis", 0)
        shape = self.write.shape(table)
        if operand != 1 or table is None:
            return None
        axis %= len(shape)
        return self._rows(node, table, axis, index) if shape[axis] == index.router.count else None

    def _gather_nd(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        table, shape = node.inputs[0], index.numbers.shape
        if operand != 1 or table is None or shape[-1] != 1 or node.attributes.get_int("batch_dims", 0):
            return None
        whole = Index(index.router, index.numbers.reshape(shape[:-1]))
        return self._rows(node, table, 0, whole) if self.write.shape(table)[0] == index.router.count else None

    def _rows(self, node: onnx_ir.Node, table: onnx_ir.Value, axis: int, index: Index) -> Make | None:
        """Rows of a parameter, or of a computed table: the code times the table."""
        if self.codes.editor.data(table) is not None or not self.write.is_float(table):
            return None
        shape, count = self.write.shape(table), index.router.count
        rest = [n for a, n in enumerate(shape) if a != axis]

        def make() -> onnx_ir.Value:
            write, lead = self.write, index.numbers.shape
            rows = write.reshaped(node, write.moved_axis(node, table, axis, 0), (count, math.prod(rest)))
            code = self.write.as_type(node, self.codes.code(index), table)
            found = write.like(node, "MatMul", code, [rows], (*lead, math.prod(rest)))
            found = write.reshaped(node, found, (*lead, *rest))
            order = [*range(len(lead), len(lead) + axis), *range(len(lead)),
                     *range(len(lead) + axis, len(lead) + len(rest))]  # fmt: skip
            return write.transposed(node, found, order)

        return make

    def _gather_elements(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        x, rank = node.inputs[0], index.numbers.ndim
        shape = self.write.shape(x)
        axis = node.attributes.get_int("axis", 0) % len(shape)
        wide = shape[:axis] + shape[axis + 1 :] == index.numbers.shape[:axis] + index.numbers.shape[axis + 1 :]
        if operand != 1 or x is None or not wide or shape[axis] != index.router.count or rank > 20:
            return None
        if self.codes.editor.data(x) is not None or not self.write.is_float(x) or self.codes.editor.opset < 12:
            return None
        letters = "abcdefghijklmnopqrst"[:rank]
        equation = f"{letters[:axis]}z{letters[axis + 1 :]},{letters}z->{letters}"
        return lambda: self.write.like(
            node,
            "Einsum",
            x,
            [self.write.as_type(node, self.codes.code(index), x)],
            index.numbers.shape,
            equation=equation,
        )

    def _scatter(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        """One entry is written to the place that was chosen."""
        x, updates = node.inputs[0], node.inputs[2]
        shape, here, router = self.write.shape(x), index.numbers.shape, index.router
        axis = node.attributes.get_int("axis", 0) % len(shape)
        if operand != 1 or x is None or updates is None or here[axis] != 1 or shape[axis] != router.count:
            return None
        wide = shape[:axis] + shape[axis + 1 :] == here[:axis] + here[axis + 1 :]
        if not wide or node.attributes.get_string("reduction", "none") != "none":
            return None
        marks = all(is_one_number(v, self.codes.facts) for v in (x, updates))

        def make() -> onnx_ir.Value:
            write, rest = self.write, (*here[:axis], *here[axis + 1 :])
            code = write.reshaped(node, self.codes.code(index), (*rest, router.count))
            code = write.moved_axis(node, code, len(rest), axis)
            if marks:
                return code
            chosen = write.made(node, "Cast", [code], shape, "bool", {"to": int(onnx_ir.DataType.BOOL)})
            return write.made(node, "Where", [chosen, updates, x], shape, self.codes.editor.known[x].dtype)

        return make


_READERS: dict[str, Callable[[Lookups, onnx_ir.Node, int, Index], Make | None]] = {
    "OneHot": Lookups._one_hot,
    "Equal": Lookups._equal,
    "Gather": Lookups._gather,
    "GatherND": Lookups._gather_nd,
    "GatherElements": Lookups._gather_elements,
    "ScatterElements": Lookups._scatter,
}
