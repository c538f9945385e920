"""Gathers, scatters and copies leave channels alone: group sizes worked out by hand.

Everywhere: h are 4 hidden channels (a tanh of x w) that a last layer v reads. If all that happens between is alike for
every channel, any permutation of the columns of w with the rows of v keeps the outputs: 4! = 24.
"""

from __future__ import annotations

import math

import onnx
import pytest

import gmnc
from gmnc.testing import assert_isomorphic, assert_sound, build

EDGES = {"zero": [0], "one": [1], "two": [2], "last": [-1], "nodes": [6, 4], "count": [6, 1], "known": [0, 1, 1, 3, 5]}


def log10_factorials(*numbers: int) -> float:
    """The decimal logarithm of a product of factorials."""
    return sum(math.log10(math.factorial(n)) for n in numbers)


def check(model: onnx.ModelProto, *numbers: int) -> None:
    """Assert that the symmetries are as many as the product of these factorials, and hold."""
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(log10_factorials(*numbers), abs=1e-6)
    assert_sound(model)


# Messages over the 5 edges of a graph with 6 nodes: s and d are their ends.
ENDS = """(float[6, 3] x, int64[2, 5] e) => (float[6, 2] y) {{
    first = Constant<value_int = 0>() second = Constant<value_int = 1>()
    s = Gather<axis = 0>(e, first) d = Gather<axis = 0>(e, second)
    p = MatMul(x, w) h = Tanh(p) {} y = MatMul(r, v)
}}"""
COLUMN = "c = Unsqueeze(d, one)"
EXPANDED = "c = Unsqueeze(d, one) size = Shape(m) i = Expand(c, size)"
SENT = "m = Gather<axis = 0>(h, s) z = ConstantOfShape(nodes)"
MESSAGES = {
    "one by one": f'{SENT} {EXPANDED} r = ScatterElements<axis = 0, reduction = "add">(z, i, m)',
    "index tiled": f"{SENT} {COLUMN} often = Constant<value_ints = [1, 4]>() i = Tile(c, often) "
    'r = ScatterElements<axis = 0, reduction = "add">(z, i, m)',
    "index cast after it was expanded": f"{SENT} {EXPANDED} j = Cast<to = 6>(i) "
    'r = ScatterElements<axis = 0, reduction = "add">(z, j, m)',
    "negative indices made positive after they were expanded": f"""{SENT} {EXPANDED}
        below = Less(i, zero) all = Constant<value_int = 6>() up = Add(i, all) j = Where(below, up, i)
        r = ScatterElements<axis = 0, reduction = "add">(z, j, m)""",
    "whole rows": f'{SENT} {COLUMN} r = ScatterND<reduction = "add">(z, c, m)',
    "greatest": f'{SENT} {EXPANDED} r = ScatterElements<axis = 0, reduction = "max">(z, i, m)',
    "onto the nodes themselves": f'{SENT} {EXPANDED} r = ScatterElements<axis = 0, reduction = "add">(h, i, m)',
    "mean": f"""{SENT} {EXPANDED} t = ScatterElements<axis = 0, reduction = "add">(z, i, m)
        ones = ConstantOfShape<value = float[1] {{1}}>(five) none = ConstantOfShape(six)
        n = ScatterElements<axis = 0, reduction = "add">(none, d, ones) one_more = Constant<value_float = 1.0>()
        k = Max(n, one_more) b = Unsqueeze(k, one) w4 = Shape(t) f = Expand(b, w4) r = Div(t, f)""",
    "known edges": """m = Gather<axis = 0>(h, known) z = ConstantOfShape(nodes) c = Unsqueeze(known, one)
        size = Shape(m) i = Expand(c, size) r = ScatterElements<axis = 0, reduction = "add">(z, i, m)""",
    "known rows": """m = Gather<axis = 0>(h, known) z = ConstantOfShape(nodes) c = Unsqueeze(known, one)
        r = ScatterND<reduction = "add">(z, c, m)""",
}


@pytest.mark.parametrize("name", MESSAGES)
def test_messages_keep_all_channels(name: str) -> None:
    text = ENDS.format(MESSAGES[name])
    check(build(text, {"w": (3, 4), "v": (4, 2)}, {**EDGES, "five": [5], "six": [6]}), 4)


