"""Lazy views: which elements of which tensor an edge block holds, without holding them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np

__all__ = ["Deferred", "Held", "Origin", "Parameter", "ParameterView", "Storage"]

Origin = Literal["initializer", "attribute", "constant"]


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """Numbers in memory, as the `load` of a parameter."""

    array: np.ndarray
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """The array itself."""
        return self.array


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """Numbers that are worked out each time, as the `load` of a parameter; another process gets them as they are."""

    make: Callable[[], np.ndarray]
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """What `make` makes."""
        return self.make()

    def __reduce__(self) -> tuple[type[Held], tuple[np.ndarray]]:
        return Held, (self.make(),)


@dataclass(frozen=True, slots=True)
class Storage:
    """How a model stores a parameter in another form than its numbers: quantised, packed.

    dtype: of a stored element ("int8", "uint4", "float8_e4m3fn", ...).
    values: the ONNX values that hold the numbers themselves; none where an operator reads the stored form.
    sides: names of the parameters that the numbers depend on too (scales, zero points).
    load: the stored tensor as it is in the model.
    decode: numbers from a stored tensor and the values of the sides by name.
    encode: the stored tensor nearest to numbers; arguments: numbers, sides, and the present stored tensor, whose
    elements stay where they stand for the numbers already.
    """

    dtype: str
    values: tuple[str, ...]
    sides: tuple[str, ...]
    load: Callable[[], np.ndarray] = field(repr=False)
    decode: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray] = field(repr=False)
    encode: Callable[[np.ndarray, Mapping[str, np.ndarray], np.ndarray], np.ndarray] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One tensor whose elements are parameters.

    name: the initializer's (or, for a constant, the ONNX value's) name; unique in a graph.
    shape, dtype: of its numbers; dtype is NumPy's name ("float32", "bfloat16", "int8", ...).
    origin: where the numbers come from: an initializer, a node's attribute, or (of a constant) the program.
    load: returns the numbers, memory-mapped where the file allows; called only by backends. One with a true attribute
    `portable` is pickled with the parameter; of others the numbers are.
    place: where an attribute is: the first named output of its node, and the attribute's own name.
    storage: set where the model stores the numbers in another form; one stored element is one number.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    origin: Origin
    load: Callable[[], np.ndarray] = field(repr=False)
    place: tuple[str, str] | None = None
    storage: Storage | None = None

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    def __getstate__(self) -> list[Any]:
        load = self.load if getattr(self.load, "portable", False) else Held(np.asarray(self.load()))
        return [load if f.name == "load" else getattr(self, f.name) for f in fields(self)]


@dataclass(frozen=True, slots=True)
class ParameterView:
    """Elements `[B, N, K, S]` of one parameter tensor, by strides or, where strides cannot say it, by index.

    name: of the `Parameter`.
    offset: flat element number of entry (0, 0, 0, 0).
    shape: (B, N, K, S). strides: of the flat tensor, in elements, may be negative.
    index: int64 [B, N, K, S] flat element numbers; when given, offset and strides are unused.
    """

    name: str
    offset: int
    shape: tuple[int, int, int, int]
    strides: tuple[int, int, int, int]
    index: np.ndarray | None = None

    @property
    def size(self) -> int:
        """Number of elements, one edge each."""
        b, n, k, s = self.shape
        return b * n * k * s

    def read(self, tensor: np.ndarray, at: tuple[Any, ...] = ()) -> np.ndarray:
        """The elements of `tensor`.

        Args:
            tensor: The parameter's tensor, of any shape, in C order.
            at: An index into [B, N, K, S]; all of it by default.

        Returns:
            [B, N, K, S], or its entries `at`: a view of the tensor unless `index` is set.
        """
        flat = tensor.reshape(-1)
        if self.index is not None:
            return flat[self.index[at]]
        step = flat.itemsize
        window = np.lib.stride_tricks.as_strided(
            flat[self.offset :],
            self.shape,
            tuple(s * step for s in self.strides),
            writeable=tensor.flags.writeable,
        )
        return window[at] if at else window

    def write(self, tensor: np.ndarray, values: np.ndarray, at: tuple[Any, ...] = ()) -> None:
        """Write elements into `tensor` (any shape, C order), in place.

        Args:
            tensor: The parameter's tensor, writeable and contiguous.
            values: What to write, broadcastable to [B, N, K, S], or to its entries `at`.
            at: An index into [B, N, K, S]; all of it by default.
        """
        if self.index is not None:
            tensor.reshape(-1)[self.index[at]] = values
        else:
            self.read(tensor)[at] = values

    def elements(self) -> np.ndarray:
        """Flat element numbers, int64 [B, N, K, S]. As long as the block: for checks and exports only."""
        if self.index is not None:
            return self.index
        axes = np.ogrid[tuple(slice(n) for n in self.shape)]
        return np.asarray(self.offset + sum(a * s for a, s in zip(axes, self.strides, strict=True)), dtype=np.int64)

    def bounds(self) -> tuple[int, int]:
        """Smallest and largest flat element number (an empty view gives (0, -1))."""
        if self.size == 0:
            return 0, -1
        if self.index is not None:
            return int(self.index.min()), int(self.index.max())
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        return self.offset + sum(r for r in reach if r < 0), self.offset + sum(r for r in reach if r > 0)

    def box(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
        """The view as a full rectangle of a tensor of this shape: (start, stop) per axis, or None if it is none.

        A rectangle holds each of its elements exactly once, so disjoint boxes share no element.
        """
        if self.index is not None or self.size == 0:
            return None
        steps = _row_major(shape)
        extents = [1] * len(shape)
        for n, s in _nested(self.shape, self.strides):
            span = _digits(s * (n - 1), steps, shape)
            moved = [a for a, d in enumerate(span) if d]
            if not moved or s != steps[moved[-1]] or any(extents[a] != 1 for a in moved):
                return None
            if any(span[a] != shape[a] - 1 for a in range(moved[0] + 1, moved[-1] + 1)):
                return None
            for a in moved:
                extents[a] = span[a] + 1
        low, high = self.bounds()
        first, last = _digits(low, steps, shape), _digits(high, steps, shape)
        if any(f + e - 1 != z for f, e, z in zip(first, extents, last, strict=True)):
            return None
        if math.prod(extents) != self.size:
            return None
        return tuple((f, f + e) for f, e in zip(first, extents, strict=True))


def _nested(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """(length, step) of the axes of length > 1, directions dropped, axes that continue one another merged."""
    merged: list[tuple[int, int]] = []
    for s, n in sorted((abs(s), n) for n, s in zip(shape, strides, strict=True) if n > 1):
        if merged and merged[-1][0] * merged[-1][1] == s:
            merged[-1] = (merged[-1][0] * n, merged[-1][1])
        else:
            merged.append((n, s))
    return merged


def _row_major(shape: tuple[int, ...]) -> list[int]:
    steps = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        steps[axis] = steps[axis + 1] * shape[axis + 1]
    return steps


def _digits(flat: int, steps: list[int], shape: tuple[int, ...]) -> list[int]:
    return [flat // step % n for step, n in zip(steps, shape, strict=True)]
