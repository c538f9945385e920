"""Finds axes along which the network acts entrywise, such as the batch: it is then lowered for one entry of each.

Every axis of an input, and every axis along which a value is copied, starts a *line*: labels that say which entry each
position belongs to. The network is interpreted with the same rules as in lowering. A primitive that mixes entries, or
distinguishes them, ends the line. Where values are combined, their lines are unified, or end if they do not agree.
Along the lines that survive, the network applies one function to every entry, so its graph is that of a single entry,
however many the export has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..ir import EdgeRole
from .context import elementwise_result, reduced_shape
from .lines import Kept, Line, Lines, copied, first_places, moved_alike, rank_in_entry, shared
from .primitives.contraction import Spec
from .primitives.elements import Elements
from .primitives.elementwise import broadcast_shape
from .primitives.interface import DataMovement, Picks, Rows
from .primitives.labels import compress, nodes_of, to_labels, unlabelled, varying, vias_of
from .primitives.recurrence import Units
from .primitives.sparse import SparseLayer
from .primitives.stacking import resized
from .primitives.values import Op, Value
from .tracing import Tracing

__all__ = ["Entrywise"]

# Steps without a known scalar function that still act on one entry at a time.
_SINGLE = frozenset({
    "Cast", "Mask", "Quantize", "Dequantize", "Binarizer", "PostTransform", "Kernel", "Sign", "Last", "Lengths",
    "TreeEnsemble", "Iteration", "Stack", "OneHot", "BothClasses", "Sink",
    # The join behind these steps mixes entries, not the steps themselves.
    "Gather", "GatherElements", "GatherND", "Compress",
})  # fmt: skip
_MAX_ENTRIES = 1 << 24
_WINDOWS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "Windows", "Col2Im"})


class Entrywise(Tracing):
    """Propagates lines through the network. A label is (line, entry); a value without lines has the label -1.

    shapes: the shapes of the values of the network, by name.
    """

    def __init__(self, shapes: Mapping[str, tuple[int, ...]]) -> None:
        self._shapes = shapes
        self.lines = Lines()
        self._constants: dict[str, dict[int, list[Line]]] = {}
        self._seen: set[str] = set()
        self._read: dict[int, tuple[np.ndarray, Line, bool]] = {}

    # Lines

    def _lines(self, x: Value) -> list[Line]:
        """The lines of an activation that have not ended."""
        out = []
        for factor in x.factors:
            if factor.size and factor.flat[0] >= 0:
                line, whole = self._line(factor)
                if not whole or len(line.entry) != x.shape[line.axis]:
                    self.lines.end([line])
                elif self.lines.live(line):
                    out.append(line)
        return out

    def _line(self, factor: np.ndarray) -> tuple[Line, bool]:
        """The line of a factor, and whether all its entries are present; read once per factor, which never changes."""
        if id(factor) not in self._read:
            number, axes = int(nodes_of(factor).flat[0]), varying(factor)
            line = Line(number, axes[0] if axes else 0, vias_of(factor).reshape(-1))
            # The factor is held too, so that no other one gets its id.
            self._read[id(factor)] = factor, line, len(axes) == 1 and self.lines.is_whole(line)
        return self._read[id(factor)][1:]

    def _labels(self, lines: Iterable[Line], rank: int) -> tuple[np.ndarray, ...]:
        """Lines as the factors of a value of this rank."""
        found: dict[int, Line] = {}
        for line in lines:
            root = self.lines.root(line.number)
            known = found.setdefault(root, line)
            if known.axis != line.axis or not np.array_equal(known.entry, line.entry):
                self.lines.end([line])
        made = [(to_labels(n, v.entry), v.axis) for n, v in found.items() if self.lines.live(v)]
        shaped = [labels.reshape([-1 if a == axis else 1 for a in range(rank)]) for labels, axis in made]
        return tuple(shaped) or (unlabelled(rank),)

    def _with_lines(self, x: Value, lines: Iterable[Line], shape: tuple[int, ...]) -> Value:
        return x.relabelled(self._labels(lines, len(shape)), shape)

    def _meet(self, values: Sequence[Value], shape: tuple[int, ...]) -> list[Line]:
        """Unify the lines of values that are broadcast against each other; lines that do not agree end."""
        out = []
        lines = [self._lines(v) for v in values]
        for axis, size in enumerate(shape):
            if size == 1:
                continue
            here = [(v, axis - len(shape) + v.rank, own) for v, own in zip(values, lines, strict=True)]
            wide = [(v, a, own) for v, a, own in here if a >= 0 and v.shape[a] == size]
            active = [[w for w in own if w.axis == a] for v, a, own in wide if v.is_activation]
            # An axis that only constants have is one of copies.
            common = self.lines.agreed(active) if active else self.lines.new(axis, size)
            common = [w for w in common if all(copied(v, a, w.entry) for v, a, _ in wide if not v.is_activation)]
            every = [w for own in active for w in own]
            self.lines.end(w for w in every if not any(np.array_equal(w.entry, c.entry) for c in common))
            for v, a, _ in wide:
                if not v.is_activation:
                    self._use_along(v, a, common)
            out += [w.at(axis) for w in common]
        return out

    def _use_along(self, constant: Value, axis: int, lines: list[Line]) -> None:
        """Align an axis of a constant with these lines; end them if it is aligned with others elsewhere."""
        self._seen.add(constant.name)
        if not constant.name:
            return
        if self._shapes.get(constant.name) != constant.shape:
            self.lines.end(lines)
            return
        known = self._constants.setdefault(constant.name, {}).setdefault(axis, lines)
        agreed = self.lines.agreed([known, lines])
        if len(agreed) < max(len(known), len(lines)):
            self.lines.end([*known, *lines])

    def _mixed(self, values: Iterable[Value | None]) -> None:
        """End the lines of values all entries of which are used together."""
        for value in values:
            if value is not None:
                self.lines.end(self._lines(value))
                for axis in range(value.rank if not value.is_activation else 0):
                    self._use_along(value, axis, [])

    def _without(self, x: Value, axes: Iterable[int]) -> list[Line]:
        """End the lines of a value along `axes`, and return the others."""
        gone = set(axes)
        lines = self._lines(x)
        self.lines.end(w for w in lines if w.axis in gone)
        return [w for w in lines if w.axis not in gone]

    def kept(self, values: Mapping[Any, Value]) -> dict[Any, Kept]:
        """The positions of each value that belong to the first entry; values that lie on no line are left out."""
        while True:
            ended = self.lines.ended
            found = {key: self._first(x) for key, x in values.items()}
            if self.lines.ended == ended:
                return {key: kept for key, kept in found.items() if kept}

    def ranks(self, x: Value) -> dict[int, np.ndarray]:
        """By axis of an activation that lies on lines, where each position stands among those of its entry."""
        lines = self._lines(x) if x.is_activation else []
        return {axis: rank_in_entry([w for w in lines if w.axis == axis]) for axis in {w.axis for w in lines}}

    def _first(self, x: Value) -> dict[int, np.ndarray]:
        lines = self._lines(x) if x.is_activation else []
        lines += [w.at(a) for a, own in self._constants.get(x.name, {}).items() for w in own if self.lines.live(w)]
        out = {}
        for axis in {w.axis for w in lines}:
            here = [w for w in lines if w.axis == axis]
            places = first_places(here)
            if places is None:
                self.lines.end(here)
            else:
                out[axis] = places
        return out

    # Values

    def source(self, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Labels of an input: a new line along every axis."""
        return self._labels((w for a, n in enumerate(shape) for w in self.lines.new(a, n)), len(shape))

    def as_activation(self, value: Value) -> Value:
        """A constant gets a line along every axis of copies; a rule made one without a name, at any size."""
        if value.is_activation:
            return value
        if value.name and self._shapes.get(value.name) != value.shape:
            if value.data is not None and value.data.size == 1:
                # A rule found that all entries are equal, at any size.
                self._seen.add(value.name)
            return value.relabelled((unlabelled(value.rank),))
        self._seen.add(value.name)
        known = self._constants.setdefault(value.name, {}) if value.name else {}
        for axis, size in enumerate(value.shape):
            if size > 1 and axis not in known:
                lines = self.lines.new(axis, size)
                known[axis] = [w for w in lines if copied(value, axis, w.entry)]
        return self._with_lines(value, [w.at(a) for a, own in known.items() for w in own], value.shape)

    def paired(self, value: Value, groups: int = 0) -> tuple[np.ndarray, ...]:
        """Rows and columns of a weight are distinguished, so it has no lines."""
        self._mixed([value])
        return (unlabelled(value.rank),)

    # Primitives

    def ignores(self, op: Op) -> bool:
        """Whether neither the operands nor the results have lines."""
        operands = [v for v in op.inputs if v is not None]
        size = max((math.prod(v.shape) for v in operands if v.is_activation), default=0)
        copies = any(r is not None and math.prod(r.shape or ()) > size for r in op.results)
        return not copies and not any(self._lines(v) for v in operands)

    def move(
        self,
        x: Value,
        function: DataMovement,
        shape: tuple[int, ...],
        by_shape: bool = False,
        picks: Picks | None = None,
    ) -> Value:
        """Lines move with their entries; axes of copies start lines.

        If the movement is `by_shape`, where the lines go determines it completely.
        """
        if not x.is_activation:
            return super().move(x, function, shape, by_shape, picks)
        if picks is not None:
            # The indices are those of the network for one entry only if the positions of the first entry come first.
            self.lines.end(w for w in self._lines(x) if not w.comes_first)
        any_size = by_shape or picks is not None
        moved = self._moved(x, function, shape, by_shape, any_size)
        if any_size and math.prod(x.shape) < math.prod(shape) <= _MAX_ENTRIES:
            moved += self.lines.of_copies(function(np.arange(math.prod(x.shape)).reshape(x.shape)).reshape(shape))
        if picks is not None:
            self._picked(*picks, moved)
        return self._with_lines(x, moved, shape)

    def note_lowered(self, op: Op) -> None:
        """End the lines of constants that the rule has read directly instead of through a primitive."""
        self._mixed(v for v in op.inputs if v is not None and not v.is_activation and v.name not in self._seen)
        self._seen.clear()

    def reshaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Lines move with their entries."""
        if not x.is_activation:
            return super().reshaped(x, shape)
        return self._with_lines(x, self._moved(x, lambda a: a.reshape(shape), shape, True, True), shape)

    def moved(self, x: Value, function: DataMovement, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Lines continue if all their entries are moved alike."""
        return self._labels(self._moved(x, function, shape, False, False), len(shape))

    def _picked(self, indices: Value, along: Sequence[int | None], lines: Sequence[Line]) -> None:
        """Align known indices with the lines of the entries that they pick."""
        for axis, (size, other) in enumerate(zip(indices.shape, along, strict=True)):
            if size > 1:
                self._use_along(indices, axis, [w for w in lines if w.axis == other])

    def _moved(
        self, x: Value, function: DataMovement, shape: tuple[int, ...], by_shape: bool, any_size: bool
    ) -> list[Line]:
        """The lines of `x` after data movement; by_shape: see `move`; any_size: whether axes may change their sizes."""
        lines, out = self._lines(x), []
        if max(math.prod(x.shape), math.prod(shape)) > _MAX_ENTRIES or 0 in shape:
            self.lines.end(lines)
            return []
        for line in lines:
            labels = to_labels(line.number, line.entry).reshape([-1 if a == line.axis else 1 for a in range(x.rank)])
            new = Value("", shape, "", (compress(function(np.broadcast_to(labels, x.shape)).reshape(shape)),))
            found = self._lines(new)
            # A part of an axis, selected by numbers, is not valid for the axis of one entry.
            if not found or not (any_size or shape[found[0].axis] == x.shape[line.axis]):
                self.lines.end([line])
            out += found
        if not by_shape and out and not moved_alike(x, lines, function, shape, out):
            self.lines.end(out)
        return [w for w in out if self.lines.live(w)]

    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Lines are always independent."""
        return tuple(factors)

    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """A step that is not known to act on single entries may mix all positions."""
        if function is not None or op in _SINGLE:
            mixed: Iterable[int] = ()
        elif op == "Pad":
            mixed = [a % x.rank for a in attributes["axes"]]
        else:
            mixed = range(2 if op in _WINDOWS else 0, x.rank)
        return self._with_lines(x, self._without(x, mixed), x.shape)

    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """Unify the lines of the operands."""
        shape, given = broadcast_shape(operands), [v for v in operands if v is not None]
        if len(given) == 1 and self._goes_on(given[0]):
            return given[0].relabelled(given[0].factors)
        return elementwise_result(operands, self._labels(self._meet(given, shape), len(shape)))

    def _goes_on(self, x: Value) -> bool:
        """Whether each factor of a value is a line, along axes in order, so that they are its lines as they stand."""
        lines = self._lines(x)
        axes, roots = [w.axis for w in lines], {self.lines.root(w.number) for w in lines}
        alone = axes == sorted(set(axes)) and len(roots) == len(lines) == len(x.factors)
        return bool(lines) and alone and all(w.number in roots for w in lines)

    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """A vector distinguishes the entries along its axis unless it repeats for every entry."""
        for vector, _, axis in constants:
            own = next((a for a, n in enumerate(vector.shape) if n > 1), None)
            if own is not None:
                here = [(w, copied(vector, own, w.entry)) for w in self._lines(x) if w.axis == axis]
                self.lines.end(w for w, same in here if not same)
                self._use_along(vector, own, [w for w, same in here if same])
        return self._with_lines(x, self._lines(x), x.shape)

    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """Lines continue along axes that the weight neither slides nor varies over, other than by a copy per entry."""
        lines = self._without(x, [a for a, t in enumerate(spec.x) if t not in spec.out or t in spec.window])
        own = {a: spec.w.index(t) for a, t in enumerate(spec.x) if t in spec.w}
        goes = [w.axis not in own or shared(weight, own[w.axis], w.entry) for w in lines]
        self.lines.end(w for w, on in zip(lines, goes, strict=True) if not on)
        lines = [w for w, on in zip(lines, goes, strict=True) if on]
        return self._with_lines(x, [w.at(spec.out.index(spec.x[w.axis])) for w in lines], shape)

    def sparse(self, x: Value, layers: Sequence[SparseLayer]) -> Value:
        """Lines along rows continue."""
        return self._with_lines(x, self._without(x, [1]), (x.shape[0], layers[-1].size))

    def recur(
        self,
        x: Value,
        cell: Sequence[Units],
        initial: Mapping[str, Value],
        lengths: Value | None,
        outputs: Sequence[str],
    ) -> list[Value]:
        """Lines along the batch continue if initial states and lengths agree with them."""
        rows = [self._with_lines(x, [w.at(0) for w in self._without(x, (0, 2))], x.shape[1:2])]
        rows += [self._with_lines(v, self._without(v, (1,)), v.shape[:1]) for v in initial.values()]
        met = self._meet([*rows, *([] if lengths is None else [lengths])], x.shape[1:2])
        size = {units.name: units.size for units in cell}
        return [self._with_lines(x, met, (x.shape[1], size[name])) for name in outputs]

    def step(self, x: Value, axis: int, attributes: dict[str, Any]) -> Value:
        """The line along the axis ends; others continue."""
        lines = [w.at(w.axis - (w.axis > axis)) for w in self._without(x, [axis])]
        return self._with_lines(x, lines, (*x.shape[:axis], *x.shape[axis + 1 :]))

    def carry(self, name: str, initial: Value) -> Value:
        """The lines of the initial value, which `close` may end."""
        lines = self._lines(self.as_activation(initial))
        return Value(name, initial.shape, initial.dtype, self._labels(lines, initial.rank))

    def close(self, carry: Value, initial: Value, end: Value) -> None:
        """Unify the lines of the carried value at the start and the end of an iteration."""
        self._meet([carry, initial, end], carry.shape)

    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Lines continue along axes that are not summed."""
        out = letters[2]
        operands = []
        for value, own in ((x, letters[0]), (y, letters[1])):
            lines = self._without(value, [a for a, t in enumerate(own) if t not in out])
            sizes = {t: n for t, n in zip(own, value.shape, strict=True) if t in out}
            moved = [w.at(out.index(own[w.axis])) for w in lines]
            operands.append(self._with_lines(value, moved, tuple(sizes.get(t, 1) for t in out)))
        return self._with_lines(x, self._meet(operands, shape), shape)

    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Entries along the axes are mixed."""
        return self._with_lines(x, self._without(x, axes), reduced_shape(x.shape, axes))

    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Entries along the axes are mixed."""
        return self._with_lines(x, self._without(x, axes), x.shape)

    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """Entries along the axes are mixed, or, if not `mixed`, each is paired with another."""
        gone = [a for a in axes if mixed or shape[a] != x.shape[a]]
        return self._with_lines(x, self._without(x, gone), shape)

    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = EdgeRole.EMBEDDING) -> Value:
        """All positions look up the same table, so lines continue."""
        return self._with_lines(x, self._lines(x), shape)

    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        """Unify lines across the axis; a line along it continues if all operands have it."""
        values = [self.as_activation(v) for v in inputs if v.shape[axis] > 0]
        along = [[w for w in self._lines(v) if w.axis == axis] for v in values]
        common = self.lines.agreed(along)
        self.lines.end(w for own in along for w in own if not any(np.array_equal(w.entry, c.entry) for c in common))
        thin, shape = (resized(inputs[0].shape, axis, n) for n in (1, sum(v.shape[axis] for v in values)))
        beside = [
            v.relabelled(self._labels([w for w in self._lines(v) if w.axis != axis], v.rank), v.shape) for v in values
        ]
        lines = [Line(w.number, axis, np.tile(w.entry, len(values))) for w in common]
        return self._with_lines(values[0], [*self._meet(beside, thin), *lines], shape)

    def join_all(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int],
        places: Sequence[int] = (), rows: Rows | None = None,
    ) -> Value:  # fmt: skip
        """Unify the lines along `rows`; all others end."""
        rows, operands = rows or {}, []
        for number, value in enumerate(inputs):
            own = {n: a for a in rows if (n := rows[a][number]) is not None}
            lines = self._without(value, [a for a in range(value.rank) if a not in own])
            wide = {a: value.shape[n] for n, a in own.items()}
            sizes = tuple(wide.get(a, 1) for a in range(len(shape)))
            operands.append(self._with_lines(value, [w.at(own[w.axis]) for w in lines], sizes))
        met = self._meet(operands, tuple(n if a in rows else 1 for a, n in enumerate(shape)))
        return inputs[0].relabelled(self._labels(met, len(shape)), shape)

    def mixed(self, op: Op) -> None:
        """End the lines of all operands."""
        self._mixed(op.inputs)
