"""Concrete sizes for symbolic dimensions."""

from __future__ import annotations

import re
from collections.abc import Mapping

import onnx_ir

from ...ir import LoweringError

__all__ = ["DEFAULTS", "Sizes"]

DEFAULTS = (32, 64, 224, 16, 8, 4, 1, 512, 128, 256, 1024, 16000)
"""Sizes tried in turn for dimensions without a given size; the first with which all shapes agree is used."""

_LONG = re.compile(r"seq|len|time|node|edge|point|frame|tok|sample|step|width|height", re.IGNORECASE)
_BATCH = re.compile(r"batch|^n$|^b$|^bs$", re.IGNORECASE)


class Sizes:
    """Sizes of symbolic dimensions: given by name or by an input's shape, else a default; each name has one size.

    Attributes:
        default: The size of other dimensions that do not look like a batch.
        inputs: The given shapes of inputs by name.
        guessed: Whether any default was used, so that another default may help.
    """

    def __init__(self, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], default: int) -> None:
        self.default = default
        self.inputs = inputs
        self.guessed = False
        self._given = frozenset(dims)
        self._dims = dict(dims)

    @property
    def names(self) -> list[str]:
        """The names of the dimensions that got the default size."""
        return [n for n, size in self._dims.items() if n not in self._given and size == self.default]

    def of_input(self, value: onnx_ir.Value) -> tuple[int, ...]:
        """The shape of a graph input. Raises `LoweringError` if its rank is unknown or the given shape does not fit."""
        given = self.inputs.get(value.name or "")
        shape = value.shape
        if given is None and shape is None:
            raise LoweringError(f"input {value.name!r} has no shape; give one (--input {value.name}=1x3x224x224)")
        if given is None:
            assert shape is not None
            return tuple(self._guess(dim, axis, len(shape)) for axis, dim in enumerate(shape))
        if shape is not None:
            self._bind(value, shape, given)
        return tuple(given)

    def of_value(self, value: onnx_ir.Value) -> tuple[int, ...] | None:
        """The declared shape of a value, None if a dimension of it is not known yet."""
        if value.shape is None:
            return None
        sizes = [self.of_dim(dim) for dim in value.shape]
        return None if None in sizes else tuple(s for s in sizes if s is not None)

    def _guess(self, dim: int | onnx_ir.SymbolicDim, axis: int, rank: int) -> int:
        size = self.of_dim(dim)
        if size is not None:
            return size
        self.guessed = True
        name = dim.value if isinstance(dim, onnx_ir.SymbolicDim) else None
        batch = name is not None and _BATCH.search(name) is not None
        first = axis == 0 and (rank > 1 or name is None) and not (name and _LONG.search(name))
        size = 1 if batch or first else self.default
        if name:
            size = self._dims.setdefault(name, size)
        return size

    def of_dim(self, dim: int | onnx_ir.SymbolicDim) -> int | None:
        """The size of a declared dimension, None if it is not known yet."""
        if isinstance(dim, int):
            return dim if dim > 0 else None
        if not dim.value:
            return None
        if dim.value in self._dims:
            return self._dims[dim.value]
        if dim.value.isidentifier():
            return None
        try:
            size = dim.evaluate(self._dims)
        except Exception:
            return None
        return size if isinstance(size, int) else None

    def _bind(self, value: onnx_ir.Value, shape: onnx_ir.Shape, given: tuple[int, ...]) -> None:
        fits = len(given) == len(shape) and all(
            not isinstance(dim, int) or dim <= 0 or dim == size for dim, size in zip(shape, given, strict=True)
        )
        if not fits:
            raise LoweringError(f"input {value.name!r} is declared as {shape}; {tuple(given)} does not fit it")
        for dim, size in zip(shape, given, strict=True):
            if isinstance(dim, onnx_ir.SymbolicDim) and dim.value and self._dims.setdefault(dim.value, size) != size:
                raise LoweringError(
                    f"input {value.name!r} of shape {tuple(given)}: dimension {dim.value!r} is {self._dims[dim.value]} "
                    "elsewhere"
                )
