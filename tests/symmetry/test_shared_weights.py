"""Weights that several neurons share, as one matrix is by all heads: group sizes worked out by hand.

In most networks the features x of each of 6 positions become h, 3 heads of 4 features each, and u reads all of them in
the end. Permuting heads, or features within a head, permutes the columns of w with the rows of u.
"""

from __future__ import annotations

import math

import onnx
import pytest
from support.tiers import first

import gmnc
from gmnc.testing import assert_exact, assert_sound, build


def heads(body: str) -> str:
    """`body` makes s of h [1, positions, heads, features]."""
    return (
        "(float[1, 6, 2] x) => (float[1, 6, 2] y) { p = MatMul(x, w) h = Reshape(p, apart) "
        f"{body} r = Relu(s) f = Reshape(r, together) y = MatMul(f, u) }}"
    )


def by_head(body: str) -> str:
    """`body` makes c of t [1, heads, positions, features]."""
    return heads(f"t = Transpose<perm = [0, 2, 1, 3]>(h) {body} s = Transpose<perm = [0, 2, 1, 3]>(c)")


F = math.factorial

# name: (network, sizes of parameters, order of the group, why)
NETWORKS: dict[str, tuple[str, dict[str, tuple[int, ...]], int]] = {
    # The features of a head are alike for its kernel; heads have kernels of their own.
    "a kernel along positions for each head": (
        by_head("c = Conv<group = 3, pads = [1, 0, 1, 0]>(t, k)"), {"k": (3, 1, 3, 1)}, F(3) * F(4) ** 3,
    ),
    "two kernels for each head": (
        by_head("c = Conv<group = 3, pads = [1, 0, 1, 0]>(t, k)"),
        {"k": (6, 1, 3, 1), "u": (24, 2)}, F(3) * F(4) ** 3 * F(2) ** 3,
    ),
    # Heads are mixed: the 4 features move alike in all of them, and so do those of the 5 new heads.
    "a kernel that mixes heads": (
        by_head("c = Conv<pads = [1, 0, 1, 0]>(t, k)"),
        {"k": (5, 3, 3, 1), "u": (20, 2)}, F(3) * F(4) * F(5),
    ),
    "a transposed kernel that mixes heads": (
        by_head("c = ConvTranspose<pads = [1, 0, 1, 0]>(t, k)"),
        {"k": (3, 5, 3, 1), "u": (20, 2)}, F(3) * F(4) * F(5),
    ),
    # All heads trade places; the 4 features move alike in all heads, and so do the 5 that the matrix makes of them.
    "a matrix for all heads": (heads("s = MatMul(h, m)"), {"m": (4, 5), "u": (15, 2)}, F(3) * F(4) * F(5)),
    "a matrix and a bias for all heads": (
        heads("a = MatMul(h, m) s = Add(a, b)"), {"m": (4, 5), "b": (5,), "u": (15, 2)}, F(3) * F(4) * F(5),
    ),
    "a vector for all heads": (heads("s = MatMul(h, m)"), {"m": (4, 1), "u": (3, 2)}, F(3) * F(4)),
    "two matrices in a row for all heads": (
        heads("a = MatMul(h, m) t = Tanh(a) s = MatMul(t, n)"),
        {"m": (4, 5), "n": (5, 2), "u": (6, 2)}, F(3) * F(4) * F(5) * F(2),
    ),
    # Positions are mixed by a matrix of each head, and their order shows in the result.
    "a mixture of positions for each head": (by_head("c = MatMul(m, t)"), {"m": (3, 6, 6)}, F(3) * F(4) ** 3),
    # Each of 3 experts has 4 neurons; the 3 features of both rows move alike. The rows are outputs in the end.
    "experts that read the same rows": (
        """(float[1, 2] x) => (float[2, 2] y) {
            p = MatMul(x, w) h = Reshape(p, rows) e = Expand(h, bank) m = MatMul(e, a) r = Relu(m) c = MatMul(r, b)
            y = ReduceSum<keepdims = 0>(c, first)
        }""",
        {"w": (2, 6), "a": (3, 3, 4), "b": (3, 4, 2)}, F(3) * F(4) ** 3 * F(3),
    ),
    # Keys of relative positions: a table of 6 positions with 4 features, read by a matrix for each head.
    "relative positions": (
        """(float[6, 1, 2] x) => (float[6, 1, 2] y) {
            q = Einsum<equation = "ibh,hnd->ibnd">(x, wq) v = Einsum<equation = "ibh,hnd->ibnd">(x, wv)
            k = Einsum<equation = "ibh,hnd->ibnd">(table, wk) s = Einsum<equation = "ibnd,jbnd->bnij">(q, k)
            p = Softmax(s) o = Einsum<equation = "bnij,jbnd->ibnd">(p, v) y = Einsum<equation = "ibnd,ndh->ibh">(o, u)
        }""",
        {"wq": (2, 3, 2), "wv": (2, 3, 4), "wk": (4, 3, 2), "u": (3, 4, 2), "table": (6, 1, 4)},
        F(3) * F(2) ** 3 * F(4) ** 3 * F(4),
    ),
}  # fmt: skip


