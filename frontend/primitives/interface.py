"""The nine primitives that an operator without parts of its own is lowered by."""

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
    """What a rule makes of values; each context that rules run in makes something else of it.

    Shapes are always those of the full value. What a primitive returns has the name and the dtype of its first operand.
    """

    @abstractmethod
    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """A parameter-free step on each entry by itself (or over free axes): labels stay, the via grows.

        Axes in the attributes are counted from the end.

        function: of one array, where the step is elementwise and known.
        """

    @abstractmethod
    def elementwise(self, name: str, /, *operands: Value | None, **attributes: Any) -> Value:
        """A function of one entry of each operand, activation or constant, all broadcast against each other."""

    @abstractmethod
    def move(
        self, x: Value, function: Move, shape: tuple[int, ...], by_shape: bool = False, picks: Picks | None = None
    ) -> Value:
        """`x`, constant or not, with its entries moved as `function` moves those of an array, to `shape`.

        by_shape: the function follows from the shapes alone, whatever the sizes are. picks: known indices that say
        which entries are taken, and for each of their axes the axis of the result along which they go, if any.
        """

    @abstractmethod
    def add_parameters(
        self, x: Value, constants: Sequence[tuple[Value, str, int]], op: str, attributes: dict[str, Any]
    ) -> Value:
        """Attach vectors to `x`: (constant, role, axis of x) each; the step `op` enters the via once, with them all."""

    @abstractmethod
    def contract(
        self, x: Value, weight: Elements, spec: Spec, shape: tuple[int, ...], role: str = EdgeRole.WEIGHT
    ) -> Value:
        """A weight multiplies `x` and sums; `shape` is over the letters of `spec.out`."""

    @abstractmethod
    def product_sum(self, x: Value, y: Value, letters: tuple[str, str, str], shape: tuple[int, ...]) -> Value:
        """Two activations are multiplied and summed over the letters that the result lacks."""

    @abstractmethod
    def reduce(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """A symmetric reduction over `axes`, which keep size 1."""

    @abstractmethod
    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """All entries along `axes` take part in each result (softmax, normalisation); the shape stays."""

    @abstractmethod
    def order(
        self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any], shape: tuple[int, ...],
        mixed: bool = True,
    ) -> Value:  # fmt: skip
        """An op whose result depends on the order along `axes`; those in the attributes are counted from the end.

        mixed: whether entries along the axes have to do with each other, not each with what it meets alone.
        """
