"""Parameters and views: which elements of which stored tensor an edge block carries, without copying them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Literal

import numpy as np

__all__ = ["Deferred", "Held", "Origin", "Parameter", "ParameterView", "Storage"]

Origin = Literal["initializer", "attribute", "constant"]
"""Where a tensor comes from: an initializer, a node's attribute, or a computation of the program (constants only)."""


@dataclass(frozen=True, slots=True, eq=False)
class Held:
    """A `load` that returns an array in memory.

    Attributes:
        array: The array.
        portable: Whether it can be pickled as it is.
    """

    array: np.ndarray
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """The array."""
        return self.array


@dataclass(frozen=True, slots=True, eq=False)
class Deferred:
    """A `load` that computes the values on every call; it is pickled as the computed array.

    Attributes:
        make: Computes the values.
        portable: Whether it can be pickled as it is.
    """

    make: Callable[[], np.ndarray]
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """The computed values."""
        return self.make()

    def __reduce__(self) -> tuple[type[Held], tuple[np.ndarray]]:
        return Held, (self.make(),)


@dataclass(frozen=True, slots=True)
class Storage:
    """The stored form of a parameter whose values are not stored as they are: quantised or packed.

    Attributes:
        dtype: Type of a stored element, e.g. "int8", "uint4", "float8_e4m3fn".
        values: Names of the ONNX values that hold the dequantised tensor; none if an operator reads the stored form.
        quant_params: Names of the scales and zero points that dequantisation needs.
        codes: Identifies which values a stored element can represent, given its scales and zero points: stored forms
            that differ in it cannot exchange values.
        load: Returns the stored tensor.
        decode: (stored tensor, scales and zero points by name) to dequantised values.
        encode: (values, scales and zero points by name, present stored tensor) to the nearest stored tensor; elements
            that already decode to their value keep their code.
    """

    dtype: str
    values: tuple[str, ...]
    quant_params: tuple[str, ...]
    codes: str
    load: Callable[[], np.ndarray] = field(repr=False)
    decode: Callable[[np.ndarray, Mapping[str, np.ndarray]], np.ndarray] = field(repr=False)
    encode: Callable[[np.ndarray, Mapping[str, np.ndarray], np.ndarray], np.ndarray] = field(repr=False)


@dataclass(frozen=True, slots=True)
class Parameter:
    """A tensor of parameters, or of constants, loaded on demand.

    Attributes:
        name: Name of the initializer or, for a constant, of the ONNX value; unique in a graph.
        shape: Shape of the values.
        dtype: Type of the values, NumPy's name, e.g. "float32", "bfloat16", "int8".
        origin: Where the values come from.
        load: Returns the values, memory-mapped where the file allows; only backends call it. It is pickled with the
            parameter if it has a true attribute `portable`; otherwise its values are.
        place: For an attribute, the first named output of its node and the attribute's name; else None.
        storage: The stored form, if the model stores other numbers; each value has one stored element.
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
    """Elements [B, N, K, S] of one parameter tensor, by strides or, where strides cannot express them, by index.

    Attributes:
        name: Name of the `Parameter`.
        offset: Flat element number of entry (0, 0, 0, 0).
        shape: (B, N, K, S).
        strides: Strides in elements of the flat tensor; may be zero or negative.
        index: int64 [B, N, K, S], flat element numbers; if given, offset and strides are unused.
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
        """Read the view's elements from a tensor.

        Args:
            tensor: The parameter's tensor, of any shape, in C order.
            at: An index into [B, N, K, S]; by default all of it.

        Returns:
            [B, N, K, S], or its entries `at`; shares memory with the tensor unless `index` is set or `at` copies.
        """
        flat = tensor.reshape(-1)
        if self.index is not None:
            return flat[self.index[at]]
        window = np.lib.stride_tricks.as_strided(
            flat[self.offset :],
            self.shape,
            tuple(s * flat.itemsize for s in self.strides),
            writeable=tensor.flags.writeable,
        )
        return window[at] if at else window

    def write(self, tensor: np.ndarray, values: np.ndarray, at: tuple[Any, ...] = ()) -> None:
        """Write the view's elements into a tensor, in place.

        Args:
            tensor: The parameter's tensor, of any shape, in C order, writeable and contiguous.
            values: The new values, broadcastable to [B, N, K, S], or to its entries `at`.
            at: An index into [B, N, K, S]; by default all of it.
        """
        if self.index is not None:
            tensor.reshape(-1)[self.index[at]] = values
        else:
            self.read(tensor)[at] = values

    def elements(self) -> np.ndarray:
        """Flat element numbers, int64 [B, N, K, S]: as long as the block, so for checks and exports only."""
        if self.index is not None:
            return self.index
        axes = np.ogrid[tuple(slice(n) for n in self.shape)]
        return np.asarray(self.offset + sum(a * s for a, s in zip(axes, self.strides, strict=True)), dtype=np.int64)

    def bounds(self) -> tuple[int, int]:
        """The smallest and the largest flat element number; (0, -1) for an empty view."""
        if self.size == 0:
            return 0, -1
        if self.index is not None:
            return int(self.index.min()), int(self.index.max())
        reach = [(n - 1) * s for n, s in zip(self.shape, self.strides, strict=True)]
        return self.offset + sum(r for r in reach if r < 0), self.offset + sum(r for r in reach if r > 0)

    def box(self, shape: tuple[int, ...]) -> tuple[tuple[int, int], ...] | None:
        """The view as a box of its tensor; it then holds each element once, and views with disjoint boxes share none.

        Args:
            shape: Shape of the tensor.

        Returns:
            (start, stop) per axis; None if the elements do not form a box or repeat.
        """
        if self.index is not None or self.size == 0:
            return None
        strides = _row_major(shape)
        extents = [1] * len(shape)
        for n, s in _nested(self.shape, self.strides):
            span = _digits(s * (n - 1), strides, shape)
            moved = [a for a, d in enumerate(span) if d]
            if not moved or s != strides[moved[-1]] or any(extents[a] != 1 for a in moved):
                return None
            if any(span[a] != shape[a] - 1 for a in range(moved[0] + 1, moved[-1] + 1)):
                return None
            for a in moved:
                extents[a] = span[a] + 1
        low, high = self.bounds()
        first, last = _digits(low, strides, shape), _digits(high, strides, shape)
        if any(f + e - 1 != z for f, e, z in zip(first, extents, last, strict=True)):
            return None
        if math.prod(extents) != self.size:
            return None
        return tuple((f, f + e) for f, e in zip(first, extents, strict=True))


def _nested(shape: tuple[int, ...], strides: tuple[int, ...]) -> list[tuple[int, int]]:
    """(length, |stride|) of the axes of length > 1 by rising stride; axes that continue one another are merged."""
    merged: list[tuple[int, int]] = []
    for s, n in sorted((abs(s), n) for n, s in zip(shape, strides, strict=True) if n > 1):
        if merged and merged[-1][0] * merged[-1][1] == s:
            merged[-1] = (merged[-1][0] * n, merged[-1][1])
        else:
            merged.append((n, s))
    return merged


def _row_major(shape: tuple[int, ...]) -> list[int]:
    """Strides in elements of a C-ordered tensor."""
    strides = [1] * len(shape)
    for axis in range(len(shape) - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    return strides


def _digits(flat: int, strides: list[int], shape: tuple[int, ...]) -> list[int]:
    """The index of a flat element number."""
    return [flat // stride % n for stride, n in zip(strides, shape, strict=True)]
