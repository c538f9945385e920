"""The lowering context: what a rule calls; `GraphLowering`, `FeatureDiscovery` and `Entrywise` implement it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from .budget import MAX_POSITIONS
from .errors import Unsupported
from .primitives.elementwise import broadcast_shape
from .primitives.interface import DataMovement, Picks
from .primitives.labels import compress
from .primitives.movement import apply_movement
from .primitives.special import SpecialPrimitives
from .primitives.values import Op, Result, Value

__all__ = ["OPSET", "CallHandler", "LoweringContext", "OperatorCall", "elementwise_result", "reduced_shape"]

OPSET = 24
"""The default opset version of operators that rules call."""


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """A call of an operator by a rule: its explicit attributes, and how many of its outputs are wanted."""

    name: str
    domain: str
    opset: int
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int


CallHandler = Callable[["LoweringContext", OperatorCall], list[Value]]


def _no_rules(ctx: LoweringContext, called: OperatorCall) -> list[Value]:
    """The handler of a context that no interpreter has given a registry.

    Args:
        ctx: The context.
        called: The call.

    Returns:
        Nothing.

    Raises:
        Unsupported: Always.
    """
    raise Unsupported(f"this context has no registry in which to find {called.name}")


class LoweringContext(SpecialPrimitives):
    """The primitives that a rule lowers with, and operations derived from them.

    `GraphLowering` builds the graph, `FeatureDiscovery` finds what the weights tell apart, and `Entrywise` finds the
    axes of independent entries. A rule is written once and runs in each.

    Attributes:
        call_handler: Lowers the operators that rules call, by the registry of the compilation.
    """

    call_handler: CallHandler = staticmethod(_no_rules)

    def ignores(self, op: Op) -> bool:
        """Whether this context can skip a node, that is, treat it as opaque without running its rule.

        Args:
            op: The node.

        Returns:
            Whether it can.
        """
        return False

    def note_lowered(self, op: Op) -> None:
        """Called after a node has been lowered.

        Args:
            op: The node.
        """
        return

    def move(
        self,
        x: Value,
        function: DataMovement,
        shape: tuple[int, ...],
        by_shape: bool = False,
        picks: Picks | None = None,
    ) -> Value:
        """Move the numbers of a constant, the elements of a weight, or the labels of an activation.

        Args:
            x: The value.
            function: The data movement, on an array of the shape of `x`.
            shape: The shape of the result.
            by_shape: Whether the function depends on shapes alone and is valid for any sizes.
            picks: Known indices of the entries that are selected (see `Primitives.move`).

        Returns:
            The moved value.
        """
        bounded = partial(apply_movement, function, shape=shape)
        if x.data is not None:
            return replace(x, shape=shape, data=bounded(x.data))
        if not x.is_activation:
            return x.reweighted(self.weight(x).move(bounded))
        return replace(x.relabelled(self.moved(x, function, shape), shape), copy_axes=_copies(x, bounded, shape))

    def constant(self, data: np.ndarray, name: str = "") -> Value:
        """A program constant.

        Args:
            data: Its array.
            name: Its name. A constant without a name must not depend on the size of the input.

        Returns:
            The constant.
        """
        return Value(name, data.shape, str(data.dtype), data=data)

    def select(self, mask: np.ndarray, name: str, x: Value, y: Value) -> Value:
        """The entries of `x` where a known mask is true, else those of `y`, as data movement.

        Args:
            mask: The mask, broadcast to the shape of the result.
            name: Its name.
            x: An activation of the shape of the result.
            y: Another one.

        Returns:
            The selected entries.
        """
        return self.elementwise("Where", self.constant(mask, name), x, y)

    def add(self, x: Value, y: Value) -> Value:
        """`x + y`, broadcast, by the rule of Add.

        Args:
            x: An activation, a weight or a constant.
            y: Another one.

        Returns:
            The sum.
        """
        return self.call("Add", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """`x * y`, broadcast, by the rule of Mul.

        Args:
            x: An activation, a weight or a constant.
            y: Another one.

        Returns:
            The product.
        """
        return self.call("Mul", x, y)

    def call(
        self, name: str, /, *operands: Value | None, domain: str = "", opset: int = OPSET, **attributes: Any
    ) -> Value:
        """Lower another operator by its rule and return its first output.

        The rule is that of the registry of this compilation: from an overlay, a plug-in, or built in. Attributes that
        are left out have the defaults of the operator's schema, which also infers the shape of the output.

        Args:
            name: The operator.
            operands: Its operands, None where one is left out.
            domain: Its domain, "" for the standard one.
            opset: The opset version.
            attributes: Its attributes: numbers, strings, and tuples of these.

        Returns:
            The output.

        Raises:
            Unsupported: The rule does not lower this form of the operator, or there is no rule.
        """
        [made] = self.call_all(name, *operands, outputs=1, domain=domain, opset=opset, **attributes)
        return made

    def call_all(
        self, name: str, /, *operands: Value | None, outputs: int, domain: str = "", opset: int = OPSET,
        **attributes: Any,
    ) -> list[Value]:  # fmt: skip
        """Lower another operator by its rule and return several outputs (see `call`).

        Args:
            name: The operator.
            operands: Its operands, None where one is left out.
            outputs: How many outputs to return, counted from the first.
            domain: Its domain, "" for the standard one.
            opset: The opset version.
            attributes: Its attributes: numbers, strings, and tuples of these.

        Returns:
            The outputs.
        """
        return self.call_handler(self, OperatorCall(name, domain, opset, operands, attributes, outputs))

    def drawn(self, name: str, operands: Sequence[Value | None], shape: tuple[int, ...]) -> Value:
        """Random numbers, drawn anew at each evaluation.

        Args:
            name: The operator that draws them.
            operands: Its operands.
            shape: The shape of the result.

        Returns:
            An activation.
        """
        op = Op(name, "", OPSET, name, tuple(operands), (Result("", shape, "bool"),), {})
        [made] = self.opaque_join(op, fresh=True)
        assert made is not None
        return made

    def sliced(self, x: Value, part: slice, axis: int = -1) -> Value:
        """Slice a value along one axis.

        Args:
            x: An activation, a weight or a constant.
            part: The slice.
            axis: The axis; may be negative.

        Returns:
            The slice of the value, of the same kind.
        """
        where = axis % x.rank
        cut = (*[slice(None)] * where, part)
        size = len(range(*part.indices(x.shape[where])))
        return self.move(x, lambda a: a[cut], (*x.shape[:where], size, *x.shape[where + 1 :]))

    def transposed(self, x: Value, perm: Sequence[int]) -> Value:
        """Permute the axes of a value.

        Args:
            x: An activation, a weight or a constant.
            perm: The axis of `x` that each axis of the result is.

        Returns:
            The transposed value, of the same kind.
        """
        return self.move(x, lambda a: a.transpose(perm), tuple(x.shape[a] for a in perm), by_shape=True)

    def reshaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        """Reshape a value, row-major.

        Args:
            x: An activation, a weight or a constant.
            shape: The shape of the result.

        Returns:
            The reshaped value, of the same kind.
        """
        if not x.is_activation:
            return self.move(x, lambda a: a.reshape(shape), shape)
        if [n for n in x.shape if n != 1] == [n for n in shape if n != 1]:
            made = x.relabelled(tuple(_unit_axes(f, x.shape, shape) for f in x.factors), shape)
        else:
            made = x.relabelled(self.moved(x, lambda a: a.reshape(shape), shape), shape)
        return replace(made, copy_axes=_copies(x, lambda a: a.reshape(shape), shape)) if x.copy_axes else made


def elementwise_result(operands: Sequence[Value | None], factors: tuple[np.ndarray, ...]) -> Value:
    """The result of an elementwise operator.

    Args:
        operands: Its operands, None where one is left out.
        factors: The labels of the result.

    Returns:
        An activation of the broadcast shape.
    """
    given = [v for v in operands if v is not None]
    like = next((v for v in given if v.is_activation), given[0])
    return like.relabelled(factors, broadcast_shape(operands))


def reduced_shape(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """The shape after a reduction that keeps the reduced axes with size 1.

    Args:
        shape: The shape of the operand.
        axes: The reduced axes, non-negative.

    Returns:
        The shape of the result.
    """
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _unit_axes(labels: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Reshape the labels of a value that gains or loses only axes of size 1."""
    sizes = iter([n for n, size in zip(labels.shape, old, strict=True) if size != 1])
    return labels.reshape([1 if n == 1 else next(sizes) for n in new])


def _copies(x: Value, function: DataMovement, shape: tuple[int, ...]) -> frozenset[int]:
    """The axes of a moved value along which all entries are copies."""
    if not x.is_activation or (not x.copy_axes and math.prod(shape) <= math.prod(x.shape)):
        return frozenset()
    sizes = tuple(1 if a in x.copy_axes else n for a, n in enumerate(x.shape))
    if math.prod(sizes) > MAX_POSITIONS:
        return frozenset()
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    moved = compress(function(np.broadcast_to(numbers, x.shape)))
    return frozenset(a for a, n in enumerate(shape) if n > 1 and moved.shape[a] == 1)
