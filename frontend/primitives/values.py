"""What rules see: values under lowering and the op at hand."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataDependent, Unsupported
from .elements import Elements

__all__ = ["Op", "Result", "Value"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of the network during lowering: an activation, a weight or a constant, and never two of them.

    factors: of an activation: label tensors (see `labels`), one per independent neural axis.
    elements: of a weight: the parameter elements it is made of, or functions of them.
    data: of a constant of the program: its numbers.
    derived: it is computed from parameters alone: a weight that no rule knows, or an activation that starts at them.
    same: axes along which all entries of an activation are copies.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    factors: tuple[np.ndarray, ...] = ()
    data: np.ndarray | None = field(default=None, repr=False)
    elements: Elements | None = field(default=None, repr=False)
    derived: bool = False
    same: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raise `ValueError` for a value of two sorts."""
        if bool(self.factors) + (self.data is not None) + (self.elements is not None) > 1:
            raise ValueError(f"{self.name!r} is more than one of activation, weight and constant")

    @property
    def is_activation(self) -> bool:
        """Whether it has labels: it depends on the input, or it is a parameter that starts a stream."""
        return bool(self.factors)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def relabelled(self, factors: tuple[np.ndarray, ...], shape: tuple[int, ...] | None = None) -> Value:
        """An activation with these labels (and this shape)."""
        shape = self.shape if shape is None else shape
        return replace(self, factors=factors, shape=shape, data=None, elements=None, derived=False, same=frozenset())

    def reweighted(self, elements: Elements, dtype: str = "") -> Value:
        """A weight of these elements, in their shape (and of this dtype)."""
        return Value(self.name, elements.shape, dtype or self.dtype, elements=elements)

    def unsqueezed(self, axis: int, size: int = 1) -> Value:
        """An activation with one more axis, of which every entry has the same labels."""
        shape = (*self.shape[:axis], size, *self.shape[axis:])
        return self.relabelled(tuple(np.expand_dims(f, axis) for f in self.factors), shape)


@dataclass(frozen=True, slots=True)
class Result:
    """Name, shape and dtype of an output of the op at hand; shape None where it is not known."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Op:
    """The ONNX node at hand: operands as values, attributes with the schema's defaults filled in."""

    type: str
    domain: str
    opset: int
    name: str
    inputs: tuple[Value | None, ...]
    results: tuple[Result | None, ...]
    attributes: dict[str, Any]

    def input(self, index: int) -> Value:
        """A required operand."""
        value = self.optional(index)
        if value is None:
            raise Unsupported(f"operand {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """An operand, or None where it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute's value, the schema's default, or `default`."""
        value = self.attributes.get(name)
        return default if value is None else value

    def data(self, index: int) -> np.ndarray | None:
        """The known value of an operand; None where it is left out. `DataDependent` if it is there but not known."""
        value = self.optional(index)
        if value is None:
            return None
        if value.data is None:
            raise DataDependent(f"operand {index} ({value.name!r}) is not a known constant")
        return value.data

    def known(self, index: int) -> np.ndarray:
        """The known value of a required operand."""
        data = self.data(index)
        if data is None:
            raise Unsupported(f"operand {index} is missing")
        return data

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Concrete shape of an output."""
        result = self.results[index]
        if result is None or result.shape is None:
            raise DataDependent("the shape of its output depends on data", "give concrete sizes with --dim or --input")
        return result.shape

    def wants(self, index: int) -> bool:
        """Whether the node has output `index`."""
        return index < len(self.results) and self.results[index] is not None

    def dtype(self, index: int = 0) -> str:
        """NumPy's name of the data type of an output."""
        result = self.results[index]
        return result.dtype if result else ""

    def output(self, index: int = 0) -> str:
        """The name of an output."""
        result = self.results[index]
        return result.name if result else ""

    def axis(self, name: str = "axis", default: int = -1, of: int = 0) -> int:
        """An axis attribute as a non-negative number of operand `of`."""
        rank = self.input(of).rank
        axis = int(self.attr(name, default))
        if not -rank <= axis < max(rank, 1):
            raise Unsupported(f"axis {axis} does not fit rank {rank}")
        return axis % rank if rank else 0
