"""The common base of contexts that propagate labels through the network without building a graph."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from .context import LoweringContext
from .errors import Unsupported
from .primitives.elements import Arena, Elements
from .primitives.labels import unlabelled
from .primitives.quantised import Packing, QuantScheme
from .primitives.storage import QuantOperand
from .primitives.values import Op, Value

__all__ = ["Tracing"]


class Tracing(LoweringContext):
    """Propagates labels through the network without building a graph."""

    def weight(self, value: Value) -> Elements:
        """Elements of the constant; those of a computed one are placeholders."""
        if value.elements is not None:
            return value.elements
        return Arena({value.name: math.prod(value.shape)}).tensor(value.name, value.shape)

    def stored(
        self,
        x: Value,
        quant_params: Sequence[QuantOperand],
        scheme: QuantScheme,
        value: str = "",
        packing: Packing | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Elements:
        """The stored elements."""
        assert x.elements is not None
        return x.elements if shape is None else Arena({x.name: math.prod(shape)}).tensor(x.name, shape)

    def quantised(
        self, x: Value, quant_params: Sequence[QuantOperand] | None, attributes: Mapping[str, object]
    ) -> Elements:
        """The same elements."""
        assert x.elements is not None
        return x.elements

    def traced(self, op: Op) -> Value:
        """The elements of the first parameter, broadcast; the function of them does not matter here."""
        elements = next((v.elements for v in op.inputs if v is not None and v.elements is not None), None)
        if elements is None:
            raise Unsupported("it is not computed from parameters")
        shape = op.shape()
        lead = (1,) * (len(shape) - len(elements.shape))
        broadcast = elements.move(lambda a: np.broadcast_to(a.reshape(lead + a.shape), shape))
        return Value(op.output(), shape, op.dtype(), elements=broadcast)

    def unused(self, value: Value, reason: str) -> None:
        """There is no account to record it in."""

    def opaque_join(self, op: Op, fresh: bool = False) -> list[Value | None]:
        """Like an opaque operator."""
        return self.opaque(op, "")

    def opaque(self, op: Op, reason: str) -> list[Value | None]:
        """Outputs without labels; `mixed` handles the operands."""
        self.mixed(op)
        shapes = [() if r is None or r.shape is None else r.shape for r in op.results]
        return [
            None if r is None else Value(r.name, shape, r.dtype, (unlabelled(len(shape)),))
            for r, shape in zip(op.results, shapes, strict=True)
        ]

    def unary(self, x: Value, op: str, attributes: dict[str, Any], function: Callable[..., Any] | None = None) -> Value:
        """Labels stay."""
        return x

    def normalize_over(self, x: Value, axes: Sequence[int], op: str, attributes: dict[str, Any]) -> Value:
        """Labels stay."""
        return x

    @abstractmethod
    def mixed(self, op: Op) -> None:
        """Every entry of the outputs may depend on all operands."""
