"""Symmetries that multiply: signs of odd functions, scales of homogeneous ones; counted by hand and run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.exports import Compiled, by_network, exported
from support.recurrent_networks import network as recurrent
from support.tiers import first
from support.tiny import packed_attention, separate_attention

import gmnc
from gmnc.backends import store
from gmnc.ir import GmncError, ParameterGraph
from gmnc.ir.vocabulary import Attachment
from gmnc.ir.vocabulary import declared_step as declared
from gmnc.symmetry import KINDS, homogeneity
from gmnc.symmetry.linear import System
from gmnc.testing import Report, build, verify
from gmnc.testing.strategies import network

VECTORS = {"scale": (6,), "shift": (6,), "mean": (6,), "var": (6,)}


def dimensions(graph: ParameterGraph) -> tuple[int, int]:
    """How many changes of sign and of scale generate all."""
    sign, scale = gmnc.symmetries(graph, KINDS).rescalings
    return sign.dimension, scale.dimension


def checked(model: onnx.ModelProto) -> tuple[int, int]:
    """The same of a model, of which `verify` finds that they hold and that half of one shows."""
    report: Report = verify(model, kinds=["sign", "scale"], trials=3)
    assert report.holds, "\n".join(report.complaints())
    assert report.max_error < 1e-6, "signs and powers of two round nothing"
    assert report.graph is not None
    return dimensions(report.graph)


def perceptron(step: str, opset: int = 20, **floats: tuple[int, ...]) -> onnx.ModelProto:
    """3 inputs, 6 hidden neurons that go from a to h by this step, 2 outputs."""
    text = "(float[1, 3] x) => (float[1, 2] y) { m = MatMul(x, w) a = Add(m, b) %s y = MatMul(h, v) }"
    return build(text % step, {"w": (3, 6), "b": (6,), "v": (6, 2), **floats}, opset=opset)


def image(step: str, opset: int = 20, **floats: tuple[int, ...]) -> onnx.ModelProto:
    """3 channels, 6 hidden ones that go from a to h by this step, 2 channels."""
    text = "(float[1, 3, 5, 5] x) => (float[1, 2, H, W] y) { a = Conv(x, w, b) %s y = Conv(h, v) }"
    return build(text % step, {"w": (6, 3, 1, 1), "b": (6,), "v": (2, 6, 1, 1), **floats}, opset=opset)


LIMITS = "lo = Constant<value_float = -%s>() hi = Constant<value_float = 0.7>() h = Clip(a, lo, hi)"

# One sign, one scale for each hidden neuron where there is one.
FUNCTIONS = {
    "linear": ("h = Identity(a)", 6, 6),
    "tanh": ("h = Tanh(a)", 6, 0),
    "sine": ("f = Constant<value_float = 30.0>() s = Mul(f, a) h = Sin(s)", 6, 0),
    "erf": ("h = Erf(a)", 6, 0),
    "softsign": ("h = Softsign(a)", 6, 0),
    "x - tanh(x)": ("t = Tanh(a) h = Sub(a, t)", 6, 0),
    "relu": ("h = Relu(a)", 0, 6),
    # reductions of single entries: |x|, |x|, x^2, log(x)
    "l1 norm of one": ("h = ReduceL1<noop_with_empty_axes = 1>(a)", 6, 6),
    "l2 norm of one": ("h = ReduceL2<noop_with_empty_axes = 1>(a)", 6, 6),
    "square sum of one": ("h = ReduceSumSquare<noop_with_empty_axes = 1>(a)", 6, 6),
    "log sum of one": ("t = Exp(a) h = ReduceLogSum<noop_with_empty_axes = 1>(t)", 0, 0),
    "leaky relu": ("h = LeakyRelu<alpha = 0.2>(a)", 0, 6),
    "two leaky relus": ("c = LeakyRelu(a) h = Relu(c)", 0, 6),
    "abs": ("h = Abs(a)", 6, 6),
    "x * x": ("h = Mul(a, a)", 6, 6),
    "x * tanh(x)": ("t = Tanh(a) h = Mul(a, t)", 6, 0),
    "hard tanh": (LIMITS % 0.7, 6, 0),
    "uneven clip": (LIMITS % 0.6, 0, 0),
    "x + x * x": ("q = Mul(a, a) h = Add(a, q)", 0, 0),
    "relu(tanh)": ("t = Tanh(a) h = Relu(t)", 0, 0),
    "cosine": ("h = Cos(a)", 6, 0),
    "gelu": ("h = Gelu(a)", 0, 0),
    "sigmoid": ("h = Sigmoid(a)", 0, 0),
    "silu": ("s = Sigmoid(a) h = Mul(a, s)", 0, 0),
    "softplus": ("h = Softplus(a)", 0, 0),
    "elu": ("h = Elu(a)", 0, 0),
    "softmax": ("h = Softmax(a)", 0, 0),
    "shift": ("f = Constant<value_float = 0.5>() s = Add(f, a) h = Relu(s)", 0, 0),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name: str) -> None:
    step, signs, scales = FUNCTIONS[name]
    assert checked(perceptron(step)) == (signs, scales)


# A scale and a shift per channel behind the normalisation are six dimensions of either kind on their own.
NORMS = {
    "batch norm": (image("h = BatchNormalization(a, scale, shift, mean, var)", **VECTORS), 12, 12),
    # the parts flip as wholes; the scale is not quite cancelled, for epsilon's sake
    "group norm": (image("h = GroupNormalization<num_groups = 3>(a, scale, shift)", 21, scale=(6,), shift=(6,)), 9, 6),
    "instance norm": (image("h = InstanceNormalization(a, scale, shift)", scale=(6,), shift=(6,)), 12, 6),
    "layer norm": (perceptron("h = LayerNormalization(a, g, c)", g=(6,), c=(6,)), 7, 6),
    # without epsilon the common scale is cancelled
    "layer norm, exact": (perceptron("h = LayerNormalization<epsilon = 0.0>(a, g, c)", g=(6,), c=(6,)), 7, 7),
    "rms norm": (perceptron("h = RMSNormalization(a, g)", 23, g=(6,)), 12, 6),
    "l2 norm": (perceptron("h = LpNormalization<axis = 1>(a)"), 6, 1),
    "weight per channel": (perceptron("s = Mul(a, g) h = Tanh(s)", g=(6,)), 12, 6),
    "divisor per channel": (perceptron("s = Div(a, g) h = Tanh(s)", g=(6,)), 12, 6),
    "slope per channel": (perceptron("h = PRelu(a, g)", g=(6,)), 0, 6),
    "max pool": (image("h = MaxPool<kernel_shape = [2, 2]>(a)"), 0, 6),
    "average pool": (image("h = AveragePool<kernel_shape = [2, 2]>(a)"), 6, 6),
    "global max": (image("h = GlobalMaxPool(a)"), 0, 6),
}


@pytest.mark.parametrize("name", NORMS)
def test_steps_with_parameters_and_steps_over_places(name: str) -> None:
    model, signs, scales = NORMS[name]
    assert checked(model) == (signs, scales)


# 6 neurons at 3 positions, normalised in two parts: the first has all neurons at position 0 and 0 to 2 at position 1.
ACROSS = """(float[1, 3, 4] x) => (float[1, 3, 2] y) {
    a = MatMul(x, w) q = Reshape(a, parts) %s h = Reshape(p, back) y = MatMul(h, v)
}"""
# 6 channels at 5 positions, normalised in pairs.
PAIRS = """(float[1, 4, 5] x) => (float[1, 2, 5] y) {
    a = Conv(x, k, b) q = Reshape(a, pairs) %s h = Reshape(p, apart) y = Conv(h, l)
}"""
MOVED = {
    # The mean of each part has all neurons: one sign for all. Element i of the scale is for neuron i at position 0 and,
    # in the other part, for neuron i + 3 mod 6, so elements that agree mod 3 have one factor: 3 of either kind.
    "layer norm": (ACROSS % "p = LayerNormalization(q, g)", {"g": (9,)}, 4, 3),
    # No mean: a sign for each neuron.
    "rms norm": (ACROSS % "p = RMSNormalization(q, g)", {"g": (9,)}, 9, 3),
    # The norm is divided out, but all neurons share it.
    "l2 norm": (ACROSS % "p = LpNormalization<axis = -1, p = 2>(q)", {}, 6, 1),
    "softmax": (ACROSS % "p = Softmax<axis = -1>(q)", {}, 0, 0),
    # One sign per pair in front of the norm; the scale of a pair behind it is free.
    "instance norm": (PAIRS % "p = InstanceNormalization(q, s, c)", {"s": (3,), "c": (3,)}, 6, 3),
    "instance norm, exact": (PAIRS % "p = InstanceNormalization<epsilon = 0.0>(q, s, c)", {"s": (3,), "c": (3,)}, 6, 6),
    # The scale has an element for each position of the first and of the second channel of the pairs.
    "layer norm of pairs": (PAIRS % "p = LayerNormalization(q, g)", {"g": (10,)}, 5, 2),
}


@pytest.mark.parametrize("name", MOVED)
def test_norms_of_what_a_reshape_brings_together(name: str) -> None:
    text, vectors, signs, scales = MOVED[name]
    weights = {"w": (4, 6), "v": (6, 2), "k": (6, 4, 1), "b": (6,), "l": (2, 6, 1)}
    floats = {n: s for n, s in weights.items() if f", {n})" in text or f" {n}," in text}
    ints = {"parts": [1, 2, 9], "back": [1, 3, 6], "pairs": [1, 3, 10], "apart": [1, 6, 5]}
    model = build(text, {**floats, **vectors}, {n: v for n, v in ints.items() if f" {n})" in text}, opset=23)
    assert checked(model) == (signs, scales)


STREAM = """(float[1, 3] x) => (float[1, 2] y) {
    a = MatMul(x, w) h = %s(a) b = MatMul(h, u) c = %s(b) s = Add(h, c) y = MatMul(s, v)
}"""


@pytest.mark.parametrize(("function", "signs", "scales"), [("Tanh", 4, 0), ("Relu", 0, 4), ("Gelu", 0, 0)])
def test_a_residual_stream_changes_as_one(function: str, signs: int, scales: int) -> None:
    model = build(STREAM % (function, function), {"w": (3, 4), "u": (4, 4), "v": (4, 2)})
    assert checked(model) == (signs, scales)


def test_what_is_multiplied_adds_up() -> None:
    text = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = MatMul(x, u) s = %s(a, b) y = MatMul(s, v) }"
    weights = {"w": (3, 4), "u": (3, 4), "v": (4, 2)}
    assert checked(build(text % "Mul", weights)) == (8, 8)
    assert checked(build(text % "Div", weights)) == (8, 8)
    assert checked(build(text % "Max", weights)) == (0, 4)
    assert checked(build(text % "Add", weights)) == (4, 4)


@pytest.mark.parametrize("attention", [packed_attention, separate_attention])
def test_queries_and_keys_change_against_each_other(attention: Callable[[], onnx.ModelProto]) -> None:
    # 2 heads of 2 dimensions: a pair of q and k each, and v, which the output's weights follow
    model = attention()
    assert checked(model) == (4 + 4, 4 + 4)
    [_, scale] = gmnc.symmetries(gmnc.compile(model), KINDS).rescalings
    pair = scale.generator(0, 1.0)
    values = {n: p.load() for n, p in scale.graph.parameters.items()}
    new = pair.apply(values)
    if attention is separate_attention:
        assert sorted(new) == ["bk", "bq", "wk", "wq"]
        [factor] = set(np.unique((new["wq"] / values["wq"]).round(5)).tolist()) - {1.0}
        [inverse] = set(np.unique((new["wk"] / values["wk"]).round(5)).tolist()) - {1.0}
        assert factor * inverse == pytest.approx(1, abs=1e-4)


def test_shared_parameters_change_alike_at_all_sites() -> None:
    text = "(float[1, 4] x) => (float[1, 4] y) { a = MatMul(x, w) h = %s(a) t = Transpose(%s) y = MatMul(h, t) }"
    apart = {"w": (4, 5), "v": (4, 5)}
    assert checked(build(text % ("Tanh", "v"), apart)) == (5, 0)
    assert checked(build(text % ("Tanh", "w"), {"w": (4, 5)})) == (5, 0), "tanh(x w) w': both change with the neuron"
    assert checked(build(text % ("Relu", "v"), apart)) == (0, 5)
    assert checked(build(text % ("Relu", "w"), {"w": (4, 5)})) == (0, 0), "w cannot be divided where it is multiplied"
    twice = """(float[1, 4] x) => (float[1, 2] y) {
        a = MatMul(x, w) h = Tanh(a) b = MatMul(h, w) c = Tanh(b) y = MatMul(c, v)
    }"""
    assert checked(build(twice, {"w": (4, 4), "v": (4, 2)})) == (1, 0), "-w: tanh(-tanh(-x w) w) is what it was"


def test_a_shared_vector_is_followed_element_by_element() -> None:
    text = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, w) b = Add(a, g) h = Relu(b) c = MatMul(h, u) d = Add(c, g) e = Relu(d) y = MatMul(e, v)
    }"""
    weights = {"w": (3, 4), "g": (4,), "u": (4, 4), "v": (4, 2)}
    assert checked(build(text, weights)) == (0, 4), "both layers follow the bias that they share"


