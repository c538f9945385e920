"""The nine core primitives of lowering, from which the others are derived."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...ir import EdgeRole
from .contraction import Spec
from .elements import Elements
from .values import Value

__all__ = ["DataMovement", "Picks", "Primitives", "Rows"]

DataMovement = Callable[[np.ndarray], np.ndarray]
"""Data movement on an array; each entry of the result is one of the array."""

Picks = tuple[Value, Sequence[int | None]]
"""Known indices, and for each of their axes the axis of the result that it becomes, if any."""

Rows = Mapping[int, Sequence[int | None]]
"""By axis of a result: the axis of each operand that is aligned with it, None if there is none."""


class Primitives(Protocol):
    """The core operations of a rule on values; each context (lowering, discovery, ...) interprets them in its own way.

    Shapes are always those of the full value. Results have the name and dtype of the first operand.
    """

    @abstractmethod
    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """A parameter-free step on each entry, or over free axes: nodes stay, the step is appended to the via.

        Args:
            x: The activation.
            op: The name of the step.
            attributes: The attributes of the step; axes are counted from the end.
            function: The NumPy function of the step, if it is elementwise and known.

        Returns:
            The result, of the shape of `x`.
        """

    @abstractmethod
    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """An elementwise operator on operands that are broadcast against each other.

        Args:
            name: The operator.
            operands: Activations, weights and constants, at least one activation; None where one is left out.
            attributes: The attributes of the operator.

        Returns:
            The result, of the broadcast shape.
        """

    @abstractmethod
    def move(
        self,
        x: Value,
        function: DataMovement,
        shape: tuple[int, ...],
        by_shape: bool = False,
        picks: Picks | None = None,
    ) -> Value:
        """Data movement: transpose, reshape, slice, gather at known indices, and the like.

        Args:
            x: An activation, a weight or a constant.
            function: The data movement on an array of the shape of `x`; each entry of its result is one of the array.
            shape: The shape of the result.
            by_shape: Whether the function depends on shapes alone and is valid for any sizes.
            picks: Known indices of the entries that are selected, and for each axis of the indices the axis of the
                result that it becomes, if any.

        Returns:
            The result, of the same kind as `x`.
        """

    @abstractmethod
    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """Add parameter vectors, such as a bias or a scale, to an activation.

        Args:
            x: The activation.
            constants: (vector, role of its edges, axis of `x` that it lies along) each.
            op: The name of the step; the via gets one step for all vectors.
            attributes: The attributes of the step; axes are counted from the end.

        Returns:
            The result, of the shape of `x`.
        """

    @abstractmethod
    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """Contract an activation with a weight: new neurons, with one edge per element of the weight.

        Args:
            x: The activation.
            weight: The elements of the weight (see `weight`).
            spec: The axes of `x`, of the weight and of the result, as letters.
            shape: The shape of the result, over `spec.out`.
            role: The role of the edges.

        Returns:
            The result.
        """

    @abstractmethod
    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Contract two activations, as einsum does.

        Args:
            x: The left operand.
            y: The right operand.
            letters: The axes of `x`, of `y` and of the result; letters that the result lacks are summed over.
            shape: The shape of the result.

        Returns:
            The result.
        """

    @abstractmethod
    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Reduce over axes by a symmetric function such as sum, mean or max.

        Args:
            x: The activation.
            axes: The axes to reduce, non-negative.
            op: The name of the step.
            attributes: The attributes of the step; axes are counted from the end.

        Returns:
            The result, of size 1 along `axes`.
        """

    @abstractmethod
    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """An op in which each result depends on all entries along `axes`, regardless of order: softmax, normalisation.

        Args:
            x: The activation.
            axes: The axes to normalise over, non-negative.
            op: The name of the step.
            attributes: The attributes of the step; axes are counted from the end.

        Returns:
            The result, of the shape of `x`.
        """

    @abstractmethod
    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """An op whose result depends on the order of entries along `axes`; neurons along them are pinned.

        Args:
            x: The activation.
            axes: The axes whose order matters, non-negative.
            op: The name of the step.
            attributes: The attributes of the step; axes are counted from the end.
            shape: The shape of the result, which differs from that of `x` along `axes` only.
            mixed: Whether entries along the axes affect each other, rather than each only what it is paired with.

        Returns:
            The result.
        """
