"""Parameter elements as arrays on which data movement runs without reading values.

All tensors of a model are laid out in a reserved address range that is never touched. An int8 array over it has one
byte per element, so the address of an element is its number, and NumPy views represent Transpose, Slice, Split and
most Reshapes by strides. Where no view exists, the array is replaced by int64 element numbers.
"""

from __future__ import annotations

import math
import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import ParameterView
from ..budget import MAX_INDEXED_ELEMENTS, MAX_POSITIONS, check_limit
from ..errors import Unsupported
from .labels import constant_along
from .regions import affine_view, regions

__all__ = ["NOTHING", "Arena", "Elements", "Part"]

NOTHING = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Elements:
    """An array whose entries are elements of the tensors in one arena, or functions of one element each.

    Attributes:
        arena: The arena.
        array: An int8 view of the arena, or int64 element numbers; `NOTHING` is a zero of a sparse tensor.
        trace: The id in `Traces` of the function of each entry: one for all, or int64 of the array's shape.
        tables: Program tables that the functions take as further operands, each of the array's shape.
    """

    arena: Arena
    array: np.ndarray
    trace: int | np.ndarray = 0
    tables: tuple[np.ndarray, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array."""
        return self.array.shape

    @property
    def numbers(self) -> np.ndarray:
        """Element numbers within the arena, int64, same shape. Raises `TooLarge` beyond the budget."""
        if self.array.dtype != np.int8:
            return self.array
        check_limit(self.array.size, MAX_INDEXED_ELEMENTS, "elements of a weight to be indexed one by one")
        axes = np.ogrid[tuple(slice(n) for n in self.array.shape)]
        start = self.arena.number_of(self.array)
        steps = sum((a * s for a, s in zip(axes, self.array.strides, strict=True)), np.zeros((), dtype=np.int64))
        return np.asarray(start + np.broadcast_to(steps, self.array.shape), dtype=np.int64)

    @property
    def bare(self) -> bool:
        """Whether all entries are plain elements, not functions of them."""
        return isinstance(self.trace, int) and not self.trace and not self.tables

    @property
    def keys(self) -> np.ndarray:
        """int64 of the array's shape; equal for entries that are the same function of the same element."""
        if isinstance(self.trace, int) and not self.tables:
            return self.numbers
        columns = [self.numbers, np.broadcast_to(self.trace, self.shape), *self.tables]
        keys = np.zeros(self.array.size, dtype=np.int64)
        for column in columns:
            inverse = np.unique(column, return_inverse=True)[1].reshape(-1)
            keys = np.unique(keys * (int(inverse.max(initial=0)) + 1) + inverse, return_inverse=True)[1].reshape(-1)
        return keys.reshape(self.shape)

    def move(self, function: Callable[[np.ndarray], np.ndarray]) -> Elements:
        """Apply data movement; the result stays a view where NumPy can express it."""
        trace = self.trace if isinstance(self.trace, int) else function(self.trace)
        tables = tuple(function(t) for t in self.tables)
        if self.array.dtype == np.int8:
            moved = function(self.array)
            if self.arena.holds(moved):
                return Elements(self.arena, moved, trace, tables)
        return Elements(self.arena, function(self.numbers), trace, tables)

    def reshape(self, *shape: int) -> Elements:
        """`numpy.reshape` of the elements."""
        return self.move(lambda a: a.reshape(shape))

    def squeezed(self) -> Elements:
        """The elements with axes along which entries are constant reduced to size 1."""
        arrays = [self.array, *self.tables, *([] if isinstance(self.trace, int) else [self.trace])]
        along = [a for a, n in enumerate(self.shape) if n > 1 and all(_repeats(array, a) for array in arrays)]
        return self.move(lambda a: a[tuple(slice(0, 1) if i in along else slice(None) for i in range(a.ndim))])

    @classmethod
    def joined(cls, parts: Sequence[Elements], join: Callable[[list[np.ndarray]], np.ndarray]) -> Elements:
        """Combine elements.

        Args:
            parts: The elements, of one arena.
            join: Combines arrays of the shapes of the parts, e.g. by concatenation.

        Returns:
            The combined elements.

        Raises:
            Unsupported: The parts are of different arenas.
            TooLarge: They exceed the budget.
        """
        first = parts[0]
        if any(p.arena is not first.arena for p in parts):
            raise Unsupported("parameters and program constants are combined into one tensor")
        check_limit(sum(math.prod(p.shape) for p in parts), MAX_POSITIONS, "elements of combined weights")
        trace: int | np.ndarray = first.trace if isinstance(first.trace, int) else -1
        if any(not isinstance(p.trace, int) or p.trace != trace for p in parts):
            trace = join([np.broadcast_to(np.asarray(p.trace, dtype=np.int64), p.shape) for p in parts])
        count = max(len(p.tables) for p in parts)
        tables = tuple(
            join([p.tables[i] if i < len(p.tables) else np.broadcast_to(np.float32(0), p.shape) for p in parts])
            for i in range(count)
        )
        return cls(first.arena, join([p.numbers for p in parts]), trace, tables)

    @property
    def some(self) -> np.ndarray | None:
        """Which entries are parameters, bool of the array's shape; None if all are."""
        if self.array.dtype == np.int8 or not (self.array == NOTHING).any():
            return None
        return self.array != NOTHING

    def parts(self) -> Iterator[Part]:
        """Split elements of rank 4 into regions of a single tensor and a single function.

        Yields:
            The regions.

        Raises:
            Unsupported: Not all entries are parameters.
        """
        if self.some is not None:
            raise Unsupported("a sparse tensor is read as a whole", "store it densely")
        if self.array.dtype == np.int8 and isinstance(self.trace, int):
            name, base = self.arena.owner(self.arena.number_of(self.array))
            shape = self.array.shape
            strides = tuple(s if n > 1 else 0 for n, s in zip(shape, self.array.strides, strict=True))
            offset = self.arena.number_of(self.array) - base
            view = ParameterView(name, offset, shape, strides)  # type: ignore[arg-type]
            yield Part((slice(None),) * 4, view, self.trace, self.tables)
            return
        every = self.numbers
        kind = self.arena.owners(every)
        if not isinstance(self.trace, int):
            kind = kind * (int(self.trace.max(initial=0)) + 1) + self.trace
        for region in regions(kind):
            numbers = every[region]
            name, base = self.arena.owner(int(numbers[(0,) * 4]) if numbers.size else 0)
            trace = self.trace if isinstance(self.trace, int) else int(self.trace[region].flat[0])
            yield Part(region, affine_view(name, numbers - base), trace, tuple(t[region] for t in self.tables))


@dataclass(frozen=True, slots=True)
class Part:
    """A region of elements of rank 4.

    Attributes:
        region: A slice per axis.
        view: The view of the tensor.
        trace: The function of the elements (see `Elements`).
        tables: The tables of that function.
    """

    region: tuple[slice, ...]
    view: ParameterView
    trace: int
    tables: tuple[np.ndarray, ...]


def _repeats(array: np.ndarray, axis: int) -> bool:
    return array.strides[axis] == 0 or (array.dtype != np.int8 and constant_along(array, axis))


class Arena:
    """Assigns element numbers: consecutive tensors in one reserved address range."""

    def __init__(self, sizes: dict[str, int], constant: bool = False) -> None:
        """Reserve, but not allocate, a range for tensors.

        Args:
            sizes: Elements per tensor name.
            constant: Whether they are program constants, not parameters.
        """
        self.constant = constant
        self._names = list(sizes)
        self._bases = [0]
        for size in sizes.values():
            self._bases.append(self._bases[-1] + size)
        self._index = {name: i for i, name in enumerate(self._names)}
        self._range = _reserve(self._bases[-1])
        self._start = self._range.__array_interface__["data"][0]

    def tensor(self, name: str, shape: tuple[int, ...]) -> Elements:
        """All elements of a tensor, in its shape."""
        i = self._index[name]
        return Elements(self, self._range[self._bases[i] : self._bases[i + 1]].reshape(shape))

    def size(self, name: str) -> int:
        """The number of elements of a tensor."""
        i = self._index[name]
        return self._bases[i + 1] - self._bases[i]

    def number_of(self, array: np.ndarray) -> int:
        """The element number of the first entry of an int8 view of this arena."""
        return array.__array_interface__["data"][0] - self._start

    def holds(self, array: np.ndarray) -> bool:
        """Whether an array is a view of this arena; empty arrays are."""
        return array.size == 0 or 0 <= self.number_of(array) < len(self._range)

    def owner(self, number: int) -> tuple[str, int]:
        """The tensor of an element, and the number of that tensor's first element."""
        i = bisect_right(self._bases, number, hi=len(self._names)) - 1
        return self._names[i], self._bases[i]

    def owners(self, numbers: np.ndarray) -> np.ndarray:
        """The index of the tensor of each element, same shape."""
        return np.searchsorted(np.asarray(self._bases[:-1]), numbers, side="right") - 1


def _reserve(size: int) -> np.ndarray:
    flags = {}
    if hasattr(mmap, "MAP_NORESERVE"):
        flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE}
    return np.frombuffer(mmap.mmap(-1, max(size, 1), **flags), dtype=np.int8)
