"""Indices that a router chose, compared, looked up and written, in the forms in which exporters write them."""

from __future__ import annotations

import math

import onnx
import pytest
from support.tiers import first

import gmnc
from gmnc.testing import assert_sound, build

F = math.factorial
HEAD = "(float[4, 3] x) => (float[4, 2] y)"
CONSTANTS = {
    "one": [1], "two": [2], "three": [3], "minus": [-1], "first": [0], "count": [4], "onoff": [0, 1],
    "numbers": [0, 1, 2, 3], "square": [4, 4], "places": [4, 6], "result": [4, 2],
    "grouped": [4, 2, 2], "starts": [0, 3], "listed": [6, 2], "which": [0, 1], "eight": [4, 2], "copies": [4, 2, 3, 2],
    "behind": [2, 3], "entries": [4, 2, 1, 2],
}  # fmt: skip
SCORES = "s = MatMul(x, r)"
EVERY = (
    'h = Einsum<equation = "ti,eih->teh">(x, a) g = Relu(h) o = Einsum<equation = "teh,eho->teo">(g, b)'
    ' y = Einsum<equation = "te,teo->to">(w, o)'
)
EXPERTS = {"r": (3, 4), "a": (4, 3, 5), "b": (4, 5, 2)}
EACH = {"r": (3, 4), **{f"a{e}": (3, 5) for e in range(4)}, **{f"b{e}": (5, 2) for e in range(4)}}
# 4 experts of 5 hidden units each: 4! (5!)^4.
ORDER = F(4) * F(5) ** 4


def one_by_one(mask: str) -> str:
    """Each expert reads the tokens that chose it, and adds its results, times `gate`, to theirs."""
    lines = ["nought = Constant<value_floats = [0.0]>() y0 = Expand(nought, result)"]
    for e in range(4):
        lines.append(
            f"e{e} = Constant<value_int = {e}>() {mask.format(e=e)} q{e} = NonZero(m{e}) z{e} = Transpose(q{e})"
            f" f{e} = Squeeze(z{e}, one) x{e} = Gather<axis = 0>(x, f{e}) h{e} = MatMul(x{e}, a{e}) g{e} = Relu(h{e})"
            f" o{e} = MatMul(g{e}, b{e}) w{e} = Gather<axis = 0>(gate, f{e}) p{e} = Mul(o{e}, w{e})"
            f' y{e + 1} = ScatterND<reduction = "add">(y{e}, z{e}, p{e})'
        )
    return " ".join([*lines, "y = Identity(y4)"])


