"""The values and the operator that a rule works on."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from ..errors import DataDependent, Unsupported
from .elements import Elements

__all__ = ["Op", "Result", "Value"]


@dataclass(frozen=True, slots=True, eq=False)
class Value:
    """A value of the network during lowering: either an activation, a weight, or a program constant.

    Attributes:
        name: Its name in the model.
        shape: Its concrete shape.
        dtype: NumPy's name of its data type; "string" for strings.
        factors: Of an activation: label tensors (see `labels`), one per independent neural axis.
        data: Of a program constant: its array.
        elements: Of a weight: the parameter elements, or functions of them.
        derived: Whether it is computed from parameters alone: a weight of unknown structure, or an activation.
        copy_axes: The axes along which all entries of an activation are copies.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    factors: tuple[np.ndarray, ...] = ()
    data: np.ndarray | None = field(default=None, repr=False)
    elements: Elements | None = field(default=None, repr=False)
    derived: bool = False
    copy_axes: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        """Raise `ValueError` for a value of more than one kind."""
        if bool(self.factors) + (self.data is not None) + (self.elements is not None) > 1:
            raise ValueError(f"{self.name!r} is more than one of activation, weight and constant")

    @property
    def is_activation(self) -> bool:
        """Whether it has labels: it depends on the input, or is a parameter that is lowered like an activation."""
        return bool(self.factors)

    @property
    def rank(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def relabelled(self, factors: tuple[np.ndarray, ...], shape: tuple[int, ...] | None = None) -> Value:
        """Copy as an activation with other labels.

        Args:
            factors: The labels.
            shape: The shape; unchanged by default.

        Returns:
            The activation.
        """
        return Value(self.name, self.shape if shape is None else shape, self.dtype, factors)

    def reweighted(self, elements: Elements, dtype: str = "") -> Value:
        """Copy as a weight.

        Args:
            elements: The elements, whose shape it gets.
            dtype: The data type; unchanged by default.

        Returns:
            The weight.
        """
        return Value(self.name, elements.shape, dtype or self.dtype, elements=elements)

    def unsqueezed(self, axis: int, size: int = 1) -> Value:
        """Copy with an additional axis along which labels are constant.

        Args:
            axis: The index of the new axis.
            size: Its size.

        Returns:
            The activation.
        """
        shape = (*self.shape[:axis], size, *self.shape[axis:])
        made = self.relabelled(tuple(np.expand_dims(f, axis) for f in self.factors), shape)
        return replace(made, copy_axes=frozenset(a + (a >= axis) for a in self.copy_axes))


@dataclass(frozen=True, slots=True)
class Result:
    """Name, shape and dtype of an output; the shape is None if it is unknown."""

    name: str
    shape: tuple[int, ...] | None
    dtype: str


@dataclass(frozen=True, slots=True)
class Op:
    """The ONNX node that a rule lowers.

    Attributes:
        type: The operator.
        domain: Its domain.
        opset: The imported version of the domain.
        name: The name of the node.
        inputs: The operands, None where one is left out.
        results: The outputs, None where one is left out.
        attributes: The attributes, with the schema's defaults filled in.
    """

    type: str
    domain: str
    opset: int
    name: str
    inputs: tuple[Value | None, ...]
    results: tuple[Result | None, ...]
    attributes: dict[str, Any]

    def input(self, index: int) -> Value:
        """A required operand.

        Args:
            index: The index of the operand.

        Returns:
            The operand.

        Raises:
            Unsupported: It is left out.
        """
        value = self.optional(index)
        if value is None:
            raise Unsupported(f"operand {index} is missing")
        return value

    def optional(self, index: int) -> Value | None:
        """An optional operand.

        Args:
            index: The index of the operand.

        Returns:
            The operand, None if it is left out.
        """
        return self.inputs[index] if index < len(self.inputs) else None

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute.

        Args:
            name: The name of the attribute.
            default: Returned if the node lacks it and the schema has no default.

        Returns:
            Its value: a number, a string, a tuple of these, or an array.
        """
        value = self.attributes.get(name)
        return default if value is None else value

    def data(self, index: int) -> np.ndarray | None:
        """The data of an optional operand.

        Args:
            index: The index of the operand.

        Returns:
            The array, None if the operand is left out.

        Raises:
            DataDependent: The operand is not known at compile time.
        """
        value = self.optional(index)
        if value is None:
            return None
        if value.data is None:
            raise DataDependent(f"operand {index} ({value.name!r}) is not a known constant")
        return value.data

    def known(self, index: int) -> np.ndarray:
        """The data of a required operand.

        Args:
            index: The index of the operand.

        Returns:
            The array.

        Raises:
            DataDependent: The operand is not known at compile time.
            Unsupported: The operand is left out.
        """
        data = self.data(index)
        if data is None:
            raise Unsupported(f"operand {index} is missing")
        return data

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """The concrete shape of an output.

        Args:
            index: The index of the output.

        Returns:
            The shape.

        Raises:
            DataDependent: The shape depends on data.
        """
        result = self.results[index]
        if result is None or result.shape is None:
            raise DataDependent("the shape of its output depends on data", "give concrete sizes with --dim or --input")
        return result.shape

    def wants(self, index: int) -> bool:
        """Whether the node has an output.

        Args:
            index: The index of the output.

        Returns:
            Whether it is used.
        """
        return index < len(self.results) and self.results[index] is not None

    def dtype(self, index: int = 0) -> str:
        """The data type of an output.

        Args:
            index: The index of the output.

        Returns:
            NumPy's name of the data type, "" if the output is left out.
        """
        result = self.results[index]
        return result.dtype if result else ""

    def output(self, index: int = 0) -> str:
        """The name of an output.

        Args:
            index: The index of the output.

        Returns:
            The name, "" if the output is left out.
        """
        result = self.results[index]
        return result.name if result else ""

    def axis(self, name: str = "axis", default: int = -1, of: int = 0) -> int:
        """An axis attribute, normalised to be non-negative.

        Args:
            name: The name of the attribute.
            default: The axis if the node lacks it.
            of: The index of the operand whose axis it is.

        Returns:
            The axis.

        Raises:
            Unsupported: The operand has no such axis.
        """
        rank = self.input(of).rank
        axis = int(self.attr(name, default))
        if not -rank <= axis < max(rank, 1):
            raise Unsupported(f"axis {axis} does not fit rank {rank}")
        return axis % rank if rank else 0
