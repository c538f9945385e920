"""`compile`: an ONNX model in, its parameter graph out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnx_ir as ir

from ..ir import (
    AccountEntry,
    GmncError,
    LoweringError,
    Origin,
    Parameter,
    ParameterGraph,
    Port,
    Problem,
    UnsupportedError,
)
from .inference.attributes import ATTRIBUTE, extend
from .inference.evaluate import evaluate
from .inference.shapes import Known, infer
from .interpret import Interpreter, finder, opset_of
from .load import load
from .lowering import Lowering
from .normalise import normalise
from .plan import Plan, plan
from .plugins import installed
from .primitives.labels import nodes_of, vias_of
from .primitives.state import State
from .primitives.values import Value
from .registry import Registry, Unsupported, builtin
from .rewriting.control import flatten
from .rewriting.dequantised import recognise as recognise_dequantised
from .rewriting.expand import expand
from .rewriting.idioms import recognise
from .rewriting.kernels import unfold
from .rewriting.rewriting import MADE
from .rewriting.sequences import unpack

__all__ = ["build", "compile", "prepare"]


def compile(
    source: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    *,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    on_unsupported: Literal["opaque", "error"] = "opaque",
    registry: Registry | None = None,
) -> ParameterGraph:
    """Lower a model to its parameter graph; weights are not read.

    source: a path, a `ModelProto` or an `onnx_ir.Model`.
    dims: sizes of symbolic dimensions by name; inputs: shapes of graph inputs by name; others get small sizes.
    on_unsupported: what becomes of an operator without a rule: an opaque node, or an error that lists all of them.
    registry: rules to use instead of the built-in ones and those of plug-ins (see `plugins.installed`).

    Raises `LoadError` for what is no usable model, `LoweringError` where nodes contradict each other, and
    `UnsupportedError` under the policy "error".
    """
    model = load(source)
    name = Path(source).name if isinstance(source, str | os.PathLike) else (model.graph.name or "model")
    try:
        return _lower(model, name, dims or {}, inputs or {}, on_unsupported, registry or installed())
    except (LoweringError, UnsupportedError) as error:
        where = source if isinstance(source, str | os.PathLike) else name
        raise type(error)(f"{where}: {error}") from error


def _lower(
    model: ir.Model, name: str, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]],
    on_unsupported: str, rules: Registry,
) -> ParameterGraph:  # fmt: skip
    network, known = prepare(model, dims, inputs, rules)
    return build(model, name, network, known, on_unsupported, rules)


def build(
    model: ir.Model, name: str, network: ir.Model, known: Mapping[ir.Value, Known], on_unsupported: str, rules: Registry
) -> ParameterGraph:
    """The graph of a model that `prepare` has made ready: of one entry, where it acts entry by entry along an axis."""
    whole = Interpreter(network, known, plan(network, known, finder(rules, network)), rules)
    # Rules may assume more of lines, or of sizes, than holds: then the sizes of the file do as well.
    with suppress(GmncError):
        one = whole.of_one_entry()
        problems = len(whole.problems)
        if one is not None:
            graph = _built(model, name, network, known, one, on_unsupported)
            if len(graph.unsupported) <= problems:
                return graph
    return _built(model, name, network, known, whole, on_unsupported)


def _built(
    model: ir.Model, name: str, network: ir.Model, known: Mapping[ir.Value, Known], interpreter: Interpreter,
    on_unsupported: str,
) -> ParameterGraph:  # fmt: skip
    constants = interpreter.plan
    classes = interpreter.discover()

    carried: dict[str, np.ndarray] = {}
    while True:
        state = State()
        lowering = Lowering(state, lambda value: _folded(network, known, value), carried)
        for value, tensor in (*constants.parameters.items(), *constants.literals.items()):
            state.builder.parameters[value.name or ""] = _parameter(value, tensor)
        values = interpreter.lower(lowering, classes)
        if not lowering.finer:
            break
        carried |= lowering.finer
    if interpreter.problems and on_unsupported == "error":
        raise UnsupportedError(_complaint(interpreter.problems))
    outputs = _outputs(lowering, network, values)
    _pin_ends_of_opaque(state, _fates(network, constants, lowering))
    _drop_unused_constants(state)
    return state.builder.finish(
        name,
        _account(network, constants, lowering),
        [_port(values[v]) for v in network.graph.inputs],
        outputs,
        lowering.opaque_ops,
        interpreter.problems,
        model,
    )


def prepare(
    model: ir.Model, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], rules: Registry
) -> tuple[ir.Model, dict[ir.Value, Known]]:
    """The normalised network (control flow flat, function bodies expanded, idioms recognised) with what is known."""
    network = normalise(model, keep=lambda function: _overrides(rules, model, function))
    while True:
        recognise_dequantised(network)
        unfold(network)
        misfits: set[ir.Graph] = set()
        find = finder(rules, network)
        known = infer(network, dims, inputs, find, misfits)
        changed = unpack(network, known) or flatten(network, known, misfits)
        if not changed and not expand(network, known, find):
            recognise(network, known)
            extend(network)
            return network, known
        network = normalise(network)


def _overrides(rules: Registry, model: ir.Model, function: ir.Function) -> bool:
    """Whether a rule that is not built in takes the place of a local function's body."""
    key = (function.domain, function.name, opset_of(model, function.domain))
    rule = rules.find(*key)
    return rule is not None and rule is not builtin().find(*key)