ROUTERS: dict[str, tuple[str, dict[str, tuple[int, ...]]]] = {
    "ArgMax and OneHot, times the greatest share": (
        f"{SCORES} p = Softmax<axis = -1>(s) i = ArgMax<axis = -1, keepdims = 0>(p)"
        f" c = OneHot<axis = -1>(i, count, onoff) cf = Cast<to = 1>(c) m = ReduceMax(p, minus) w = Mul(cf, m)"
        f" {EVERY}", EXPERTS,
    ),
    "ArgMin with its axis kept, and Equal": (
        f"{SCORES} i = ArgMin<axis = -1>(s) c = Equal(i, numbers) w = Cast<to = 1>(c) {EVERY}", EXPERTS,
    ),
    "ArgMax, Unsqueeze and Equal": (
        f"{SCORES} i = ArgMax<axis = 1, keepdims = 0>(s) u = Unsqueeze(i, minus) c = Equal(numbers, u)"
        f" w = Cast<to = 1>(c) {EVERY}", EXPERTS,
    ),
    "along the first axis": (
        f"{SCORES} st = Transpose(s) i = ArgMax<axis = 0, keepdims = 0>(st) c = OneHot<axis = 0>(i, count, onoff)"
        f" ct = Transpose(c) w = Cast<to = 1>(ct) {EVERY}", EXPERTS,
    ),
    "the score of the best, picked": (
        f"{SCORES} i = ArgMax<axis = 1>(s) p = Sigmoid(s) v = GatherElements<axis = 1>(p, i) c = Equal(i, numbers)"
        f" cf = Cast<to = 1>(c) w = Mul(cf, v) {EVERY}", EXPERTS,
    ),
    "the score of the best of TopK, picked": (
        f"{SCORES} v0, i = TopK(s, one) p = Sigmoid(s) v = GatherElements<axis = 1>(p, i) c = Equal(i, numbers)"
        f" cf = Cast<to = 1>(c) w = Mul(cf, v) {EVERY}", EXPERTS,
    ),
    "the greatest number, written": (
        f"{SCORES} v = ReduceMax(s, minus) i = ArgMax<axis = 1>(s) zeros = ConstantOfShape(square)"
        f" l = ScatterElements<axis = 1>(zeros, i, v) w = Sigmoid(l) {EVERY}", EXPERTS,
    ),
    **{
        f"the {k} greatest numbers, written": (
            f"{SCORES} v, i = TopK(s, {k}) zeros = ConstantOfShape(square) l = ScatterElements<axis = 1>(zeros, i, v)"
            f" w = Sigmoid(l) {EVERY}", EXPERTS,
        )
        for k in ("one", "two", "three")
    },
    "the greatest numbers, written in front of a softmax": (
        f"{SCORES} v, i = TopK(s, two) zeros = ConstantOfShape(square) l = ScatterElements<axis = 1>(zeros, i, v)"
        f" w = Softmax<axis = -1>(l) {EVERY}", EXPERTS,
    ),
    "shares of the chosen, written": (
        f"{SCORES} v, i = TopK(s, two) p = Softmax<axis = -1>(v) zeros = ConstantOfShape(square)"
        f" w = ScatterElements<axis = 1>(zeros, i, p) {EVERY}", EXPERTS,
    ),
    "the tokens of one expert after the other, by its number": (
        f"{SCORES} p = Softmax<axis = -1>(s) gate = ReduceMax(p, minus) i = ArgMax<axis = 1, keepdims = 0>(s) "
        + one_by_one("m{e} = Equal(i, e{e})"), EACH,
    ),
    "the tokens of one expert after the other, by its code": (
        f"{SCORES} p = Softmax<axis = -1>(s) gate = ReduceMax(p, minus) i = ArgMax<axis = 1, keepdims = 0>(s)"
        " c = OneHot<axis = 0>(i, count, onoff) " + one_by_one("m{e} = Gather<axis = 0>(c, e{e})"), EACH,
    ),
    "the tokens of one expert after the other, by the only one of TopK": (
        f"{SCORES} v, i = TopK(s, one) gate = Sigmoid(v) j = Squeeze(i, minus) "
        + one_by_one("m{e} = Equal(j, e{e})"), EACH,
    ),
    "the tokens of one expert after the other, by any of two": (
        f"{SCORES} v, i = TopK(s, two) gate = ReduceSum(v, minus) "
        + one_by_one("c{e} = Equal(i, e{e}) n{e} = Cast<to = 1>(c{e}) k{e} = ReduceMax<keepdims = 0>(n{e}, minus)"
                     " m{e} = Cast<to = 9>(k{e})"), EACH,
    ),
}  # fmt: skip

