"""Lowers operators that a rule calls (`LoweringContext.call`), by the same registry as the nodes of the model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence

import onnx
import onnx_ir

from ..ir import LoweringError
from .context import LoweringContext, OperatorCall
from .errors import Unsupported
from .inference.shapes import ValueInfo, of_operator
from .inference.value_info import MAX_SHAPE_DATA
from .model.attributes import defaults
from .primitives.values import Op, Result, Value
from .rewriting.control import FORMS
from .rewriting.expand import has_body
from .rewriting.quantized_ops import KERNELS
from .rules.registry import Registry, Rule, builtin
from .rules.running import run

__all__ = ["Caller", "Calls", "CallsCaught"]

Calls = Mapping[tuple[str, int, str], tuple[str, str]]
"""Calls that are refused: the reason and a hint by node, number of the call within it, and operator."""


class CallsCaught(Exception):
    """Rules went on after operators that they called could not be lowered, which may have left half of them behind.

    The model has to be lowered again, with these calls refused before they add anything.
    """

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self.calls = calls


class Caller:
    """Lowers the operators that rules call, by the rules of one compilation.

    node: the name of the node whose rule is running, for error messages. refused: calls that fail at once. caught:
    calls that failed without failing the rule that made them.
    """

    def __init__(self, registry: Registry, refused: Calls) -> None:
        self.node = ""
        self.refused = refused
        self.caught: dict[tuple[str, int, str], tuple[str, str]] = {}
        self._failed: dict[tuple[str, int, str], tuple[str, str]] = {}
        self._made = 0
        self._registry = registry
        self._shapes: dict[Hashable, list[ValueInfo | None]] = {}
        self._running: list[Rule] = []

    def __call__(self, ctx: LoweringContext, called: OperatorCall) -> list[Value]:
        """The outputs of the operator; see `LoweringContext.call`."""
        self._made += 1
        key = (self.node, self._made, called.name)
        if key in self.refused:
            raise Unsupported(*self.refused[key])
        try:
            return self._lowered(ctx, called)
        except Unsupported as problem:
            self._failed[key] = problem.reason, problem.hint
            raise

    def start(self, node: str) -> None:
        """Go on to a node of this name."""
        self.node, self._made = node, 0
        self._failed.clear()

    def finish(self) -> None:
        """Called when the rule of a node has returned: it has caught the errors of the calls that failed."""
        self.caught |= self._failed
        self._failed.clear()

    def _lowered(self, ctx: LoweringContext, called: OperatorCall) -> list[Value]:
        _check(called)
        rule = self._registry.find(called.domain, called.name, called.opset)
        if rule is None:
            raise Unsupported(*_no_rule(called))
        if rule in self._running:
            raise ValueError(f"the rule of {called.name} calls {called.name}, that is, itself; {_replaced(called)}")
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
            raise ValueError(f"its call of {called.name} does not fit: {str(error).partition(': ')[2]}") from error
        if key is not None:
            self._shapes[key] = found
        return found


def _check(called: OperatorCall) -> None:
    """Raise `TypeError` or `ValueError` for a call that no rule can answer."""
    for index, operand in enumerate(called.operands):
        if operand is not None and not isinstance(operand, Value):
            raise TypeError(
                f"operand {index} of its call of {called.name} is of type {type(operand).__name__}, not a Value; "
                "numbers become one by ctx.constant(np.array(...))"
            )
    newest = onnx.defs.onnx_opset_version()
    if not called.domain and not 1 <= called.opset <= newest:
        raise ValueError(f"it calls {called.name} of opset {called.opset}; give one from 1 to {newest}")


def _no_rule(called: OperatorCall) -> tuple[str, str]:
    """Why a called operator cannot be lowered, and what to do."""
    name = called.name
    body = has_body(onnx_ir.Node(called.domain, name, []), called.opset)
    if body or (called.domain, name) in KERNELS or (name in FORMS and not called.domain):
        return (
            f"its rule calls {name}, which gmnc lowers in models only, by rewriting the node",
            f"call the operators that {name} consists of",
        )
    return f"its rule calls {name}, which has no rule", f"write a rule for {name}"


def _replaced(called: OperatorCall) -> str:
    """How a rule calls the rule that it replaces."""
    if builtin().find(called.domain, called.name, called.opset) is None:
        return "compose it of other operators or of the primitives of ctx"
    found = f"builtin().find({called.domain!r}, {called.name!r}, {called.opset}).lower(ctx, op)"
    return f"call the rule that it replaces: {found}"


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
