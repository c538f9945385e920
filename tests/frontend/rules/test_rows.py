"""Row by row: what picks, puts, samples and convolves by rows of the batch has one graph for every number of rows."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pytest
import torch
from support.exports import How, export
from support.networks import randomise
from support.row_networks import NETWORKS, Clipped, Token
from support.tiers import first, some
from torch import nn

import gmnc
from gmnc.symmetry import fingerprint
from gmnc.testing import assert_isomorphic, assert_sound, brute_force, build


@pytest.mark.parametrize("how", some(["torchscript"], ["dynamo", "torchscript"]))
@pytest.mark.parametrize("make", first(2, NETWORKS))
def test_the_number_of_rows_makes_no_odds(make: type[nn.Module], how: How) -> None:
    if make is Token and how == "torchscript":
        pytest.skip("ONNX Runtime does not take the file that torchscript writes")
    torch.manual_seed(0)
    module, example = randomise(make()), NETWORKS[make]
    one, *others = (export(module, example(n), how) for n in (1, 2, 5))
    graph = gmnc.compile(one)
    assert not graph.opaque
    for other in others:
        assert_isomorphic(other, graph, values=True)
        assert gmnc.compile(other).num_parameter_edges == graph.num_parameter_edges
    assert_sound(others[0])


# Tanh features [rows, 3] of x [rows, 2] are picked from, or put into, and read out.
ROWS = """(float[{0}, 2] x) => (float[A, B] y) {{
    a = MatMul(x, w) h = Tanh(a) {1}
    y = MatMul(p, v)
}}"""
PLACES = "z = Reshape(h, split) k = ArgMax<axis = 1, keepdims = 0>(z)"
PICKED = {
    "row and place": "u = Unsqueeze(t, last) i = Concat<axis = -1>(n, u) p = GatherND(z, i)",
    "all rows in one": "f = Reshape(z, flat) s = Add(t, starts) p = Gather<axis = 0>(f, s)",
}


def picking(body: str, rows: int, **changed: object) -> onnx.ModelProto:
    ints = {
        "n": np.arange(rows)[:, None], "last": [-1], "starts": 3 * np.arange(rows), "split": [rows, 3, 1],
        "flat": [-1, 1], "row": [rows], **changed,
    }  # fmt: skip
    text = ROWS.format(rows, f"{PLACES} t = Reshape(k, row) {body}")
    return build(text, {"w": (2, 3), "v": (1, 2)}, ints)


@pytest.mark.parametrize("body", PICKED)
def test_numbered_rows(body: str) -> None:
    assert_isomorphic(picking(PICKED[body], 4), picking(PICKED[body], 1), values=True)
    assert_sound(picking(PICKED[body], 4))


@pytest.mark.parametrize(
    ("body", "changed"),
    [
        ("row and place", {"n": np.array([[0], [2], [1], [3]])}),
        ("row and place", {"n": np.array([[0], [1], [2], [2]])}),
        ("all rows in one", {"starts": np.array([0, 3, 6, 8])}),
        ("all rows in one", {"starts": np.array([3, 0, 6, 9])}),
    ],
)
def test_rows_that_read_another_one_are_told_apart(body: str, changed: dict[str, object]) -> None:
    found = fingerprint(gmnc.compile(picking(PICKED[body], 4, **changed)), values=False)
    assert found != fingerprint(gmnc.compile(picking(PICKED[body], 4)), values=False)
    assert_sound(picking(PICKED[body], 4, **changed))


def test_an_index_that_may_leave_its_row_is_left_alone() -> None:
    text = """(float[{0}, 2] x, int64[{0}] t) => (float[A, B] y) {{
        a = MatMul(x, w) h = Tanh(a) z = Reshape(h, split) f = Reshape(z, flat)
        s = Add(t, starts) p = Gather<axis = 0>(f, s) y = MatMul(p, v)
    }}"""
    models = [
        build(
            text.format(n), {"w": (2, 3), "v": (1, 2)},
            {"split": [n, 3, 1], "flat": [-1, 1], "starts": 3 * np.arange(n)},
        )
        for n in (1, 4)
    ]  # fmt: skip
    assert fingerprint(gmnc.compile(models[0])) != fingerprint(gmnc.compile(models[1]))
    assert_sound(models[1])


def test_kernels_of_their_own_for_each_row_are_told_apart() -> None:
    """Groups that are no copies of each other belong to the network, not to its batch."""
    text = """(float[1, 4, 5] x) => (float[1, 2, 3] y) { a = Conv<group = 2>(x, w) y = Relu(a) }"""
    graph = gmnc.compile(build(text, {"w": (2, 2, 3)}, {}))
    assert graph.num_parameter_edges == 12
    assert_sound(build(text, {"w": (2, 2, 3)}, {}))


def test_what_lends_its_shape_alone_makes_no_odds() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) {{
        a = MatMul(x, w) h = Tanh(a) {0} y = MatMul(e, v)
    }}"""
    lent = "o = Sort_of(h) s = Shape(o) e = Expand(h, s)".replace("Sort_of", "Softmax<axis = 0>")
    models = [build(text.format(body), {"w": (3, 4), "v": (4, 2)}, {}) for body in (lent, "e = Identity(h)")]
    assert_isomorphic(*models, values=True)