# LSTM: the cell's content and the state flip, its gates do not; sigmoid fixes every scale.
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_units_of_recurrent_cells_change_their_sign(op: str) -> None:
    assert checked(recurrent(op)) == (4, 0)


def test_a_relu_in_a_recurrent_cell() -> None:
    assert checked(recurrent("RNN", 'activations = ["Relu"]')) == (0, 4)
    everywhere = 'activations = ["Relu", "Relu", "Relu"]'
    assert checked(recurrent("LSTM", everywhere)) == (0, 8), "an output gate, and the cell with its state, of each unit"


def test_what_a_second_axis_is_part_of_stays() -> None:
    """A bias per token on values that vary over tokens and channels cannot follow a channel."""
    text = """(float[1, 4, 3] x) => (float[1, 4, 2] y) {
        a = MatMul(x, w) g = Mul(a, s) t = Transpose<perm = [0, 2, 1]>(g) m = MatMul(t, u) b = Add(m, c) r = Relu(b)
        k = MatMul(r, v) z = Transpose<perm = [0, 2, 1]>(k) y = MatMul(z, o)
    }"""
    weights = {"w": (3, 6), "s": (6,), "u": (4, 5), "c": (5,), "v": (5, 4), "o": (6, 2)}
    assert checked(build(text, weights)) == (0, 0)


