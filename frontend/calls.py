"""Operators that a rule calls: their rules, found where those of the model's nodes are, on operands without a node."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ..ir import LoweringError
from .context import LoweringContext, OperatorCall
from .errors import Unsupported
from .inference.shapes import ValueInfo, of_operator
from .inference.value_info import MAX_SHAPE_DATA
from .model.attributes import defaults
from .primitives.values import Op, Result, Value
from .rules.registry import Registry, Rule
from .rules.running import run

__all__ = ["Caller"]


class Caller:
    """Lowers what rules call by the rules of one compilation.

    node: the name of the node whose rule runs at present, which errors name.
    """

    def __init__(self, registry: Registry) -> None:
        self.node = ""
        self._registry = registry
        self._shapes: dict[Hashable, list[ValueInfo | None]] = {}
        self._running: list[Rule] = []

    def __call__(self, ctx: LoweringContext, called: OperatorCall) -> list[Value]:
        """The outputs of the operator; see `LoweringContext.call`."""
        rule = self._registry.find(called.domain, called.name, called.opset)
        if rule is None:
            raise Unsupported(
                f"there is no rule for {called.name}, of which it is composed", f"write a rule for {called.name}"
            )
        if rule in self._running:
            replaced = f"builtin().find({called.domain!r}, {called.name!r}, {called.opset}).lower(ctx, op)"
            raise ValueError(
                f"the rule of {called.name} calls {called.name} again, which is itself; call the rule it replaces: "
                f"{replaced}"
            )
        attributes = {**defaults(called.domain, called.name, called.opset), **called.attributes}
        found = self._inferred(called, rule)
        results = tuple(
            Result(f"{self.node}/{called.name}", entry.shape if entry else None, entry.dtype if entry else "")
            for entry in (*found, *[None] * called.outputs)[: called.outputs]
        )
        op = Op(called.name, called.domain, called.opset, self.node, called.operands, results, attributes)
        self._running.append(rule)
        try:
            return [value for value in run(rule, ctx, op, called=True) if value is not None]
        finally:
            self._running.pop()

    def _inferred(self, called: OperatorCall, rule: Rule) -> list[ValueInfo | None]:
        """What is known of the outputs, inferred once for equal operands."""
        key = _key(called) if rule.shapes is None else None
        if key is not None and key in self._shapes:
            return self._shapes[key]
        try:
            found = of_operator(
                called.name, called.domain, called.opset, _known(called), called.attributes, rule, called.outputs
            )
        except LoweringError as error:
            raise ValueError(str(error)) from error
        if key is not None:
            self._shapes[key] = found
        return found


def _key(called: OperatorCall) -> Hashable:
    """All that decides what a schema infers; it sees no numbers of large operands."""
    operands = tuple(
        None if v is None
        else (v.shape, v.dtype, None if v.data is None or v.data.size > MAX_SHAPE_DATA else v.data.tobytes())
        for v in called.operands
    )  # fmt: skip
    attributes = repr(sorted(called.attributes.items()))
    return called.name, called.domain, called.opset, called.outputs, operands, attributes


def _known(called: OperatorCall) -> Sequence[ValueInfo | None]:
    """What shape inference may know of the operands; numbers without a type count as float32."""
    return [None if v is None else ValueInfo(v.shape, v.dtype or "float32", v.data) for v in called.operands]
