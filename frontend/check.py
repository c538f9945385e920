"""`check`: reports everything that prevents a model from being fully lowered."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

import onnx
import onnx_ir

from ..ir import GmncError, LoadError, ParameterGraph, PluginError, Problem
from .compile import build, load_model, resolve_registry
from .faults import errors_in_file
from .inference.shapes import ValueInfo
from .interpret import NO_RULE, opset_of, rule_lookup
from .model.keys import FUNCTION
from .passes import prepare
from .rewriting.expand import has_body
from .rewriting.normalise import normalise
from .rules.registry import Registry, Rule

__all__ = ["Finding", "check"]

OnProgress = Callable[[str, int, int], None]

_WRITE_ONE = "write a rule for it (docs/write-a-rule.md), or install a plug-in with one"


@dataclass(frozen=True, slots=True)
class Finding:
    """Nodes of one operator that are not lowered, for one reason.

    Attributes:
        kind: "no rule" (and no function body either), "refused" (the rule does not lower this form), or "error"
            (lowering stops there).
        domain: The domain of the operator.
        op: The operator.
        opset: The imported version of the domain.
        nodes: Paths of the nodes: ``node``, ``outer node/attribute/node`` in a body, ``domain::function/node`` in a
            local function.
        reason: Why they are not lowered.
        hint: What the user can do.
        rule: The rule that refused.
        nearest: The rule that the user may have meant.
    """

    kind: str
    domain: str
    op: str
    opset: int
    nodes: tuple[str, ...]
    reason: str
    hint: str = ""
    rule: str = ""
    nearest: Rule | None = None


def check(
    source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model,
    *,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
    on_progress: OnProgress = lambda what, done, total: None,
) -> list[Finding]:
    """Find all nodes that are opaque or stop lowering, also in bodies and functions.

    Args:
        source: The model, as for `gmnc.compile`.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        registry: The rules, as for `gmnc.compile`.
        on_progress: Called with (current step, steps done, total steps).

    Returns:
        One finding per operator and reason, in graph order.

    Raises:
        LoadError: The source is not a usable model.
        LoweringError: A given dimension or input does not exist, or memory runs out.
    """
    rules = resolve_registry(registry)
    on_progress("reading", 0, 3)
    model, name, where = load_model(source, dims or {}, inputs or {})
    with errors_in_file(where):
        found = _findings(model, name, dims or {}, inputs or {}, rules, on_progress)
    on_progress("done", 3, 3)
    return [_with_hint(f, rules) for f in _grouped(found)]


def _findings(
    model: onnx_ir.Model, name: str, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], rules: Registry,
    on_progress: OnProgress,
) -> list[Finding]:  # fmt: skip
    """The findings, one per node, in graph order."""
    network: onnx_ir.Model | None = None
    known: dict[onnx_ir.Value, ValueInfo] = {}
    try:
        on_progress("finding shapes", 1, 3)
        network, known = prepare(model, dims, inputs, rules)
        on_progress("lowering", 2, 3)
        found = [*_opaque(network, build(model, name, network, known, "opaque", rules))]
        return _in_graph_order([*found, *_without_rule(network, known, rules, bodies_only=True)], network)
    except LoadError:
        raise
    except GmncError as error:
        network = network or normalise(model)
        found = [_stopped(network, error)]
        return _in_graph_order([*found, *_without_rule(network, known, rules, bodies_only=False)], network)


def _stopped(network: onnx_ir.Model, error: GmncError) -> Finding:
    """The error at which lowering stops, with its node if it is one of the code of a rule."""
    if isinstance(error, PluginError):
        for path, node in _walk(network.graph):
            if repr(node.name) in error.where:
                opset = opset_of(network, node.domain)
                return Finding("error", node.domain, node.op_type, opset, (path,), str(error), rule=error.rule)
    return Finding("error", "", "", 0, (), str(error))


def _opaque(network: onnx_ir.Model, graph: ParameterGraph) -> Iterator[Finding]:
    """Nodes that lowering made opaque."""
    nodes = {node.name: (path, node) for path, node in _walk(network.graph)}
    reported = {problem.node for problem in graph.unsupported}
    others = [
        Problem(o.op, o.domain, opset_of(network, o.domain), o.node, o.reason, rule=o.op)
        for o in graph.opaque
        if o.node not in reported
    ]
    for p in (*graph.unsupported, *others):
        path = nodes[p.node][0] if p.node in nodes else p.node
        yield Finding("refused" if p.rule else "no rule", p.domain, p.op, p.opset, (path,), p.reason, p.hint, p.rule)


def _without_rule(
    network: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], rules: Registry, bodies_only: bool
) -> Iterator[Finding]:
    """Nodes with neither a rule nor a function body, except those that are folded."""
    find = rule_lookup(rules, network)
    for path, node in _walk(network.graph):
        opset = opset_of(network, node.domain)
        folded = node.outputs and all(v in known and known[v].data is not None for v in node.outputs)
        if folded or find(node) is not None or has_body(node, opset):
            continue
        if not bodies_only or node.graph is not network.graph:
            yield Finding("no rule", node.domain, node.op_type, opset, (path,), NO_RULE)


def _walk(graph: onnx_ir.Graph, prefix: str = "") -> Iterator[tuple[str, onnx_ir.Node]]:
    """All nodes with their paths, bodies included."""
    for node in graph:
        function = node.metadata_props.get(FUNCTION)
        path = f"{prefix}{f'{function}/' if function and not prefix else ''}{node.name or node.op_type}"
        yield path, node
        for name, body in _bodies(node):
            yield from _walk(body, f"{path}/{name}/")


def _bodies(node: onnx_ir.Node) -> Iterator[tuple[str, onnx_ir.Graph]]:
    """The bodies of a node, with the names of their attributes."""
    for name, attribute in node.attributes.data.items():
        if attribute.type is onnx_ir.AttributeType.GRAPH:
            yield name, attribute.as_graph()
        elif attribute.type is onnx_ir.AttributeType.GRAPHS:
            yield from ((f"{name}[{i}]", body) for i, body in enumerate(attribute.as_graphs()))


def _in_graph_order(findings: Iterable[Finding], network: onnx_ir.Model) -> list[Finding]:
    """Sort findings by graph order, so that a cause precedes its consequences.

    An error is placed at the first node that its message names, or last if it names none.
    """
    places: dict[str, int] = {}
    names: dict[str, int] = {}
    for number, (path, node) in enumerate(_walk(network.graph)):
        places.setdefault(path, number)
        names.setdefault(repr(node.name), number)
    last = len(places)

    def place(finding: Finding) -> int:
        if finding.nodes:
            return min(places.get(path, last) for path in finding.nodes)
        return min((number for name, number in names.items() if name in finding.reason), default=last)

    return sorted(findings, key=place)


def _grouped(findings: Iterable[Finding]) -> list[Finding]:
    """Merge findings that differ only in their nodes; the order is that of their first nodes."""
    groups: dict[Finding, list[str]] = {}
    for finding in findings:
        groups.setdefault(replace(finding, nodes=()), []).extend(finding.nodes)
    return [replace(f, nodes=tuple(dict.fromkeys(nodes))) for f, nodes in groups.items()]


def _with_hint(finding: Finding, rules: Registry) -> Finding:
    """Add the nearest rule and a hint to a finding without a rule."""
    if finding.kind != "no rule":
        return finding
    rule = _nearest(finding, rules)
    if rule is None:
        hint = _WRITE_ONE
    elif (rule.domain, rule.op) == (finding.domain, finding.op):
        hint = f"convert the model to operator set {rule.since} or newer (onnx.version_converter), or write a rule"
    elif rule.op == finding.op:
        hint = f"if it is the operator of domain {rule.domain or 'ai.onnx'!r}, correct the model; else write a rule"
    else:
        hint = f"did you mean {rule.op}? Else {_WRITE_ONE}"
    return replace(finding, hint=hint, nearest=rule)


def _nearest(finding: Finding, rules: Registry) -> Rule | None:
    """A rule for a later version of the operator, for another domain, or for a similarly spelt name."""
    same = [r for r in rules if r.op == finding.op]
    if same:
        return min(same, key=lambda r: (r.domain != finding.domain, r.since))
    names = {r.op.lower(): r for r in sorted(rules, key=lambda r: (r.domain == finding.domain, -r.since))}
    close = difflib.get_close_matches(finding.op.lower(), names, n=1, cutoff=0.75)
    return names[close[0]] if close else None
