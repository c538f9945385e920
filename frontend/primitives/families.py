"""Primitives of single families of operators."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...ir import EdgeRole
from .elements import Elements
from .interface import Move, Primitives, Rows
from .quantised import Packing, QuantScheme
from .recurrence import Units
from .sparse import Layer
from .storing import Aligned
from .values import Op, Value

__all__ = ["FamilyPrimitives"]


class FamilyPrimitives(Primitives, Protocol):
    """What single families of operators are lowered by beyond the nine: loops, cells, tables, trees, storage."""

    @abstractmethod
    def moved(self, x: Value, function: Move, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """The labels of an activation after its entries were moved.

        Args:
            x: The activation.
            function: See `move`.
            shape: Of the result.

        Returns:
            Factors of a value of this shape.
        """

    @abstractmethod
    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Factors of which no two vary along one axis; those that do are joined.

        Args:
            factors: Label tensors of one value.

        Returns:
            The label tensors of that value.
        """

    @abstractmethod
    def weight(self, value: Value) -> Elements:
        """The elements of a weight or of a constant that stands in the place of one.

        Args:
            value: No activation. What is computed from parameters in a way that no rule knows becomes a table of
                numbers, of which both ends are pinned; so does a constant.

        Returns:
            Its elements, in its shape.

        Raises:
            Unsupported: It depends on the input.
        """

    @abstractmethod
    def paired(self, value: Value, kernel: bool = False) -> tuple[np.ndarray, ...]:
        """The labels of a matrix of weights that starts a stream: of its rows and of its columns.

        Args:
            value: The weight.
            kernel: Whether it is the kernel of a convolution, whose rows and columns are its first two axes longer
                than 1, not its last two.

        Returns:
            The factors of the activation.
        """

    @abstractmethod
    def traced(self, op: Op) -> Value:
        """An elementwise operator on entries of one parameter, and on numbers of the program: still its elements.

        Args:
            op: The node.

        Returns:
            A weight.

        Raises:
            Unsupported: It mixes entries of several parameters.
        """

    @abstractmethod
    def stored(
        self,
        x: Value,
        sides: Sequence[Aligned],
        code: QuantScheme,
        value: str = "",
        packing: Packing | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Elements:
        """The elements of a quantised tensor: parameters whose numbers are on a grid (see `storing.store`).

        Args:
            x: The stored tensor.
            sides: Its scales and zero points, with the axes on which they lie.
            code: How stored numbers stand for numbers.
            value: The name of the value in which the model itself holds the numbers, if it does.
            packing: How several numbers are in one byte, if they are.
            shape: Of the tensor once it is unpacked.

        Returns:
            The elements.
        """

    @abstractmethod
    def as_activation(self, value: Value) -> Value:
        """A value as an activation: a weight or a constant starts a stream at new nodes.

        Args:
            value: A value of any sort.

        Returns:
            An activation in its shape; itself if it is one.
        """

    @abstractmethod
    def unused(self, value: Value, reason: str) -> None:
        """Note why elements of a weight are on no edge.

        Args:
            value: The weight.
            reason: What they are instead of parameters.
        """

    @abstractmethod
    def sparse(self, x: Value, layers: Sequence[Layer]) -> Value:
        """Single parameters and links, layer by layer, as trees have them.

        Args:
            x: An activation [rows, features].
            layers: One after the other; the first one reads `x`.

        Returns:
            The last layer, [rows, size].
        """

    @abstractmethod
    def recur(
        self,
        x: Value,
        cell: Sequence[Units],
        initial: Mapping[str, Value],
        lengths: Value | None,
        outputs: Sequence[str],
    ) -> list[Value]:
        """Run a recurrent cell over time.

        Args:
            x: An activation [time, batch, features].
            cell: The units that are made at each step, in order.
            initial: Activations [batch, size] that units are before the first step, by their names.
            lengths: How many steps each row of the batch has, [batch]; None for all.
            outputs: Names of units.

        Returns:
            For each of `outputs` what the units are at every step, [batch, size].
        """

    @abstractmethod
    def step(self, x: Value, axis: int, attributes: dict[str, Any]) -> Value:
        """The entry along an axis that an iteration of a loop reads; all iterations share their weights.

        Args:
            x: The activation.
            axis: From 0; the result lacks it.
            attributes: Of the step.

        Returns:
            One entry, which stands for all.
        """

    @abstractmethod
    def carry(self, name: str, initial: Value) -> Value:
        """What a loop carries, where an iteration begins; to be closed by `close`.

        Args:
            name: Of the carried value.
            initial: What it is before the first iteration.

        Returns:
            An activation in the shape of `initial`.
        """

    @abstractmethod
    def close(self, carry: Value, initial: Value, end: Value) -> None:
        """Say what a carried value becomes.

        Args:
            carry: Made by `carry`.
            initial: What it is before the first iteration.
            end: What each iteration makes of it.
        """

    @abstractmethod
    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = EdgeRole.EMBEDDING) -> Value:
        """Rows of a table that are picked by an activation.

        Args:
            table: Elements [V, *row].
            x: The activation that says which row.
            shape: Of the result: that of `x`, then that of a row.
            role: Of the edges.

        Returns:
            The rows.
        """

    @abstractmethod
    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        """Values one after the other: movement along an axis with labels, a join along a free one.

        Args:
            inputs: Values of any sort, of one shape but for the axis.
            axis: From 0.

        Returns:
            An activation.
        """

    @abstractmethod
    def join_all(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int],
        places: Sequence[int] = (), rows: Rows | None = None,
    ) -> Value:  # fmt: skip
        """Join several activations of unlike shapes into one.

        Args:
            inputs: The activations.
            op: The name of the step, and of the links.
            shape: Of the result.
            keep: Axis of the result -> axis of the first operand whose labels it keeps; all else is joined in order.
            places: Axes of the other operands that are positions.
            rows: Axis of the result -> axis of each operand, of whose entries every entry of the result sees its own
                alone; None for an operand that it sees whole.

        Returns:
            The result.
        """

    @abstractmethod
    def opaque_join(self, op: Op, fresh: bool = False) -> list[Value | None]:
        """Outputs of which every entry depends on all entries of all operands, in their order.

        So it is where data says what is moved, or over which axes something is done, and where there is no structure.

        Args:
            op: The node.
            fresh: Whether the outputs are drawn at random, other ones each time.

        Returns:
            The outputs, None for those that the node lacks.
        """

    @abstractmethod
    def opaque(self, op: Op, reason: str) -> list[Value | None]:
        """Give up on the structure of a node: operands are pinned and linked to one node, which feeds pinned outputs.

        Args:
            op: The node.
            reason: Why, for the report.

        Returns:
            The outputs, None for those that the node lacks.
        """
