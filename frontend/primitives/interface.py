"""The nine core primitives of lowering, from which the others are derived."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import numpy as np

from ...ir import EdgeRole
from .contraction import Spec
from .elements import Elements
from .values import Value

__all__ = ["Move", "Picks", "Primitives"]

Move = Callable[[np.ndarray], np.ndarray]
Picks = tuple[Value, Sequence[int | None]]


class Primitives(Protocol):
    """The core operations of a rule on values; each context (lowering, discovery, ...) interprets them in its own way.

    Shapes are always those of the full value. Results have the name and dtype of the first operand.
    """

    @abstractmethod
    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """A parameter-free step on each entry (or over free axes): nodes stay, the step is appended to the via.

        Args:
            x: The operand.
            op: The name of the step.
            attributes: Its attributes; axes are counted from the end.
            function: The function of one array, if the step is elementwise and known.
        """

    @abstractmethod
    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """An elementwise operator on activations and constants, broadcast against each other."""

    @abstractmethod
    def move(
        self, x: Value, function: Move, shape: tuple[int, ...], by_shape: bool = False, picks: Picks | None = None
    ) -> Value:
        """Move the entries of an activation or a constant.

        Args:
            x: The operand.
            function: The data movement on an array of its shape.
            shape: The shape of the result.
            by_shape: Whether the function depends on shapes alone and is valid for any sizes.
            picks: Known indices of the entries that are selected, and for each axis of the indices the axis of the
                result that it becomes, if any.
        """

    @abstractmethod
    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """Add vectors to `x`: (constant, role, axis of x) each; the via gets one step `op` for all of them."""

    @abstractmethod
    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """Contract `x` with a weight; `shape` is over the letters of `spec.out`."""

    @abstractmethod
    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Multiply two activations and sum over the letters that the result lacks."""

    @abstractmethod
    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Reduce over `axes`, regardless of order; they keep size 1."""

    @abstractmethod
    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """A shape-preserving op in which each result depends on all entries along `axes` (softmax, normalisation)."""

    @abstractmethod
    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """An op whose result depends on the order along `axes`; axes in the attributes are counted from the end.

        `mixed` says whether entries along the axes affect each other, rather than only what each is paired with.
        """