def _parameter(value: ir.Value, tensor: ir.TensorProtocol) -> Parameter:
    place = value.meta.get(ATTRIBUTE)
    origin: Origin = "initializer" if place is None else "attribute"
    return Parameter(
        value.name or "", tuple(tensor.shape.numpy()), str(tensor.dtype.numpy()), origin, tensor.numpy, place
    )


def _folded(network: ir.Model, known: Mapping[ir.Value, Known], name: str) -> Parameter:
    """A tensor computed from parameters, evaluated when a backend asks for it."""
    value = next(v for n in network.graph for v in n.outputs if v.name == name)
    if MADE in value.meta:
        raise Unsupported("an operator dequantises a computed constant", "let the file hold the stored tensor itself")
    entry = known[value]
    return Parameter(name, entry.shape, entry.dtype, "folded", lambda: evaluate(network, known, value))


def _complaint(problems: list[Problem]) -> str:
    lines = [f"{len(problems)} node(s) cannot be lowered:"]
    for p in problems:
        lines.append(f"  {p.domain or 'ai.onnx'}::{p.op} (opset {p.opset}) at node {p.node!r}: {p.reason}")
    lines.append("write a rule for them, or compile with on_unsupported='opaque' (--on-unsupported opaque)")
    return "\n".join(lines)


def _outputs(lowering: Lowering, network: ir.Model, values: Mapping[ir.Value, Value]) -> list[Port]:
    """Pin what the outputs are made of."""
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
    """Distinct (node, via) pairs in order of occurrence."""
    labels = np.concatenate([f.reshape(-1) for f in value.factors]) if value.factors else np.zeros(0, np.int64)
    _, first = np.unique(labels, return_index=True)
    labels = labels[np.sort(first)]
    return Port(value.name, nodes_of(labels).astype(np.int32), vias_of(labels).astype(np.int32))


def _pin_ends_of_opaque(state: State, fates: Mapping[str, str]) -> None:
    """What depends on a tensor in an unknown way holds its elements where they are, at their other uses too."""
    for block in state.builder.edges:
        if fates.get(block.view.name) == "opaque" and not block.constant:
            state.builder.pin(block.dst)
            state.builder.pin(block.src)


def _drop_unused_constants(state: State) -> None:
    used = {b.view.name for b in state.builder.edges if b.constant}
    for name in set(state.builder.constants) - used:
        del state.builder.constants[name]


def _account(network: ir.Model, constants: Plan, lowering: Lowering) -> list[AccountEntry]:
    """A reason for every element that has no edge."""
    builder = lowering.state.builder
    entries = [AccountEntry(v.name or "", t.size, "scalar literal") for v, t in constants.literals.items()]
    fates = _fates(network, constants, lowering)
    for value in constants.parameters:
        name = value.name or ""
        left = builder.parameters[name].size - builder.used(name)
        if left:
            entries.append(AccountEntry(name, left, fates.get(name, "never read" if value.uses() else "dead")))
    entries += [
        AccountEntry(name, p.size - builder.used(name), "never read")
        for name, p in builder.parameters.items()
        if p.origin == "folded" and p.size > builder.used(name)
    ]
    return entries


def _fates(network: ir.Model, constants: Plan, lowering: Lowering) -> dict[str, str]:
    """What became of the sources of computed constants: folded into one, or under an opaque op."""
    fates = dict(lowering.fates)
    folded = lowering.constants.folded
    roots: dict[ir.Value, set[str]] = {v: {v.name or ""} for v in constants.parameters}
    for node in network.graph:
        sources = set().union(*(roots.get(v, set()) for v in node.inputs if v is not None))
        for output in node.outputs:
            if output in constants.computed:
                roots[output] = sources
                name = output.name or ""
                fate = "folded" if name in folded else lowering.fates.get(name)
                if fate:
                    fates.update({s: fate for s in sources if fates.get(s) != "opaque"})
    return fates
