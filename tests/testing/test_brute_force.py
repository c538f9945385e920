"""The second oracle: symmetries found by trying them on what the file stores, against those that are claimed."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.careless import LRN, careless
from support.paths import EXAMPLES, SHARED
from support.tiers import first

from gmnc.frontend import Rule, Unsupported, builtin
from gmnc.testing import assert_exact, brute_force, build, with_values
from gmnc.testing.slices import connected, pairs, sliced_axes
from gmnc.testing.stored import StoredNetwork, StoredTensor, hoisted
from gmnc.testing.strategies import network

CASES = sorted(SHARED.glob("cases/*.onnx"))
# Networks that compute their weights or start from zeros: everything is claimed there.
EXACT = ("lora_merged", "m_f1_", "m_f3_", "m_g_zeros", "weightnorm")
COUNT = int(os.environ.get("GMNC_FUZZ", "0"))
MLP = "(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
# Weights computed in the file, between two layers of four neurons: text, tensors, swaps that preserve the outputs.
LAYER = "t = Tanh(b) c = MatMul(t, q)"
DERIVED = {
    "softplus of a weight used as it is": ("q = Softplus(w)", {}, 6),
    "w - w^T": ("z = Transpose(w) q = Sub(w, z)", {}, 6),
    "low rank": ("p = MatMul(l, r) q = Add(s, p)", {"l": (4, 2), "r": (2, 4), "s": (4, 4)}, 0),
    "weight norm": ("n = ReduceL2(s) d = Div(s, n) q = Mul(g, d)", {"g": (4,), "s": (4, 4)}, 0),
    "outer product": ("q = Mul(g, o)", {"g": (4, 1), "o": (1, 4)}, 0),
    "one number for all": ("e = Exp(g) q = Mul(s, e)", {"g": (1,), "s": (4, 4)}, 0),
}


def derived(name: str) -> onnx.ModelProto:
    steps, tensors, _ = DERIVED[name]
    text = f"""(float[3, 3] x) => (float[3, 2] y) {{
        a = MatMul(x, u) h = Tanh(a) b = MatMul(h, w) {steps} {LAYER} k = Tanh(c) y = MatMul(k, v)
    }}"""
    return build(text, {"u": (3, 4), "w": (4, 4), "v": (4, 2), **tensors})


def test_a_perceptron_is_found_whole() -> None:
    report = assert_exact(build(MLP, {"w": (3, 5), "v": (5, 2)}))
    assert report.complete
    assert [str(s) for f in report.found for s in f.axes][:2] == ["w axis 1", "v axis 0"]
    assert {f.pair for f in report.found} == set(pairs(5))
    assert {f.kind for f in report.found} == {"claimed"}
    assert report.claims == 4


@pytest.mark.parametrize("name", DERIVED)
def test_weights_that_the_file_computes(name: str) -> None:
    report = assert_exact(derived(name))
    assert sum(f.kind == "claimed" for f in report.found) >= DERIVED[name][2]


def test_a_false_claim_is_found() -> None:
    report = brute_force(LRN, registry=careless())
    assert len(report.false) == 5
    assert not brute_force(LRN).false
    with pytest.raises(AssertionError, match="a claimed symmetry changes the output"):
        assert_exact(LRN, registry=careless())


def test_a_missed_symmetry_is_found() -> None:
    rules = builtin().overlay()

    def refuse(*_: object) -> None:
        raise Unsupported("not lowered here")

    rules.add(Rule("Relu", "", 1, refuse))
    report = brute_force(build(MLP, {"w": (3, 4), "v": (4, 2)}), registry=rules)
    assert {f.pair for f in report.missed} == set(pairs(4))
    with pytest.raises(AssertionError, match=r"missed: 0 <-> 1, .* of w axis 1, v axis 0"):
        assert_exact(build(MLP, {"w": (3, 4), "v": (4, 2)}), registry=rules)


def test_what_only_adds_up_is_known() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) {
        a = MatMul(x, w) b = Add(a, c) d = ReduceMean(b) z = MatMul(x, v) y = Add(z, d)
    }"""
    report = assert_exact(build(text, {"w": (3, 3), "v": (3, 2), "c": (3,)}))
    assert {str(s) for f in report.found if f.kind == "sum" for s in f.axes} >= {"c axis 0", "w axis 1"}


def test_a_product_of_numbers_of_two_signs_is_known() -> None:
    text = "(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, w) b = Mul(a, s) c = Mul(b, t) y = MatMul(c, v) }"
    scales = {"s": np.float32([-0.7, 0.4, 0.9, -1.2]), "t": np.float32([0.8, -0.5, 1.1, 0.3])}
    model = with_values(build(text, {"w": (3, 4), "s": (4,), "t": (4,), "v": (4, 2)}), **scales)
    report = brute_force(model)
    assert {f.kind for f in report.found if {str(s) for s in f.axes} == {"tensors s, t"}} == {"product"}


