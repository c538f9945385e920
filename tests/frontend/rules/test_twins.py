"""Branches that differ in one respect and feed weights of one shape: what is forgotten makes the weights look alike.

On each of these lowering once claimed that the two weights can trade places.
"""

from __future__ import annotations

import math

import pytest
from support.tiers import first
from support.twins import BACK, CHANNELS_FIRST, OBLONG, SQUARE, twins

import gmnc
from gmnc.testing import assert_sound, build

CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], dict[str, object], str]] = {
    "softmax in another shape of the grid": (
        """r = Reshape(t, wide)
        q = Softmax<axis = -2>(r)
        a = Reshape(q, back)
        b = Softmax<axis = -2>(t)""",
        {}, {"wide": [1, 8, 3, 4], "back": [1, 4, 6, 4]}, OBLONG,
    ),
    "the greatest two and the greatest three": (
        """a, i = TopK<axis = 1>(t, two)
        b, j = TopK<axis = 1>(t, three)""",
        {}, {"two": [2], "three": [3]}, OBLONG,
    ),
    "softmax over axes of one number in two layouts": (
        f"""{CHANNELS_FIRST}
        q = Softmax<axis = -2>(c)
        a = Transpose<perm = {BACK}>(q)
        b = Softmax<axis = -2>(t)""",
        {}, {}, OBLONG,
    ),
    "means over axes of one number in two layouts": (
        f"""{CHANNELS_FIRST}
        q = ReduceMean(c, second)
        a = Transpose<perm = {BACK}>(q)
        b = ReduceMean(t, second)""",
        {}, {"second": [-2]}, OBLONG,
    ),
    "broadcast over rows or columns": (
        """r = ReduceMean<keepdims = 0>(t, second)
        ra = Unsqueeze(r, one)
        rb = Unsqueeze(r, two)
        a = Mul(t, ra)
        b = Mul(t, rb)""",
        {}, {"second": [-2], "one": [1], "two": [2]}, SQUARE,
    ),
    "softmax over other parts of the same neurons": (
        """ra = Reshape(t, pairs)
        qa = Softmax<axis = -1>(ra)
        a = Reshape(qa, back)
        rb = Reshape(t, quads)
        qb = Softmax<axis = -1>(rb)
        b = Reshape(qb, back)""",
        {"w": (3, 8), "wa": (8, 5), "wb": (8, 5)},
        {"pairs": [1, 4, 6, 4, 2], "quads": [1, 4, 6, 2, 4], "back": [1, 4, 6, 8]}, OBLONG,
    ),
    "softmax over neurons and some or all places": (
        """ra = Reshape(t, rows)
        qa = Softmax<axis = 2>(ra)
        a = Reshape(qa, back)
        rb = Reshape(t, all)
        qb = Softmax<axis = 1>(rb)
        b = Reshape(qb, back)""",
        {}, {"rows": [1, 4, 24], "all": [1, 96], "back": [1, 4, 6, 4]}, OBLONG,
    ),
    "standardised over neurons and some or all places": (
        "\n".join(
            f"""u{k} = ReduceMean(t, {axes})
            d{k} = Sub(t, u{k})
            e{k} = Mul(d{k}, d{k})
            v{k} = ReduceMean(e{k}, {axes})
            s{k} = Sqrt(v{k})
            {k} = Div(d{k}, s{k})"""
            for k, axes in (("a", "last"), ("b", "most"))
        ),
        {}, {"last": [-2, -1], "most": [-3, -2, -1]}, OBLONG,
    ),
    "halves of merged places": (
        """r = Reshape(t, flat)
        l = MatMul(r, wl)
        q = Reshape(l, back)
        a = Slice(q, zero, four, last)
        b = Slice(q, four, eight, last)""",
        {"w": (3, 8), "wl": (4, 4)},
        {"flat": [48, 4], "back": [1, 4, 6, 8], "zero": [0], "four": [4], "eight": [8], "last": [-1]}, OBLONG,
    ),
    "running sums in two orders of the neurons": (
        """a = CumSum(t, last)
        p = Gather<axis = 3>(t, order)
        c = CumSum(p, last)
        b = Gather<axis = 3>(c, order)""",
        {}, {"last": -1, "order": [1, 0, 3, 2]}, OBLONG,
    ),
    "tables over rows or columns": ("a = Add(t, rows)\n b = Add(t, columns)",
                                    {"rows": (4, 1, 1), "columns": (4, 1)}, {}, SQUARE),
    "two masks of places": (
        """ca = Constant<value = float[6, 1] {1.0, 1.0, 0.0, 0.0, 1.0, 0.0}>()
        cb = Constant<value = float[6, 1] {0.0, 1.0, 1.0, 0.0, 1.0, 0.0}>()
        a = Mul(t, ca)
        b = Mul(t, cb)""",
        {}, {}, OBLONG,
    ),
    "padded rows or columns": ("a = Pad(t, rows)\n b = Pad(t, columns)", {},
                               {"rows": [0, 0, 0, 0, 0, 2, 0, 0], "columns": [0, 0, 0, 0, 0, 0, 2, 0]}, SQUARE),
    "stacked in rows or columns": (
        """u = Relu(t)
        k = MatMul(t, wk)
        a = Concat<axis = 1>(u, k)
        b = Concat<axis = 2>(u, k)""",
        {"wk": (4, 4)}, {}, SQUARE,
    ),
    "rows or columns resized": (
        f"""{CHANNELS_FIRST}
        ra = Resize(c, , , rows)
        rb = Resize(c, , , columns)
        a = Transpose<perm = {BACK}>(ra)
        b = Transpose<perm = {BACK}>(rb)""",
        {}, {"rows": [1, 4, 8, 4], "columns": [1, 4, 4, 8]}, SQUARE,
    ),
    "sums over rows or columns of a product": (
        """k = MatMul(t, wk)
        a = Einsum<equation = "bhwc,bhvc->bwvc">(t, k)
        b = Einsum<equation = "bhwc,bvwc->bhvc">(t, k)""",
        {"wk": (4, 4)}, {}, SQUARE,
    ),
    "picked from rows or columns": (
        """k = ReduceSum(t, last)
        i = ArgMax<axis = 2, keepdims = 0>(k)
        p = Squeeze(i, ends)
        a = Gather<axis = 1>(t, p)
        b = Gather<axis = 2>(t, p)""",
        {}, {"last": [3], "ends": [0, 2]}, SQUARE,
    ),
    "picked at the place of the greatest or the least": (
        """k = ReduceSum(t, most)
        i = ArgMax<axis = 1, keepdims = 0>(k)
        j = ArgMin<axis = 1, keepdims = 0>(k)
        e = Squeeze(i, ends)
        f = Squeeze(j, ends)
        a = Gather<axis = 1>(t, e)
        b = Gather<axis = 1>(t, f)""",
        {}, {"most": [2, 3], "ends": [0, 1]}, SQUARE,
    ),
    "a sequence joined in rows or columns": (
        """k = MatMul(t, wk)
        q = SequenceConstruct(t, k)
        a = ConcatFromSequence<axis = 1>(q)
        b = ConcatFromSequence<axis = 2>(q)""",
        {"wk": (4, 4)}, {}, SQUARE,
    ),
    "entries of rows or columns": (
        """p = SplitToSequence<axis = 1>(t, two)
        q = SplitToSequence<axis = 2>(t, two)
        a0 = SequenceAt(p, one)
        b0 = SequenceAt(q, one)
        a = Pad(a0, rows)
        b = Pad(b0, columns)""",
        {}, {"two": 2, "one": 1, "rows": [0, 0, 0, 0, 0, 2, 0, 0], "columns": [0, 0, 0, 0, 0, 0, 2, 0]}, SQUARE,
    ),
    "softmax over rows of what is stacked in rows or columns": (
        """u = Relu(t)
        k = MatMul(t, wk)
        ca = Concat<axis = 1>(u, k)
        cb = Concat<axis = 2>(u, k)
        a = Softmax<axis = 1>(ca)
        b = Softmax<axis = 1>(cb)""",
        {"wk": (4, 4)}, {}, SQUARE,
    ),
    "one axis resized in two layouts": (
        f"""{CHANNELS_FIRST}
        q = Resize<mode = "linear">(c, , , sizes)
        a = Transpose<perm = {BACK}>(q)
        b = Resize<mode = "linear">(t, , , sizes)""",
        {}, {"sizes": [1, 4, 8, 4]}, SQUARE,
    ),
    "softmax over places or over what a weight is shared by": (
        """ra = Reshape(t, pairs)
        rb = Transpose<perm = [0, 2, 1, 3]>(ra)
        la = MatMul(ra, wl)
        lb = MatMul(rb, wm)
        a = Softmax<axis = 1>(la)
        b = Softmax<axis = 1>(lb)""",
        {"wl": (2, 4), "wm": (2, 4)}, {"pairs": [1, 4, 8, 2]}, SQUARE,
    ),
    "products summed over columns or over all places": (
        """k = MatMul(t, wk)
        ra = Einsum<equation = "bhwc,bhwc->bhc">(t, k)
        a = Unsqueeze(ra, two)
        rb = Einsum<equation = "bhwc,bhwc->bc">(t, k)
        b = Unsqueeze(rb, both)""",
        {"wk": (4, 4)}, {"two": [2], "both": [1, 2]}, SQUARE,
    ),
    "one place of running sums": (
        """ga = Gather<axis = 3>(t, here)
        gb = Gather<axis = 3>(t, there)
        ca = CumSum(ga, last)
        cb = CumSum(gb, last)
        a = Gather<axis = 3>(ca, one)
        b = Gather<axis = 3>(cb, one)""",
        {"wa": (1, 5), "wb": (1, 5)}, {"here": [0, 1], "there": [2, 1], "last": -1, "one": [1]}, OBLONG,
    ),
    "softmax of copies": (
        """p = Gather<axis = 3>(t, twice)
        a = Softmax<axis = 3>(p)
        q = Softmax<axis = 3>(t)
        b = Gather<axis = 3>(q, twice)""",
        {"wa": (8, 5), "wb": (8, 5)}, {"twice": [0, 1, 2, 3, 0, 1, 2, 3]}, OBLONG,
    ),
    "sums of copies": (
        """p = Gather<axis = 3>(t, twice)
        a = ReduceSum(p, last)
        b = ReduceSum(t, last)""",
        {"wa": (1, 5), "wb": (1, 5)}, {"twice": [0, 1, 2, 3, 0, 1, 2, 3], "last": [3]}, OBLONG,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", first(9, CASES))
def test_what_differs_between_branches_keeps_their_weights_apart(name: str) -> None:
    assert_sound(twins(*CASES[name]), controls=2)


def test_branches_that_do_the_same_in_two_layouts_can_trade_places() -> None:
    """The other way round: only what matters tells branches apart."""
    branches = f"""{CHANNELS_FIRST}
        q = Softmax<axis = -1>(c)
        a = Transpose<perm = {BACK}>(q)
        b = Softmax<axis = -2>(t)"""
    model = twins(branches, {}, {}, OBLONG)
    assert_sound(model)
    # 4 channels, 5 neurons of both branches alike, and the branches as wholes
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(math.log10(24 * 120 * 2))


@pytest.mark.parametrize("weights", ["kernels", "mixers", "windows"])
def test_weights_over_rows_or_columns(weights: str) -> None:
    """Of one shape but for axes of size 1, or over axes of one size."""
    made = "ma = Conv(c, wa)\n mb = Conv(c, wb)"
    shapes = {"wa": (5, 4, 3, 1), "wb": (5, 4, 1, 3)}
    if weights == "mixers":
        made = """ma = Einsum<equation = "bchw,hk->bkcw">(c, wa)
        mb = Einsum<equation = "bchw,wk->bkch">(c, wb)"""
        shapes = {"wa": (4, 5), "wb": (4, 5)}
    shape = SQUARE
    if weights == "windows":
        made = """ma = ConvTranspose(c, wa)
        d = Transpose<perm = [0, 1, 3, 2]>(c)
        mb = ConvTranspose(d, wb)"""
        shape, shapes = "1, 4, 1, 3", {"wa": (4, 5, 3, 3), "wb": (4, 5, 3, 3)}
    model = build(
        f"""(float[{shape}] x) => (float[N, M] y) {{
            h = MatMul(x, w)
            t = Tanh(h)
            {CHANNELS_FIRST}
            {made}
            ta = Tanh(ma)
            tb = Tanh(mb)
            pa = ReduceMean<keepdims = 0>(ta, rest)
            pb = ReduceMean<keepdims = 0>(tb, rest)
            s = Add(pa, pb)
            y = MatMul(s, v)
        }}""",
        {"w": (3, 4), "v": (5, 2), **shapes},
        {"rest": [2, 3]},
    )
    assert_sound(model)


# Two sets of neurons on two axes: an op along one of them, and along the other.
ALONG: dict[str, tuple[str, ...]] = {
    "softmax": ("{o} = Softmax<axis = 0>({x})",),
    "norm": ("{o} = LpNormalization<axis = 0, p = 2>({x})",),
    "greatest": ("k{o} = ReduceMax<keepdims = 1>({x}, first)", "{o} = Sub({x}, k{o})"),
    "cumulative": ("{o} = CumSum({x}, zero)",),
}


@pytest.mark.parametrize("name", ALONG)
def test_an_op_along_either_of_two_sets_of_neurons(name: str) -> None:
    along = ["\n".join(ALONG[name]).format(x=x, o=o) for x, o in (("m", "a"), ("n", "c"))]
    text = f"""(float[1, 3] x) => (float[1, 2] y) {{
        h = MatMul(x, w)
        m = MatMul(column, h)
        {along[0]}
        n = Transpose<perm = [1, 0]>(m)
        {along[1]}
        b = Transpose<perm = [1, 0]>(c)
        ma = Einsum<equation = "ij,iz->jz">(a, wa)
        mb = Einsum<equation = "ij,iz->jz">(b, wb)
        ta = Tanh(ma)
        tb = Tanh(mb)
        pa = ReduceMean<keepdims = 1>(ta, first)
        pb = ReduceMean<keepdims = 1>(tb, first)
        s = Add(pa, pb)
        y = MatMul(s, v)
    }}"""
    sizes = {"w": (3, 2), "column": (2, 1), "wa": (2, 2), "wb": (2, 2), "v": (2, 2)}
    assert_sound(build(text, sizes, {"first": [0], "zero": 0}), trials=6)
