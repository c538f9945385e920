"""Lines track an axis such as the batch through the network: which entry of it each position of a value belongs to.

If a network acts entrywise along a line, lowering the first entry is enough.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir.arrays import occurrence
from .inference.shapes import ValueInfo
from .primitives.elements import Elements
from .primitives.labels import constant_along
from .primitives.values import Value

__all__ = [
    "Kept",
    "Line",
    "Lines",
    "copied",
    "digits",
    "first_places",
    "kept_part",
    "kept_places",
    "moved_alike",
    "rank_in_entry",
    "shared",
]

Kept = Mapping[int, np.ndarray]
"""The positions that belong to the first entry of every line, by axis of a value; other axes are kept whole."""

_LONGEST = 1 << 16


@dataclass(frozen=True, slots=True)
class Line:
    """A line along an axis of a value.

    Attributes:
        number: The id of the line.
        axis: The axis of the value.
        entry: The entry that each position on the axis belongs to, int64 [size].
    """

    number: int
    axis: int
    entry: np.ndarray

    def at(self, axis: int) -> Line:
        """The same line along another axis."""
        return Line(self.number, axis, self.entry)

    @property
    def comes_first(self) -> bool:
        """Whether the positions of the first entry precede all others."""
        return bool((np.diff(self.entry) >= 0).all())


class Lines:
    """All lines of a network: a union-find of lines, and which of them have ended (the network mixes their entries)."""

    def __init__(self) -> None:
        self._parent: list[int] = []
        self._size: list[int] = []
        self._ended: set[int] = set()

    @property
    def ended(self) -> int:
        """How many lines have ended so far."""
        return len(self._ended)

    def new(self, axis: int, size: int) -> list[Line]:
        """A new line along an axis; none if it has a single entry, or too many."""
        if not 1 < size <= _LONGEST:
            return []
        self._parent.append(len(self._parent))
        self._size.append(size)
        return [Line(self._parent[-1], axis, np.arange(size))]

    def of_copies(self, places: np.ndarray) -> list[Line]:
        """New lines along the axes of an array (or a digit of an axis) on which its values repeat."""
        found = []
        for axis, size in enumerate(places.shape):
            first = places[tuple(slice(None) if a == axis else 0 for a in range(places.ndim))]
            for entry in _digits_of(size) if size <= _LONGEST else ():
                # A single row suffices to reject most candidates.
                if _alike(first, 0, entry) and _alike(places, axis, entry):
                    [line] = self.new(axis, int(entry.max()) + 1)
                    found.append(Line(line.number, axis, entry))
                    break
        return found

    def root(self, number: int) -> int:
        """The representative of a line."""
        while self._parent[number] != number:
            self._parent[number] = self._parent[self._parent[number]]
            number = self._parent[number]
        return number

    def live(self, line: Line) -> bool:
        """Whether a line has not ended."""
        return self.root(line.number) not in self._ended

    def end(self, lines: Iterable[Line]) -> None:
        """End lines in the whole network."""
        self._ended.update(self.root(line.number) for line in lines)

    def is_whole(self, line: Line) -> bool:
        """Whether all entries are present and form one digit of the position: `(position // run) % count`."""
        entry, count = line.entry, self._size[line.number]
        run = int(np.argmax(entry != 0)) or 1
        return len(entry) % (run * count) == 0 and bool((entry == np.arange(len(entry)) // run % count).all())

    def agreed(self, parts: Sequence[Sequence[Line]]) -> list[Line]:
        """The lines that all parts have in common, merged."""
        common = []
        for line in parts[0] if parts else ():
            twins = [w for part in parts for w in part if np.array_equal(w.entry, line.entry)]
            if len(twins) == len(parts):
                for twin in twins:
                    self._unite(twin, line)
                common.append(line)
        return common

    def _unite(self, a: Line, b: Line) -> None:
        """Merge two lines; the result has ended if either has."""
        old, new = self.root(a.number), self.root(b.number)
        if old in self._ended:
            self._ended.add(new)
        self._parent[old] = new


def _digits_of(size: int) -> Iterator[np.ndarray]:
    """All ways to read entries as one digit of the position, most entries first: int64 [size] each."""
    for count in range(size, 1, -1):
        if size % count == 0:
            yield np.repeat(np.arange(count), size // count)
            yield np.tile(np.arange(count), size // count)


def digits(array: np.ndarray, line: Line) -> np.ndarray:
    """Split the axis of a line into three axes: outer, the line's entries, inner."""
    run, count = int(np.argmax(line.entry != 0)) or 1, int(line.entry.max()) + 1
    return array.reshape(*array.shape[: line.axis], -1, count, run, *array.shape[line.axis + 1 :])