def test_what_is_zero_but_for_rounding_is_left_out() -> None:
    text = """(float[2, 4] x) => (float[2, 2] y, float[2, 1] z) {
        a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) m = ReduceMean<axes = [1]>(b) c = Sub(b, m)
        z = ReduceMean<axes = [1]>(c)
    }"""
    model = build(text, {"w": (4, 5), "v": (5, 2)}, opset=13)
    report = brute_force(model)
    assert not report.false
    assert report.claims
    assert report.skipped == ("output 'z': it is zero up to rounding",)


def test_heads_and_members_of_ensembles_are_tried() -> None:
    """Blocks of an axis, and equal-shaped tensors."""
    text = """(float[2, 3] x) => (float[2, 2] y) {
        a = MatMul(x, w0) b = Tanh(a) c = MatMul(b, v0)
        d = MatMul(x, w1) e = Tanh(d) f = MatMul(e, v1)
        y = Add(c, f)
    }"""
    report = assert_exact(build(text, {"w0": (3, 2), "v0": (2, 2), "w1": (3, 2), "v1": (2, 2)}))
    assert any(str(s) == "tensors w0, w1" for f in report.found for s in f.axes)
    forms = {str(s) for some in sliced_axes([StoredTensor("w", (6, 4), 0)]).values() for s in some}
    assert {"w axis 0", "w axis 0 as 1 x 3 x 2", "w axis 0 as 3 x 2 x 1", "w axis 0 from 2"} <= forms


def test_what_runs_is_the_file() -> None:
    """Tensors of Constant nodes and of bodies count as stored, and a session takes any values for them."""
    text = """(float[1, 3] x, bool c) => (float[1, 2] y) {
        w = Constant<value = float[3, 2] {1, 2, 3, 4, 5, 6}>()
        y = If(c) <
            then_branch = g () => (float[1, 2] p) {
                u = Constant<value = float[3, 2] {1, 1, 2, 2, 3, 3}>() p = MatMul(x, u)
            },
            else_branch = h () => (float[1, 2] q) { q = MatMul(x, w) }
        >
    }"""
    stored = StoredNetwork(hoisted(build(text)))
    assert [(t.name, t.shape) for t in stored.tensors] == [("w", (3, 2)), ("u", (3, 2))]
    feeds = {"x": np.ones((1, 3), np.float32), "c": np.array(True)}
    np.testing.assert_array_equal(stored.run(stored.own, feeds)["y"], [[6, 6]])
    np.testing.assert_array_equal(stored.run(2 * stored.own, feeds)["y"], [[12, 12]])


def test_swaps_generate() -> None:
    assert connected(3, [(0, 1), (1, 2)])
    assert not connected(3, [(0, 1)])


@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_examples(name: str) -> None:
    assert not brute_force(EXAMPLES / f"{name}.onnx", max_runs=2000).false


@pytest.mark.parametrize("path", first(0, CASES), ids=lambda p: p.stem)
def test_cases(path: Path) -> None:
    if path.stem.startswith(EXACT):
        assert_exact(path)
    else:
        assert not brute_force(path, max_runs=100).false


# Seed 716 draws attributes beside literals that set sizes.
@pytest.mark.fuzz
@pytest.mark.parametrize("seed", first(COUNT + 1 if COUNT else 4, sorted({*range(COUNT or 20), 716})))
def test_claims_about_random_networks_hold(seed: int) -> None:
    """Nothing false in networks of all families, the claims being run on what the file stores."""
    report = brute_force(network(seed, 5), max_runs=100)
    assert not report.false, "\n".join(report.false)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", first(COUNT or 6, range(COUNT or 30)))
def test_claims_about_random_derived_weights_hold(seed: int) -> None:
    """Nothing false, whatever the file computes its weights with."""
    report = brute_force(network(seed, 3, ["derived", "derived-series", "derived-norm"]), max_runs=500)
    assert not report.false, "\n".join(report.false)


@pytest.mark.fuzz
@pytest.mark.parametrize("seed", first(COUNT + 2 if COUNT else 8, sorted({*range(COUNT or 40), 3786, 4614})))
def test_random_layers_are_claimed_exactly(seed: int) -> None:
    """Nothing false, and nothing missed but what docs/symmetries.md lists, where layers follow each other.

    Of computed weights, which `DERIVED` and the cases claim exactly, outer products, mixtures and networks that make
    weights have symmetries that are missed; so have channels of images that are merged with places.
    """
    model = network(seed, 3, ["matmul", "gemm", "unary"])
    report = brute_force(model, max_runs=3000)
    assert not report.false, "\n".join(report.false)
    computed = computed_with(model)
    merged = {"Conv", "Reshape"} <= {node.op_type for node in model.graph.node}
    assert merged or not [f for f in report.missed if not any(computed & set(s.name.split(", ")) for s in f.axes)]


def computed_with(model: onnx.ModelProto) -> set[str]:
    """The initializers that weights are computed from in the file, beside those that weights are moved from."""
    behind = {i.name: {i.name} for i in model.graph.initializer}
    found: set[str] = set()
    for node in model.graph.node:
        if all(name in behind for name in node.input if name):
            sources = set().union(*(behind[name] for name in node.input if name))
            behind |= dict.fromkeys(node.output, sources)
            found |= sources if node.op_type not in ("Constant", "Identity", "Reshape", "Transpose") else set()
    return found
