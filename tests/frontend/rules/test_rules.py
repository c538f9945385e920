"""Every built-in lowering rule against ONNX Runtime: the account closes, claims of all kinds hold, changes show."""

from __future__ import annotations

from dataclasses import replace
from functools import wraps

import numpy as np
import pytest
from support.cases import CASES, Case, build
from support.cases.elementwise import UNARY, unary_body
from support.tiers import one_of_each

import gmnc
from gmnc.frontend import Registry, Rule, builtin
from gmnc.frontend.context import LoweringContext
from gmnc.frontend.primitives.values import Op, Value
from gmnc.symmetry import KINDS, fingerprint, isomorphic
from gmnc.testing import disagreement, random_inputs, run, verify


def _recording() -> tuple[Registry, set[tuple[str, str]]]:
    """The built-in rules, and the set of (domain, operator) that they are called for while lowering."""
    called: set[tuple[str, str]] = set()
    registry = Registry()

    def recorded(rule: Rule) -> Rule:
        @wraps(rule.lower)
        def lower(ctx: LoweringContext, op: Op) -> Value | list[Value | None]:
            called.add((op.domain, op.type))
            return rule.lower(ctx, op)

        return replace(rule, lower=lower)

    for rule in builtin():
        registry.add(recorded(rule))
    return registry, called


REGISTRY, CALLED = _recording()


def _operator(case: Case) -> tuple[str, str]:
    return case.domain, case.op


def _lowering(case: Case) -> object:
    """The function that lowers the operator, which may serve many."""
    rule = builtin().find(case.domain, case.op, case.opset)
    return _operator(case) if rule is None else (rule.lower.__module__, rule.lower.__qualname__)


@pytest.mark.parametrize("case", one_of_each(_lowering, CASES), ids=lambda c: c.id)
def test_rule(case: Case) -> None:
    CALLED.clear()
    model = build(case)
    found = verify(model, trials=3, registry=REGISTRY, kinds=KINDS)
    graph = found.graph
    reasons = [o.reason for o in graph.opaque]
    assert not case.opaque or any(case.opaque in r for r in reasons)
    assert case.opaque or not reasons
    assert case.opaque or (case.domain, case.op) in CALLED or not _has_rule(case)
    assert graph.num_parameter_edges + sum(e.count for e in graph.account) == graph.num_parameters
    assert not found.failures, "\n\n".join(map(str, found.failures))
    assert not case.symmetric or found.kinds["permutation"]
    assert not case.symmetric or not found.tried or found.detected


OTHERS = [(case, text) for case in CASES if case.runs for text in (*case.variants, *case.alike)]


@pytest.mark.parametrize(
    ("case", "text"),
    one_of_each(lambda pair: pair[0].domain, OTHERS),
    ids=lambda v: v.id if isinstance(v, Case) else "",
)
def test_other_forms(case: Case, text: str) -> None:
    found = verify(build(case, text, seed=1), trials=3, controls=0, kinds=KINDS)
    assert not found.failures, "\n\n".join(map(str, found.failures))


@pytest.mark.parametrize("case", one_of_each(_lowering, (c for c in CASES if c.variants)), ids=lambda c: c.id)
def test_changes_show(case: Case) -> None:
    model = build(case)
    inputs = random_inputs(model)
    graph, outputs = gmnc.compile(model), run(model, inputs) if case.runs else {}
    for text in case.variants:
        other = build(case, text)
        changes = not case.runs or disagreement(outputs, run(other, inputs)) > 1e-4
        assert changes, f"the variant computes the same: {text}"
        assert fingerprint(graph) != fingerprint(gmnc.compile(other)), text


@pytest.mark.parametrize("case", one_of_each(_lowering, (c for c in CASES if c.alike)), ids=lambda c: c.id)
def test_spellings_agree(case: Case) -> None:
    model = build(case)
    inputs = random_inputs(model)
    graph, outputs = gmnc.compile(model), run(model, inputs) if case.runs else {}
    for text in case.alike:
        other = build(case, text)
        assert not case.runs or disagreement(outputs, run(other, inputs)) < 1e-5
        assert isomorphic(graph, gmnc.compile(other)), text


def _has_rule(case: Case) -> bool:
    return builtin().find(case.domain, case.op, case.opset) is not None


def test_every_rule_has_a_case() -> None:
    # The input of these is a map, which verification does not draw: see test_ml. Those that are declared to have no
    # structure are in test_node_cases.
    elsewhere = {("ai.onnx.ml", "CastMap"), ("ai.onnx.ml", "DictVectorizer")}
    elsewhere |= {(rule.domain, rule.op) for rule in builtin() if rule.declared}
    elsewhere |= {("gmnc", "Chain"), ("gmnc", "Run")}  # see test_chains, test_runs
    elsewhere |= {("gmnc", "ByData"), ("gmnc", "FromData")}  # see test_data_sizes
    assert {(rule.domain, rule.op) for rule in builtin()} - elsewhere <= {(case.domain, case.op) for case in CASES}


def test_unary_functions_differ() -> None:
    """Activations that compute different numbers give different graphs, whatever their names amount to."""
    found: dict[str, tuple[str, dict[str, np.ndarray]]] = {}
    for op, (_, attributes) in UNARY.items():
        for setting in ("", *attributes):
            case = next(c for c in CASES if c.op == op)
            model = build(case, case.text.replace(unary_body(op), unary_body(op, setting)))
            outputs = run(model, random_inputs(model))
            mark = fingerprint(gmnc.compile(model))
            other, others = found.setdefault(mark, (f"{op} {setting}", outputs))
            assert disagreement(outputs, others) < 1e-5, f"{op} {setting} looks like {other}"
    assert len(found) > len(UNARY)
