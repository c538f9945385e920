"""Sizes that depend on data: an axis of a default size, a join with what determines it, and nothing opaque.

In all networks here, x has 3 features, `w` maps them to 4 hidden features and `v` to 2 outputs: 12 + 8 = 20 elements,
and the hidden features can be ordered in 4! ways. `SIZE` computes a number n from them by `u`, 4 further elements.
"""

from __future__ import annotations

from math import factorial, log10

import numpy as np
import onnx
import pytest

import gmnc
from gmnc.frontend.inference.known_entries import partly_known
from gmnc.frontend.inference.shapes import infer
from gmnc.frontend.reading.load import load
from gmnc.frontend.rewriting.data_sizes import _for_any_size
from gmnc.testing import assert_sound, brute_force, build

HEAD = "(float[1, 5, 3] x{}) => (float[1, N, 2] y) {{ g = MatMul(x, w) h = Tanh(g) {} y = MatMul(r, v) }}"
SIZE = """p = MatMul(h, u) q = Abs(p) s = ReduceMax<keepdims = 0>(q) c = Ceil(s) i = Cast<to = 7>(c) k = Reshape(i, one)
    n = Add(k, one)"""
INTS = {"zero": [0], "one": [1], "two": [2], "four": [4], "five": [5], "big": [2**62], "m1": [-1], "z": 0, "d": 1,
        "around": [0, 2], "none": [], "flat": [0, 1], "first": 1}  # fmt: skip
BODIES = {
    "slice to": "r = Slice(h, zero, n, one)",
    "slice from": "r = Slice(h, n, big, one)",
    "pad": "w6 = Concat<axis = 0>(zero, n, zero, zero, zero, zero) r = Pad(h, w6)",
    "split": """l = Sub(five, n) b = Concat<axis = 0>(n, l) ra, rb = Split<axis = 1>(h, b)
        r = Concat<axis = 1>(rb, ra)""",
    "expand": "m = ReduceMean<keepdims = 1>(h, one) t = Concat<axis = 0>(one, n, one) r = Expand(m, t)",
    "tile": "t = Concat<axis = 0>(one, n, one) r = Tile(h, t)",
    "fill": """t = Concat<axis = 0>(one, n, four) a = ConstantOfShape<value = float[1] {0.5}>(t)
        m = ReduceSum<keepdims = 1>(a, one) r = Mul(h, m)""",
    "top": "r, at = TopK<axis = 1>(h, n)",
    "resize": """t = Concat<axis = 0>(one, n, four) r = Resize<mode = "linear">(h, , , t)""",
    "resize one axis": """r = Resize<mode = "nearest", axes = [1]>(h, , , n)""",
    "range": """e = Reshape(n, none) a = Range(z, e, d) f = Cast<to = 1>(a) b = Unsqueeze(f, around)
        m = ReduceMean<keepdims = 1>(h, one) r = Mul(b, m)""",
    "mean over a slice": "a = Slice(h, zero, n, one) m = ReduceMean<keepdims = 1>(a, one) r = Add(h, m)",
    "a size as a factor": """a = Slice(x, zero, n, one) b = Shape(a) f = Cast<to = 1>(b) e = ReduceMax(f)
        r = Mul(h, e)""",
    "a count as a factor": "a = Slice(x, zero, n, one) b = Size(a) f = Cast<to = 1>(b) r = Mul(h, f)",
    "a size that decides": """a = Slice(x, zero, n, one) b = Size(a) t = Constant<value_int = 9>() o = Greater(b, t)
        r = If(o) <then_branch = yes () => (float[1, 5, 4] ra) { ra = Abs(h) },
                   else_branch = no () => (float[1, 5, 4] rb) { rb = Tanh(h) }>""",
    "a length regulator": """cq = Ceil(q) ce = Cast<to = 7>(cq) o = Squeeze(ce, two) cs = CumSum(o, first)
        e = ReduceMax<keepdims = 0>(cs) a = Range(z, e, d) a2 = Unsqueeze(a, flat) cu = Unsqueeze(cs, m1)
        lt = Less(a2, cu) mf = Cast<to = 1>(lt) mt = Transpose<perm = [0, 2, 1]>(mf) r = MatMul(mt, h)""",
}


def network(body: str, size: str = SIZE, inputs: str = "", **more: tuple[int, ...]) -> onnx.ModelProto:
    floats = {"w": (3, 4), "v": (4, 2), **({"u": (4, 1)} if size else {}), **more}
    return build(HEAD.format(inputs, f"{size} {body}"), floats, INTS)


@pytest.mark.parametrize("name", BODIES)
def test_hidden_features_are_permuted_with_what_computes_the_size(name: str) -> None:
    """4! orders of the columns of w with the rows of u and v; all 24 elements have edges."""
    model = network(BODIES[name])
    graph = gmnc.compile(model)
    assert (graph.num_parameter_edges, graph.num_parameters, len(graph.opaque)) == (24, 24, 0)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4)))
    assert_sound(model)


@pytest.mark.parametrize("name", ["slice to", "expand", "a size as a factor"])
def test_no_claim_is_false_by_brute_force(name: str) -> None:
    assert not brute_force(network(BODIES[name])).false


@pytest.mark.parametrize(
    ("inputs", "body"),
    [(", int64[1] n", "r = Slice(h, zero, n, one)"), (", int64[1] n", "r = Slice(h, n, five, one)")],
)
def test_sizes_may_be_inputs(inputs: str, body: str) -> None:
    graph = gmnc.compile(network(body, "", inputs))
    assert (graph.num_parameter_edges, len(graph.opaque)) == (20, 0)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4)))


