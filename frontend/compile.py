"""`compile`: lowers an ONNX model to its parameter graph."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir

from ..ir import AccountEntry, Deferred, GmncError, Origin, Parameter, ParameterGraph, Port, Problem, UnsupportedError
from .calls import Calls, CallsCaught
from .errors import Unsupported
from .faults import errors_in_file
from .fold import folded
from .inference.evaluate import evaluate, too_slow
from .inference.literals import is_literal
from .inference.shapes import ValueInfo
from .inference.size_checks import check_sizes
from .interpret import Interpreter, rule_lookup
from .lowering import GraphLowering
from .model.gc_pause import paused
from .model.keys import ATTRIBUTE, SYNTHETIC
from .passes import prepare
from .plan import Plan, plan
from .primitives.labels import nodes_of, vias_of
from .primitives.state import State
from .primitives.values import Value
from .reading.external import guarded
from .reading.load import load
from .reading.source import LoadedModel, TensorReader
from .rules.plugins import installed
from .rules.registry import Registry

__all__ = ["build", "compile", "load_model", "resolve_registry"]

Labels = dict[str, tuple[np.ndarray, ...]]

_POLICIES = ("opaque", "error")


def compile(
    source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model,
    *,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    on_unsupported: Literal["opaque", "error"] = "opaque",
    registry: Registry | None = None,
    fold_weights: bool = False,
) -> ParameterGraph:
    """Lower a model to its parameter graph; weights are not read.

    Args:
        source: A path, a `ModelProto` or an `onnx_ir.Model`. A model in memory is not copied: do not modify it while
            the graph is in use.
        dims: Sizes of symbolic dimensions by name. Others get small sizes.
        inputs: Shapes of graph inputs by name.
        on_unsupported: "opaque" lowers operators without a rule to opaque nodes; "error" raises an error that lists
            them all.
        registry: Rules to use instead of the built-in ones and those of plug-ins (see `installed`).
        fold_weights: Treat weights that the model computes from its parameters (weight norm, merged low-rank updates)
            as the parameters. This reads the weights, and the graph's `model` is the folded model.

    Returns:
        The graph, which has passed `ParameterGraph.check`.

    Raises:
        LoadError: The source is not a usable model.
        LoweringError: Shapes contradict each other, a given dimension or input does not exist, or the model exceeds
            the budget or the memory.
        UnsupportedError: Operators have no rule and `on_unsupported` is "error".
        PluginError: A rule that is not built in raised an error.
        GmncError: An option has an unknown value.
    """
    if on_unsupported not in _POLICIES:
        raise GmncError(f"on_unsupported is {on_unsupported!r}: choose {' or '.join(map(repr, _POLICIES))}")
    rules = resolve_registry(registry)
    model, name, where = load_model(source, dims or {}, inputs or {})
    with errors_in_file(where), paused():
        if fold_weights:
            model, name = folded(model, dims or {}, inputs or {}, rules), f"{name}, its weights folded"
        network, known = prepare(model, dims or {}, inputs or {}, rules)
        return build(model, name, network, known, on_unsupported, rules)


def load_model(
    source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model, dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
) -> tuple[onnx_ir.Model, str, str]:  # fmt: skip
    """Load a model and check the sizes that the caller gives for it.

    Returns:
        The model, the name of its graph, and the name of the file in error messages.

    Raises:
        LoadError: The source is not a usable model.
        LoweringError: A size is given for a dimension or an input that the model does not have.
    """
    model = load(source)
    where = os.fspath(source) if isinstance(source, str | os.PathLike) else model.graph.name or "model"
    with errors_in_file(where):
        check_sizes(model, dims, inputs)
    return model, Path(where).name if isinstance(source, str | os.PathLike) else where, where


def resolve_registry(registry: Registry | None) -> Registry:
    """The rules to use: `registry`, or the installed ones if it is None. Raises `GmncError` for any other type."""
    if registry is not None and not isinstance(registry, Registry):
        raise GmncError(f"registry is of type {type(registry).__name__}: give a Registry, e.g. installed().overlay()")
    return installed() if registry is None else registry


def build(
    model: onnx_ir.Model,
    name: str,
    network: onnx_ir.Model,
    known: Mapping[onnx_ir.Value, ValueInfo],
    on_unsupported: str,
    rules: Registry,
    labels: Labels | None = None,
) -> ParameterGraph:
    """Lower a prepared model; if it acts entrywise along an axis (the batch), only the first entry is lowered.

    If a rule goes on after an operator that it called could not be lowered, lowering starts again, with this call
    refused before it adds anything to the graph.

    Args:
        model: The loaded model, which the graph refers to.
        name: The name of the graph.
        network: The model after the rewriting passes (see `prepare`).
        known: Shapes and known data of its values.
        on_unsupported: "opaque" or "error".
        rules: The rules to lower it with.
        labels: Gains the labels of the activations by name, see `Interpreter.labels`.

    Returns:
        The parameter graph.

    Raises:
        LoweringError: The model cannot be lowered.
        UnsupportedError: Operators have no rule and `on_unsupported` is "error".
    """
    refused: dict[tuple[str, int, str], tuple[str, str]] = {}
    while True:
        try:
            return _built(model, name, network, known, on_unsupported, rules, refused, labels)
        except CallsCaught as caught:
            refused |= caught.calls


def _built(
    model: onnx_ir.Model,
    name: str,
    network: onnx_ir.Model,
    known: Mapping[onnx_ir.Value, ValueInfo],
    on_unsupported: str,
    rules: Registry,
    refused: Calls,
    labels: Labels | None,
) -> ParameterGraph:
    constants = plan(network, known, rule_lookup(rules, network))
    whole = Interpreter(network, known, constants, rules, refused=refused)
    # If lowering one entry fails or leaves more nodes opaque, all entries are lowered.
    with suppress(GmncError):
        one = whole.of_one_entry()
        problems = len(whole.problems)
        if one is not None:
            graph = _lower(model, name, network, known, one, on_unsupported, labels)
            if len(graph.unsupported) <= problems:
                return graph
    return _lower(model, name, network, known, whole, on_unsupported, labels)


def _lower(
    model: onnx_ir.Model,
    name: str,
    network: onnx_ir.Model,
    known: Mapping[onnx_ir.Value, ValueInfo],
    interpreter: Interpreter,
    on_unsupported: str,
    labels: Labels | None,
) -> ParameterGraph:
    constants, source = interpreter.plan, LoadedModel(model)
    classes = interpreter.discover()

    carried: dict[str, np.ndarray] = {}
    while True:
        state = State()
        lowering = GraphLowering(state, lambda name: _lazy_constant(network, known, name), carried, constants.kernels)
        for value, tensor in (*constants.parameters.items(), *constants.literals.items()):
            state.builder.parameters[value.name or ""] = _parameter(value, guarded(tensor, source.states))
        values = interpreter.lower(lowering, classes)
        if not lowering.finer:
            break
        carried |= lowering.finer
    if interpreter.problems and on_unsupported == "error":
        raise UnsupportedError(_unsupported_message(interpreter.problems))
    outputs = _outputs(lowering, network, values)
    _pin_ends_of_opaque(state, lowering, _account_reasons(network, constants, lowering))
    _drop_unused_constants(state)
    if labels is not None:
        labels.clear()
        labels.update(interpreter.labels())
    return state.builder.finish(
        name,
        _account(network, constants, lowering),
        [_port(values[v]) for v in network.graph.inputs],
        outputs,
        lowering.opaque_ops,
        interpreter.problems,
        source,
    )


def _parameter(value: onnx_ir.Value, tensor: onnx_ir.TensorProtocol) -> Parameter:
    place = value.meta.get(ATTRIBUTE)
    origin: Origin = "initializer" if place is None else "attribute"
    return Parameter(
        value.name or "", tuple(tensor.shape.numpy()), str(tensor.dtype.numpy()), origin, TensorReader(tensor), place
    )


def _lazy_constant(network: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], name: str) -> Parameter:
    """A constant that is computed from parameters, as a table that is evaluated when a backend reads it."""
    value = next(v for n in network.graph for v in n.outputs if v.name == name)
    if SYNTHETIC in value.meta:
        raise Unsupported("an operator dequantises a computed constant", "store the quantised tensor in the file")
    if reason := too_slow(known, value):
        raise Unsupported(reason)
    entry = known[value]
    return Parameter(name, entry.shape, entry.dtype, "constant", Deferred(lambda: evaluate(network, known, value)))


def _unsupported_message(problems: list[Problem]) -> str:
    lines = [f"{len(problems)} node(s) cannot be lowered:"]
    for p in problems:
        lines.append(f"  {p.domain or 'ai.onnx'}::{p.op} (opset {p.opset}) at node {p.node!r}: {p.reason}")
    lines.append("write a rule for them, or compile with on_unsupported='opaque' (--on-unsupported opaque)")
    return "\n".join(lines)


def _outputs(lowering: GraphLowering, network: onnx_ir.Model, values: Mapping[onnx_ir.Value, Value]) -> list[Port]:
    """The output ports; their nodes are pinned."""
    ports = []
    for value in network.graph.outputs:
        made = values.get(value)
        if made is None or not made.is_activation:
            continue
        for factor in made.factors:
            lowering.state.pin(factor)
        ports.append(_port(made))
    return ports


def _port(value: Value) -> Port:
    """The port of a value: its distinct (node, via) pairs in order of occurrence."""
    labels = np.concatenate([f.reshape(-1) for f in value.factors]) if value.factors else np.zeros(0, np.int64)
    _, first = np.unique(labels, return_index=True)
    labels = labels[np.sort(first)]
    return Port(value.name, nodes_of(labels).astype(np.int32), vias_of(labels).astype(np.int32))


def _pin_ends_of_opaque(state: State, lowering: GraphLowering, account_reasons: Mapping[str, str]) -> None:
    """Pin both ends of all edges of tensors that an opaque computation reads, since it may depend on their order."""
    derived = lowering.constants.derived
    for block in state.builder.edges:
        if block.view.name in derived if block.constant else account_reasons.get(block.view.name) == "opaque":
            state.builder.pin(block.dst)
            state.builder.pin(block.src)
    for value in derived.values():
        for factor in value.factors:
            state.pin(factor)


def _drop_unused_constants(state: State) -> None:
    used = {b.view.name for b in state.builder.edges if b.constant}
    for name in set(state.builder.constants) - used:
        del state.builder.constants[name]


def _account(network: onnx_ir.Model, constants: Plan, lowering: GraphLowering) -> list[AccountEntry]:
    """The account of elements without an edge, by tensor."""
    builder = lowering.state.builder
    entries = [AccountEntry(v.name or "", t.size, _of_literal(v, t)) for v, t in constants.literals.items()]
    account_reasons = _account_reasons(network, constants, lowering)
    for value in constants.parameters:
        name = value.name or ""
        left = builder.parameters[name].size - builder.used(name)
        if left:
            entries.append(
                AccountEntry(name, left, account_reasons.get(name, "never read" if value.uses() else "dead"))
            )
    return entries


def _of_literal(value: onnx_ir.Value, tensor: onnx_ir.TensorProtocol) -> str:
    """The kind of a literal: positional if it has several elements that are not all 0, else scalar."""
    positional = tensor.size > 1 and is_literal(value) and bool(np.any(tensor.numpy()))
    return "positional constant" if positional else "scalar literal"


def _account_reasons(network: onnx_ir.Model, constants: Plan, lowering: GraphLowering) -> dict[str, str]:
    """Why parameters have no edge, by name, those behind computed constants included."""
    account_reasons, derived = dict(lowering.account_reasons), lowering.constants.derived
    roots: dict[onnx_ir.Value, set[str]] = {v: {v.name or ""} for v in constants.parameters}
    for node in network.graph:
        sources = set().union(*(roots.get(v, set()) for v in node.inputs if v is not None))
        for output in node.outputs:
            if output in constants.computed:
                roots[output] = sources
                name = output.name or ""
                reason = "opaque" if name in derived else lowering.account_reasons.get(name)
                if reason:
                    account_reasons.update({s: reason for s in sources if account_reasons.get(s) != "opaque"})
    return account_reasons
