"""Rules that are composed of other operators, and what the context gives every rule."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.cases import CASES, Case, build
from support.tiers import first

import gmnc
from gmnc.frontend import LoweringContext, Op, Registry, Rule, Value, builtin, rules
from gmnc.ir import PluginError
from gmnc.symmetry import fingerprint
from gmnc.testing import build as network

Lower = Callable[[LoweringContext, Op], Any]

COMPOSED = {
    "FusedConv": ("Conv", "Relu"),
    "NhwcConv": ("Conv",),
    "CausalConvWithState": ("Conv", "Concat"),
    "FusedGemm": ("Gemm",),
    "Attention": ("MatMul", "Add", "Softmax"),
    "MultiHeadAttention": ("Softmax",),
    "DecoderMaskedMultiHeadAttention": ("Softmax",),
    "GroupQueryAttention": ("Softmax", "Gather", "RMSNormalization"),
    "RotaryEmbedding": ("Gather", "Mul", "Sub", "Concat"),
    "LayerNormalization": ("LayerNormalization",),
    "SkipLayerNormalization": ("Add", "LayerNormalization"),
    "SkipSimplifiedLayerNormalization": ("SimplifiedLayerNormalization",),
    "EmbedLayerNormalization": ("Gather", "LayerNormalization"),
    "GroupNorm": ("GroupNormalization",),
    "BiasGelu": ("Add", "Gelu"),
    "BiasSplitGelu": ("Add", "Gelu", "Mul"),
    "BiasAdd": ("Add",),
    "MoE": ("Einsum", "Mul"),
    "Trilu": ("Trilu",),
}
"""Operators of com.microsoft, and the standard ones that their rules call."""

PAIRS = [(op, called) for op, every in COMPOSED.items() for called in every]


def overlay(op: str, lower: Lower, domain: str = "") -> Registry:
    """The built-in rules with another one for an operator, which reads its operands like the built-in one."""
    registry = builtin().overlay()
    old = builtin().find(domain, op, 24)
    registry.add(Rule(op, domain, 1, lower, () if old is None else old.weights, moves=bool(old and old.moves)))
    return registry


def cases(op: str) -> list[Case]:
    return [c for c in CASES if (c.domain, c.op) == ("com.microsoft", op)]


@pytest.mark.parametrize(("op", "called"), first(8, PAIRS))
def test_a_composite_is_lowered_by_the_rules_of_the_registry_that_was_given(op: str, called: str) -> None:
    seen: list[str] = []

    def mine(ctx: LoweringContext, inner: Op) -> Any:
        if (inner.name, inner.domain) in composites:
            seen.append(inner.name)
        rule = builtin().find("", called, inner.opset)
        assert rule is not None
        return rule.lower(ctx, inner)

    registry = overlay(called, mine)
    for case in cases(op):
        model = build(case)
        for number, node in enumerate(model.graph.node):
            node.name = node.name or f"n{number}"
        composites = {(n.name, "") for n in model.graph.node if (n.domain, n.op_type) == ("com.microsoft", op)}
        graph = gmnc.compile(model, registry=registry)
        if seen:
            assert fingerprint(graph) == fingerprint(gmnc.compile(model))
            return
    pytest.fail(f"no case of {op} is composed of {called}")


def test_an_overlaid_convolution_also_serves_those_of_com_microsoft() -> None:
    def mine(ctx: LoweringContext, op: Op) -> Any:
        return ctx.opaque(op, "mine")

    for op in ("FusedConv", "NhwcConv", "CausalConvWithState"):
        for case in cases(op):
            reasons = [o.reason for o in gmnc.compile(build(case), registry=overlay("Conv", mine)).opaque]
            assert "mine" in reasons, case.id


HIDDEN = "(float[2, 3] x) => (float[2, 2] y) { h = MatMul(x, w) g = acme.Gate(h, k) y = MatMul(g, v) }"
SPELLED = "(float[2, 3] x) => (float[2, 2] y) { h = MatMul(x, w) a = Gemm(h, k) g = Mul(h, a) y = MatMul(g, v) }"
SIZES: dict[str, tuple[int, ...]] = {"w": (3, 4), "k": (4, 4), "v": (4, 2)}


def gate(lower: Lower, **more: Any) -> Registry:
    registry = builtin().overlay()
    shapes = {"shapes": lambda op: [(op.input(0).shape, op.input(0).dtype)], **more}
    registry.add(Rule("Gate", "acme", 1, lower, (1,), **shapes))
    return registry


def hidden() -> Any:
    return network(HIDDEN, SIZES, domains={"acme": 1})


def test_a_called_operator_has_the_defaults_and_the_shape_of_its_schema() -> None:
    shapes: list[tuple[int, ...]] = []

    def lower(ctx: LoweringContext, op: Op) -> Value:
        scores = ctx.call("Gemm", op.input(0), op.input(1))
        shapes.append(scores.shape)
        return ctx.mul(op.input(0), scores)

    made = gmnc.compile(hidden(), registry=gate(lower))
    # Of both rows, and of one.
    assert set(shapes) == {(2, 4), (1, 4)}
    assert fingerprint(made) == fingerprint(gmnc.compile(network(SPELLED, SIZES)))


def test_a_called_operator_is_that_of_the_opset_that_is_stated() -> None:
    def softmax(opset: int) -> Lower:
        return lambda ctx, op: ctx.call("Softmax", ctx.call("Gemm", *op.inputs), opset=opset, axis=0)

    old, new = (gmnc.compile(hidden(), registry=gate(softmax(n))) for n in (12, 13))
    # Before opset 13, all axes from the one given on are one.
    assert fingerprint(old) != fingerprint(new)


def test_several_outputs_of_a_called_operator_are_there() -> None:
    def lower(ctx: LoweringContext, op: Op) -> Value:
        halves = ctx.call_all("Split", op.input(0), outputs=2, axis=1, num_outputs=2)
        assert [half.shape[1:] for half in halves] == [(2,), (2,)]
        y, h = ctx.call_all("RNN", ctx.reshaped(op.input(0), (2, 1, 4)), *_cell(ctx), outputs=2, hidden_size=4)
        assert (y.shape, h.shape) == ((2, 1, 1, 4), (1, 1, 4))
        return ctx.reshaped(y, (2, 4))

    def _cell(ctx: LoweringContext) -> list[Value]:
        return [ctx.constant(np.eye(4, dtype=np.float32)[None]) for _ in range(2)]

    assert not gmnc.compile(hidden(), registry=gate(lower, data=(0,))).opaque


def test_a_composite_of_what_has_no_rule_is_a_problem_that_says_so() -> None:
    graph = gmnc.compile(hidden(), registry=gate(lambda ctx, op: ctx.call("Riddle", op.input(0))))
    [problem] = graph.unsupported
    assert problem.reason == "its rule calls Riddle, which has no rule"


def test_operands_that_a_called_operator_rejects_are_the_fault_of_the_rule_that_called_it() -> None:
    def mismatched(ctx: LoweringContext, op: Op) -> Value:
        return ctx.call("MatMul", op.input(0), ctx.constant(np.ones((7, 2), np.float32)))

    with pytest.raises(PluginError, match=r"\(Gate\): rule .*mismatched of .* raised ValueError: .*MatMul.*line \d+"):
        gmnc.compile(hidden(), registry=gate(mismatched))


def test_an_error_in_a_rule_that_is_called_names_that_rule_and_the_node_of_the_model() -> None:
    def careless(ctx: LoweringContext, op: Op) -> Value:
        return ctx.add(op.input(0), 1 / 0)  # type: ignore[arg-type]

    registry = gate(lambda ctx, op: ctx.call("Relu", op.input(0)))
    registry.add(Rule("Relu", "", 1, careless, None))
    with pytest.raises(PluginError, match=r"node 'Gate_1' \(Relu\): rule .*careless of .* ZeroDivisionError"):
        gmnc.compile(hidden(), registry=registry)


def test_a_rule_that_calls_the_operator_it_replaces_is_told_how() -> None:
    def again(ctx: LoweringContext, op: Op) -> Value:
        return ctx.call("Relu", op.input(0))

    registry = builtin().overlay()
    registry.add(Rule("Relu", "", 1, again))
    model = network("(float[2, 3] x) => (float[2, 3] y) { h = MatMul(x, w) y = Relu(h) }", {"w": (3, 3)})
    with pytest.raises(PluginError, match="calls Relu, that is, itself; call the rule that it replaces"):
        gmnc.compile(model, registry=registry)


def test_data_operands_are_activations_before_the_rule_sees_them() -> None:
    text = "(float[2, 3] x) => (float[2, 3] y) { s = acme.Pair(t, x) y = Add(s, x) }"
    model = network(text, {"t": (2, 3)}, domains={"acme": 1})
    seen: list[tuple[bool, bool]] = []

    def pair(ctx: LoweringContext, op: Op) -> Value:
        seen.append((op.input(0).is_activation, op.input(1).is_activation))
        return ctx.add(op.input(0), op.input(1))

    def compiled(**more: Any) -> None:
        registry = builtin().overlay()
        registry.add(Rule("Pair", "acme", 1, pair, shapes=lambda op: [(op.input(1).shape, "float32")], **more))
        gmnc.compile(model, registry=registry)

    compiled(weights=())
    assert set(seen) == {(True, True)}
    seen.clear()
    compiled(weights=(0,))
    assert set(seen) == {(False, True)}
    seen.clear()
    compiled(weights=(0,), data=(0, 1))
    assert set(seen) == {(True, True)}


def test_a_value_is_an_activation_a_weight_or_a_constant_and_never_two() -> None:
    labels = (np.zeros((1, 1), np.int64),)
    assert Value("x", (2, 3), factors=labels).is_activation
    with pytest.raises(ValueError, match="more than one of activation, weight and constant"):
        Value("x", (2, 3), factors=labels, data=np.zeros((2, 3)))
    relabelled = Value("x", (2, 3), data=np.zeros((2, 3))).relabelled(labels)
    assert relabelled.is_activation
    assert relabelled.data is None


@pytest.mark.parametrize("file", sorted(Path(rules.__file__).parent.rglob("*.py")), ids=lambda p: p.stem)
def test_no_rule_forges_a_node_or_knows_the_built_in_registry(file: Path) -> None:
    if file.stem in ("registry", "plugins", "running"):
        pytest.skip("makes registries, or gives outputs their names")
    calls = [n.func for n in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    names = {c.id for c in calls if isinstance(c, ast.Name)}
    assert not names & {"Op", "Result", "builtin", "installed"}