def network(name: str) -> onnx.ModelProto:
    text, sizes, _ = NETWORKS[name]
    sizes = {"w": (2, 12), "u": (12, 2), **sizes}
    width = sizes["u"][0]
    used = {n: shape for n, shape in sizes.items() if n in NETWORKS[name][1] or f"{n})" in text}
    numbers = {"apart": [1, 6, 3, 4], "together": [1, 6, width], "rows": [1, 2, 3], "bank": [3, 2, 3], "first": [0]}
    return build(text, used, numbers)


@pytest.mark.parametrize("name", NETWORKS)
def test_neurons_that_share_a_weight_trade_places(name: str) -> None:
    model = network(name)
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(math.log10(NETWORKS[name][2]), abs=1e-6)
    assert_sound(model)


@pytest.mark.parametrize("name", first(1, NETWORKS))
def test_no_claim_is_false_and_no_swap_is_missed(name: str) -> None:
    assert_exact(network(name))


@pytest.mark.parametrize(
    "attributes", ["pads = [1, 1, 1, 1]", "strides = [1, 2], pads = [1, 0, 1, 0]", "pads = [1, 1, 1, 0]"]
)
def test_a_kernel_that_moves_along_neurons_keeps_their_order(attributes: str) -> None:
    text = by_head(f"c = Conv<group = 3, {attributes}>(t, k)")
    width = {"pads = [1, 1, 1, 1]": 18, "pads = [1, 1, 1, 0]": 15}.get(attributes, 6)
    sizes = {"w": (2, 12), "k": (3, 1, 3, 1), "u": (width, 2)}
    assert_sound(build(text, sizes, {"apart": [1, 6, 3, 4], "together": [1, 6, width]}))


def test_each_element_has_one_edge() -> None:
    graph = gmnc.compile(network("a matrix for all heads"))
    assert graph.num_parameter_edges == graph.num_parameters == 2 * 12 + 4 * 5 + 15 * 2
    assert sum(b.role == "source" and b.view.name == "m" for b in graph.edges) == 1


BANK = """(float[5, 3] x) => (float[5, 2] y) {{
    thin = Reshape(x, one_each) m = MatMul(thin, a) {} r = Relu(s) y = Einsum<equation = "teo,eoi->ti">(r, c)
}}"""
ADDED = {
    "before tokens and experts are one axis": "q = Reshape(m, apart) s = Add(q, b)",
    "while they are": "q = Reshape(m, merged) bt = Expand(b, tiled) bm = Reshape(bt, merged) z = Add(q, bm) "
    "s = Reshape(z, apart)",
    "and stretched while they are": "q = Reshape(m, merged) bt = Expand(b, tiled) bm = Reshape(bt, merged) "
    "z = Mul(q, bm) s = Reshape(z, apart)",
}


@pytest.mark.parametrize("how", ADDED)
def test_a_vector_of_each_expert_is_added_once(how: str) -> None:
    """Three experts of 4 neurons, whose results are added: 12!. A neuron has one node, not one for each token."""
    numbers = {"one_each": [5, 1, 1, 3], "apart": [5, 3, 4], "merged": [15, 4], "tiled": [5, 3, 4]}
    model = build(BANK.format(ADDED[how]), {"a": (3, 3, 4), "b": (3, 4), "c": (3, 4, 2)}, numbers)
    graph = gmnc.compile(model)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(F(12)))
    assert graph.num_parameter_edges == graph.num_parameters
    assert graph.num_nodes == 3 + 3 * 4 + 1 + 2  # inputs, neurons, the source of the vector, outputs
    assert_sound(model)


def test_steps_of_a_recurrence_stay_in_order() -> None:
    """A gate makes nodes for all steps at once, but each is made of the one before: they are joined under the matrix.

    The 4 features of the state and the 5 behind the matrix are alike: 4! 5!.
    """
    text = """(float[1, 3, 2] x) => (float[1, 3, 2] y) {
        z0 = MatMul(x, wz) z = Sigmoid(z0) a0, a1, a2 = Split<axis = 1, num_outputs = 3>(x)
        p0 = MatMul(a0, w) s0 = Tanh(p0) p1 = MatMul(a1, w) q1 = MatMul(s0, v) t1 = Add(p1, q1) s1 = Tanh(t1)
        p2 = MatMul(a2, w) q2 = MatMul(s1, v) t2 = Add(p2, q2) s2 = Tanh(t2) s = Concat<axis = 1>(s0, s1, s2)
        g = Mul(s, z) c = MatMul(g, m) r = Relu(c) y = MatMul(r, u)
    }"""
    model = build(text, {"w": (2, 4), "wz": (2, 4), "v": (4, 4), "m": (4, 5), "u": (5, 2)})
    graph = gmnc.compile(model)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(F(4) * F(5)))
    assert not {"product", "sum"} & {group.kind for group in graph.groups}
    assert_sound(model)