@pytest.mark.parametrize(
    ("index", "leaves"),
    [
        ("v0, t = TopK<axis = 1>(h, one)", False),
        ("t0, i0 = TopK<axis = 1>(h, one) t = Cast<to = 7>(t0)", True),
        ("b = ReduceSum(h, axes) c = Cast<to = 7>(b) t = Mod(c, three)", False),
        ("b = ReduceSum(h, axes) c = Cast<to = 7>(b) t = Mod(c, four)", True),
        ("b = ReduceSum(h, axes) c = Cast<to = 7>(b) t = Clip(c, zero, two)", False),
        ("b = ReduceSum(h, axes) c = Cast<to = 7>(b) t = Clip(c, zero, three0)", True),
    ],
)
def test_which_indices_stay_in_their_row(index: str, leaves: bool) -> None:
    """Those that may leave it see all rows, and have another graph for one row."""

    def model(rows: int) -> onnx.ModelProto:
        text = f"""(float[{rows}, 2] x) => (float[A, B] y) {{
            a = MatMul(x, w) h = Sigmoid(a) {index}
            f = Reshape(h, flat) s = Add(t, starts) g = Gather<axis = 0>(f, s) p = Reshape(g, column) y = MatMul(p, v)
        }}"""
        ints = {
            "one": [1], "axes": [1], "three": [3], "four": [4], "zero": np.array(0), "two": np.array(2),
            "three0": np.array(3), "flat": [-1, 1], "starts": 3 * np.arange(rows)[:, None], "column": [-1, 1],
        }  # fmt: skip
        return build(text, {"w": (2, 3), "v": (1, 2)}, ints)

    one, four = (fingerprint(gmnc.compile(model(rows))) for rows in (1, 4))
    assert (one != four) == leaves
    assert_sound(model(4))


def test_numbers_in_the_code_are_no_parameters() -> None:
    for how in ("torchscript", "dynamo", "dynamo-optimized"):
        model = export(randomise(Clipped()), NETWORKS[Clipped](2), how)
        assert gmnc.compile(model).num_parameter_edges == 2 * 3 + 3 + 3 * 2 + 2


MASKED = """(float[2, 3, 4] x) => (float[2, 3, 2] y) {{
    a = MatMul(x, w) h = Tanh(a) o = Gather<axis = 2>(x, first) b = Greater(o, half) m = Expand(b, whole)
    z = NonZero(m) i = Transpose(z) c = Cast<to = 7>(b) k = ReduceSum<keepdims = 0>(c) n = Reshape(k, one)
    {0} u = Reshape(e, flat) p = ScatterND(h, i, u) y = MatMul(p, v)
}}"""


@pytest.mark.parametrize(
    ("entries", "free"),
    [
        ("s = Concat<axis = 0>(n, four) e = Expand(t, s)", True),
        # Not the vector again and again, but its first number, then its second.
        ("s = Concat<axis = 0>(four, n) r = Reshape(t, column) e = Expand(r, s)", False),
    ],
)
def test_the_order_of_entries_behind_a_mask_counts(entries: str, free: bool) -> None:
    ints = {"first": [0], "whole": [2, 3, 4], "one": [1], "flat": [-1], "four": [4], "column": [4, 1]}
    model = build(MASKED.format(entries), {"w": (4, 4), "v": (4, 2), "t": (4,), "half": ()}, ints)
    report = brute_force(model, max_runs=400)
    assert not report.false
    assert bool(report.claims) == free


