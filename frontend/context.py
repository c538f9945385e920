"""What rules are run in; `GraphLowering`, `FeatureDiscovery` and `Entrywise` make each something else of them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..ir import EdgeRole
from .budget import PLACES
from .errors import Unsupported
from .primitives.elements import Elements
from .primitives.elementwise import broadcast_shape
from .primitives.interface import Move, Picks, Primitives
from .primitives.labels import compress
from .primitives.moving import carried
from .primitives.quantised import Packing, QuantScheme
from .primitives.recurrence import Units
from .primitives.sparse import Layer
from .primitives.storing import Aligned
from .primitives.values import Op, Result, Value

__all__ = ["OPSET", "Called", "Calls", "LoweringContext", "Rows", "reduced", "result_of"]

Rows = Mapping[int, Sequence[int | None]]
OPSET = 24
"""The version of the standard operators that rules call others of, if they do not say which."""


@dataclass(frozen=True, slots=True)
class Called:
    """An operator that a rule calls: its attributes without defaults, and how many of its outputs are wanted."""

    name: str
    domain: str
    opset: int
    operands: tuple[Value | None, ...]
    attributes: Mapping[str, Any]
    outputs: int


Calls = Callable[["LoweringContext", Called], list[Value]]


def _nothing(ctx: LoweringContext, called: Called) -> list[Value]:
    raise Unsupported(f"there are no rules in which {called.name} is found")


class LoweringContext(Primitives):
    """What rules are run in: the primitives, what follows from them, and what single families of operators need.

    calls: lowers another operator, for `call`; the interpreter puts in what knows the rules of the compilation.
    """

    calls: Calls = staticmethod(_nothing)

    def ignores(self, op: Op) -> bool:
        """Whether what the op does makes no difference here: it is taken for opaque."""
        return False

    def settled(self, op: Op) -> None:
        """All of the op has been lowered."""
        return

    def move(
        self, x: Value, function: Move, shape: tuple[int, ...], by_shape: bool = False, picks: Picks | None = None
    ) -> Value:
        """See `Primitives.move`: a constant has its numbers or elements moved, an activation its labels."""
        bounded = partial(carried, function, shape=shape)
        if x.data is not None:
            return replace(x, shape=shape, data=bounded(x.data))
        if not x.is_activation:
            return x.reweighted(self.weight(x).move(bounded))
        return replace(x.relabelled(self.moved(x, function, shape), shape), same=_copies(x, bounded, shape))

    def constant(self, data: np.ndarray, name: str = "") -> Value:
        """Numbers of the program; without a name, they are taken to be the same for inputs of any size."""
        return Value(name, data.shape, str(data.dtype), data=data)

    def add(self, x: Value, y: Value) -> Value:
        """`x + y`, broadcast, by the rule of Add."""
        return self.call("Add", x, y)

    def mul(self, x: Value, y: Value) -> Value:
        """`x * y`, broadcast, by the rule of Mul."""
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

        Raises:
            Unsupported: The rule does not lower this form of the operator, or there is no rule.
        """
        [made] = self.call_all(name, *operands, outputs=1, domain=domain, opset=opset, **attributes)
        return made

    def call_all(
        self, name: str, /, *operands: Value | None, outputs: int, domain: str = "", opset: int = OPSET,
        **attributes: Any,
    ) -> list[Value]:  # fmt: skip
        """The first `outputs` outputs of another operator: see `call`."""
        return self.calls(self, Called(name, domain, opset, operands, attributes, outputs))

    def drawn(self, name: str, operands: Sequence[Value | None], shape: tuple[int, ...]) -> Value:
        """Random numbers of this shape, of a distribution with these settings: other ones each time."""
        op = Op(name, "", OPSET, name, tuple(operands), (Result("", shape, "bool"),), {})
        [made] = self.opaque_join(op, fresh=True)
        assert made is not None
        return made

    def sliced(self, x: Value, part: slice, axis: int = -1) -> Value:
        """A part of `x`, constant or not, along one axis."""
        where = axis % x.rank
        cut = (*[slice(None)] * where, part)
        size = len(range(*part.indices(x.shape[where])))
        return self.move(x, lambda a: a[cut], (*x.shape[:where], size, *x.shape[where + 1 :]))

    def transposed(self, x: Value, perm: Sequence[int]) -> Value:
        """`x`, constant or not, with its axes in another order."""
        return self.move(x, lambda a: a.transpose(perm), tuple(x.shape[a] for a in perm), by_shape=True)

    def reshaped(self, x: Value, shape: tuple[int, ...]) -> Value:
        """`x`, constant or not, in another shape (row-major)."""
        if not x.is_activation:
            return self.move(x, lambda a: a.reshape(shape), shape)
        if [n for n in x.shape if n != 1] == [n for n in shape if n != 1]:
            return x.relabelled(tuple(_unit_axes(f, x.shape, shape) for f in x.factors), shape)
        return x.relabelled(self.moved(x, lambda a: a.reshape(shape), shape), shape)

    @abstractmethod
    def moved(self, x: Value, function: Move, shape: tuple[int, ...]) -> tuple[np.ndarray, ...]:
        """Factors of an activation after data movement to `shape`."""

    @abstractmethod
    def independent(self, factors: Sequence[np.ndarray]) -> tuple[np.ndarray, ...]:
        """Factors of which no two vary along one axis."""

    @abstractmethod
    def weight(self, value: Value) -> Elements:
        """The elements of a constant in a weight slot.

        One that is computed in a way that no rule knows becomes a table of numbers, of which both ends are pinned.
        """

    @abstractmethod
    def paired(self, value: Value, kernel: bool = False) -> tuple[np.ndarray, ...]:
        """Factors of a matrix of weights that starts a stream: of its rows and of its columns.

        They are its last two axes longer than 1, or its first two if it is the kernel of a convolution.
        """

    @abstractmethod
    def traced(self, op: Op) -> Value:
        """An elementwise operator on entries of one parameter, and on numbers of the program: still its elements.

        Raises `Unsupported` where it mixes entries of several.
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
        """The elements of a quantised tensor: parameters whose numbers are on a grid (see `storing.store`)."""

    @abstractmethod
    def as_activation(self, value: Value) -> Value:
        """A value for a data slot: a constant becomes a stream that starts at new nodes."""

    @abstractmethod
    def unused(self, value: Value, reason: str) -> None:
        """Elements of a constant that get no edge are no parameters, for this reason."""

    @abstractmethod
    def sparse(self, x: Value, layers: Sequence[Layer]) -> Value:
        """Layers of single parameters and links over `x` [rows, features]; [rows, size] of the last of them."""

    @abstractmethod
    def recur(
        self,
        x: Value,
        cell: Sequence[Units],
        initial: Mapping[str, Value],
        lengths: Value | None,
        outputs: Sequence[str],
    ) -> list[Value]:
        """Run a cell over `x` [time, batch, features]; [batch, size] of the units named in `outputs`, at every step.

        initial: activations [batch, size] that units are before the first step. lengths: how many steps there are.
        """

    @abstractmethod
    def step(self, x: Value, axis: int, attributes: dict[str, Any]) -> Value:
        """The entry along an axis (which goes) that an iteration of a loop reads; all iterations share the weights."""

    @abstractmethod
    def carry(self, name: str, initial: Value) -> Value:
        """What a loop carries, where an iteration begins: a value of the shape of `initial`, closed by `close`."""

    @abstractmethod
    def close(self, carry: Value, initial: Value, end: Value) -> None:
        """What is carried is `initial` before the first iteration, and after each one what that made: `end`."""

    @abstractmethod
    def gather_rows(self, table: Elements, x: Value, shape: tuple[int, ...], role: str = EdgeRole.EMBEDDING) -> Value:
        """Rows of a table [V, *row] picked by the activation `x`: shape is x.shape + row."""

    @abstractmethod
    def concat(self, inputs: Sequence[Value], axis: int) -> Value:
        """Concatenation: movement along a labelled axis, a join along a free one."""

    @abstractmethod
    def join_all(
        self, inputs: Sequence[Value], op: str, shape: tuple[int, ...], keep: dict[int, int],
        places: Sequence[int] = (), rows: Rows | None = None,
    ) -> Value:  # fmt: skip
        """Join several activations of unlike shapes into one.

        keep: output axis -> axis of the first operand whose labels it keeps; everything else is joined in order.
        places: axes of the other operands that are positions. rows: output axis -> axis of each operand, of whose
        entries every entry of the output sees its own alone; None for an operand that it sees whole.
        """

    @abstractmethod
    def opaque_join(self, op: Op, fresh: bool = False) -> list[Value | None]:
        """Every entry of the outputs depends on all entries of all operands, in their order.

        What is moved, or over which axes something is done, is data; or the operator has no other structure.
        fresh: the outputs are drawn at random, other ones each time.
        """

    @abstractmethod
    def opaque(self, op: Op, reason: str) -> list[Value | None]:
        """Give up on the structure of `op`: operands pinned, fresh pinned outputs, links through one node."""


def result_of(operands: Sequence[Value | None], factors: tuple[np.ndarray, ...]) -> Value:
    """What an elementwise operator makes of its operands: these factors, in the shape that all are broadcast to."""
    given = [v for v in operands if v is not None]
    like = next((v for v in given if v.is_activation), given[0])
    return like.relabelled(factors, broadcast_shape(operands))


def reduced(shape: tuple[int, ...], axes: Sequence[int]) -> tuple[int, ...]:
    """A shape with size 1 along `axes`."""
    return tuple(1 if a in axes else n for a, n in enumerate(shape))


def _unit_axes(labels: np.ndarray, old: tuple[int, ...], new: tuple[int, ...]) -> np.ndarray:
    """Labels of a value whose shape changes by axes of size 1 only."""
    sizes = iter([n for n, size in zip(labels.shape, old, strict=True) if size != 1])
    return labels.reshape([1 if n == 1 else next(sizes) for n in new])


def _copies(x: Value, function: Move, shape: tuple[int, ...]) -> frozenset[int]:
    """Axes of a moved value along which all entries are copies."""
    if not x.is_activation or (not x.same and math.prod(shape) <= math.prod(x.shape)):
        return frozenset()
    sizes = tuple(1 if a in x.same else n for a, n in enumerate(x.shape))
    if math.prod(sizes) > PLACES:
        return frozenset()
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    moved = compress(function(np.broadcast_to(numbers, x.shape)))
    return frozenset(a for a, n in enumerate(shape) if n > 1 and moved.shape[a] == 1)
