"""Traces: the function of its stored element that an edge carries (`Softplus(w)`, `1 + w`, `mask * w`)."""

from __future__ import annotations

from ...ir import GraphBuilder
from ...ir.printer import via_text
from .functions import Function, FunctionVias
from .quantised import QuantEncoding

__all__ = ["Traces"]

_LONG = 1000
_LINEAR = {"Scale", "Neg", "Mul", "Div"}


class Traces:
    """Chains of elementwise steps on elements, numbered like vias; 0 is the element itself.

    A step that takes tables has the attribute `tables`: their indices in `Elements.tables`.
    """

    def __init__(self) -> None:
        self._builder = GraphBuilder()
        self._functions = FunctionVias(self._builder)
        self._encodings: dict[tuple[int, str], QuantEncoding] = {}

    def step(self, traces: tuple[int, ...], function: Function | None, op: str, attributes: dict[str, object]) -> int:
        """Append a step on functions of one element; arguments as for `FunctionVias.step`."""
        return self._functions.step(traces, function, op, attributes)

    def encoded(self, trace: int, op: str, name: str, encoding: QuantEncoding, number: int = 0) -> int:
        """Append a step that quantises or dequantises a tensor.

        Args:
            trace: The function of its elements so far.
            op: The name of the step.
            name: The tensor.
            encoding: All scales and zero points that its values depend on after the step.
            number: The number of the step; a greater one if it has another encoding elsewhere.

        Returns:
            The new trace.
        """
        while True:
            items = {**encoding.marks, **({"number": number} if number else {})}
            new = self._builder.via(op, items.items(), (trace,))
            if self._encodings.setdefault((new, name), encoding).same(encoding):
                return new
            number += 1

    def encoding(self, trace: int, name: str) -> QuantEncoding | None:
        """The encoding that the last such step gives to elements of a tensor; None if it is the parameter's own."""
        while trace and (trace, name) not in self._encodings:
            trace = self._builder.vias[trace].parents[0]
        return self._encodings.get((trace, name))

    def depth(self, trace: int) -> int:
        """The number of steps of a chain."""
        return 1 + self.depth(self._builder.vias[trace].parents[0]) if trace else 0

    def text(self, trace: int) -> str:
        """The function as text, unique per function."""
        text = via_text(self._builder, trace)
        return text if len(text) < _LONG else f"{text} ({trace})"

    def tables(self, trace: int) -> tuple[int, ...]:
        """The indices of the tables that the function takes."""
        entry = self._builder.vias[trace]
        own = dict(entry.attributes).get("tables", ())
        assert isinstance(own, tuple)
        return tuple(sorted({*own, *(t for p in entry.parents if trace for t in self.tables(p))}))

    def linear(self, trace: int) -> bool:
        """Whether the function multiplies the element by a number."""
        while trace:
            entry = self._builder.vias[trace]
            if entry.op not in _LINEAR or len(entry.parents) != 1 or "operand0" in dict(entry.attributes):
                return False
            trace = entry.parents[0]
        return True