BANK = """(float[5, 3] x, int64[5] i) => (float[5, 2] y) {{
    last = Constant<value_ints = [-1]>() middle = Constant<value_ints = [1]>() c = Unsqueeze(i, last)
    {} xr = Unsqueeze(x, middle) m = MatMul(xr, p) s = Squeeze(m, middle) h = Relu(s) y = MatMul(h, v)
}}"""
BANKS = {
    "rows of the bank": "p = Gather<axis = 0>(w, i)",
    "index tuples": "p = GatherND(w, c)",
    "index tuples into the moved bank": "t = Transpose<perm = [0, 2, 1]>(w) q = GatherND(t, c) "
    "p = Transpose<perm = [0, 2, 1]>(q)",
}


@pytest.mark.parametrize("how", BANKS)
def test_a_matrix_of_a_bank_for_each_row(how: str) -> None:
    """The 4 hidden features are the columns of all matrices: 4!, however the bank is read."""
    model = build(BANK.format(BANKS[how]), {"w": (3, 3, 4), "v": (4, 2)})
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(math.log10(24))
    assert_sound(model)
    if "moved" not in how:
        assert_isomorphic(model, build(BANK.format(BANKS["rows of the bank"]), {"w": (3, 3, 4), "v": (4, 2)}))


# Each of 4 hidden features looks up one of 3 pairs in a table of its own: the pairs are summed.
LOOKUPS = """(float[5, 3] x) => (float[5, 2] y) {{
    zero = Constant<value_float = 0.0>() two = Constant<value_float = 2.0>() last = Constant<value_ints = [-1]>()
    middle = Constant<value_ints = [1]>() three = Constant<value_float = 3.0>() h = MatMul(x, w) f = Sigmoid(h)
    g = Mul(f, three) c = Clip(g, zero, two) i = Cast<to = 7>(c) {} fu = Unsqueeze(f, last) q = Mul(p, fu)
    y = ReduceSum<keepdims = 0>(q, middle)
}}"""
TABLES = {
    "index tuples": ("u = Unsqueeze(i, last) j = Concat<axis = -1>(n, u) p = GatherND(t, j)", (4, 3, 2)),
    "index tuples, entries first": ("u = Unsqueeze(i, last) j = Concat<axis = -1>(u, n) p = GatherND(t, j)", (3, 4, 2)),
    "all tables in one": ("b = Flatten<axis = 2>(t) s = Add(i, starts) p = Gather<axis = 0>(b, s)", (4, 3, 2)),
    "the next entry": (
        "k = Constant<value_int = 1>() e = Add(i, k) b = Flatten<axis = 2>(t) s = Add(e, starts)"
        " p = Gather<axis = 0>(b, s)", (4, 4, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", TABLES)
def test_a_table_of_each_feature(how: str) -> None:
    """The 4 features trade places with their tables."""
    body, shape = TABLES[how]
    rows = np.broadcast_to(np.arange(4)[:, None], (5, 4, 1)).tolist()
    ints = {"n": rows, "starts": [shape[1] * k for k in range(4)]}
    model = build(LOOKUPS.format(body), {"w": (3, 4), "t": shape}, ints)
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == 12 + math.prod(shape)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(24))
    assert_sound(model)
    assert not brute_force(model, max_runs=400).false


def test_indices_that_may_leave_their_table_are_not_taken_for_entries_of_it() -> None:
    """3 more is an entry of the table of the next feature."""
    body = "k = Constant<value_int = 3>() e = Add(i, k) b = Flatten<axis = 2>(t) s = Mod(e, nine) z = Add(s, starts)"
    model = build(
        LOOKUPS.format(f"{body} p = Gather<axis = 0>(b, z)"), {"w": (3, 4), "t": (4, 3, 2)},
        {"starts": [0, 3, 6, 9], "nine": 4},
    )  # fmt: skip
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == 0