def first_places(lines: Sequence[Line]) -> np.ndarray | None:
    """The positions of the first entry of all these lines along one axis; None if the lines are not independent."""
    distinct = list({w.entry.tobytes(): w for w in lines}.values())
    places = np.flatnonzero(np.all([w.entry == 0 for w in distinct], axis=0))
    every = len(places) * math.prod(int(w.entry.max()) + 1 for w in distinct)
    return places if every == len(distinct[0].entry) else None


def rank_in_entry(lines: Sequence[Line]) -> np.ndarray:
    """Where each position on an axis stands among those of its entry of all these lines along it, int64 [size]."""
    entries = [w.entry for w in lines]
    return occurrence(np.ravel_multi_index(entries, [int(e.max()) + 1 for e in entries]))


def moved_alike(
    x: Value,
    lines: Sequence[Line],
    function: Callable[[np.ndarray], np.ndarray],
    shape: tuple[int, ...],
    moved: Sequence[Line],
) -> bool:
    """Whether a data movement treats all entries of the lines of `x` alike.

    Args:
        x: The operand.
        lines: Its lines.
        function: The data movement on an array of its shape.
        shape: The shape of the result.
        moved: The lines of the result.
    """
    numbers = np.zeros((1,) * x.rank, np.int64)
    for axis, size in enumerate(x.shape):
        along = [w for w in lines if w.axis == axis]
        rank = rank_in_entry(along) if along else np.arange(size)
        numbers = numbers * size + rank.reshape([-1 if a == axis else 1 for a in range(x.rank)])
    places = function(np.broadcast_to(numbers, x.shape)).reshape(shape)
    return all(constant_along(digits(places, w), w.axis + 1) for w in moved)


def copied(value: Value, axis: int, entry: np.ndarray) -> bool:
    """Whether a constant is equal for all entries of a line along one of its axes."""
    if value.data is not None:
        return _alike(value.data, axis, entry)
    return value.elements is not None and _copies(value.elements, axis, entry)


def _copies(elements: Elements, axis: int, entry: np.ndarray) -> bool:
    """Whether elements are equal for all entries of a line along one of their axes."""
    array = elements.array
    if array.dtype == np.int8 and elements.bare:
        return array.strides[axis] == 0
    return _alike(elements.keys, axis, entry)


def shared(weight: Elements, axis: int, entry: np.ndarray) -> bool:
    """Whether all entries of a line along an axis of a weight share it, by broadcasting or by equal elements."""
    return weight.shape[axis] == 1 or (weight.shape[axis] == len(entry) and _copies(weight, axis, entry))


def _alike(array: np.ndarray, axis: int, entry: np.ndarray) -> bool:
    return array.strides[axis] == 0 or constant_along(digits(array, Line(0, axis, entry)), axis + 1)


def kept_places(array: np.ndarray, kept: Kept) -> np.ndarray:
    """The kept part of an array; a view if only first positions are kept."""
    for axis, places in kept.items():
        first = len(places) == 1 and places[0] == 0
        array = array[(slice(None),) * axis + (slice(0, 1) if first else places,)]
    return array


def kept_part(known: ValueInfo, kept: Kept) -> ValueInfo:
    """The info of the kept part of a value."""
    shape = tuple(len(kept[a]) if a in kept else n for a, n in enumerate(known.shape))
    return ValueInfo(shape, known.dtype, None if known.data is None else kept_places(known.data, kept))
