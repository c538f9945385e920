"""Mixtures of experts whose weights a router gathers, in the forms in which exporters write them."""

from __future__ import annotations

import math

import onnx
import pytest

import gmnc
from gmnc.testing import assert_sound, build

F = math.factorial
HEAD = "(float[4, 3] x) => (float[4, 2] y)"
SHAPES = {"r": (3, 4), "a": (4, 3, 5), "b": (4, 5, 2)}
ROUTED = "s = MatMul(x, r) v, i = TopK(s, two)"
REPEATED = "u = Unsqueeze(x, one) e = Expand(u, each) f = Reshape(e, rows) fu = Unsqueeze(f, one)"
FLAT_INDEX = "j = Reshape(i, minus) jm = Max(j) js = Shape(jm) je = Expand(j, js) ju = Unsqueeze(je, minus)"
BATCHED = (
    "wa = GatherND(a, ju) wb = GatherND(b, ju) h = MatMul(fu, wa) g = Relu(h) o = MatMul(g, wb) q = Squeeze(o, one)"
)
SUMMED = (
    "p = Softmax<axis = -1>(v) pf = Reshape(p, column) m = Mul(q, pf) z = Reshape(m, apart)"
    " y = ReduceSum<keepdims = 0>(z, one)"
)
CONSTANTS = {
    "two": [2], "one": [1], "minus": [-1], "each": [4, 2, 3], "rows": [8, 3], "column": [8, 1], "apart": [4, 2, 2],
    "groups": [4, 2, 2], "tokens": [4, 4], "twice": [0, 0, 1, 1, 2, 2, 3, 3],
    "count": [3], "onoff": [0, 1], "size": [4, 2],
}  # fmt: skip
# 4 experts of 5 hidden units each: 4! (5!)^4.
ORDER = F(4) * F(5) ** 4

FORMS: dict[str, tuple[str, dict[str, tuple[int, ...]], int]] = {
    "an axis of its own": (
        f'{ROUTED} p = Softmax<axis = -1>(v) wa = Gather<axis = 0>(a, i) wb = Gather<axis = 0>(b, i)'
        ' h = Einsum<equation = "bi,bkih->bkh">(x, wa) g = Relu(h) o = Einsum<equation = "bkh,bkho->bko">(g, wb)'
        ' y = Einsum<equation = "bk,bko->bo">(p, o)', SHAPES, ORDER,
    ),
    "choices merged with tokens": (f"{ROUTED} {REPEATED} {FLAT_INDEX} {BATCHED} {SUMMED}", SHAPES, ORDER),
    "tokens repeated by an index": (
        f"{ROUTED} f = Gather<axis = 0>(x, twice) fu = Unsqueeze(f, one) {FLAT_INDEX} {BATCHED} {SUMMED}",
        SHAPES, ORDER,
    ),
    "biases": (
        f"{ROUTED} {REPEATED} {FLAT_INDEX} wa = GatherND(a, ju) wb = GatherND(b, ju) c = GatherND(k, ju)"
        f" h0 = MatMul(fu, wa) hq = Squeeze(h0, one) hc = Add(hq, c) g0 = Relu(hc) g = Unsqueeze(g0, one)"
        f" o = MatMul(g, wb) q = Squeeze(o, one) {SUMMED}", {**SHAPES, "k": (4, 5)}, ORDER,
    ),
    "a bound that is cast to the type of the hidden units": (
        f"{ROUTED} {REPEATED} {FLAT_INDEX} wa = GatherND(a, ju) wb = GatherND(b, ju) h = MatMul(fu, wa) g0 = Relu(h)"
        " c = CastLike(two, g0) g = Min(g0, c) o = MatMul(g, wb)"
        f" q = Squeeze(o, one) {SUMMED}", SHAPES, ORDER,
    ),
    # Each entry of the vector e1 trades places with a row of every expert: 3! more.
    "one vector for all tokens": (
        f"{ROUTED} {FLAT_INDEX} wa = GatherND(a, ju) wb = GatherND(b, ju) h = MatMul(e1, wa) g = Relu(h)"
        f" o = MatMul(g, wb) q = Squeeze(o, one) {SUMMED}", {**SHAPES, "e1": (1, 1, 3)}, ORDER * F(3),
    ),
    # The gate is another function of the router than the choice; the second half of the hidden units gates the first.
    "scores that are picked": (
        f"s = MatMul(x, r) t = Add(s, d) v0, i = TopK(t, two) l = Sigmoid(s) v = GatherElements<axis = 1>(l, i)"
        f" {REPEATED} {FLAT_INDEX} wa = GatherND(a, ju) wb = GatherND(b, ju) h = MatMul(fu, wa)"
        " ha, hb = Split<axis = -1, num_outputs = 2>(h) ga = Sigmoid(ha) g = Mul(ga, hb) o = MatMul(g, wb)"
        f" q = Squeeze(o, one) pf = Reshape(v, column) m = Mul(q, pf) z = Reshape(m, apart)"
        " y = ReduceSum<keepdims = 0>(z, one)",
        {"r": (3, 4), "d": (4,), "a": (4, 3, 10), "b": (4, 5, 2)}, ORDER,
    ),
    # 2 groups of 2 experts, of which the better group is chosen first: 2! (2!)^2 instead of 4!.
    "groups of experts": (
        "s = MatMul(x, r) t = Sigmoid(s) w = Reshape(t, groups) gv, gi = TopK(w, two)"
        " gs = ReduceSum<keepdims = 0>(gv, minus)"
        " hv, hi = TopK(gs, one) zero = ConstantOfShape(shape) n = Shape(hi) ones = ConstantOfShape<value = ONE>(n)"
        " k = ScatterElements<axis = 1>(zero, hi, ones) ku = Unsqueeze(k, minus) ke = Expand(ku, groups)"
        f" kt = Reshape(ke, tokens) l = Mul(t, kt) v, i = TopK(l, two) {REPEATED} {FLAT_INDEX} {BATCHED} {SUMMED}",
        SHAPES, F(2) ** 3 * F(5) ** 4,
    ),
}  # fmt: skip

