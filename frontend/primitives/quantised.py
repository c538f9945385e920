"""Quantised tensors: how stored elements, scales and zero points determine the values."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import ml_dtypes
import numpy as np

__all__ = [
    "TABLES",
    "Packing",
    "QuantEncoding",
    "QuantParam",
    "QuantScheme",
    "dtype_of",
    "linear",
    "lookup",
    "packed",
    "rounded",
    "whole",
]


# The values of MatMulBnb4's codes: the 4-bit floats of bitsandbytes, and the quantiles of QLoRA (arXiv 2305.14314).
_FP4 = (0.0, 5.208333333e-03, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25)
_NF4 = (
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334,
    -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
    0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
)  # fmt: skip
TABLES = {
    "fp4": np.array([*_FP4, *(-f for f in _FP4)], dtype=np.float32),
    "nf4": np.array(_NF4, dtype=np.float32),
}
"""Lookup tables by the name of the code."""


_PART = 1 << 16
"""Number of elements of a large tensor that are decoded or encoded at once."""

Made = tuple[Callable[..., Any], tuple[Any, ...]]


def dtype_of(name: str) -> np.dtype:
    """The NumPy dtype of a name, including those of ml_dtypes."""
    return np.dtype(getattr(ml_dtypes, name, name))


@dataclass(frozen=True, slots=True, eq=False)
class QuantParam:
    """A scale or zero point of a stored tensor.

    Attributes:
        role: "scale" or "zero_point", the argument of the scheme's functions.
        name: The parameter that holds the values; "" if they are `data`.
        numbers: Which element of it applies to which stored elements, int64 of the rank of the stored tensor; along
            each axis one for all, or one per block of `blocks[axis]` elements.
        blocks: Block size per axis.
        data: The values, if they are program constants.
        quantises: Whether the model rounds with it, and dequantises with another one.
    """

    role: str
    name: str
    numbers: np.ndarray
    blocks: tuple[int, ...]
    data: np.ndarray | None = None
    quantises: bool = False

    def of(self, coordinates: list[np.ndarray]) -> np.ndarray:
        """The element that applies at these coordinates of the stored tensor, one broadcastable array per axis."""
        return self.numbers[tuple(self.place(a, c) for a, c in enumerate(coordinates))]

    def place(self, axis: int, coordinates: np.ndarray) -> np.ndarray:
        """Indices along an axis of `numbers`."""
        return coordinates // self.blocks[axis] if self.numbers.shape[axis] > 1 else np.zeros_like(coordinates)

    def transposed(self, order: tuple[int, ...]) -> QuantParam:
        """The same for the stored tensor transposed to this order of axes."""
        return replace(self, numbers=self.numbers.transpose(order), blocks=tuple(self.blocks[a] for a in order))

    def spread(self, values: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """The values, given in any shape, broadcastable to the stored tensor of this shape."""
        array = (values if self.data is None else self.data).reshape(-1)[self.numbers]
        for axis, size in enumerate(shape):
            if 1 < array.shape[axis] < size:
                array = array.repeat(self.blocks[axis], axis=axis)[(slice(None),) * axis + (slice(size),)]
        return array

    def same(self, other: QuantParam) -> bool:
        """Whether both apply the same elements of the same parameter."""
        mine, theirs = ((p.role, p.name, p.blocks, p.quantises) for p in (self, other))
        if mine != theirs:
            return False
        if self.data is not None and other.data is not None:
            return bool((self.data == other.data).all())
        return np.array_equal(self.numbers, other.numbers)


@dataclass(frozen=True, slots=True)
class QuantScheme:
    """An elementwise mapping between stored elements and values.

    Attributes:
        name: Identifies the scheme.
        dtype: The data type of values.
        decode: Stored elements to values; takes scale and zero point by keyword, if there are any.
        encode: Values, and the previous stored elements, to the nearest stored elements; keywords likewise.
        made: The function that created it and its arguments, which are pickled instead of the closures.
    """

    name: str
    dtype: str
    decode: Callable[..., np.ndarray]
    encode: Callable[..., np.ndarray]
    made: Made | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> Made | tuple[Any, ...]:
        return self.made or (QuantScheme, (self.name, self.dtype, self.decode, self.encode))


@dataclass(frozen=True, slots=True)
class Packing:
    """How elements are packed in the tensor of the file.

    Attributes:
        wrap: Elements to packed tensor.
        unwrap: Packed tensor to elements.
        made: As in `QuantScheme`.
    """

    wrap: Callable[[np.ndarray], np.ndarray]
    unwrap: Callable[[np.ndarray], np.ndarray]
    made: Made | None = field(default=None, compare=False, repr=False)

    def __reduce__(self) -> Made | tuple[Any, ...]:
        return self.made or (Packing, (self.wrap, self.unwrap))


@dataclass(frozen=True, slots=True)
class QuantEncoding:
    """How a stored tensor encodes its values.

    Attributes:
        shape: The shape of its elements.
        quant_params: Scales and zero points.
        scheme: The scheme that maps elements to values.
        packing: How elements are packed in the file; None if they are not.
        ranged: Whether the model rounds the whole tensor to the grid of its own range.
        attributes: What else its rounding depends on, as (name, value) pairs.
    """

    shape: tuple[int, ...]
    quant_params: tuple[QuantParam, ...]
    scheme: QuantScheme
    packing: Packing | None = None
    ranged: bool = False
    attributes: tuple[tuple[str, object], ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The parameters of scales and zero points."""
        return tuple(dict.fromkeys(s.name for s in self.quant_params if s.name))

    def same(self, other: QuantEncoding) -> bool:
        """Whether equal stored elements represent equal values in both."""
        mine, theirs = ((e.shape, e.scheme.name, e.ranged, e.attributes, len(e.quant_params)) for e in (self, other))
        return mine == theirs and all(a.same(b) for a, b in zip(self.quant_params, other.quant_params, strict=True))

    @property
    def marks(self) -> dict[str, object]:
        """What distinguishes it from other encodings besides the parameters of scales and zero points.

        What rounding depends on, numbers of the program among it; no zero point is the same as 0. Nothing for stored
        integers, whose edges have the dequantised values.
        """
        found = dict(self.attributes)
        for param in self.quant_params if self.scheme.name.startswith("rounded") else ():
            if param.data is not None and (param.role == "scale" or param.data.any()):
                name = f"{param.role}_of_rounding" if param.quantises else param.role
                found[name] = float(f"{float(param.data):.6g}")
        return found

    @property
    def codes(self) -> str:
        """Identifies which values an element can represent, given the parameters of its scales and zero points."""
        literals = [(p.role, float(p.data)) for p in self.quant_params if p.data is not None]
        return " ".join(map(str, (self.scheme.name, literals, [p.blocks for p in self.quant_params])))

    def decode(self, tensor: np.ndarray, values: Mapping[str, np.ndarray]) -> np.ndarray:
        """Dequantise a tensor of the file, given the values of scales and zero points by name."""
        stored = (tensor if self.packing is None else self.packing.unwrap(tensor)).reshape(self.shape)
        return _by_parts(self.scheme.decode, (stored,), self._operands(values))

    def encode(self, numbers: np.ndarray, values: Mapping[str, np.ndarray], tensor: np.ndarray) -> np.ndarray:
        """Quantise to the nearest stored elements; those of `tensor` that represent their value already are kept."""
        stored = (tensor if self.packing is None else self.packing.unwrap(tensor)).reshape(self.shape)

        def nearest(stored: np.ndarray, numbers: np.ndarray, **operands: np.ndarray) -> np.ndarray:
            fitting = self.scheme.decode(stored, **operands) == numbers
            if fitting.all():
                return stored
            return np.where(fitting, stored, self.scheme.encode(numbers, stored, **operands)).astype(stored.dtype)

        with np.errstate(all="ignore"):
            new = _by_parts(nearest, (stored, numbers), self._operands(values))
        return (new if self.packing is None else self.packing.wrap(new)).reshape(tensor.shape)

    def _operands(self, values: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        out: dict[str, np.ndarray] = {}
        for param in self.quant_params:
            if param.quantises:
                continue
            array = param.spread(values.get(param.name, np.zeros(0)), self.shape)
            if param.role in out:
                array = (out[param.role].astype(np.float32) * array.astype(np.float32)).astype(np.float32)
            out[param.role] = array
        return out


def _by_parts(
    function: Callable[..., np.ndarray], arrays: tuple[np.ndarray, ...], operands: Mapping[str, np.ndarray]
) -> np.ndarray:
    """Apply an elementwise function part by part, so that what it computes on the way stays in the cache.

    arrays: of one shape. operands: broadcastable to it, of its rank.
    """
    shape = arrays[0].shape
    axis = next((a for a, n in enumerate(shape) if n > 1), 0)
    if arrays[0].size <= _PART or not shape:
        return function(*arrays, **operands)
    step = max(1, _PART * shape[axis] // arrays[0].size)
    parts = []
    for start in range(0, shape[axis], step):
        here = (*(slice(None),) * axis, slice(start, start + step))
        some = {n: a[here] if a.ndim == len(shape) and a.shape[axis] > 1 else a for n, a in operands.items()}
        parts.append(function(*(a[here] for a in arrays), **some))
    return np.concatenate(parts, axis=axis)


def linear(stored: str, dtype: str, bits: int = 0) -> QuantScheme:
    """(stored - zero point) * scale, as in DequantizeLinear.

    Args:
        stored: Dtype name of stored elements.
        dtype: Dtype name of values.
        bits: How many bits of the stored type are used; 0 for all.
    """
    kind, result = dtype_of(stored), dtype_of(dtype)
    whole = stored.startswith(("int", "uint"))
    narrow = whole and ml_dtypes.iinfo(kind).bits <= 16  # so that float32 has every difference
    low, high = (float(ml_dtypes.iinfo(kind).min), float(ml_dtypes.iinfo(kind).max)) if whole else (0.0, 0.0)
    low, high = (0.0, 2.0**bits - 1) if bits else (low, high)

    def decode(q: np.ndarray, scale: np.ndarray | None = None, zero_point: np.ndarray | None = None) -> np.ndarray:
        array = q.astype(np.int32 if whole and not narrow else np.float32)
        if zero_point is not None:
            exact = np.int32 if zero_point.dtype.kind in "iu" and not narrow else np.float32
            array = array - zero_point.astype(exact)
        number = array.astype(np.float32, copy=False)
        return (number if scale is None else number * scale.astype(np.float32)).astype(result, copy=False)

    def encode(
        x: np.ndarray, q: np.ndarray, scale: np.ndarray | None = None, zero_point: np.ndarray | None = None
    ) -> np.ndarray:
        if narrow and x.dtype == np.float32:
            # Values on the grid, as those that a permutation moves, need no more than float32.
            near = x if scale is None else x / scale.astype(np.float32)
            near = near if zero_point is None else near + zero_point.astype(np.float32)
            quick = np.clip(np.rint(near), low, high).astype(kind)
            if (decode(quick, scale, zero_point) == x).all():
                return quick
        at = x.astype(np.float64) / (1.0 if scale is None else scale.astype(np.float64))
        at = at + (0.0 if zero_point is None else zero_point.astype(np.float64))
        if not whole:
            return np.where(np.isfinite(at), at, q.astype(np.float64)).astype(kind)
        best = np.clip(np.where(np.isfinite(at), np.rint(at), q.astype(np.float64)), low, high)
        # If integers are wider than the float mantissa, the nearest one may decode to another float: try neighbours.
        best = np.clip(best.astype(np.float32).astype(np.float64), low, high)
        wrong = decode(best.astype(kind), scale, zero_point) != x
        if not wrong.any():
            return best.astype(kind)
        step = np.maximum(1.0, np.spacing(np.abs(best).astype(np.float32)).astype(np.float64))
        for move in (step, -step):
            other = np.clip(best + move, low, high)
            wrong = decode(best.astype(kind), scale, zero_point) != x
            best = np.where(wrong & (decode(other.astype(kind), scale, zero_point) == x), other, best)
        return best.astype(kind)

    name = f"linear {stored} {bits}" if bits else f"linear {stored}"
    return QuantScheme(name, dtype, decode, encode, (linear, (stored, dtype, bits)))


def whole(bits: int) -> QuantScheme:
    """Unsigned integers of `bits` bits, stored as they are."""

    def encode(x: np.ndarray, q: np.ndarray) -> np.ndarray:
        return np.clip(x, 0, 2**bits - 1).astype(np.uint8)

    return QuantScheme(f"whole {bits}", "uint8", lambda q: q.astype(np.uint8), encode, (whole, (bits,)))


def rounded(dtype: str) -> QuantScheme:
    """Floats that the model itself quantises; they are stored as they are."""

    def same(x: np.ndarray, *_: np.ndarray, **quant_params: np.ndarray) -> np.ndarray:
        return x

    return QuantScheme(f"rounded {dtype}", dtype, same, same, (rounded, (dtype,)))


def lookup(table: np.ndarray, stored: str, dtype: str) -> QuantScheme:
    """Scale * table[stored], as in MatMulBnb4; `table` is float32 with one value per code."""
    result = dtype_of(dtype)
    order = np.argsort(table, kind="stable")
    borders = (table[order][1:] + table[order][:-1]) / 2

    def decode(q: np.ndarray, scale: np.ndarray) -> np.ndarray:
        return (table[q] * scale.astype(np.float32)).astype(result)

    def encode(x: np.ndarray, q: np.ndarray, scale: np.ndarray) -> np.ndarray:
        at = x.astype(np.float64) / scale.astype(np.float64)
        nearest = order[np.searchsorted(borders, np.nan_to_num(at))]
        return np.where(np.isfinite(at), nearest, q).astype(dtype_of(stored))

    return QuantScheme(f"lookup {table.tobytes().hex()}", dtype, decode, encode, (lookup, (table, stored, dtype)))


def packed(bits: int, high_first: bool = False) -> Packing:
    """Elements of 2, 4 or 8 bits packed into bytes along the last axis, lowest bits first unless `high_first`."""
    per = 8 // bits
    shifts = np.arange(0, 8, bits, dtype=np.uint8)[:: -1 if high_first else 1]

    def unwrap(tensor: np.ndarray) -> np.ndarray:
        parts = (tensor.view(np.uint8)[..., None] >> shifts) & np.uint8(2**bits - 1)
        return parts.reshape(*tensor.shape[:-1], tensor.shape[-1] * per)

    def wrap(array: np.ndarray) -> np.ndarray:
        parts = array.astype(np.uint8).reshape(*array.shape[:-1], -1, per) << shifts
        return np.bitwise_or.reduce(parts, axis=-1).astype(np.uint8)

    return Packing(wrap, unwrap, (packed, (bits, high_first)))
