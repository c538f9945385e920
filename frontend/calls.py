"""Lowers operators that a rule calls (`LoweringContext.call`), by the same registry as the nodes of the model."""

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
    """Lowers the operators that rules call, by the rules of one compilation.

    node: the name of the node whose rule is running, for error messages.
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
            raise Unsupported(f"its rule calls {called.name}, which has no rule", f"write a rule for {called.name}")
        if rule in self._running:
            replaced = f"builtin().find({called.domain!r}, {called.name!r}, {called.opset}).lower(ctx, op)"
            raise ValueError(
                f"the rule of {called.name} calls {called.name}, that is, itself; call the rule that it replaces: "
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
        """Shape, dtype and data of the outputs, inferred once per distinct operands."""
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
    """Everything that the schema's inference depends on; it does not see the data of large operands."""
    operands = tuple(
        None if v is None
        else (v.shape, v.dtype, None if v.data is None or v.data.size > MAX_SHAPE_DATA else v.data.tobytes())
        for v in called.operands
    )  # fmt: skip
    attributes = repr(sorted(called.attributes.items()))
    return called.name, called.domain, called.opset, called.outputs, operands, attributes


def _known(called: OperatorCall) -> Sequence[ValueInfo | None]:
    """The operands as shape inference sees them; those without a dtype count as float32."""
    return [None if v is None else ValueInfo(v.shape, v.dtype or "float32", v.data) for v in called.operands]