# Without a weight for each choice, nothing but the router says which results are added.
UNWEIGHTED = (
    f"{ROUTED} wa = Gather<axis = 0>(a, i) wb = Gather<axis = 0>(b, i)"
    ' h = Einsum<equation = "bi,bkih->bkh">(x, wa) g = Relu(h) o = Einsum<equation = "bkh,bkho->bko">(g, wb)'
)


def one_by_one(chain: bool) -> str:
    """Each expert reads the tokens that chose it, and adds its results to theirs."""
    lines = [
        "s = MatMul(x, r) v, i = TopK(s, two) hot = OneHot<axis = -1>(i, count, onoff)"
        " mt = Transpose<perm = [2, 0, 1]>(hot) zeros = ConstantOfShape(size)"
    ]
    for e in range(3):
        lines.append(
            f"e{e} = Constant<value_int = {e}>() m{e} = Gather<axis = 0>(mt, e{e}) q{e} = NonZero(m{e})"
            f" z{e} = Transpose(q{e}) t{e}, k{e} = Split<axis = 1, num_outputs = 2>(z{e}) f{e} = Squeeze(t{e}, one)"
            f" x{e} = Gather<axis = 0>(x, f{e}) h{e} = MatMul(x{e}, a{e}) g{e} = Relu(h{e}) o{e} = MatMul(g{e}, b{e})"
            f" w{e} = GatherND(v, z{e}) u{e} = Unsqueeze(w{e}, one) p{e} = Mul(o{e}, u{e})"
        )
        start = "zeros" if not e or not chain else f"y{e - 1}"
        lines.append(f'y{e} = ScatterND<reduction = "add">({start}, t{e}, p{e})')
    return " ".join([*lines, "y = Identity(y2)" if chain else "y01 = Add(y0, y1) y = Add(y01, y2)"])


EACH = {"r": (3, 3), **{f"a{e}": (3, 5) for e in range(3)}, **{f"b{e}": (5, 2) for e in range(3)}}
FORMS["one expert after the other, added"] = (one_by_one(False), EACH, F(3) * F(5) ** 3)
FORMS["one expert after the other, into one"] = (one_by_one(True), EACH, F(3) * F(5) ** 3)


