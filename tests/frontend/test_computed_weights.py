"""Weights that the file computes from stored tensors: every stored element on an edge, no derived parameter."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
from support.recurrent_networks import computed

import gmnc
from gmnc.backends.onnx import write
from gmnc.ir import GmncError
from gmnc.testing import assert_isomorphic, assert_sound, build

# What multiplies x, written as a weight and on activations. Sizes: x [2, 4], W [4, 6], A [4, 2], B [2, 6], V [6, 3].
SHAPES = {
    "W": (4, 6), "U": (4, 6), "T": (6, 4), "A": (4, 2), "B": (2, 6), "A2": (4, 2), "g": (6,), "g2": (1, 6), "h": (4, 1),
    "s": (), "b": (6,), "V": (6, 3), "P": (4, 3), "Q": (4, 3), "a": (2, 3), "e": (2, 2), "L": (8, 2), "W8": (8, 6),
    "D": (6, 6),
}  # fmt: skip

LINEAR = {
    "a product": ("d = MatMul(A, B) h1 = MatMul(x, d)", "t = MatMul(x, A) h1 = MatMul(t, B)"),
    "low rank beside a weight": (
        "d = MatMul(A, B) ds = Mul(d, s) e2 = Add(W, ds) h1 = MatMul(x, e2)",
        "p = MatMul(x, W) t = MatMul(x, A) q = MatMul(t, B) qs = Mul(q, s) h1 = Add(p, qs)",
    ),
    "low rank twice": (
        "d = MatMul(A, B) d2 = MatMul(A2, B) e1 = Add(W, d) e2 = Sub(e1, d2) h1 = MatMul(x, e2)",
        "p = MatMul(x, W) t = MatMul(x, A) q = MatMul(t, B) t2 = MatMul(x, A2) q2 = MatMul(t2, B) "
        "pq = Add(p, q) h1 = Sub(pq, q2)",
    ),
    "scaled outputs": ("e2 = Mul(g, W) h1 = MatMul(x, e2)", "t = MatMul(x, W) h1 = Mul(g, t)"),
    "scaled inputs": ("e2 = Mul(h, W) h1 = MatMul(x, e2)", "ht = Reshape(h, c4) t = Mul(x, ht) h1 = MatMul(t, W)"),
    "divided outputs": ("e2 = Div(W, g2) h1 = MatMul(x, e2)", "t = MatMul(x, W) h1 = Div(t, g2)"),
    "both scaled": (
        "e1 = Mul(W, g) e2 = Mul(h, e1) h1 = MatMul(x, e2)",
        "ht = Reshape(h, c4) t = Mul(x, ht) u = MatMul(t, W) h1 = Mul(u, g)",
    ),
    "transposed": (
        "Tt = Transpose<perm = [1, 0]>(T) e2 = Add(W, Tt) f = Transpose<perm = [1, 0]>(e2) "
        "h1 = Gemm<transB = 1>(x, f)",
        "Tt = Transpose<perm = [1, 0]>(T) p = MatMul(x, W) q = MatMul(x, Tt) h1 = Add(p, q)",
    ),
    "sliced": (
        "M = MatMul(L, B) e2 = Add(W8, M) f = Slice(e2, c2, c6, c0) h1 = MatMul(x, f)",
        "Wp = Slice(W8, c2, c6, c0) Lp = Slice(L, c2, c6, c0) p = MatMul(x, Wp) t = MatMul(x, Lp) q = MatMul(t, B) "
        "h1 = Add(p, q)",
    ),
    "concatenated outputs": (
        "m = Mul(P, k) n = MatMul(A, a) e2 = Concat<axis = 1>(m, n) h1 = MatMul(x, e2)",
        "m = Mul(P, k) p = MatMul(x, m) t = MatMul(x, A) q = MatMul(t, a) h1 = Concat<axis = 1>(p, q)",
    ),
    "a difference in series": (
        "e2 = Sub(W, U) h1 = MatMul(x, e2)", "p = MatMul(x, W) q = MatMul(x, U) h1 = Sub(p, q)"
    ),
    "three factors": (
        "m = MatMul(A, e) e2 = MatMul(m, B) h1 = MatMul(x, e2)",
        "t = MatMul(x, A) u = MatMul(t, e) h1 = MatMul(u, B)",
    ),
    "Gemm": (
        "d = MatMul(A, B) e2 = Add(W, d) h1 = Gemm<alpha = 0.5, beta = 2.0>(x, e2, b)",
        "p = MatMul(x, W) t = MatMul(x, A) q = MatMul(t, B) pq = Add(p, q) half = Constant<value_float = 0.5>() "
        "two = Constant<value_float = 2.0>() rs = Mul(pq, half) bs = Mul(b, two) h1 = Add(rs, bs)",
    ),
    "a negative": ("d = MatMul(A, B) n = Neg(d) h1 = MatMul(x, n)", "t = MatMul(x, A) u = MatMul(t, B) h1 = Neg(u)"),
    "einsum": (
        'e2 = Einsum<equation = "kr,rj->jk">(A, B) h1 = Einsum<equation = "mk,jk->mj">(x, e2)',
        "t = MatMul(x, A) h1 = MatMul(t, B)",
    ),
    "a square weight of two": ("t = MatMul(x, W) e2 = MatMul(T, W) h1 = MatMul(t, e2)",
                               "t = MatMul(x, W) u = MatMul(t, T) h1 = MatMul(u, W)"),
}  # fmt: skip


def network(text: str, **more: tuple[int, ...]) -> onnx.ModelProto:
    """leaky_relu(text) V; `text` makes h1 [2, 6] of x [2, 4]."""
    body = f"(float[2, 4] x) => (float[2, 3] y) {{ {text} r = LeakyRelu(h1) y = MatMul(r, V) }}"
    shapes = {n: s for n, s in {**SHAPES, **more}.items() if n in _words(text) or n == "V"}
    constants = {"c4": [4], "c2": [2], "c6": [6], "c0": [0], "c8": [8], "c26": [2, 6], "c46": [4, 6]}
    lines = "".join(f"{n} = Constant<value_ints = {v}>() " for n, v in constants.items() if n in _words(text))
    if "k" in _words(text):
        lines += "k = Constant<value_float = 3.0>() "
    return build(body.replace("{ ", "{ " + lines, 1), shapes)


def _words(text: str) -> set[str]:
    return set("".join(c if c.isalnum() else " " for c in text).split())


@pytest.mark.parametrize("name", LINEAR)
def test_a_linear_expression_has_the_graph_of_its_activations(name: str) -> None:
    weight, activations = (network(text) for text in LINEAR[name])
    assert_isomorphic(gmnc.compile(weight), gmnc.compile(activations))
    assert_sound(weight)


def log10_factorials(*sizes: int) -> float:
    return sum(math.log10(math.factorial(n)) for n in sizes)


# Expressions that are not linear, with the orders of the symmetric groups whose product is the right number.
# Where two weights are alike (a product or a sum of W and U), they can trade places too.
MIXED = {
    "a product of entries": ("e2 = Mul(W, U) h1 = MatMul(x, e2)", (6, 2)),
    "a function of a product": ("d = MatMul(A, B) e2 = Softplus(d) h1 = MatMul(x, e2)", (6, 2)),
    "a function of a sum": ("d = Add(W, U) e2 = Exp(d) h1 = MatMul(x, e2)", (6, 2)),
    "weight norm": (
        "sq = Mul(W, W) n0 = ReduceSum(sq, c0) n = Sqrt(n0) v = Div(W, n) e2 = Mul(v, g) h1 = MatMul(x, e2)", (6,)
    ),
    "softmax over inputs": ("e2 = Softmax<axis = 0>(W) h1 = MatMul(x, e2)", (6,)),
    "softmax over outputs": ("e2 = Softmax<axis = 1>(W) h1 = MatMul(x, e2)", (6,)),
    "a skew matrix": ("t = MatMul(x, W) Dt = Transpose<perm = [1, 0]>(D) e2 = Sub(D, Dt) h1 = MatMul(t, e2)", (6,)),
    "a polynomial": ("t = MatMul(x, W) e1 = MatMul(D, D) e2 = Add(e1, D) h1 = MatMul(t, e2)", (6,)),
    "an outer product": ("e2 = Mul(h, g) h1 = MatMul(x, e2)", (6,)),
    "a function of an outer product": ("hg = Mul(h, g) e2 = Tanh(hg) h1 = MatMul(x, e2)", (6,)),
    "a weight and a function of it": (
        "q = Softplus(W) p = MatMul(x, W) t = Tanh(p) u = MatMul(x, q) h1 = Add(t, u)", (6,)
    ),
    "spectral norm": ("us = MatMul(u4, W) sg = MatMul(us, v6) e2 = Div(W, sg) h1 = MatMul(x, e2)", (6,)),
    "a computed bias": ("p = MatMul(x, W) bb = MatMul(A0, B) h1 = Add(p, bb)", (6, 2)),
    "between hidden layers": ("t = MatMul(x, W) th = Tanh(t) d = MatMul(D, D2) e2 = Sigmoid(d) h1 = MatMul(th, e2)",
                              (6, 6, 6)),
}  # fmt: skip


@pytest.mark.parametrize("name", MIXED)
def test_expressions_that_are_not_linear_have_the_right_symmetries(name: str) -> None:
    text, orders = MIXED[name]
    model = network(text, u4=(1, 4), v6=(6, 1), A0=(1, 2), D2=(6, 6))
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters == sum(math.prod(i.dims) for i in model.graph.initializer)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10_factorials(*orders))
    assert assert_sound(model, kinds=("permutation", "sign", "scale")).detected


# Functions of one element each: the stored element is on the edge, the function is in its via.
TRACED = {
    "Softplus": ("e2 = Softplus(W) h1 = MatMul(x, e2)", "Softplus"),
    "1 + w": ("o = Constant<value_float = 1.0>() e2 = Add(o, W) h1 = MatMul(x, e2)", "Shift[by=1]"),
    "-w": ("e2 = Neg(W) h1 = MatMul(x, e2)", "Scale[factor=-1]"),
    "w sigmoid(w)": ("sw = Sigmoid(W) e2 = Mul(W, sw) h1 = MatMul(x, e2)", "Silu"),
    "a moved function": ("Te = Exp(T) e2 = Transpose<perm = [1, 0]>(Te) h1 = MatMul(x, e2)", "Exp"),
    "a function of a scale": ("p = MatMul(x, W) ge = Exp(g) h1 = Mul(p, ge)", "Exp"),
    "a function of a bias": ("p = MatMul(x, W) be = Tanh(b) h1 = Add(p, be)", "Tanh"),
    "two functions side by side": (
        "Pe = Exp(P) Qe = Tanh(Q) e2 = Concat<axis = 1>(Pe, Qe) h1 = MatMul(x, e2)", "Tanh"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", TRACED)
def test_functions_of_one_element_are_traces_of_its_edge(name: str) -> None:
    text, function = TRACED[name]
    model = network(text)
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == sum(p.size for p in graph.parameters.values() if p.size > 1)
    texts = [graph.via_text(int(v)) for b in graph.edges for v in np.unique(b.via)]
    assert any(f"Reparametrize[function={function}" in t for t in texts)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10_factorials(*((3, 3) if "side" in name else (6,))))
    assert assert_sound(model).detected
    plain = network(text.replace("Softplus", "Softsign").replace("Exp", "Sinh").replace("Tanh", "Erf"))
    if plain != model:
        assert gmnc.fingerprint(gmnc.compile(plain)) != gmnc.fingerprint(graph)


def masked(mask: np.ndarray) -> onnx.ModelProto:
    numbers = ", ".join(map(str, mask.reshape(-1).astype(int)))
    text = f"i = Constant<value_ints = [{numbers}]>() f = Cast<to = 1>(i) m = Reshape(f, c46) e2 = Mul(m, W) "
    return network(text + "h1 = MatMul(x, e2)")


def test_a_mask_lets_those_trade_places_that_it_treats_alike() -> None:
    mask = np.ones((4, 6), bool)
    mask[:2, :2] = mask[1:, 2:5] = False
    model = masked(mask)
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == 42
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10_factorials(2, 3))
    assert assert_sound(model).detected
    assert gmnc.fingerprint(gmnc.compile(masked(~mask))) != gmnc.fingerprint(graph)


def test_scales_and_signs_respect_functions_of_parameters() -> None:
    for text, dimension in (
        ("e2 = Neg(W) h1 = MatMul(x, e2)", 6),
        ("e2 = Softplus(W) h1 = MatMul(x, e2)", 0),
        ("p = MatMul(x, W) be = Exp(b) h1 = Add(p, be)", 0),
    ):
        found = gmnc.symmetries(gmnc.compile(network(text)), ("scale",))
        assert found.rescalings[0].dimension == dimension, text
        assert_sound(network(text), kinds=("permutation", "sign", "scale"))


def test_effective_weights_on_request() -> None:
    model = network("d = MatMul(A, B) e2 = Add(W, d) h1 = MatMul(x, e2)")
    graph = gmnc.compile(model, fold_weights=True)
    assert set(graph.parameters) == {"e2", "V"}
    values = {i.name: onnx.numpy_helper.to_array(i) for i in model.graph.initializer}
    np.testing.assert_allclose(graph.parameters["e2"].load(), values["W"] + values["A"] @ values["B"], rtol=1e-6)
    assert assert_sound(model, fold_weights=True).generators == 5
    written = write(graph, {"e2": np.ones((4, 6), np.float32)})
    assert sorted(written.graph.initializers) == ["V", "e2"]


def test_derived_tensors_are_refused_with_their_sources() -> None:
    graph = gmnc.compile(network("d = MatMul(A, B) e2 = Add(W, d) h1 = MatMul(x, e2)"))
    with pytest.raises(GmncError, match=r"'e2' is computed in the model, from .*fold_weights"):
        write(graph, {"e2": np.ones((4, 6), np.float32), "W": np.ones((4, 6), np.float32)})
    new = {n: graph.parameters[n].load() + 1 for n in ("A", "B", "W")}
    again = gmnc.compile(write(graph, new))
    assert all(np.array_equal(again.parameters[n].load(), new[n]) for n in new)


def test_a_computed_weight_that_no_rule_knows_pins_what_it_touches_and_says_so() -> None:
    """Rows of different lengths are no Scan; nothing of the weights is free then."""
    model = computed("q = MatMul(f, k) c = Reshape(q, c3) y1, h = RNN<hidden_size = 4>(x, c, r, , n)",
                      {"f": (4, 3), "k": (3, 3), "r": (1, 4, 4)}, n=np.array([3, 2], np.int32))  # fmt: skip
    graph = gmnc.compile(model)
    assert_sound(model)
    assert graph.num_parameter_edges == graph.num_parameters == 4 * 3 + 3 * 3 + 4 * 4 + 4 * 2
    assert not gmnc.symmetries(graph).generators
    [problem] = graph.unsupported
    assert problem.op == "RNN"
    assert "'c' is computed from several parameters" in problem.reason
    assert "--fold-weights" in problem.hint