@pytest.mark.parametrize("name", by_network())
def test_the_zoo_holds_in_all_kinds(name: str) -> None:
    report = verify(exported(name, "dynamo"), kinds=KINDS[:3], trials=2, controls=2)
    assert report.holds, "\n".join(report.complaints())


@pytest.mark.full
@pytest.mark.parametrize("name", by_network())
def test_the_zoo_holds_under_matrices(name: str) -> None:
    report = verify(exported(name, "dynamo"), kinds=KINDS, trials=2, controls=2)
    assert report.holds, "\n".join(report.complaints())


# Pairs of LayerNorm's scale and the next weight are in most of these.
KNOWN = {
    "siren": (32, 0),
    "deepsets": (0, 14),
    # 2 heads of 4 dimensions: q with k, and v
    "attention_qkv": (16, 16),
    "mixer": (0, 0),
}


@pytest.mark.parametrize("name", by_network(KNOWN))
def test_known_numbers_in_the_zoo(name: str, compiled: Compiled) -> None:
    assert dimensions(compiled(name)) == KNOWN[name]


@pytest.mark.parametrize("seed", first(8, range(24)))
def test_random_networks_hold(seed: int) -> None:
    model = network(seed)
    report = verify(model, kinds=["sign", "scale"], trials=1, controls=0)
    assert report.sound is not False, "\n".join(report.complaints())