CODEBOOK = {"r": (3, 4), "k": (4, 6), "c": (6, 4), "w": (4, 2)}
NEAREST = "s = MatMul(x, r) d = MatMul(s, k)"
DISTANCE = (
    "s = MatMul(x, r) cc = Mul(c, c) n = ReduceSum<keepdims = 0>(cc, one) t = Transpose(c) m = MatMul(s, t)"
    " m2 = Mul(m, half) d = Sub(n, m2)"
)
TABLES: dict[str, tuple[str, dict[str, tuple[int, ...]], int]] = {
    # 6 rows; 4 features, which are those of the rows.
    "the nearest row": (
        f"{DISTANCE} i = ArgMin<axis = 1, keepdims = 0>(d) q = Gather<axis = 0>(c, i) y = MatMul(q, w)",
        {"r": (3, 4), "c": (6, 4), "w": (4, 2), "half": (1,)}, F(6) * F(4),
    ),
    "the nearest row, with the gradient passed straight through": (
        f"{DISTANCE} i = ArgMin<axis = 1, keepdims = 0>(d) q = Gather<axis = 0>(c, i) z = Sub(q, s) p = Add(s, z)"
        " y = MatMul(p, w)", {"r": (3, 4), "c": (6, 4), "w": (4, 2), "half": (1,)}, F(6) * F(4),
    ),
    # Scores have weights of their own: the features of s and those of the rows are permuted apart.
    "a table beside the scores": (
        f"{NEAREST} i = ArgMax<axis = 1, keepdims = 0>(d) q = Gather<axis = 0>(c, i) y = MatMul(q, w)",
        CODEBOOK, F(6) * F(4) ** 2,
    ),
    "the code, written and multiplied": (
        f"{NEAREST} i = ArgMax<axis = 1>(d) zeros = ConstantOfShape(places) ones = ConstantOfShape<value = ONE>(column)"
        " e = ScatterElements<axis = 1>(zeros, i, ones) q = MatMul(e, c) y = MatMul(q, w)", CODEBOOK, F(6) * F(4) ** 2,
    ),
    "what equals the smallest": (
        f"{NEAREST} b = ReduceMin(d, one) e = Equal(d, b) ef = Cast<to = 1>(e) q = MatMul(ef, c) y = MatMul(q, w)",
        CODEBOOK, F(6) * F(4) ** 2,
    ),
    "the only one of TopK": (
        f"{NEAREST} v, i = TopK(d, one) q = Gather<axis = 0>(c, i) qs = Squeeze(q, one) y = MatMul(qs, w)",
        CODEBOOK, F(6) * F(4) ** 2,
    ),
    "columns instead of rows": (
        f"{NEAREST} i = ArgMax<axis = 1, keepdims = 0>(d) q = Gather<axis = 1>(c, i) t = Transpose(q) y = MatMul(t, w)",
        {"r": (3, 4), "k": (4, 6), "c": (3, 6), "w": (3, 2)}, F(6) * F(4) * F(3),
    ),
    "one number of each row": (
        f"{NEAREST} i = ArgMax<axis = 1>(d) q = Gather<axis = 0>(c, i) y = MatMul(q, w)",
        {"r": (3, 4), "k": (4, 6), "c": (6,), "w": (1, 2)}, F(6) * F(4),
    ),
    "the mean of the three nearest": (
        f"{NEAREST} v, i = TopK(d, three) q = Gather<axis = 0>(c, i) m = ReduceMean<keepdims = 0>(q, one)"
        " y = MatMul(m, w)", CODEBOOK, F(6) * F(4) ** 2,
    ),
    "the sum of the three nearest": (
        f"{NEAREST} v, i = TopK(d, three) q = Gather<axis = 0>(c, i) m = ReduceSum<keepdims = 0>(q, one)"
        " y = MatMul(m, w)", CODEBOOK, F(6) * F(4) ** 2,
    ),
    "the nearest ones, weighted by rank": (
        f"{NEAREST} v, i = TopK(d, two) q = Gather<axis = 0>(c, i) p = Mul(q, ranks)"
        " m = ReduceSum<keepdims = 0>(p, one) y = MatMul(m, w)", {**CODEBOOK, "ranks": (2, 1)}, F(6) * F(4) ** 2,
    ),
    # Row 0 is read by its number as well.
    "a table that is also read by position": (
        f"{NEAREST} i = ArgMax<axis = 1, keepdims = 0>(d) q = Gather<axis = 0>(c, i) y0 = MatMul(q, w)"
        " c0 = Gather<axis = 0>(c, first) u = MatMul(c0, w) y = Add(y0, u)", CODEBOOK, F(5) * F(4) ** 2,
    ),
    "the index is a number too": (
        f"{NEAREST} i = ArgMax<axis = 1>(d) j = Squeeze(i, one) q = Gather<axis = 0>(c, j) m = MatMul(q, w)"
        " n = Cast<to = 1>(i) y = Mul(m, n)", CODEBOOK, F(4) ** 2,
    ),
    "the index is compared with another number": (
        f"{NEAREST} i = ArgMax<axis = 1>(d) j = Squeeze(i, one) q = Gather<axis = 0>(c, j) m = MatMul(q, w)"
        " l = Less(i, two) n = Cast<to = 1>(l) y = Mul(m, n)", CODEBOOK, F(4) ** 2,
    ),
    # Row 0 is never read.
    "the next row": (
        f"{NEAREST} i = ArgMax<axis = 1, keepdims = 0>(d) j = Add(i, one) q = Gather<axis = 0>(c, j) y = MatMul(q, w)",
        {**CODEBOOK, "c": (7, 4)}, F(6) * F(4) ** 2,
    ),
    # 2 groups of 2 features and 3 rows each: groups, rows and features of each group trade places, with r and w.
    **{
        f"tables for groups of features, {how}": (
            "s = MatMul(x, r) sg = Reshape(s, grouped) k = Transpose<perm = [0, 2, 1]>(c)"
            f' d = Einsum<equation = "tgd,gdk->tgk">(sg, k) i = ArgMax<axis = 2, keepdims = 0>(d) {look}'
            " qf = Reshape(q, square) y = MatMul(qf, w)", {"r": (3, 4), "c": (2, 3, 2), "w": (4, 2)},
            F(2) * F(3) ** 2 * F(2) ** 2,
        )
        for how, look in {
            "one behind the other": "j = Add(i, starts) l = Reshape(c, listed) q = Gather<axis = 0>(l, j)",
            "by tuples": "n = Expand(which, eight) nu = Unsqueeze(n, minus) iu = Unsqueeze(i, minus)"
            " j = Concat<axis = -1>(nu, iu) q = GatherND(c, j)",
            "by entries": "cu = Unsqueeze(c, first) ce = Expand(cu, copies) iu = Unsqueeze(i, behind)"
            " ie = Expand(iu, entries) qe = GatherElements<axis = 2>(ce, ie) q = Squeeze(qe, two)",
        }.items()
    },
    # Tables beside the scores: features of the scores and of the tables are permuted apart.
    "tables for groups of features, one after the other": (
        'u = MatMul(x, r) ug = Reshape(u, grouped) d = Einsum<equation = "tgd,gdk->tgk">(ug, kg)'
        " i = ArgMax<axis = 2, keepdims = 0>(d) zero = Constant<value_int = 0>() next = Constant<value_int = 1>()"
        " c0 = Gather<axis = 0>(c, zero) i0 = Gather<axis = 1>(i, zero) q0 = Gather<axis = 0>(c0, i0)"
        " c1 = Gather<axis = 0>(c, next) i1 = Gather<axis = 1>(i, next) q1 = Gather<axis = 0>(c1, i1)"
        " qf = Concat<axis = 1>(q0, q1) y = MatMul(qf, w)", {"r": (3, 4), "kg": (2, 2, 3), "c": (2, 3, 2), "w": (4, 2)},
        F(2) * F(3) ** 2 * F(2) ** 4,
    ),
    "the index is an output": (
        f"{NEAREST} i = ArgMax<axis = 1, keepdims = 0>(d) q = Gather<axis = 0>(c, i) y = MatMul(q, w)",
        CODEBOOK, F(4) ** 2,
    ),
}  # fmt: skip


