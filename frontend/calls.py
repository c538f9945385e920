"""Operators that a rule calls: their rules, found where those of the model's nodes are, on operands without a node."""

from __future__ import annotations

from collections.abc import Sequence

from ..ir import LoweringError
from .context import Called, LoweringContext
from .errors import Unsupported
from .inference.shapes import ValueInfo, of_operator
from .model.attributes import defaults
from .primitives.values import Op, Result, Value
from .rules.registry import Registry
from .rules.running import run

__all__ = ["Caller"]


class Caller:
    """Lowers what rules call by the rules of one compilation.

    node: the name of the node whose rule runs at present, which errors name.
    """

    def __init__(self, registry: Registry) -> None:
        self.node = ""
        self._registry = registry

    def __call__(self, ctx: LoweringContext, called: Called) -> list[Value]:
        """The outputs of the operator; see `LoweringContext.call`."""
        rule = self._registry.find(called.domain, called.name, called.opset)
        if rule is None:
            raise Unsupported(
                f"there is no rule for {called.name}, of which it is composed", f"write a rule for {called.name}"
            )
        attributes = {**defaults(called.domain, called.name, called.opset), **called.attributes}
        try:
            found = of_operator(called.name, called.domain, called.opset, _known(called), called.attributes, rule)
        except LoweringError as error:
            raise ValueError(str(error)) from error
        results = tuple(
            Result(f"{self.node}/{called.name}", entry.shape if entry else None, entry.dtype if entry else "")
            for entry in (*found, *[None] * called.outputs)[: called.outputs]
        )
        op = Op(called.name, called.domain, called.opset, self.node, called.operands, results, attributes)
        return [value for value in run(rule, ctx, op, called=True) if value is not None]


def _known(called: Called) -> Sequence[ValueInfo | None]:
    """What shape inference may know of the operands; numbers without a type count as float32."""
    return [None if v is None else ValueInfo(v.shape, v.dtype or "float32", v.data) for v in called.operands]
