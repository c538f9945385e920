"""The soundness check itself: a graph with one rule of symmetry taken away must be found out by ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from support.exports import exported
from support.tiers import some

import gmnc
from gmnc.frontend import Rule, Unsupported, builtin
from gmnc.ir import ParameterGraph
from gmnc.symmetry.automorphism import apply
from gmnc.symmetry.find import generators
from gmnc.testing import assert_sound, build, random_inputs
from gmnc.testing.trial import Trial


def without_links(role: str) -> Callable[[ParameterGraph], ParameterGraph]:
    return lambda graph: replace(graph, links=tuple(link for link in graph.links if link.role != role))


def without_ties(graph: ParameterGraph) -> ParameterGraph:
    return replace(graph, edges=tuple(replace(block, tied=False) for block in graph.edges))


def without_pins(graph: ParameterGraph) -> ParameterGraph:
    return replace(graph, pinned=np.zeros_like(graph.pinned), inputs=(), outputs=())


DAMAGE = {
    "scopes": ("groupnorm", without_links("scope")),
    "products": ("attention_qkv", without_links("product")),
    "joins": ("resnet", without_links("Add")),
    "ties": ("llama", without_ties),
    "hubs": ("llama", without_links("hub")),
    "pins": ("siren", without_pins),
}


@pytest.mark.parametrize("rule", some(["joins", "ties", "hubs"], DAMAGE))
def test_a_missing_rule_is_found_out(rule: str) -> None:
    name, damage = DAMAGE[rule]
    model = exported(name, "dynamo")
    graph = gmnc.compile(model)
    broken = damage(graph)
    rng = np.random.default_rng(0)
    trial = Trial(graph, [random_inputs(model)], rng)
    claimed = generators(broken)
    errors = (trial.error(apply(broken, claimed[i], trial.values)) for i in rng.permutation(len(claimed)))
    assert any(error > 1e-3 for error in errors)


@pytest.mark.parametrize("read", ["w", "t"])
def test_what_an_opaque_operator_reads_does_not_move(read: str) -> None:
    """A weight with edges is read, as it is or moved, by an operator that is not lowered."""
    text = f"""(float[1, 4] x) => (float[1, 2] y, float[1, 4] z) {{
        t = Transpose(w) a = MatMul(x, w) h = Tanh(a) y = MatMul(h, v)
        z = Gemm(x, {read})
    }}"""
    model = build(text, {"w": (4, 4), "v": (4, 2)})
    rules = builtin().overlay()

    def refuse(*_: object) -> None:
        raise Unsupported("not lowered here")

    rules.add(Rule("Gemm", "", 1, refuse, weights=(0, 1, 2)))
    report = assert_sound(model, registry=rules, kinds=["permutation", "sign"])
    assert report.graph is not None
    assert len(report.graph.opaque) == 1
    assert report.generators == 0


def test_a_network_that_rounds_may_change_by_three_steps() -> None:
    """Noise moves some of 2,048 numbers of about 10^4 over a border, by one step; so does noise of a tenth of it."""
    text = "(float[32, 3] x) => (float[32, 64] y) { k = Constant<value_float = 10000.0>() b = Mul(x, k)"
    model = build(f"{text} a = MatMul(b, w) y = Round(a) }}", {"w": (3, 64)})
    rng = np.random.default_rng(0)
    trial = Trial(gmnc.compile(model), [random_inputs(model)], rng)
    trial.widen()
    step = 1 / np.abs(trial.base[0]["y"]).max()
    assert trial.tolerances["y"] == pytest.approx(3 * step)
