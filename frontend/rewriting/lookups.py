"""What reads the indices that a router chose, as functions of their codes: comparisons, tables, scores, masks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import onnx_ir

from ..errors import Unsupported
from .codes import Codes, Index, Router, thin
from .patterns.matching import is_one_number, producer
from .shaped import ShapedEditor

__all__ = ["Lookups"]

Make = Callable[[], onnx_ir.Value]

_LETTERS = "abcdefghijklmnopqrstuvwxABCDEFGHIJKLMNOPQRSTUVWX"
_COMPARED = frozenset({"OneHot", "Equal"})


@dataclass(frozen=True, slots=True)
class Lookups:
    """Replaces the readers of a router's indices.

    | found | replaced by |
    |---|---|
    | OneHot(i), Equal(i, [0, 1, ...]) | the code of i |
    | Equal(i, e) | entry e of the code |
    | Gather(table, i) | MatMul(code, table) |
    | Gather(table, i + known) | the same, with the rows of the table that each place reads |
    | GatherND(x, i beside known columns) | the sum of x times the code |
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
        if operand < 0 or self.codes.overridden(node):
            return None
        try:
            if node.op_type == "GatherND":
                return self._gather_nd(node) if operand == 1 else None
            index = self.codes.index(node.inputs[operand])
            if find is None or index is None or (index.shift is not None and node.op_type != "Gather"):
                return None
            return find(self, node, operand, index)
        except (Unsupported, ValueError):
            return None

    def _one_hot(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        depth, values = self.codes.editor.number(node.inputs[1]), self.codes.facts.data(node.inputs[2])
        if operand or depth != index.count or values is None or values.reshape(-1).tolist() != [0, 1]:
            return None
        rank = index.numbers.ndim
        axis = node.attributes.get_int("axis", -1) % (rank + 1)
        return lambda: self.write.moved_axis(node, self.codes.code(index), rank, axis)

    def _equal(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        """The other operand is one number, or 0, 1, 2, ... along an axis along which the index is broadcast."""
        numbers = self.codes.facts.data(node.inputs[1 - operand])
        made, shape, count = self.write.shape(node.outputs[0]), index.numbers.shape, index.count
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
        return self._rows(node, node.attributes.get_int("axis", 0), index) if operand == 1 else None

    def _rows(self, node: onnx_ir.Node, axis: int, index: Index) -> Make | None:
        """Rows of a parameter, or of a computed table: the code times the table."""
        table = node.inputs[0]
        shape = self.write.shape(table)
        if table is None or not self._is_table(table):
            return None
        axis %= len(shape)
        places = thin(np.zeros((), np.int64) if index.shift is None else index.shift)
        picks = places[..., None] + np.arange(index.count)
        rest = [n for a, n in enumerate(shape) if a != axis]
        if picks.min() < 0 or picks.max() >= shape[axis] or (places.size > 1 and self.codes.editor.opset < 12):
            return None

        def make() -> onnx_ir.Value:
            write, lead = self.write, index.numbers.shape
            rows = write.reshaped(node, write.moved_axis(node, table, axis, 0), (shape[axis], math.prod(rest)))
            code = write.as_type(node, self.codes.code(index), table)
            found = self._of_rows(node, code, rows, picks)
            found = write.reshaped(node, found, (*lead, *rest))
            order = [*range(len(lead), len(lead) + axis), *range(len(lead)),
                     *range(len(lead) + axis, len(lead) + len(rest))]  # fmt: skip
            return write.transposed(node, found, order)

        return make

    def _of_rows(
        self, node: onnx_ir.Node, code: onnx_ir.Value, rows: onnx_ir.Value, picks: np.ndarray
    ) -> onnx_ir.Value:
        """The code [*index, entries] times rows of a table [all, features], which `picks` lists per place."""
        write, (total, width) = self.write, self.write.shape(rows)
        few = [n for n in picks.shape[:-1] if n > 1]
        count, lead = picks.shape[-1], write.shape(code)[:-1]
        if picks.size != total or (picks.reshape(-1) != np.arange(total)).any():
            listed = write.constant(node, "rows", picks.reshape(-1))
            rows = write.like(node, "Gather", rows, [listed], (picks.size, width), axis=0)
        if not few:
            return write.like(node, "MatMul", code, [rows], (*lead, width))
        rows = write.reshaped(node, rows, (*few, count, width))
        letters = _LETTERS[: len(lead)]
        own = "".join(c for c, n in zip(letters, picks.shape, strict=False) if n > 1)
        equation = f"{letters}Z,{own}ZY->{letters}Y"
        return write.like(node, "Einsum", code, [rows], (*lead, width), equation=equation)

    def _is_table(self, table: onnx_ir.Value) -> bool:
        return self.codes.editor.data(table) is None and self.write.is_float(table)

    def _gather_nd(self, node: onnx_ir.Node) -> Make | None:
        """Index tuples of which one column was chosen, and others are known: numbers of rows, say."""
        x, batch = node.inputs[0], node.attributes.get_int("batch_dims", 0)
        shape, columns = self.write.shape(x), self._columns(node.inputs[1])
        chosen = [place for place, column in enumerate(columns) if isinstance(column, Index)]
        if x is None or len(chosen) != 1 or not self._is_table(x):
            return None
        index = columns[chosen[0]]
        if isinstance(index, Index) and not batch and len(columns) == 1:
            return self._rows(node, 0, index)
        if not isinstance(index, Index) or index.shift is not None or shape[batch + chosen[0]] != index.count:
            return None
        if self.codes.editor.opset < 12 or index.numbers.ndim + len(shape) > 20:
            return None
        letters, free = _LETTERS[: index.numbers.ndim], _LETTERS[index.numbers.ndim :]
        term = list(letters[:batch])
        picks: dict[int, np.ndarray] = {}
        for place, column in enumerate(columns):
            if isinstance(column, Index):
                term.append("Z")
                continue
            wide = [a for a, n in enumerate(thin(column).shape) if n > 1]
            if len(wide) > 1 or (wide and letters[wide[0]] in term):
                return None
            picks[batch + place] = thin(column).reshape(-1) % shape[batch + place]
            term.append(letters[wide[0]] if wide else "")
        behind = shape[batch + len(columns) :]
        rest = free[: len(behind)]

        def make() -> onnx_ir.Value:
            write, value = self.write, x
            for axis, numbers in picks.items():
                now = write.shape(value)
                if len(numbers) != now[axis] or (numbers != np.arange(now[axis])).any():
                    listed = write.constant(node, "entries", numbers)
                    goal = (*now[:axis], len(numbers), *now[axis + 1 :])
                    value = write.like(node, "Gather", value, [listed], goal, axis=axis)
            kept = [n for n, c in zip(write.shape(value), term, strict=False) if c]
            value = write.reshaped(node, value, (*kept, *behind))
            code = write.as_type(node, self.codes.code(index), x)
            equation = f"{letters}Z,{''.join(term)}{rest}->{letters}{rest}"
            return write.like(node, "Einsum", code, [value], (*index.numbers.shape, *behind), equation=equation)

        return make

    def _columns(self, value: onnx_ir.Value | None) -> list[Index | np.ndarray]:
        """The columns of index tuples, without their last axis: chosen or known. Raises `Unsupported` for others."""
        index = self.codes.index(value)
        if index is not None:
            return [_column(index)] if index.numbers.shape[-1] == 1 else []
        joined = producer(value, "Concat")
        rank = len(self.write.shape(value))
        if joined is None or joined.attributes.get_int("axis", 0) % rank != rank - 1:
            raise Unsupported("index tuples are made otherwise")
        found: list[Index | np.ndarray] = []
        for part in joined.inputs:
            index, numbers = self.codes.index(part), self.codes.facts.data(part)
            if index is not None and index.numbers.shape[-1] == 1:
                found.append(_column(index))
            elif numbers is not None and numbers.shape[-1] == 1:
                found.append(numbers[..., 0])
            else:
                raise Unsupported("a column is not known")
        return found

    def _gather_elements(self, node: onnx_ir.Node, operand: int, index: Index) -> Make | None:
        x, rank = node.inputs[0], index.numbers.ndim
        shape = self.write.shape(x)
        axis = node.attributes.get_int("axis", 0) % len(shape)
        wide = shape[:axis] + shape[axis + 1 :] == index.numbers.shape[:axis] + index.numbers.shape[axis + 1 :]
        if operand != 1 or x is None or not wide or shape[axis] != index.count or rank > 20:
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
        shape, here = self.write.shape(x), index.numbers.shape
        axis = node.attributes.get_int("axis", 0) % len(shape)
        if operand != 1 or x is None or updates is None or here[axis] != 1 or shape[axis] != index.count:
            return None
        wide = shape[:axis] + shape[axis + 1 :] == here[:axis] + here[axis + 1 :]
        if not wide or node.attributes.get_string("reduction", "none") != "none":
            return None
        marks = all(is_one_number(v, self.codes.facts) for v in (x, updates))

        def make() -> onnx_ir.Value:
            write, rest = self.write, (*here[:axis], *here[axis + 1 :])
            code = write.reshaped(node, self.codes.code(index), (*rest, index.count))
            code = write.moved_axis(node, code, len(rest), axis)
            if marks:
                return code
            chosen = write.made(node, "Cast", [code], shape, "bool", {"to": int(onnx_ir.DataType.BOOL)})
            return write.made(node, "Where", [chosen, updates, x], shape, self.codes.editor.known[x].dtype)

        return make


def _column(index: Index) -> Index:
    """An index without its last axis, which is of size 1."""
    shift = None if index.shift is None else index.shift[..., 0]
    return replace(index, numbers=index.numbers[..., 0], shift=shift)


_READERS: dict[str, Callable[[Lookups, onnx_ir.Node, int, Index], Make | None]] = {
    "OneHot": Lookups._one_hot,
    "Equal": Lookups._equal,
    "Gather": Lookups._gather,
    "GatherElements": Lookups._gather_elements,
    "ScatterElements": Lookups._scatter,
}