def network(text: str, shapes: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    used = [f"{n} = Constant<value_ints = {v}>()" for n, v in {**CONSTANTS, "shape": [4, 2]}.items() if n in words]
    model = build(f"{HEAD} {{ {' '.join(used)} {text.replace('<value = ONE>', '')} }}", shapes)
    if "ONE" in text:
        [ones] = [n for n in model.graph.node if n.op_type == "ConstantOfShape" and n.output[0] == "ones"]
        ones.attribute.append(onnx.helper.make_attribute("value", onnx.helper.make_tensor("v", 1, [1], [1.0])))
    return model


@pytest.mark.parametrize("name", FORMS)
def test_experts_trade_places_with_their_router_rows_and_units_inside_each(name: str) -> None:
    text, shapes, order = FORMS[name]
    model = network(text, shapes)
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters
    found = gmnc.symmetries(graph)
    assert found.exact
    assert found.log10_size == pytest.approx(math.log10(order))
    assert_sound(model)


def test_the_number_of_nodes_depends_on_the_experts_and_not_on_the_tokens() -> None:
    text, shapes, _ = FORMS["choices merged with tokens"]
    graph = gmnc.compile(network(text, shapes))
    # Per expert: router row, 5 hidden units, 2 results and their products with the gate; and what is not per expert.
    assert graph.num_nodes <= 4 * (1 + 5 + 2 + 2) + 12


# The result depends on the rank of a choice, or on more than a sum: experts must not trade places unless this is known.
OTHERS = {
    "weights by rank": (
        f'{ROUTED} p = Mul(v, ranks) wa = Gather<axis = 0>(a, i) h = Einsum<equation = "bi,bkih->bkh">(x, wa)'
        ' y0 = Einsum<equation = "bk,bkh->bh">(p, h) y = MatMul(y0, c)', {**SHAPES, "ranks": (2,), "c": (5, 2)},
    ),
    "the best one alone": (
        f'{ROUTED} wa = Gather<axis = 0>(a, i) h = Einsum<equation = "bi,bkih->bkh">(x, wa)'
        " h0, h1 = Split<axis = 1, num_outputs = 2>(h) q = Squeeze(h0, one) y = MatMul(q, c)",
        {**SHAPES, "c": (5, 2)},
    ),
    "one after the other": (
        f'{ROUTED} wa = Gather<axis = 0>(a, i) h = Einsum<equation = "bi,bkih->bkh">(x, wa) f = Reshape(h, wide)'
        " y = MatMul(f, c)", {**SHAPES, "c": (10, 2)},
    ),
    "the index is a number": (
        f'{ROUTED} wa = Gather<axis = 0>(a, i) h = Einsum<equation = "bi,bkih->bkh">(x, wa) n = Cast<to = 1>(i)'
        ' y0 = Einsum<equation = "bk,bkh->bh">(n, h) y = MatMul(y0, c)', {**SHAPES, "c": (5, 2)},
    ),
    "a weight for the only choice": (
        "s = MatMul(x, r) v, i = TopK(s, one) y = MatMul(v, ranks)", {**SHAPES, "ranks": (1, 2)},
    ),
    "the choices are an output": (
        f'{ROUTED} wa = Gather<axis = 0>(a, i) h = Einsum<equation = "bi,bkih->bkh">(x, wa)'
        ' y0 = Einsum<equation = "bk,bkh->bh">(v, h) y = MatMul(y0, c)', {**SHAPES, "c": (5, 2)},
    ),
}  # fmt: skip


def test_a_sum_without_weights_of_the_choices_keeps_the_router() -> None:
    model = network(f"{UNWEIGHTED} y = ReduceSum<keepdims = 0>(o, one)", SHAPES)
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == graph.num_parameters
    assert_sound(model)


def test_results_beside_the_weights_of_the_choices_are_not_weighted_by_them() -> None:
    beside = "vu = Unsqueeze(v, minus) c = Concat<axis = 2>(vu, o) z = ReduceSum<keepdims = 0>(c, one) y = MatMul(z, w)"
    model = network(f"{UNWEIGHTED} {beside}", {**SHAPES, "w": (3, 2)})
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == graph.num_parameters
    # The two results of an expert, with the rows of w, as well: 2!.
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(ORDER * F(2)))
    assert_sound(model)


@pytest.mark.parametrize("name", OTHERS)
def test_other_uses_of_the_choices_make_no_false_claim(name: str) -> None:
    text, shapes = OTHERS[name]
    words = f"wide = Constant<value_ints = [4, 10]>() {text}" if "wide" in text else text
    model = network(words, shapes)
    if name == "the choices are an output":
        model.graph.output.append(onnx.helper.make_tensor_value_info("v", 1, [4, 2]))
    assert_sound(model)
