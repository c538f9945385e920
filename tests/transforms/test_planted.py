"""A network and what a random symmetry makes of it: `diff` calls them equal, `align` finds the order again."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.corpus import CORPUS, FOLDER
from support.exports import Compiled, How, by_export, by_network
from support.tiers import first

import gmnc
from gmnc.ir import ParameterGraph
from gmnc.testing import build
from gmnc.testing.trial import perturbed_values
from gmnc.transforms import align, diff, match, prove, scramble

NOISE = 1e-3


def parameters(graph: ParameterGraph) -> dict[str, np.ndarray]:
    """Distinct values of everything on edges: networks that start from zeros and ones have no order to find."""
    names = sorted({block.view.name for block in graph.edges if not block.constant})
    own = {n: np.array(graph.parameters[n].load()) for n in names}
    return perturbed_values(graph, own, np.random.default_rng(0))


def noisy(values: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    return {n: (v * (1 + NOISE * rng.standard_normal(v.shape))).astype(v.dtype) for n, v in values.items()}


def assert_recovered(graph: ParameterGraph) -> None:
    a = parameters(graph)
    # A graph has the values of its model; these are others.
    moved = scramble(graph, seed=1).symmetry
    b = {**a, **moved.apply(a)}
    for other in (b, noisy(b, np.random.default_rng(2))):
        back = {**other, **moved.inverse().apply(other)}
        found = match(graph, a, other).values
        assert all(np.array_equal(back[n], found[n]) for n in a)


@pytest.mark.parametrize(("name", "how"), by_export(hows=["dynamo", "torchscript"]))
def test_the_order_of_exported_networks_is_found(name: str, how: How, compiled: Compiled) -> None:
    assert_recovered(compiled(name, how))


@pytest.mark.parametrize("path", first(2, CORPUS), ids=lambda p: p.stem)
def test_the_order_of_real_networks_is_found(path: Path) -> None:
    assert_recovered(gmnc.compile(path))


def test_the_corpus_is_there() -> None:
    if not CORPUS:
        pytest.skip(f"the corpus of real networks is not at {FOLDER}")
    assert len(CORPUS) > 10


HEADS = """(float[1, 5, 6] x) => (float[1, 5, 2] y) {
    q0 = MatMul(x, wq) k0 = MatMul(x, wk) v0 = MatMul(x, wv)
    q1 = Reshape(q0, parts) k1 = Reshape(k0, parts) v1 = Reshape(v0, parts)
    q = Transpose<perm = [0, 2, 1, 3]>(q1) k = Transpose<perm = [0, 2, 3, 1]>(k1) v = Transpose<perm = [0, 2, 1, 3]>(v1)
    s = MatMul(q, k) p = Softmax<axis = -1>(s) o = MatMul(p, v)
    t = Transpose<perm = [0, 2, 1, 3]>(o) f = Reshape(t, flat) h = MatMul(f, wo) r = Tanh(h) y = MatMul(r, wy)
}"""
BRANCHES = """(float[2, 3] x) => (float[2, 2] y) {
    a0 = MatMul(x, wa) a1 = Tanh(a0) a = MatMul(a1, va) b0 = MatMul(x, wb) b1 = Tanh(b0) b = MatMul(b1, vb)
    c0 = MatMul(x, wc) c1 = Tanh(c0) c = MatMul(c1, vc) s = Add(a, b) y = Add(s, c)
}"""
DEPTHWISE = """(float[1, 3, 8, 8] x) => (float[1, 2] y) {
    a = Conv(x, w) b = Relu(a) c = Conv<group = 6>(b, d) e = Relu(c) m = GlobalAveragePool(e) f = Flatten(m)
    y = MatMul(f, v)
}"""
FORMS: dict[str, tuple[str, dict[str, tuple[int, ...]], dict[str, list[int]]]] = {
    "layers": (
        """(float[1, 3] x) => (float[1, 2] y) {
            a = MatMul(x, w) b = Relu(a) c = MatMul(b, u) d = Relu(c) y = MatMul(d, v) }""",
        {"w": (3, 16), "u": (16, 16), "v": (16, 2)},
        {},
    ),
    "heads": (
        HEADS,
        {"wq": (6, 12), "wk": (6, 12), "wv": (6, 12), "wo": (12, 7), "wy": (7, 2)},
        {"parts": [1, 5, 3, 4], "flat": [1, 5, 12]},
    ),
    "branches": (BRANCHES, {f"{n}{b}": s for b in "abc" for n, s in (("w", (3, 5)), ("v", (5, 2)))}, {}),
    "depthwise": (DEPTHWISE, {"w": (6, 3, 3, 3), "d": (6, 1, 3, 3), "v": (6, 2)}, {}),
}  # fmt: skip


def model(form: str, seed: int = 0) -> onnx.ModelProto:
    text, floats, ints = FORMS[form]
    return build(text, floats, ints, seed=seed)


@pytest.mark.parametrize("form", FORMS)
def test_forms(form: str, tmp_path: Path) -> None:
    """Files: scrambled, compared, put in order, and then equal to the last byte."""
    original, scrambled, ordered = (tmp_path / f"{n}.onnx" for n in "abc")
    onnx.save(model(form), original)
    made = scramble(original, seed=3)
    assert made.proof.holds
    assert made.values
    gmnc.write(made.graph, made.values, scrambled)
    found = diff(original, scrambled)
    assert found.equal
    assert found.alignment is not None
    assert found.alignment.before > 0.1
    assert found.alignment.moved > 0
    alignment = align(original, scrambled)
    assert alignment.proof.holds
    gmnc.write(alignment.networks.b, alignment.values, ordered)
    assert ordered.read_bytes() == original.read_bytes()


ALL = ("permutation", "sign", "scale", "linear", "orthogonal")
KINDS = (ALL, ("permutation", "sign"), ("permutation", "scale"))


@pytest.mark.parametrize("kinds", first(1, [pytest.param(kinds, id="-".join(kinds)) for kinds in KINDS]))
@pytest.mark.parametrize(("name", "how"), by_export(["perceptron", "resnet", "vit", "gpt"], hows=["dynamo"]))
def test_symmetries_of_other_kinds_are_undone(
    name: str, how: How, kinds: tuple[str, ...], compiled: Compiled, tmp_path: Path
) -> None:
    graph = compiled(name, how)
    original, scrambled = (tmp_path / f"{n}.onnx" for n in "ab")
    gmnc.write(graph, parameters(graph), original)
    made = scramble(original, seed=1, kinds=kinds)
    assert made.proof.holds
    gmnc.write(made.graph, made.values, scrambled)
    found = align(original, scrambled, kinds=kinds)
    assert found.proof.holds
    assert found.before > 0.1
    assert found.after < 1e-6


@pytest.mark.parametrize("name", by_network())
def test_exports_of_two_exporters_are_put_in_one_order(name: str, compiled: Compiled) -> None:
    """Tensors have other names and layouts there, and activations are written in other ways."""
    graph = compiled(name, "torchscript")
    other = scramble(graph, seed=1)
    found = align(compiled(name, "dynamo"), gmnc.write(graph, other.values))
    assert found.proof.holds
    assert found.after < 1e-6


def test_neurons_that_one_input_tells_apart_are_found_by_sorted_parameters() -> None:
    """Of 33 numbers at a neuron only the one from the input is in a known place at first."""
    text = """(float[1, 1] x) => (float[1, 1] y) {
        a = MatMul(x, w) b = Tanh(a) c = MatMul(b, u) d = Tanh(c) e = MatMul(d, t) f = Tanh(e) y = MatMul(f, v) }"""
    shapes = {"w": (1, 32), "u": (32, 32), "t": (32, 32), "v": (32, 1)}
    graph = gmnc.compile(build(text, shapes))
    a = parameters(graph)
    moved = scramble(graph, seed=1).symmetry
    b = noisy({**a, **moved.apply(a)}, np.random.default_rng(2))
    back, found = {**b, **moved.inverse().apply(b)}, match(graph, a, b, starts=1).values
    assert all(np.array_equal(back[n], found[n]) for n in a)


def test_a_change_that_is_no_symmetry_is_not_proved() -> None:
    graph = gmnc.compile(model("layers"))
    feeds = [{"x": np.ones((1, 3), np.float32)}]
    values = {"w": graph.parameters["w"].load()[:, ::-1].copy()}
    proof = prove(graph, values, feeds, np.random.default_rng(0))
    assert not proof.holds
    assert "CHANGE" in proof.summary
    assert prove(graph, {}, feeds, np.random.default_rng(0)).holds
