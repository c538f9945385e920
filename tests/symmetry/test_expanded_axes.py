"""Parameters and computed weights that make new axes of neurons; labelled axes that meet positions."""

from __future__ import annotations

import math

import pytest
from support.tiers import first

import gmnc
from gmnc.ir import ParameterGraph
from gmnc.testing import assert_exact, assert_sound, build

F = math.factorial

# name: (network, parameters, order of its group, why)
NETWORKS: dict[str, tuple[str, dict[str, tuple[int, ...]], int]] = {
    # A 3-6-2 perceptron: 6! hidden units.
    "a matrix product written as product and sum": (
        "(float[2, 3] x) => (float[2, 2] y) { u = Unsqueeze(x, last) p = Mul(u, w) s = ReduceSum<keepdims = 0>(p, one)"
        " h = Relu(s) y = MatMul(h, v) }",
        {"w": (3, 6), "v": (6, 2)}, F(6),
    ),
    # x is one number; 6! of its products.
    "products of one number": (
        "(float[2, 1] x) => (float[2, 2] y) { p = Mul(x, w) h = Relu(p) y = MatMul(h, v) }",
        {"w": (6,), "v": (6, 2)}, F(6),
    ),
    # 4 hidden features and 5 centres in their space.
    "radial basis functions": (
        "(float[2, 3] x) => (float[2, 2] y) { h0 = MatMul(x, a) h = Tanh(h0) u = Unsqueeze(h, one) d = Sub(u, c)"
        " dd = Mul(d, d) s = ReduceSum<keepdims = 0>(dd, last) n = Neg(s) k = Exp(n) y = MatMul(k, v) }",
        {"a": (3, 4), "c": (5, 4), "v": (5, 2)}, F(4) * F(5),
    ),
    # One sum per position over 4 features, for each of 5 filters: 4! 5!.
    "a local sum with weights at each position": (
        "(float[1, 3, 3] x) => (float[1, 3, 2] y) { h0 = MatMul(x, a) h = Tanh(h0) u = Unsqueeze(h, two)"
        " p = Mul(u, w) s = ReduceSum<keepdims = 0>(p, last) r = Relu(s) y = MatMul(r, v) }",
        {"a": (3, 4), "w": (3, 5, 4), "v": (5, 2)}, F(4) * F(5),
    ),
    # 4 channels with 3 states each, and one write and one read vector: 4! 3!.
    "a state per channel": (
        "(float[2, 3] x) => (float[2, 2] y) { e = MatMul(x, we) b = MatMul(x, wb) c = MatMul(x, wc)"
        " e1 = Unsqueeze(e, two) b1 = Unsqueeze(b, one) c1 = Unsqueeze(c, one) ea = Mul(e1, a) t = Tanh(ea)"
        " tb = Mul(t, b1) th = Tanh(tb) tc = Mul(th, c1) r = ReduceSum<keepdims = 0>(tc, last) y = MatMul(r, u) }",
        {"we": (3, 4), "wb": (3, 3), "wc": (3, 3), "a": (4, 3), "u": (4, 2)}, F(4) * F(3),
    ),
    # The 3 x 5 weights of the second layer are scaled per input: 3! 5!.
    "a modulated matrix": (
        "(float[1, 4] x) => (float[1, 2] y) { h0 = MatMul(x, a) h = Relu(h0) z = MatMul(x, s) zu = Reshape(z, column)"
        " wz = Mul(w, zu) g = MatMul(h, wz) r = Relu(g) y = MatMul(r, b) }",
        {"a": (4, 3), "s": (4, 3), "w": (3, 5), "b": (5, 2)}, F(3) * F(5),
    ),
    # The same for a kernel: 3! 4!, and kernel positions stay in order.
    "a modulated kernel": (
        "(float[1, 2, 4, 4] x, float[1, 2] z) => (float[1, 2, 4, 4] y) { h0 = Conv(x, a) h = Relu(h0)"
        " s = MatMul(z, m) su = Reshape(s, kernel) w2 = Mul(w, su) c = Conv<pads = [1, 1, 1, 1]>(h, w2) r = Relu(c)"
        " y = Conv(r, b) }",
        {"a": (3, 2, 1, 1), "m": (2, 3), "w": (4, 3, 3, 3), "b": (2, 4, 1, 1)}, F(3) * F(4),
    ),
    # Two matrices from which an If chooses: 5! outputs.
    "a chosen matrix": (
        "(float[2, 3] x, bool c) => (float[2, 2] y) { w = If(c) <then_branch = t () => (float[3, 5] p)"
        " { p = Identity(w1) }, else_branch = e () => (float[3, 5] q) { q = Identity(w2) }> h0 = MatMul(x, w)"
        " h = Relu(h0) y = MatMul(h, b) }",
        {"w1": (3, 5), "w2": (3, 5), "b": (5, 2)}, F(5),
    ),
    # A matrix that an index picks: 5! outputs (the matrices keep their numbers).
    "a picked matrix": (
        "(float[2, 3] x, int64 i) => (float[2, 2] y) { w = Gather<axis = 0>(bank, i) h0 = MatMul(x, w) h = Relu(h0)"
        " y = MatMul(h, b) }",
        {"bank": (2, 3, 5), "b": (5, 2)}, F(5),
    ),
    # A recurrence over 3 steps whose states are stacked and gated by a value of all steps: 4! channels.
    "an unrolled recurrence with a gate": (
        "(float[1, 3, 2] x) => (float[1, 3, 2] y) { e = MatMul(x, a) g = MatMul(x, c)"
        " e0, e1, e2 = Split<axis = 1, num_outputs = 3>(e) h0 = Tanh(e0) d1 = Mul(h0, k) s1 = Add(d1, e1)"
        " h1 = Tanh(s1) d2 = Mul(h1, k) s2 = Add(d2, e2) h2 = Tanh(s2) h = Concat<axis = 1>(h0, h1, h2)"
        " m = Mul(h, g) y = MatMul(m, b) }",
        {"a": (2, 4), "c": (2, 4), "k": (4,), "b": (4, 2)}, F(4),
    ),
    # A cell that reads its input and its state, zeros at first, side by side: 4! features of the state.
    "an unrolled cell that starts from zeros": (
        "(float[1, 2] x0, float[1, 2] x1) => (float[1, 2] y) {"
        " size = Constant<value_ints = [1, 4]>() h0 = ConstantOfShape(size) c0 = Concat<axis = 1>(x0, h0)"
        " g0 = MatMul(c0, w) h1 = Tanh(g0) c1 = Concat<axis = 1>(x1, h1) g1 = MatMul(c1, w) h2 = Tanh(g1)"
        " y = MatMul(h2, v) }",
        {"w": (6, 4), "v": (4, 2)}, F(4),
    ),
    # The same with a reset gate in front of the state, and a kernel of 3 positions.
    "an unrolled convolutional cell that starts from zeros": (
        "(float[1, 2, 5] x0, float[1, 2, 5] x1) => (float[1, 2, 5] y) {"
        " size = Constant<value_ints = [1, 4, 5]>() h0 = ConstantOfShape(size) c0 = Concat<axis = 1>(x0, h0)"
        " q0 = Conv(c0, r) s0 = Sigmoid(q0) t0 = Mul(s0, h0) d0 = Concat<axis = 1>(x0, t0)"
        " g0 = Conv<pads = [1, 1]>(d0, w) h1 = Tanh(g0) c1 = Concat<axis = 1>(x1, h1) q1 = Conv(c1, r)"
        " s1 = Sigmoid(q1) t1 = Mul(s1, h1) d1 = Concat<axis = 1>(x1, t1) g1 = Conv<pads = [1, 1]>(d1, w)"
        " h2 = Tanh(g1) y = Conv(h2, v) }",
        {"r": (4, 6, 1), "w": (4, 6, 3), "v": (2, 4, 1)}, F(4),
    ),
    # Positions are mixed separately in each of 4 channels, with a residual: 4!; no positions.
    "token mixing per channel with a residual": (
        "(float[1, 3, 2] x) => (float[1, 3, 2] y) { e = MatMul(x, a) et = Transpose<perm = [0, 2, 1]>(e)"
        " eu = Unsqueeze(et, two) m = MatMul(eu, w) mq = Squeeze(m, two) r = Add(mq, et)"
        " rt = Transpose<perm = [0, 2, 1]>(r) t = Tanh(rt) y = MatMul(t, b) }",
        {"a": (2, 4), "w": (4, 3, 3), "b": (4, 2)}, F(4),
    ),
    # 2 heads, 3 dimensions whose frequencies are learned and shared by the heads, 3 value dimensions in each head.
    "rotary angles of given positions": (
        "(float[1, 4, 2] x, float[1, 4] p) => (float[1, 4, 2] y) { q0 = MatMul(x, wq) k0 = MatMul(x, wk)"
        " v0 = MatMul(x, wv) q = Reshape(q0, heads) k = Reshape(k0, heads) v = Reshape(v0, heads)"
        " pu = Unsqueeze(p, axes23) f = Mul(pu, freq) c = Cos(f) qc = Mul(q, c) kc = Mul(k, c)"
        " qt = Transpose<perm = [0, 2, 1, 3]>(qc) kt = Transpose<perm = [0, 2, 3, 1]>(kc)"
        " vt = Transpose<perm = [0, 2, 1, 3]>(v) s = MatMul(qt, kt) m = Softmax<axis = -1>(s) o = MatMul(m, vt)"
        " ot = Transpose<perm = [0, 2, 1, 3]>(o) of = Reshape(ot, flat) y = MatMul(of, wo) }",
        {"wq": (2, 6), "wk": (2, 6), "wv": (2, 6), "freq": (3,), "wo": (6, 2)}, F(2) * F(3) * F(3) ** 2,
    ),
    # Two branches that scale shared neurons, alike otherwise: 4! neurons, 2! branches.
    "branches with scales of their own": (
        "(float[1, 3] x) => (float[1, 2] y) { h = MatMul(x, a) b1 = Mul(h, s1) b2 = Mul(h, s2) r1 = Tanh(b1)"
        " r2 = Tanh(b2) c1 = MatMul(r1, w1) c2 = MatMul(r2, w2) y = Add(c1, c2) }",
        {"a": (3, 4), "s1": (4,), "s2": (4,), "w1": (4, 2), "w2": (4, 2)}, F(4) * 2,
    ),
    # The same on an input, whose entries stay: 2! branches.
    "branches that scale the input": (
        "(float[1, 3] x) => (float[1, 2] y) { b1 = Mul(x, s1) b2 = Mul(x, s2) r1 = Tanh(b1) r2 = Tanh(b2)"
        " c1 = MatMul(r1, w1) c2 = MatMul(r2, w2) y = Add(c1, c2) }",
        {"s1": (3,), "s2": (3,), "w1": (3, 2), "w2": (3, 2)}, 2,
    ),
    # A kernel over sines that the file computes, as codes of positions: 4! channels.
    "a kernel over a computed table": (
        "(float[1, 2, 2, 3] x) => (float[1, 2, 2, 3] y) { zero = Constant<value_int = 0>()"
        " twelve = Constant<value_int = 12>() single = Constant<value_int = 1>() n = Range(zero, twelve, single)"
        " f = Cast<to = 1>(n) t = Sin(f) codes = Reshape(t, image) p = Conv(codes, b) h = Conv(x, a) s = Add(h, p)"
        " r = Relu(s) y = Conv(r, c) }",
        {"a": (4, 2, 1, 1), "b": (4, 2, 1, 1), "c": (2, 4, 1, 1)}, F(4),
    ),
    # Two groups trade places; so do the 3 channels that each reads, and the 3 that it makes. The norm is of all.
    "a normalised kernel in groups": (
        "(float[1, 2, 5] x) => (float[1, 2, 5] y) { a0 = Conv(x, a) h = Tanh(a0) kk = Mul(k, k)"
        " s = ReduceSum(kk, axes01) n = Sqrt(s) kn = Div(k, n) c = Conv<group = 2, pads = [1, 1]>(h, kn) r = Relu(c)"
        " y = Conv(r, b) }",
        {"a": (6, 2, 1), "k": (6, 3, 3), "b": (2, 6, 1)}, F(2) * F(3) ** 4,
    ),
}  # fmt: skip
CONSTANTS = {
    "last": [-1], "one": [1], "two": [2], "column": [3, 1], "kernel": [1, 3, 1, 1], "image": [1, 2, 2, 3],
    "heads": [1, 4, 2, 3], "flat": [1, 4, 6], "axes23": [2, 3], "axes01": [0, 1],
}  # fmt: skip


def lowered(name: str) -> tuple[object, ParameterGraph, int]:
    text, shapes, order = NETWORKS[name]
    head, _, body = text.partition("{")
    used = [f"{n} = Constant<value_ints = {v}>()" for n, v in CONSTANTS.items() if n in body.replace(",", " ").split()
            or f"{n})" in body]  # fmt: skip
    model = build(f"{head}{{ {' '.join(used)} {body}", shapes)
    return model, gmnc.compile(model), order


@pytest.mark.parametrize("name", NETWORKS)
def test_the_group_has_the_order_worked_out_by_hand(name: str) -> None:
    _, graph, order = lowered(name)
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters
    found = gmnc.symmetries(graph)
    assert found.exact
    assert found.log10_size == pytest.approx(math.log10(order))


@pytest.mark.parametrize("name", first(3, NETWORKS))
def test_both_oracles_agree(name: str) -> None:
    model, _, _ = lowered(name)
    assert_sound(model)
    assert_exact(model, max_runs=4000)