def test_attention_over_edges_keeps_heads_and_their_channels() -> None:
    """2 heads of 3 channels each, with a softmax over the edges into a node per head: 2! (3!)^2.

    Heads swap as wholes, with their entries of the attention vector; the channels of a head swap with theirs.
    """
    body = """
        q = Reshape(h, heads) qa = Mul(q, a) l = ReduceSum<keepdims = 0>(qa, two)
        ls = Gather<axis = 0>(l, s) ld = Gather<axis = 0>(l, d) lg = Add(ls, ld) lr = LeakyRelu(lg)
        c = Unsqueeze(d, one) size = Shape(lr) i = Expand(c, size)
        low = ConstantOfShape<value = float[1] {-100}>(rows)
        top = ScatterElements<axis = 0, reduction = "max">(low, i, lr)
        td = Gather<axis = 0>(top, d) n = Sub(lr, td) ex = Exp(n) z = ConstantOfShape(rows)
        all = ScatterElements<axis = 0, reduction = "add">(z, i, ex) da = Gather<axis = 0>(all, d) al = Div(ex, da)
        qs = Gather<axis = 0>(q, s) au = Unsqueeze(al, two) m = Mul(qs, au)
        cc = Unsqueeze(c, two) sm = Shape(m) im = Expand(cc, sm) zm = ConstantOfShape(heads)
        o = ScatterElements<axis = 0, reduction = "add">(zm, im, m) f = Reshape(o, flat) r = Tanh(f)"""
    sizes = {"w": (3, 6), "a": (1, 2, 3), "v": (6, 2)}
    check(build(ENDS.format(body), sizes, {**EDGES, "heads": [6, 2, 3], "rows": [6, 2], "flat": [6, 6]}), 2, 3, 3)


def test_two_layers_keep_the_channels_between() -> None:
    """Two layers with a hidden layer of 5 each, and 4 channels between them: 5! 4! 5!."""
    layer = """m{0} = Gather<axis = 0>({1}, s) z{0} = ConstantOfShape(n{0})
        size{0} = Shape(m{0}) i{0} = Expand(c, size{0})
        t{0} = ScatterElements<axis = 0, reduction = "add">(z{0}, i{0}, m{0}) a{0} = Add(t{0}, {1})
        b{0} = MatMul(a{0}, u{0}) f{0} = Relu(b{0}) g{0} = MatMul(f{0}, o{0})"""
    text = ENDS.replace("p = MatMul(x, w) h = Tanh(p) {} y = MatMul(r, v)", "{} y = Identity(g2)").format(
        f"{COLUMN} {layer.format(1, 'x')} h = Tanh(g1) {layer.format(2, 'h')}"
    )
    sizes = {"u1": (3, 5), "o1": (5, 4), "u2": (4, 5), "o2": (5, 2)}
    check(build(text, sizes, {"one": [1], "n1": [6, 3], "n2": [6, 4]}), 5, 4, 5)


# z[:, :4] = h, where z has 6 features, in the ways in which it is exported.
ASSIGNED = """(float[{0}, 3] x) => (float[{0}, 2] y) {{
    p = MatMul(x, w) h = Tanh(p) {1} {2} y = MatMul(r, v)
}}"""
WRITTEN = {
    "columns": "zt = Transpose<perm = [1, 0]>(z) ht = Transpose<perm = [1, 0]>(h) "
    "rt = ScatterND(zt, column, ht) r = Transpose<perm = [1, 0]>(rt)",
    "entries": "r = ScatterElements<axis = 1>(z, places, h)",
    "concatenated": "rest = Slice(z, four, six, one) r = Concat<axis = 1>(h, rest)",
}


def assigned(way: str, onto: str, rows: int) -> onnx.ModelProto:
    ints = {
        "column": [[0], [1], [2], [3]], "places": [[0, 1, 2, 3]] * rows, "four": [4], "six": [6], "one": [1],
        "shape": [rows, 6],
    }  # fmt: skip
    sizes = {"w": (3, 4), "v": (6, 2), "b": (6,), "u": (3, 6)}
    return build(ASSIGNED.format(rows, onto, WRITTEN[way]), sizes, ints)


