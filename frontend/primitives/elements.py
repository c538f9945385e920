"""Parameter elements as arrays that data movement can run on, without their values.

All tensors of a model lie one after the other in a virtual address range that is never touched: an int8 array over it
has one byte per element, so an element's number is its address and NumPy's views carry strides through Transpose,
Slice, Split and most Reshapes for free. Where no view exists the array is replaced by int64 element numbers.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from ...ir import ParameterView
from ..budget import COPIED, bear
from ..registry import Unsupported
from .regions import affine_view, regions

__all__ = ["NOTHING", "Arena", "Elements"]

NOTHING = np.iinfo(np.int64).max


@dataclass(frozen=True, slots=True)
class Elements:
    """Elements of the tensors of one arena: an int8 array over it, or int64 element numbers of the same shape.

    Number `NOTHING` is of no parameter: a zero of a tensor that is stored sparsely.
    """

    arena: Arena
    array: np.ndarray

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array of elements."""
        return self.array.shape

    @property
    def numbers(self) -> np.ndarray:
        """Element numbers within the arena, int64, same shape. Raises `TooLarge`."""
        if self.array.dtype != np.int8:
            return self.array
        bear(self.array.size, COPIED, "elements of a weight in another order")
        axes = np.ogrid[tuple(slice(n) for n in self.array.shape)]
        start = self.arena.number_of(self.array)
        steps = sum((a * s for a, s in zip(axes, self.array.strides, strict=True)), np.zeros((), dtype=np.int64))
        return np.asarray(start + np.broadcast_to(steps, self.array.shape), dtype=np.int64)

    def move(self, function: Callable[[np.ndarray], np.ndarray]) -> Elements:
        """The elements after data movement `function`; a view if NumPy can express it as one."""
        if self.array.dtype == np.int8:
            moved = function(self.array)
            if self.arena.holds(moved):
                return Elements(self.arena, moved)
        return Elements(self.arena, function(self.numbers))

    def reshape(self, *shape: int) -> Elements:
        """`numpy.reshape` of the elements."""
        return self.move(lambda a: a.reshape(shape))

    @property
    def some(self) -> np.ndarray | None:
        """Which entries are parameters, bool, where not all of them are."""
        if self.array.dtype == np.int8 or not (self.array == NOTHING).any():
            return None
        return self.array != NOTHING

    def views(self) -> Iterator[tuple[tuple[slice, ...], ParameterView]]:
        """Views [B, N, K, S] that make up these elements (of rank 4), each with the region that it covers.

        Raises `Unsupported` where not all are parameters.
        """
        if self.some is not None:
            raise Unsupported("a tensor that is stored sparsely is read as a whole", "store it densely")
        if self.array.dtype == np.int8:
            name, base = self.arena.owner(self.arena.number_of(self.array))
            shape = self.array.shape
            strides = tuple(s if n > 1 else 0 for n, s in zip(shape, self.array.strides, strict=True))
            offset = self.arena.number_of(self.array) - base
            yield (slice(None),) * 4, ParameterView(name, offset, shape, strides)  # type: ignore[arg-type]
            return
        for region in regions(self.arena.owners(self.array)):
            numbers = self.array[region]
            name, base = self.arena.owner(int(numbers[(0,) * 4]) if numbers.size else 0)
            yield region, affine_view(name, numbers - base)


class Arena:
    """Hands out element numbers: tensor after tensor in one virtual range."""

    def __init__(self, sizes: dict[str, int]) -> None:
        """sizes: elements per tensor name; the range is reserved, not allocated."""
        self._names = list(sizes)
        self._bases = [0]
        for size in sizes.values():
            self._bases.append(self._bases[-1] + size)
        self._index = {name: i for i, name in enumerate(self._names)}
        self._range = _reserve(self._bases[-1])
        self._start = self._range.__array_interface__["data"][0]

    def tensor(self, name: str, shape: tuple[int, ...]) -> Elements:
        """All elements of one tensor in its own shape."""
        i = self._index[name]
        return Elements(self, self._range[self._bases[i] : self._bases[i + 1]].reshape(shape))

    def size(self, name: str) -> int:
        """Elements of a tensor."""
        i = self._index[name]
        return self._bases[i + 1] - self._bases[i]

    def number_of(self, array: np.ndarray) -> int:
        """Element number of the first entry of an int8 array over this arena."""
        return array.__array_interface__["data"][0] - self._start

    def holds(self, array: np.ndarray) -> bool:
        """Whether an array is a view of the range (an empty array is)."""
        return array.size == 0 or 0 <= self.number_of(array) < len(self._range)

    def owner(self, number: int) -> tuple[str, int]:
        """The tensor that an element belongs to, and the number of the tensor's first element."""
        i = bisect_right(self._bases, number, hi=len(self._names)) - 1
        return self._names[i], self._bases[i]

    def owners(self, numbers: np.ndarray) -> np.ndarray:
        """Index of the tensor of each element, same shape."""
        return np.searchsorted(np.asarray(self._bases[:-1]), numbers, side="right") - 1


def _reserve(size: int) -> np.ndarray:
    flags = {}
    if hasattr(mmap, "MAP_NORESERVE"):
        flags = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE}
    return np.frombuffer(mmap.mmap(-1, max(size, 1), **flags), dtype=np.int8)