def test_labelled_axes_that_data_moves_are_pinned() -> None:
    """The first n of the hidden features are summed: which ones depends on their order."""
    body = "a = Slice(h, zero, n, two) b = ReduceSum<keepdims = 1>(a, two) r = Mul(h, b)"
    graph = gmnc.compile(network(body))
    assert (graph.num_parameter_edges, len(graph.opaque)) == (24, 0)
    assert gmnc.symmetries(graph).log10_size == 0


def test_unknown_widths_pin_the_features_that_they_may_shift() -> None:
    """All six widths are an input; those of the feature axis could be 1 and -1."""
    graph = gmnc.compile(network("r = Pad(h, wide)", "", ", int64[6] wide"))
    assert (graph.num_parameter_edges, len(graph.opaque)) == (20, 0)
    assert gmnc.symmetries(graph).log10_size == 0


def test_unknown_sizes_pin_the_features_that_they_may_resize() -> None:
    """All three sizes are an input: to resize 4 features to 3 leaves out one of them."""
    body = 'a = Resize<mode = "nearest">(h, , , wide) b = ReduceSum<keepdims = 0>(a) r = Mul(h, b)'
    graph = gmnc.compile(network(body, "", ", int64[3] wide"))
    assert (graph.num_parameter_edges, len(graph.opaque)) == (20, 0)
    assert gmnc.symmetries(graph).log10_size == 0


def test_heads_behind_a_size_that_depends_on_data() -> None:
    """Two heads of two features: 2! orders of the heads, and 2! within each."""
    body = """a = Slice(h, zero, n, one) b = Shape<start = 1, end = 2>(a) t = Concat<axis = 0>(one, b, two, two)
        e = Reshape(a, t) f = Transpose<perm = [0, 2, 1, 3]>(e) j = Softmax(f) l = Transpose<perm = [0, 2, 1, 3]>(j)
        m = Shape(a) r = Reshape(l, m)"""
    model = network(body)
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(log10(8))
    assert_sound(model)


def test_a_table_of_positions_is_cut_by_data() -> None:
    """A table [1, 8, 4] is added, cut to n positions: its 32 elements are on edges, its columns move along."""
    body = "a = Slice(h, zero, n, one) b = Slice(table, zero, n, one) r = Add(a, b)"
    graph = gmnc.compile(network(body, table=(1, 8, 4)))
    assert graph.num_parameter_edges == 24 + 32
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4)))


def test_the_number_of_results_of_an_unknown_operator() -> None:
    """A tokeniser returns [n] ids; E 11 x 4, then 4 to 6 to 3 features: 44 + 24 + 18 elements, 4! 6! orders."""
    text = """(string[1] text) => (float[1, 3] y) {
        ids = ai.onnx.contrib.BertTokenizer(text)
        i = Unsqueeze(ids, zero) e = Gather(E, i) p = ReduceMean<axes = [1], keepdims = 0>(e)
        h = MatMul(p, w) a = Relu(h) y = MatMul(a, v) }"""
    floats = {"E": (11, 4), "w": (4, 6), "v": (6, 3)}
    model = build(text, floats, {"zero": [0]}, opset=13, domains={"ai.onnx.contrib": 1})
    model.graph.value_info.append(onnx.helper.make_tensor_value_info("ids", onnx.TensorProto.INT64, ["n"]))
    graph = gmnc.compile(model)
    assert (graph.num_parameter_edges, graph.num_parameters, len(graph.opaque)) == (86, 86, 1)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4) * factorial(6)))


def test_different_computations_of_the_size_are_different_networks() -> None:
    ends = ("r = Slice(h, zero, n, one)", "r = Slice(h, one, n, one)", "b = Add(n, one) r = Slice(h, zero, b, one)")
    prints = {gmnc.fingerprint(gmnc.compile(network(body))) for body in ends}
    assert len(prints) == 3


def test_which_entries_of_a_vector_depend_on_data() -> None:
    model = load(network("w6 = Concat<axis = 0>(zero, n, zero, zero, five, zero) r = Pad(h, w6)"))
    known = infer(model)
    [value] = [v for node in model.graph for v in node.outputs if v.name == "w6"]
    assert partly_known(value, known, 20) == [0, None, 0, 0, 5, 0]


def test_which_reshapes_arrange_entries_alike_for_every_size() -> None:
    n, one, two = 32, frozenset({1}), frozenset({2})
    assert _for_any_size(((1, n, 6), one), ((1, n, 2, 3), one))
    assert _for_any_size(((2, n, 6), one), ((2 * n, 6), frozenset({0})))
    assert _for_any_size(((1, 6, n), two), ((1, 2, 3, n), frozenset({3})))
    assert not _for_any_size(((4, 6), frozenset()), ((2, 12), frozenset({0, 1})))
    assert not _for_any_size(((4, n), one), ((2 * n, 2), frozenset({0})))
    assert not _for_any_size(((1, 1024), one), ((n, n), frozenset({0, 1})))


def test_numbers_that_are_assumed_are_no_data() -> None:
    """The shape of a slice by data is not known, that of its features is."""
    body = """a = Slice(h, zero, n, one) b = Shape(a) f = Shape<start = 2>(a) e = Gather(b, two) t = Gather(b, one)
        r = Add(h, h)"""
    known = {v.name: entry for v, entry in infer(load(network(body))).items()}
    assert known["a"].by_data == {1}
    assert known["b"].data is None
    assert known["t"].data is None
    assert known["f"].data is not None
    assert np.array_equal(known["f"].data, [4])
    assert known["e"].data is not None
    assert np.array_equal(known["e"].data, [4])