def network(text: str, shapes: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    constants = {**CONSTANTS, "column": [4, 1]}
    used = [f"{n} = Constant<value_ints = {v}>()" for n, v in constants.items() if n in words and n not in shapes]
    model = build(f"{HEAD} {{ {' '.join(used)} {text.replace('<value = ONE>', '')} }}", shapes)
    for node in model.graph.node:
        if node.output[0] == "ones":
            node.attribute.append(onnx.helper.make_attribute("value", onnx.helper.make_tensor("v", 1, [1], [1.0])))
    return model


@pytest.mark.parametrize("name", first(5, ROUTERS))
def test_experts_trade_places_with_their_router_rows_and_units_inside_each(name: str) -> None:
    text, shapes = ROUTERS[name]
    model = network(text, shapes)
    graph = gmnc.compile(model)
    assert not graph.opaque
    # All weights; the zero that the results are added to is no parameter.
    assert graph.num_parameter_edges == 112
    found = gmnc.symmetries(graph)
    assert found.exact
    assert found.log10_size == pytest.approx(math.log10(ORDER))


def of_table(name: str, text: str, shapes: dict[str, tuple[int, ...]]) -> onnx.ModelProto:
    model = network(text, shapes)
    if name == "the index is an output":
        model.graph.output.append(onnx.helper.make_tensor_value_info("i", onnx.TensorProto.INT64, [4]))
    return model


@pytest.mark.parametrize("name", first(6, TABLES))
def test_rows_of_a_table_trade_places_with_the_scores_that_choose_them(name: str) -> None:
    text, shapes, order = TABLES[name]
    graph = gmnc.compile(of_table(name, text, shapes))
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters - (4 if name == "the next row" else 0)
    found = gmnc.symmetries(graph)
    assert found.exact
    assert found.log10_size == pytest.approx(math.log10(order))


@pytest.mark.full
@pytest.mark.parametrize("name", [*ROUTERS, *TABLES])
def test_they_do_in_onnx_runtime(name: str) -> None:
    assert_sound(network(*ROUTERS[name]) if name in ROUTERS else of_table(name, *TABLES[name][:2]))


def test_an_index_that_is_also_a_number_keeps_the_experts_in_order() -> None:
    text, shapes = ROUTERS["ArgMin with its axis kept, and Equal"]
    text = text.replace("y = Einsum", "y0 = Einsum") + " n = Cast<to = 1>(i) y = Mul(y0, n)"
    model = network(text, shapes)
    found = gmnc.symmetries(gmnc.compile(model))
    assert found.log10_size == pytest.approx(math.log10(F(5) ** 4))
    assert_sound(model)


def test_numbers_that_may_not_fit_a_type_are_no_index_any_more() -> None:
    # 300 entries as uint8: entries 0 and 256 become one.
    text = (
        "s = MatMul(x, r) i = ArgMax<axis = 1, keepdims = 0>(s) u = Cast<to = 2>(i) j = Cast<to = 7>(u)"
        " y = Gather<axis = 0>(c, j)"
    )
    model = build(f"{HEAD} {{ {text} }}", {"r": (3, 300), "c": (300, 2)})
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == 0