WRONG = {
    "gelu taken for homogeneous": ("Gelu", {"degree": 1}, perceptron("h = Gelu(a)")),
    "relu taken for odd": ("Relu", {"parity": 1}, perceptron("h = Relu(a)")),
    "max pool taken for odd": ("MaxPool", {"parity": 1}, NORMS["max pool"][0]),
    "square taken for degree one": ("Square", {"degree": 1}, perceptron("h = Mul(a, a)")),
    "layer norm without coupling": ("Standardize", {"couples": (False, False)}, NORMS["layer norm"][0]),
    "slope taken for a factor": ("PRelu", {"attached": declared("Mul").attached}, NORMS["slope per channel"][0]),
    "mean taken for the variance": (
        "BatchNormalization",
        {"attached": (Attachment(False, (0, 1)),) * 2},
        NORMS["batch norm"][0],
    ),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_a_wrong_law_is_found_out(mistake: str, monkeypatch: pytest.MonkeyPatch) -> None:
    name, law, model = WRONG[mistake]
    assert verify(model, kinds=["sign", "scale"], trials=2).holds
    wrong = replace(declared(name), **law)
    monkeypatch.setattr(homogeneity, "declared_step", lambda op: wrong if op == name else declared(op))
    report = verify(model, kinds=["sign", "scale"], trials=2)
    assert report.sound is False
    assert any("change their s" in str(f) for f in report.failures)


def test_half_of_a_change_is_a_negative_control() -> None:
    report = verify(perceptron("h = Tanh(a)"), kinds=["sign"], controls=3)
    assert (report.tried, report.detected) == (3, 3)
    assert report.to_json()["kinds"] == {"sign": 6}


def test_kinds_compose() -> None:
    model = image("h = BatchNormalization(a, scale, shift, mean, var)", **VECTORS)
    graph = gmnc.compile(model)
    found = gmnc.symmetries(graph, KINDS)
    assert gmnc.symmetries(graph, KINDS) is found
    assert found.generators == gmnc.symmetries(graph).generators
    rng = np.random.default_rng(1)
    values = {n: p.load() for n, p in graph.parameters.items()}
    new = found.sample(rng).apply(values)
    assert set(new) == set(values)
    assert {n: v.dtype for n, v in new.items()} == {n: v.dtype for n, v in values.items()}
    sign = found.rescalings[0]
    once = sign.sample(rng)
    assert all((np.abs(v) == np.abs(values[n])).all() for n, v in once.apply(values).items())
    twice = once.apply({**values, **once.apply(values)})
    assert all((v == values[n]).all() for n, v in twice.items()), "a sign that changes twice is what it was"
    assert sign.log10_size == pytest.approx(12 * np.log10(2))


@pytest.mark.full
def test_a_store_has_the_same_symmetries(tmp_path: Path, compiled: Compiled) -> None:
    graph = compiled("mixer")
    path = tmp_path / "graph.safetensors"
    store.save(graph, path)
    assert gmnc.symmetries(store.load(path), KINDS).to_json() == gmnc.symmetries(graph, KINDS).to_json()


@pytest.mark.parametrize("kinds", [[], ["signs"], "sign"])
def test_unknown_kinds_are_refused(kinds: list[str]) -> None:
    with pytest.raises(GmncError, match="permutation, sign, scale"):
        gmnc.symmetries(gmnc.compile(perceptron("h = Tanh(a)")), kinds)


def test_linear_systems() -> None:
    """x0 = x1, x3 = x0 + x2, x4 = 2 x3, x5 = 0, x5 = x6 + x7; x8 is free."""
    for binary, count in ((False, 4), (True, 4)):
        system = System(9, binary)
        system.equal(np.array([0]), np.array([1]))
        system.equal_sum(np.array([3, 3, 5, 5]), np.array([0, 2, 6, 7]))
        system.zero_sum((-1.0, np.array([4])), (2.0, np.array([3])))
        system.zero(np.array([5]))
        solution = system.solve()
        assert solution.dimension == count
        x = solution.values(np.arange(1.0, 1 + count))
        assert x[0] == x[1]
        residuals = [x[3] - x[0] - x[2], x[4] - 2 * x[3], x[5], x[5] - x[6] - x[7]]
        assert all(r % 2 == 0 if binary else r == 0 for r in residuals)
        assert solution.kept(np.array([8, 6])).dimension == 2


@pytest.mark.parametrize("step", ["Softmax", "LayerNormalization<epsilon = 0.0>"])
def test_neurons_that_only_take_part_in_a_normalisation_are_bound(step: str) -> None:
    """The last two of six are cut off behind it."""
    operands = "a, g" if step != "Softmax" else "a"
    text = f"s = {step}({operands}) h = Slice(s, zero, four, axis)"
    model = build(
        f"(float[1, 3] x) => (float[1, 2] y) {{ a = MatMul(x, w) {text} y = MatMul(h, v) }}",
        {"w": (3, 6), "v": (4, 2), **({"g": (6,)} if "g" in operands else {})},
        {"zero": [0], "four": [4], "axis": [1]},
    )
    assert checked(model) == ((0, 0) if step == "Softmax" else (7, 7))
