"""Primitives for particular operator families."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from ...ir import EdgeRole
from .elements import Elements
from .interface import DataMovement, Primitives, Rows
from .quantised import Packing, QuantScheme
from .recurrence import Units
from .sparse import SparseLayer
from .storage import QuantOperand
from .values import Op, Value

__all__ = ["SpecialPrimitives"]


class SpecialPrimitives(Primitives, Protocol):
    """Primitives beyond the nine, for particular operator families: loops, cells, tables, trees, quantised storage."""

    @abstractmethod
    def moved(self, x: Value, function: DataMovement, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """The labels of an activation after data movement.

        Args:
            x: The activation.
            function: The data movement, see `move`.
            shape: The shape of the result.

        Returns:
            The factors of the result.
        """

    @abstractmethod
    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Make factors independent: those that vary along a common axis are joined.

        Args:
            factors: The label tensors of a value.

        Returns:
            Label tensors of the value, no two of which vary along one axis.
        """

    @abstractmethod
    def weight(self, value: Value) -> Elements:
        """The elements of a weight, or of a constant that is used as one.

        Args:
            value: A weight or a constant. A program constant becomes a table of the graph; so does a constant that is
                computed from parameters in a way that no rule knows, and both ends of its edges are pinned.

        Returns:
            Its elements, in its shape.

        Raises:
            Unsupported: The value depends on the input.
        """

    @abstractmethod
    def paired(self, value: Value, groups: int = 0) -> tuple[np.ndarray, ...]:
        """The labels of a weight matrix that is lowered like an activation: those of its rows and of its columns.

        Args:
            value: The weight.
            groups: If it is the kernel of a convolution, in how many groups. Its rows and columns are its first two
                axes longer than 1, rather than its last two, and each group has rows of its own.

        Returns:
            The factors of the activation.
        """

    @abstractmethod
    def traced(self, op: Op) -> Value:
        """An elementwise operator each result of which is a function of one parameter element and program constants.

        Args:
            op: The node.

        Returns:
            A weight.

        Raises:
            Unsupported: A result depends on several parameter elements.
        """

    @abstractmethod
    def stored(
        self,
        x: Value,
        quant_params: Sequence[QuantOperand],
        scheme: QuantScheme,
        value: str = "",
        packing: Packing | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Elements:
        """The elements of a quantised tensor (see `storage.store`).

        Args:
            x: The stored tensor.
            quant_params: Its scales and zero points, and the axes they are aligned with.
            scheme: The scheme that maps stored elements to values.
            value: The ONNX value that has the dequantised values, "" if there is none.
            packing: How elements are packed into bytes; None if they are not.
            shape: The shape of the unpacked tensor.

        Returns:
            The elements.
        """

    @abstractmethod
    def quantised(
        self, x: Value, quant_params: Sequence[QuantOperand] | None, attributes: Mapping[str, object]
    ) -> Elements:
        """The elements of a float tensor that the model rounds to a grid (see `storage.quantise`).

        Args:
            x: The tensor, or a function of its elements.
            quant_params: Scale and zero point; None if they follow from the range of the whole tensor.
            attributes: What else the rounding depends on, such as the type of the integers.

        Returns:
            The elements.
        """

    @abstractmethod
    def as_activation(self, value: Value) -> Value:
        """Convert a value to an activation; weights and constants get new nodes.

        Args:
            value: An activation, a weight or a constant.

        Returns:
            An activation of its shape; the value itself if it is one.
        """

    @abstractmethod
    def unused(self, value: Value, reason: str) -> None:
        """Record in the account why elements of a weight have no edge.

        Args:
            value: The weight.
            reason: The kind of the account's entry.
        """

    @abstractmethod
    def sparse(self, x: Value, layers: Sequence[SparseLayer]) -> Value:
        """Layers with individual parameter edges and links, such as those of decision trees.

        Args:
            x: An activation [rows, features].
            layers: The layers in order; each may read `x` and earlier layers.

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
            cell: The groups of units of the cell, in order.
            initial: Initial states by group, activations [batch, size].
            lengths: The sequence length of each row of the batch, [batch]; None for full length.
            outputs: The groups to return.

        Returns:
            Each output at a time step, [batch, size]; time is a free axis.
        """

    @abstractmethod
    def step(self, x: Value, axis: int, attributes: dict[str, Any]) -> Value:
        """The entry along an axis that one iteration of a loop reads; it represents those of all iterations.

        Args:
            x: The activation.
            axis: The axis, non-negative; the result lacks it.
            attributes: The attributes of the step.

        Returns:
            The entry.
        """

    @abstractmethod
    def carry(self, name: str, initial: Value) -> Value:
        """A loop-carried value at the start of an iteration; `close` must be called for it.

        Args:
            name: The name of the carried value.
            initial: Its initial value.

        Returns:
            An activation of the shape of `initial`.
        """

    @abstractmethod
    def close(self, carry: Value, initial: Value, end: Value) -> None:
        """Close the cycle of a loop-carried value.

        Args:
            carry: The result of `carry`.
            initial: The initial value.
            end: The value at the end of an iteration.
        """

    @abstractmethod
    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = EdgeRole.EMBEDDING) -> Value:
        """Gather rows of a table at computed indices, as an embedding does.

        Args:
            table: Elements [V, *row].
            x: The indices, an activation.
            shape: The shape of the result: that of `x`, then that of a row.
            role: The role of the edges.

        Returns:
            The rows.
        """

    @abstractmethod
    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        """Concatenate values: data movement along a labelled axis, a join along a free one.

        Args:
            inputs: Activations, weights and constants, of one shape except along the axis.
            axis: The axis, non-negative.

        Returns:
            An activation.
        """

    @abstractmethod
    def join_all(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int],
        places: Sequence[int] = (), rows: Rows | None = None,
    ) -> Value:  # fmt: skip
        """Join activations of different shapes.

        Args:
            inputs: The activations.
            op: The name of the step and the role of the links.
            shape: The shape of the result.
            keep: Maps axes of the result to axes of the first operand whose labels they keep; all others are joined.
            places: Axes of the other operands that are positions.
            rows: Maps axes of the result to the axis of each operand that is aligned with it, such that an entry only
                depends on the entry at the same index; None for an operand that it depends on as a whole.

        Returns:
            The result.
        """

    @abstractmethod
    def opaque_join(self, op: Op, fresh: bool = False) -> list[Value | None]:
        """Outputs each entry of which may depend on all entries of all operands, in order.

        For data movement and axes that depend on data, and for operators without structure.

        Args:
            op: The node.
            fresh: Whether the outputs are random, and different at each evaluation.

        Returns:
            The outputs, None where one is left out.
        """

    @abstractmethod
    def opaque(self, op: Op, reason: str) -> list[Value | None]:
        """Lower a node without known structure: operands are pinned and linked to one node, which feeds pinned outputs.

        Args:
            op: The node.
            reason: Why, for the report.

        Returns:
            The outputs, None where one is left out.
        """