@pytest.mark.parametrize("rows", [1, 2])
@pytest.mark.parametrize("way", WRITTEN)
def test_assigned_to_zeros(way: str, rows: int) -> None:
    check(assigned(way, "z = ConstantOfShape(shape)", rows), 4)


@pytest.mark.parametrize("way", WRITTEN)
def test_assigned_to_an_activation(way: str) -> None:
    """z = x u: its features 4 and 5 are read by v (2!), while 0 to 3 are overwritten, in any order (4!)."""
    check(assigned(way, "z = MatMul(x, u)", 2), 4, 2, 4)


@pytest.mark.parametrize("way", WRITTEN)
def test_assigned_to_a_parameter(way: str) -> None:
    """z = b in each row, likewise."""
    check(assigned(way, "z = Expand(b, shape)", 2), 4, 2, 4)


@pytest.mark.parametrize("way", ["columns", "concatenated"])
def test_rows_make_no_odds_to_an_assignment(way: str) -> None:
    zeros = "z = ConstantOfShape(shape)"
    assert_isomorphic(assigned(way, zeros, 1), assigned(way, zeros, 3), values=True)


# Sequences [1, 5, 3]: 5 positions with 4 channels each.
SEQUENCE = """(float[1, 5, 3] x{}) => (float[A, B, C] y) {{
    p = MatMul(x, w) h = Tanh(p) {} y = MatMul(r, v)
}}"""
BEST = "g = ReduceMean<keepdims = 0>(x, two) top, t = TopK<axis = 1>(g, k) u = Unsqueeze(t, two)"
ALIKE = {
    "the best positions": f"{BEST} i = Expand(u, size) r = GatherElements<axis = 1>(h, i)",
    "the best positions, index tuples by row": f"{BEST} r = GatherND<batch_dims = 1>(h, u)",
    "zeros in front": "z = ConstantOfShape(single) r = Concat<axis = 1>(z, h)",
    "ones behind all but the first": "z = ConstantOfShape<value = float[1] {1}>(single) "
    "c = Slice(h, one, nine, one) r = Concat<axis = 1>(c, z)",
    "a learned entry in front": "r = Concat<axis = 1>(b, h)",
    "a gate of each position, expanded": "g = ReduceMean<keepdims = 1>(x, two) s = Shape(h) e = Expand(g, s) "
    "q = Sigmoid(e) r = Mul(h, q)",
    "a mask of each position, expanded": "g = ReduceMean<keepdims = 1>(x, two) s = Shape(h) e = Expand(g, s) "
    "m = Greater(e, nought) r = Where(m, h, nought)",
    "a running sum of a mask, expanded": "g = ReduceMean<keepdims = 1>(x, two) s = Shape(h) e = Expand(g, s) "
    "m = Greater(e, nought) f = Cast<to = 1>(m) q = CumSum(f, at) r = Mul(h, q)",
    "a gate from two expanded values": "g = ReduceMean<keepdims = 1>(x, two) l = ReduceMax<keepdims = 1>(x, two) "
    "s = Shape(h) e = Expand(g, s) o = Expand(l, s) q = Mul(e, o) r = Mul(h, q)",
}
SIZES = {"w": (3, 4), "v": (4, 2), "b": (1, 1, 4)}
NUMBERS = {"k": [2], "one": [1], "two": [2], "nine": [9], "size": [1, 2, 4], "single": [1, 1, 4], "at": 1}


@pytest.mark.parametrize("name", ALIKE)
def test_what_is_alike_for_all_channels_leaves_them_alone(name: str) -> None:
    nought = "nought = Constant<value_float = 0.0>() "
    check(build(SEQUENCE.format("", nought + ALIKE[name]), SIZES, NUMBERS), 4)


DIFFERENT = {
    "each channel has indices of its own": ("int64[1, 2, 4] i", "r = GatherElements<axis = 1>(h, i)"),
    "each channel is written where its own indices say": (
        "int64[1, 5, 4] i",
        'z = ConstantOfShape(whole) r = ScatterElements<axis = 1, reduction = "add">(z, i, h)',
    ),
    "each channel has a gate of its own": ("float[1, 5, 4] i", "r = Mul(h, i)"),
}


