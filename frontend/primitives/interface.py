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

__all__ = ["Move", "Picks", "Primitives", "Rows"]

Move = Callable[[np.ndarray], np.ndarray]
Picks = tuple[Value, Sequence[int | None]]
Rows = Mapping[int, Sequence[int | None]]


class Primitives(Protocol):
    """The core operations of a rule on values; each context (lowering, discovery, ...) interprets them in its own way.

    Shapes are always those of the full value. Results have the name and dtype of the first operand.
    """

    @abstractmethod
    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """A step on each entry by itself, or over free axes, without parameters: labels stay, the via grows.

        Args:
            x: The activation.
            op: The name of the step.
            attributes: Of the step; axes among them are counted from the end.
            function: What the step does to an array, where it is elementwise and known.

        Returns:
            The result, in the shape of `x`.
        """

    @abstractmethod
    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """A function of one entry of each operand, all broadcast against each other.

        Args:
            name: The name of the step.
            operands: Values of any sort, at least one of them an activation; None where one is left out.
            attributes: Of the step.

        Returns:
            The result, in the shape that all operands are broadcast to.
        """

    @abstractmethod
    def move(
        self, x: Value, function: Move, shape: tuple[int, ...], by_shape: bool = False, picks: Picks | None = None
    ) -> Value:
        """The entries of `x` in other places, as `function` moves those of an array; nothing else is done to them.

        Args:
            x: A value of any sort, which the result is too.
            function: Of an array in the shape of `x`; it gives one of shape `shape`, whose entries are some of its own.
            shape: Of the result.
            by_shape: Whether the function follows from the shapes alone, whatever the sizes are.
            picks: Known indices that say which entries are taken, and for each of their axes the axis of the result
                along which they go, if any.

        Returns:
            The moved value.
        """

    @abstractmethod
    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """Attach vectors of parameters to an activation, as a bias or a scale is.

        Args:
            x: The activation.
            constants: For each vector itself, the role of its edges, and the axis of `x` along which it lies.
            op: The name of the step, which enters the via once, with all vectors.
            attributes: Of the step; axes among them are counted from the end.

        Returns:
            The result, in the shape of `x`.
        """

    @abstractmethod
    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """A weight multiplies an activation, and the products are summed: new neurons, with an edge for each element.

        Args:
            x: The activation.
            weight: The elements of the weight (see `weight`).
            spec: The axes of `x`, of the weight and of the result, as letters.
            shape: Of the result, over the letters of `spec.out`.
            role: Of the edges.

        Returns:
            The result.
        """

    @abstractmethod
    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Two activations are multiplied, and the products are summed.

        Args:
            x: The left activation.
            y: The right one.
            letters: Of the axes of `x`, of `y` and of the result; those that the result lacks are summed.
            shape: Of the result.

        Returns:
            The result.
        """

    @abstractmethod
    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """A symmetric reduction along axes, such as a sum, a mean or a maximum.

        Args:
            x: The activation.
            axes: Those that are reduced, from 0.
            op: The name of the step.
            attributes: Of the step; axes among them are counted from the end.

        Returns:
            The result, of size 1 along `axes`.
        """

    @abstractmethod
    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Each entry is changed by all entries along axes, whatever their order is, as softmax and norms do.

        Args:
            x: The activation.
            axes: Those along which entries take part in each result, from 0.
            op: The name of the step.
            attributes: Of the step; axes among them are counted from the end.

        Returns:
            The result, in the shape of `x`.
        """

    @abstractmethod
    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """A result that depends on the order of the entries along axes: neurons along them are pinned.

        Args:
            x: The activation.
            axes: Those whose order matters, from 0.
            op: The name of the step.
            attributes: Of the step; axes among them are counted from the end.
            shape: Of the result, which may differ along `axes` alone.
            mixed: Whether entries along the axes have to do with each other, not each with what it meets alone.

        Returns:
            The result.
        """
