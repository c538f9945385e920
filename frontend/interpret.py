"""The interpreter: walks a normalised model once per lowering context and applies its rule to every node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir

from ..ir import LoweringError, Problem
from .budget import MAX_LOWERED_OPERANDS, check_limit
from .calls import Caller, Calls, CallsCaught
from .context import LoweringContext
from .discovery import FeatureDiscovery
from .entrywise import Entrywise
from .errors import DataDependent, Unsupported
from .inference.program_data import STORED
from .inference.shapes import ValueInfo
from .inference.signatures import unknown
from .lines import Kept, kept_part, kept_places
from .lowering import GraphLowering
from .model.attributes import attribute_values
from .model.keys import REASON
from .model.traversal import needed_nodes, reads, subgraphs
from .plan import Plan
from .primitives.elements import Arena
from .primitives.state import Site
from .primitives.values import Op, Result, Value
from .rules.registry import Registry, Rule
from .rules.running import run

__all__ = ["NO_RULE", "Interpreter", "opset_of", "rule_lookup"]

Start = Callable[[onnx_ir.Value, Value], tuple[np.ndarray, ...]]
NO_RULE = "there is no rule for this operator"

_PINNED = "which this rule does not accept as a weight; the nodes at its edges are pinned"
_FOLD = "lower the computed weights as parameters instead: fold_weights=True, --fold-weights"
_SHAPES = (
    "give concrete sizes with --dim or --input if it depends on data; else write a rule, or its shapes, for the "
    "operator that produces it, or declare the shape in the file"
)


def opset_of(model: onnx_ir.Model, domain: str) -> int:
    """The version of a domain that the model imports, 1 if it imports none."""
    imports = model.graph.opset_imports
    if domain in ("", "ai.onnx"):
        return imports.get("", imports.get("ai.onnx", 1))
    return imports.get(domain, 1)


def rule_lookup(rules: Registry, model: onnx_ir.Model) -> Callable[[onnx_ir.Node], Rule | None]:
    """A function that looks up the rule of a node of the model, None if there is none."""
    found: dict[tuple[str, str], Rule | None] = {}

    def find(node: onnx_ir.Node) -> Rule | None:
        key = (node.domain, node.op_type)
        if key not in found:
            found[key] = rules.find(*key, opset_of(model, node.domain))
        return found[key]

    return find


class Interpreter:
    """Interprets one model in a lowering context.

    kept: the positions of each value that are lowered, if these are not all; `known` describes these parts. whole: the
    same for the whole values. refused: calls of rules that fail at once; its methods raise `CallsCaught` for more.
    """

    def __init__(
        self,
        model: onnx_ir.Model,
        known: Mapping[onnx_ir.Value, ValueInfo],
        plan: Plan,
        registry: Registry,
        kept: Mapping[onnx_ir.Value, Kept] | None = None,
        whole: Mapping[onnx_ir.Value, ValueInfo] | None = None,
        refused: Calls | None = None,
    ) -> None:
        self.model = model
        self._kept = kept or {}
        self.known = known
        self._whole = known if whole is None else whole
        self.plan = plan
        self.problems: list[Problem] = []
        self._registry = registry
        self._find = rule_lookup(registry, model)
        self._caller = Caller(registry, refused or {})
        self._arena = Arena({v.name or "": t.size for v, t in plan.parameters.items()})
        self._values: dict[onnx_ir.Value, Value] = {}
        self._constants: dict[onnx_ir.Value, Value] = {}
        self._activations: dict[onnx_ir.Value, Value] = {}
        self._attributes: dict[onnx_ir.Node, dict[str, Any]] = {}
        self._ranks: Mapping[onnx_ir.Value, Mapping[int, np.ndarray]] = {}

    def of_one_entry(self) -> Interpreter | None:
        """The interpreter of one entry of every axis along which the model acts entrywise; None if there is none."""
        ctx = Entrywise({v.name or "": k.shape for v, k in self.known.items()})
        self._walk(ctx, lambda v, x: ctx.source(x.shape), lambda v, x: ctx.as_activation(x).factors)
        kept = ctx.kept({**self._values, **self._activations})
        if not kept:
            return None
        known = {v: kept_part(k, kept[v]) if v in kept else k for v, k in self.known.items()}
        one = Interpreter(self.model, known, self.plan, self._registry, kept, self.known, self._caller.refused)
        one._attributes = self._attributes
        one._ranks = {v: ctx.ranks(x) for v, x in self._values.items() if v in kept}
        return one

    def discover(self) -> dict[str, np.ndarray]:
        """Features of every source: see `FeatureDiscovery.classes`."""
        whole = self._discover({})
        if not whole.large:
            return whole.classes()
        apart: dict[str, list[int]] = {name: [] for name in whole.large}
        for axis in range(max(map(len, whole.large.values()))):
            found = self._discover(dict.fromkeys(apart, (axis,))).classes()
            for name, shape in whole.large.items():
                if axis < len(shape) and found[name].shape[axis] > 1:
                    apart[name].append(axis)
        return self._discover(apart).classes()

    def _discover(self, along: Mapping[str, Sequence[int]]) -> FeatureDiscovery:
        """Discover with labels that vary along these axes of large sources."""
        ctx = FeatureDiscovery(along)
        self._walk(ctx, lambda v, x: ctx.source(x.name, x.shape), lambda v, x: ctx.source(x.name, x.shape))
        return ctx

    def lower(self, ctx: GraphLowering, classes: Mapping[str, np.ndarray]) -> dict[onnx_ir.Value, Value]:
        """Build the graph through `ctx`; returns every value of the model."""
        self._walk(
            ctx,
            lambda v, x: ctx.input(x.name, x.shape, classes[x.name]),
            lambda v, x: ctx.source(x, classes[x.name]),
        )
        return self._values

    def labels(self) -> dict[str, tuple[np.ndarray, ...]]:
        """The labels of every activation of the last walk by name: of whole values, broadcastable to their shapes."""
        return {
            v.name or "": tuple(_spread(f, self._ranks.get(v, {})) for f in x.factors)
            for v, x in self._values.items()
            if x.is_activation
        }

    def _walk(self, ctx: LoweringContext, enter: Start, source: Start) -> None:
        """enter, source: the labels of an input, and of a constant that is lowered as an activation."""
        self.problems.clear()
        ctx.call_handler = self._caller
        self._values, self._constants, self._activations = {}, {}, {}
        self._source = source
        stored = set(self.model.graph.initializers.values())
        for value in self.model.graph.inputs:
            if value not in stored:
                x = _typed(value, self.known)
                self._values[value] = x.relabelled(enter(value, x))
        needed = needed_nodes(self.model.graph, self._is_known)
        for node in self.model.graph:
            if node in needed:
                self._visit(ctx, node)
        for value in self.model.graph.outputs:
            if value in self.plan.as_activations:
                self._values[value] = self._as_activation(ctx, value)
        if self._caller.caught:
            raise CallsCaught(self._caller.caught)

    def _visit(self, ctx: LoweringContext, node: onnx_ir.Node) -> None:
        rule, outputs = self._find(node), node.outputs
        self._caller.start(node.name or node.op_type)
        if not outputs or not all(v in self.plan.computed for v in outputs):
            self._values.update(self._interpreted(ctx, node, rule))
            return
        weights = any(v in self.plan.traced for v in outputs)
        if weights:
            constants = self._weights(ctx, self._constant_op(node), rule)
            self._constants.update({v: x for v, x in zip(outputs, constants, strict=False) if x is not None})
            self._values.update({v: self._fitted(v, self._constants[v]) for v in outputs if v in self._constants})
        if not any(v in self.plan.as_activations for v in outputs):
            return
        if weights and (node.op_type in STORED or all(v in self.plan.paired for v in outputs)):
            starts = {v: self._values[v] for v in outputs}
            activations = {v: x.relabelled(self._start(ctx, v, x)) for v, x in starts.items()}
        else:
            made = self._interpreted(ctx, node, rule)
            activations = {v: replace(x, derived=x.is_activation) for v, x in made.items()}
        self._activations.update(activations)
        if not weights:
            self._values.update(activations)

    def _interpreted(self, ctx: LoweringContext, node: onnx_ir.Node, rule: Rule | None) -> dict[onnx_ir.Value, Value]:
        """The outputs of a node, by its rule; a context may skip nodes whose operands it does not track."""
        op = self._op(ctx, node)
        idle = not (rule and rule.starts) and ctx.ignores(op)
        made = ctx.opaque(op, "") if idle else self._apply(ctx, node, op, rule)
        return self._made(ctx, op, node.outputs, made)

    def _made(
        self, ctx: LoweringContext, op: Op, outputs: Sequence[onnx_ir.Value], made: Sequence[Value | None]
    ) -> dict[onnx_ir.Value, Value]:
        ctx.note_lowered(op)
        return {v: self._fitted(v, x) for v, x in zip(outputs, made, strict=False) if x is not None}

    def _apply(self, ctx: LoweringContext, node: onnx_ir.Node, op: Op, rule: Rule | None) -> list[Value | None]:
        made, derived = 0, 0
        if isinstance(ctx, GraphLowering):
            made, derived = ctx.state.builder.size, len(ctx.constants.derived)
            ctx.state.site = Site(op.name, op.results[0].name if op.results and op.results[0] else "", _scope(node))
        name = rule.function if rule is not None else ""
        try:
            outputs = self._lowered(ctx, node, op, rule)
            self._caller.finish()
            if isinstance(ctx, GraphLowering):
                for weight in list(ctx.constants.derived)[derived:]:
                    reason, hint = f"{weight!r} is computed from several parameters, {_PINNED}", _FOLD
                    self.problems.append(Problem(op.type, op.domain, op.opset, op.name, reason, hint, name))
            return outputs
        except Unsupported as problem:
            if isinstance(ctx, GraphLowering):
                # Nodes that the rule made before it raised are not understood either.
                ctx.state.builder.pin_from(made)
            self.problems.append(Problem(op.type, op.domain, op.opset, op.name, problem.reason, problem.hint, name))
            return ctx.opaque(op, problem.reason)

    def _lowered(self, ctx: LoweringContext, node: onnx_ir.Node, op: Op, rule: Rule | None) -> list[Value | None]:
        if rule is None:
            raise Unsupported(*node.meta.get(REASON, (NO_RULE, "write a rule for it")))
        check_limit(len(op.inputs), MAX_LOWERED_OPERANDS, "operands")
        if not rule.foreign and (reason := unknown(op.domain, op.type, op.inputs, op.attributes)):
            raise Unsupported(reason, "export the model without it, before ONNX Runtime's fusions")
        shapeless = None if rule.refuses else self._shapeless(node)
        if shapeless is not None and not any(_holds_parameters(v) for v in op.inputs):
            return ctx.opaque_join(op)
        if shapeless is not None:
            raise Unsupported(f"the shape of {shapeless} is not known", _SHAPES)
        try:
            return run(rule, ctx, op)
        except DataDependent:
            return ctx.opaque_join(op)

    def _shapeless(self, node: onnx_ir.Node) -> str | None:
        """The first operand whose rank is unknown, such as the output of an operator without a schema."""
        for index, value in enumerate(node.inputs):
            if value is not None and value not in self.known and value.const_value is None:
                return f"operand {index} ({value.name!r})"
        return None

    def _weights(self, ctx: LoweringContext, op: Op, rule: Rule | None) -> list[Value | None]:
        """Constants each entry of which is a function of one parameter element; `derived` ones if tracing fails."""
        try:
            if rule is not None and rule.moves:
                return run(rule, ctx, op)
            return [ctx.traced(op)]
        except Unsupported:
            return [None if r is None else Value(r.name, r.shape or (), r.dtype, derived=True) for r in op.results]

    def _fitted(self, value: onnx_ir.Value, made: Value) -> Value:
        """The part of a whole constant that is lowered."""
        kept, entry = self._kept.get(value), self.known.get(value)
        if not kept or entry is None:
            return made
        elements = made.elements
        if elements is not None and elements.shape != entry.shape:
            elements = elements.move(lambda a: kept_places(a, kept))
        if elements is not None and elements.shape != entry.shape:
            raise LoweringError(f"{made.name!r} of shape {entry.shape} has elements of shape {elements.shape}")
        return replace(made, shape=entry.shape, elements=elements)

    def _is_outer(self, value: onnx_ir.Value) -> bool:
        """Whether it is a value of the main graph, not one of a body."""
        producer = value.producer()
        return (
            producer.graph is self.model.graph
            if producer is not None
            else value in self.known and (value.is_initializer() or value in self.model.graph.inputs)
        )

    def _is_known(self, value: onnx_ir.Value) -> bool:
        entry = self.known.get(value)
        return entry is not None and entry.data is not None

    def _op(self, ctx: LoweringContext, node: onnx_ir.Node) -> Op:
        """The node as its rule sees it."""
        captured = self._captured(node) if subgraphs(node) else []
        inputs = [
            None if v is None
            else self._as_activation(ctx, v) if (node, i) in self.plan.activation_operands
            else self._value(v)
            for i, v in enumerate((*node.inputs, *captured))
        ]  # fmt: skip
        return self._with(node, inputs, self.known)

    def _captured(self, node: onnx_ir.Node) -> list[onnx_ir.Value]:
        """The values of the main graph that only the bodies of a node read."""
        own = set(node.inputs)
        return [v for v in dict.fromkeys(reads(node)) if v not in own and self._is_outer(v)]

    def _constant_op(self, node: onnx_ir.Node) -> Op:
        """The node with every operand whole and as a weight."""
        inputs = [None if v is None else self._constants.get(v) or self._operand(v) for v in node.inputs]
        return self._with(node, inputs, self._whole)

    def _operand(self, value: onnx_ir.Value) -> Value:
        """A whole constant; an activation (that lends only its type or shape) as it is."""
        made = self._values.get(value)
        return made if made is not None and made.is_activation else self._stored(value, self._whole)

    def _with(self, node: onnx_ir.Node, inputs: Sequence[Value | None], known: Mapping[onnx_ir.Value, ValueInfo]) -> Op:
        results = tuple(_result(v, known.get(v)) for v in node.outputs)
        return Op(
            node.op_type, node.domain, opset_of(self.model, node.domain), node.name or node.op_type, tuple(inputs),
            results, dict(self._attributes_of(node)),
        )  # fmt: skip

    def _attributes_of(self, node: onnx_ir.Node) -> dict[str, Any]:
        """Attributes of a node, read once for all walks."""
        if node not in self._attributes:
            self._attributes[node] = attribute_values(node, opset_of(self.model, node.domain))
        return self._attributes[node]

    def _value(self, value: onnx_ir.Value) -> Value:
        """The value in this context; constants are created on first use."""
        made = self._values.get(value)
        if made is None:
            made = self._values[value] = self._stored(value, self.known)
        return made

    def _stored(self, value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo]) -> Value:
        """A constant that is not the output of an interpreted node."""
        entry, tensor, name = known.get(value), value.const_value, value.name or ""
        if value in self.plan.parameters and tensor is not None:
            shape = tuple(tensor.shape.numpy())
            return Value(name, shape, str(tensor.dtype.numpy()), elements=self._arena.tensor(name, shape))
        if entry is not None and entry.data is not None:
            return Value(name, entry.shape, entry.dtype, data=entry.data)
        if tensor is not None:
            return Value(name, tuple(tensor.shape.numpy()), str(tensor.dtype.numpy()), data=tensor.numpy())
        if value in self.plan.computed:
            return replace(_typed(value, known), derived=True)
        raise LoweringError(f"value {name!r} is read but never produced")

    def _as_activation(self, ctx: LoweringContext, value: onnx_ir.Value) -> Value:
        """A constant as an activation."""
        made = self._activations.get(value)
        if made is None:
            x = self._value(value)
            made = self._activations[value] = x.relabelled(self._start(ctx, value, x))
        return made

    def _start(self, ctx: LoweringContext, value: onnx_ir.Value, x: Value) -> tuple[np.ndarray, ...]:
        groups = self.plan.paired.get(value)
        return self._source(value, x) if groups is None else ctx.paired(x, groups)


def _result(value: onnx_ir.Value, entry: ValueInfo | None) -> Result | None:
    return Result(value.name, entry.shape if entry else None, entry.dtype if entry else "") if value.name else None


def _typed(value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo]) -> Value:
    entry = known.get(value)
    if entry is None:
        raise LoweringError(f"value {value.name!r} has no known shape; give one with --input or --dim")
    return Value(value.name or "", entry.shape, entry.dtype)


def _spread(labels: np.ndarray, ranks: Mapping[int, np.ndarray]) -> np.ndarray:
    """The labels of all entries of an axis, from those of the first one."""
    for axis, rank in ranks.items():
        if labels.shape[axis] > 1:
            labels = labels.take(rank, axis=axis)
    return labels


def _holds_parameters(value: Value | None) -> bool:
    return value is not None and not value.is_activation and (value.elements is not None or value.derived)


def _scope(node: onnx_ir.Node) -> str:
    """The exporter's name scope of a node: torch's module path, or its name up to the last slash."""
    for key in ("namespace", "pkg.torch.onnx.name_scopes"):
        if key in node.metadata_props:
            return node.metadata_props[key]
    return (node.name or "").rpartition("/")[0]