@pytest.mark.parametrize("name", DIFFERENT)
def test_what_differs_between_channels_tells_them_apart(name: str) -> None:
    """An input that is no copy along the channels: none can take another's place."""
    entered, body = DIFFERENT[name]
    check(build(SEQUENCE.format(f", {entered}", body), SIZES, {**NUMBERS, "whole": [1, 5, 4]}), 1)


def test_channels_that_receive_updates_and_others() -> None:
    """Indices cover 2 of the 4 channels: those swap with each other, and so do the others: 2! 2!."""
    body = """c = Slice(h, zero, two, two) f = Slice(j, zero, one, two) s = Shape(c) i = Expand(f, s)
        z = Neg(h) r = ScatterElements<axis = 1, reduction = "add">(z, i, c)"""
    text = SEQUENCE.format(", int64[1, 5, 2] j", body)
    check(build(text, SIZES, {**NUMBERS, "zero": [0]}), 2, 2)


def test_neurons_along_the_indexed_axis_are_ordered() -> None:
    """A computed index along the channels: which of them is written is the network's choice, so none may move."""
    text = SEQUENCE.format(
        ", int64[1, 5, 1] i", "u = ReduceMax<keepdims = 1>(x, two) r = ScatterElements<axis = 2>(h, i, u)"
    )
    check(build(text, SIZES, NUMBERS), 1)


def test_weights_that_are_scattered_into() -> None:
    """Rows of activations are added to rows of a learned table of 6 rows: the 4 channels move in both."""
    text = ENDS.format(f'm = Gather<axis = 0>(h, s) {COLUMN} r = ScatterND<reduction = "add">(table, c, m)')
    check(build(text, {"w": (3, 4), "v": (4, 2), "table": (6, 4)}, EDGES), 4)


# A state [6, 4] whose last 3 rows are an outer product of keys and channels; queries read both halves.
STATE = """(float[5, 3] x) => (float[5, 2] y) {{
    p = MatMul(x, w) h = Tanh(p) q = MatMul(x, wq) k0 = MatMul(x, wk) k = Transpose<perm = [1, 0]>(k0) u = MatMul(k, h)
    {} f = Slice(s, zero, three, zero) g = Slice(s, three, six, zero)
    e = Exp(q) of = MatMul(e, f) og = MatMul(e, g) a = Add(of, h) c = Add(a, og) r = Tanh(c) y = MatMul(r, v)
}}"""
HALVES = {
    "written": "z = ConstantOfShape(whole) s = ScatterND(z, rows, u)",
    "written along the columns of a transposed state": "zt = ConstantOfShape(across) z = Transpose<perm = [1, 0]>(zt) "
    "s = ScatterND(z, rows, u)",
    "concatenated": "z = ConstantOfShape(half) s = Concat<axis = 0>(z, u)",
    "written over a number of each row": "b = ReduceMax<keepdims = 1>(u, one) t = Concat<axis = 0>(b, b) "
    "z = Expand(t, whole) s = ScatterND(z, rows, u)",
}


@pytest.mark.parametrize("how", HALVES)
def test_copies_beside_which_something_is_written_stay_copies(how: str) -> None:
    """The 3 features of queries and keys trade places, and so do the 4 channels: what is left of z is alike for all."""
    sizes = {"w": (3, 4), "wq": (3, 3), "wk": (3, 3), "v": (4, 2)}
    numbers = {"rows": [[3], [4], [5]], "whole": [6, 4], "across": [4, 6], "half": [3, 4], "zero": [0], "one": [1],
               "three": [3], "six": [6]}  # fmt: skip
    check(build(STATE.format(HALVES[how]), sizes, numbers), 3, 4)


def test_positions_beside_which_something_is_written_are_no_copies() -> None:
    """What is left of an input [6, 4] differs between channels; the queries of its rows differ, too."""
    text = STATE.format("s = ScatterND(z, rows, u)").replace("float[5, 3] x", "float[5, 3] x, float[6, 4] z")
    sizes = {"w": (3, 4), "wq": (3, 3), "wk": (3, 3), "v": (4, 2)}
    check(build(text, sizes, {"rows": [[3], [4], [5]], "zero": [0], "three": [3], "six": [6]}), 1)
