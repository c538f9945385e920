"""What rules are run in; `GraphLowering`, `FeatureDiscovery` and `Entrywise` make each something else of them."""

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
"""The version of the standard operators that rules call others of, if they do not say which."""


@dataclass(frozen=True, slots=True)
class OperatorCall:
    """An operator that a rule calls: its attributes without defaults, and how many of its outputs are wanted."""

    name: str
    domain: str
    opset: int
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int


CallHandler = Callable[["LoweringContext", OperatorCall], list[Value]]


def _no_rules(ctx: LoweringContext, called: OperatorCall) -> list[Value]:
    """Find no rule: what `LoweringContext.call` does before an interpreter says where rules are found.

    Args:
        ctx: The context.
        called: What is called.

    Returns:
        Nothing.

    Raises:
        Unsupported: Always.
    """
    raise Unsupported(f"there are no rules in which {called.name} is found")


class LoweringContext(SpecialPrimitives):
    """What a rule lowers with: the primitives, and what is derived from them.

    `GraphLowering` builds the graph, `FeatureDiscovery` finds what the weights tell apart, and `Entrywise` finds the
    axes of independent entries. A rule is written once and runs in each.

    Attributes:
        call_handler: Lowers the operators that rules call, by the registry of the compilation.
    """

    call_handler: CallHandler = staticmethod(_no_rules)

    def ignores(self, op: Op) -> bool:
        """Whether what a node does makes no difference in this context, so that it may count as opaque.

        Args:
            op: The node.

        Returns:
            Whether its rule need not be run.
        """
        return False

    def note_lowered(self, op: Op) -> None:
        """Note that a node has been lowered.

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
            x: See `Primitives.move`, as for all that follows.
            function: How entries are moved.
            shape: Of the result.
            by_shape: Whether shapes alone say how.
            picks: Known indices that say how.

        Returns:
            The moved value.
        """
        bounded = partial(apply_movement, function, shape=shape)
        if x.data is not None:
            return replace(x, shape=shape, data=bounded(x.data))
        if not x.is_activation:
            return x.reweighted(self.weight(x).move(bounded))
        return replace(x.relabelled(self.moved(x, function, shape), shape), same=_copies(x, bounded, shape))

    def constant(self, data: np.ndarray, name: str = "") -> Value:
        """A constant of the program.

        Args:
            data: Its numbers.
            name: Of the value. One without a name is taken to hold the same for inputs of any size.

        Returns:
            The constant.
        """
        return Value(name, data.shape, str(data.dtype), data=data)

    def add(self, x: Value, y: Value) -> Value:
        """`x + y`, broadcast, by the rule of Add.

        Args:
            x: A value of any sort.
            y: Another one.

        Returns:
            The sum.
        """
        return self.call("Add", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """`x * y`, broadcast, by the rule of Mul.

        Args:
            x: A value of any sort.
            y: Another one.

        Returns:
            The product.
        """
        return self.call("Mul", x, y)

    def call(
        self, name: str, /, *operands: Value | None, domain: str = "", opset: int = OPSET, **attributes: Any
    ) -> Value:
        """The first output of another operator, lowered by its rule.

        That is the rule of the registry that the compilation uses: of an overlay, of a plug-in, or a built-in one.
        Attributes that are left out have the defaults of the operator's schema, which also says the output's shape.

        Args:
            name: The operator.
            operands: Its operands, None where one is left out.
            domain: Its domain, "" for the standard one.
            opset: The version of the operator set.
            attributes: Numbers, text, and tuples of these.

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
        """Several outputs of another operator, lowered by its rule: see `call`.

        Args:
            name: The operator.
            operands: Its operands, None where one is left out.
            outputs: How many of its outputs, from the first one.
            domain: Its domain, "" for the standard one.
            opset: The version of the operator set.
            attributes: Numbers, text, and tuples of these.

        Returns:
            The outputs.
        """
        return self.call_handler(self, OperatorCall(name, domain, opset, operands, attributes, outputs))

    def drawn(self, name: str, operands: Sequence[Value | None], shape: tuple[int, ...]) -> Value:
        """Random numbers, other ones each time.

        Args:
            name: The operator that draws them.
            operands: Its settings.
            shape: Of the numbers.

        Returns:
            An activation.
        """
        op = Op(name, "", OPSET, name, tuple(operands), (Result("", shape, "bool"),), {})
        [made] = self.opaque_join(op, fresh=True)
        assert made is not None
        return made

    def sliced(self, x: Value, part: slice, axis: int = -1) -> Value:
        """A part of a value along one axis.

        Args:
            x: A value of any sort, which the result is too.
            part: Which entries.
            axis: From 0, or from the end.

        Returns:
            The part.
        """
        where = axis % x.rank
        cut = (*[slice(None)] * where, part)
        size = len(range(*part.indices(x.shape[where])))
        return self.move(x, lambda a: a[cut], (*x.shape[:where], size, *x.shape[where + 1 :]))

    def transposed(self, x: Value, perm: Sequence[int]) -> Value:
        """A value with its axes in another order.

        Args:
            x: A value of any sort, which the result is too.
            perm: For each axis of the result that of `x`.

        Returns:
            The transposed value.
        """
        return self.move(x, lambda a: a.transpose(perm), tuple(x.shape[a] for a in perm), by_shape=True)

    def reshaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        """A value in another shape, row-major.

        Args:
            x: A value of any sort, which the result is too.
            shape: Of the result.

        Returns:
            The reshaped value.
        """
        if not x.is_activation:
            return self.move(x, lambda a: a.reshape(shape), shape)
        if [n for n in x.shape if n != 1] == [n for n in shape if n != 1]:
            return x.relabelled(tuple(_unit_axes(f, x.shape, shape) for f in x.factors), shape)
        return x.relabelled(self.moved(x, lambda a: a.reshape(shape), shape), shape)


def elementwise_result(operands: Sequence[Value | None], factors: tuple[np.ndarray, ...]) -> Value:
    """What an elementwise operator makes of its operands.

    Args:
        operands: As it has them.
        factors: The labels of the result.

    Returns:
        An activation in the shape that all operands are broadcast to.
    """
    given = [v for v in operands if v is not None]
    like = next((v for v in given if v.is_activation), given[0])
    return like.relabelled(factors, broadcast_shape(operands))


def reduced_shape(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """A shape with size 1 along axes.

    Args:
        shape: Of what is reduced.
        axes: From 0.

    Returns:
        The shape of the result.
    """
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _unit_axes(labels: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Labels of a value whose shape changes by axes of size 1 only."""
    sizes = iter([n for n, size in zip(labels.shape, old, strict=True) if size != 1])
    return labels.reshape([1 if n == 1 else next(sizes) for n in new])


def _copies(x: Value, function: DataMovement, shape: tuple[int, ...]) -> frozenset[int]:
    """Axes of a moved value along which all entries are copies."""
    if not x.is_activation or (not x.same and math.prod(shape) <= math.prod(x.shape)):
        return frozenset()
    sizes = tuple(1 if a in x.same else n for a, n in enumerate(x.shape))
    if math.prod(sizes) > MAX_POSITIONS:
        return frozenset()
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    moved = compress(function(np.broadcast_to(numbers, x.shape)))
    return frozenset(a for a, n in enumerate(shape) if n > 1 and moved.shape[a] == 1)
