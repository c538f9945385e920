"""Twins, as in `test_twins`, of operators that are told by data what to do, or that make a grid of their own."""

from __future__ import annotations

import math

import pytest
from support.tiers import first
from support.twins import BACK, CHANNELS_FIRST, OBLONG, SQUARE, twins

import gmnc
from gmnc.testing import assert_sound

PLACES = """u = ReduceMean<keepdims = 0>(x, ends)
    us = Sigmoid(u)
    three = Constant<value = float {3.99}>()
    um = Mul(us, three)
    i = Cast<to = 7>(um)"""
ENDS = {"ends": [0, 2, 3]}
PER_ENTRY = """e = MatMul(x, wi)
    es = Sigmoid(e)
    three = Constant<value = float {3.99}>()
    em = Mul(es, three)
    i = Cast<to = 7>(em)"""
REPEAT = 'nearest_mode = "floor", coordinate_transformation_mode = "asymmetric"'
TURNED = "z = Transpose<perm = [0, 2, 1, 3]>(t)"
KERNELS = """n = ReduceMean<keepdims = 0>(t, most)
    vr = Reshape(n, one)
    k = Mul(vr, wk)"""

CASES: dict[str, tuple[str, dict[str, tuple[int, ...]], dict[str, object], str]] = {
    "rows or columns looked up": (
        f"{PLACES}\n a = Gather<axis = 1>(t, i)\n b = Gather<axis = 2>(t, i)", {}, ENDS, SQUARE,
    ),
    "rows looked up in two layouts": (
        f"""{PLACES}
        r = Unsqueeze(i, first)
        c = Unsqueeze(i, second)
        {TURNED}
        a = Gather<axis = 1>(t, i)
        o = Gather<axis = 1>(z, i)
        b = Transpose<perm = [0, 2, 1, 3]>(o)""",
        {}, {**ENDS, "first": [0], "second": [1]}, SQUARE,
    ),
    "entries looked up along rows or columns": (
        f"{PER_ENTRY}\n a = GatherElements<axis = 1>(t, i)\n b = GatherElements<axis = 2>(t, i)",
        {"wi": (3, 4)}, {}, SQUARE,
    ),
    "entries looked up for the first row or column": (
        f"""{PLACES}
        r = Reshape(i, row)
        c = Reshape(i, column)
        ra = Expand(r, rows)
        rb = Expand(c, columns)
        a = GatherElements<axis = 1>(t, ra)
        b = GatherElements<axis = 1>(t, rb)""",
        {},
        {**ENDS, "row": [1, 1, 4, 1], "column": [1, 4, 1, 1], "rows": [1, 1, 4, 4], "columns": [1, 4, 1, 4]}, SQUARE,
    ),
    "slices looked up, with or without a batch": (
        f"""{PLACES}
        r = Reshape(i, index)
        a = GatherND<batch_dims = 1>(t, r)
        sq = Squeeze(t, first)
        q = Reshape(i, flat)
        g = GatherND(sq, q)
        {TURNED}
        hz = GatherND<batch_dims = 1>(z, r)
        k = Unsqueeze(g, first)
        l = Add(k, hz)
        b = Sub(l, k)""",
        {}, {**ENDS, "index": [1, 4, 1], "flat": [4, 1], "first": [0]}, SQUARE,
    ),
    "rows or columns kept": (
        f"""{PLACES}
        low = Constant<value = int64 {{-1}}>()
        keep = Greater(i, low)
        a = Compress<axis = 1>(t, keep)
        b = Compress<axis = 2>(t, keep)""",
        {}, ENDS, SQUARE,
    ),
    "numbers from two tables of one entry": (
        f"""{PLACES}
        ta1 = Constant<value = float[1] {{2.0}}>()
        tb1 = Constant<value = float[1] {{3.0}}>()
        zero = Sub(i, i)
        ga = Gather(ta1, zero)
        gb = Gather(tb1, zero)
        a = Mul(t, ga)
        b = Mul(t, gb)""",
        {}, ENDS, SQUARE,
    ),
    "entries scattered along rows or columns": (
        f"""{PER_ENTRY}
        k = MatMul(x, wk)
        a = ScatterElements<axis = 1>(t, i, k)
        b = ScatterElements<axis = 2>(t, i, k)""",
        {"wi": (3, 4), "wk": (3, 4)}, {}, SQUARE,
    ),
    "entries scattered or summed": (
        f"""{PER_ENTRY}
        k = MatMul(x, wk)
        a = ScatterElements<axis = 1, reduction = "max">(t, i, k)
        b = ScatterElements<axis = 1, reduction = "add">(t, i, k)""",
        {"wi": (3, 4), "wk": (3, 4)}, {}, SQUARE,
    ),
    "rows or columns scattered": (
        f"""{PLACES}
        sq = Squeeze(t, first)
        r = Reshape(i, flat)
        k = MatMul(sq, wk)
        p = ScatterND(sq, r, k)
        a = Unsqueeze(p, first)
        z = Transpose<perm = [1, 0, 2]>(sq)
        q = ScatterND(z, r, k)
        o = Transpose<perm = [1, 0, 2]>(q)
        b = Unsqueeze(o, first)""",
        {"wk": (4, 4)}, {**ENDS, "flat": [4, 1], "first": [0]}, SQUARE,
    ),
    "rows or columns written to at known places": (
        """sq = Squeeze(t, first)
        k = MatMul(sq, wk)
        p = Slice(k, zero, two, zero)
        qa = ScatterND(sq, where, p)
        a = Unsqueeze(qa, first)
        z = Transpose<perm = [1, 0, 2]>(sq)
        qb = ScatterND(z, where, p)
        o = Transpose<perm = [1, 0, 2]>(qb)
        b = Unsqueeze(o, first)""",
        {"wk": (4, 4)}, {"first": [0], "zero": [0], "two": [2], "where": [[1], [3]]}, SQUARE,
    ),
    "rows or columns transformed": (
        """r = Unsqueeze(t, end)
        fa = DFT(r, , one)
        fb = DFT(r, , two)
        a = Gather<axis = 4>(fa, part)
        b = Gather<axis = 4>(fb, part)""",
        {}, {"end": [-1], "one": 1, "two": 2, "part": 0}, SQUARE,
    ),
    "transformed to other lengths": (
        """r = Unsqueeze(t, end)
        fa = DFT(r, three, one)
        fb = DFT(r, five, one)
        a = Gather<axis = 4>(fa, part)
        b = Gather<axis = 4>(fb, part)""",
        {}, {"end": [-1], "one": 1, "three": 3, "five": 5, "part": 0}, SQUARE,
    ),
    "frames by other steps": (
        """c = Transpose<perm = [3, 0, 1, 2]>(t)
        r = Reshape(c, flat)
        fa = STFT(r, two, , eight)
        fb = STFT(r, four, , eight)
        a = Transpose<perm = [3, 1, 2, 0]>(fa)
        b = Transpose<perm = [3, 1, 2, 0]>(fb)""",
        {}, {"flat": [4, 24, 1], "two": 2, "four": 4, "eight": 8}, OBLONG,
    ),
    "windows of other lengths": (
        """c = Transpose<perm = [3, 0, 1, 2]>(t)
        r = Reshape(c, flat)
        fa = STFT(r, four, , eight)
        fb = STFT(r, four, , twelve)
        a = Transpose<perm = [3, 1, 2, 0]>(fa)
        b = Transpose<perm = [3, 1, 2, 0]>(fb)""",
        {}, {"flat": [4, 24, 1], "twelve": 12, "four": 4, "eight": 8}, OBLONG,
    ),
    "computed kernels over rows or columns": (
        f"""{CHANNELS_FIRST}
        {KERNELS}
        ka = Unsqueeze(k, third)
        kb = Unsqueeze(k, second)
        oa = Conv(c, ka)
        ob = Conv(c, kb)
        a = Transpose<perm = {BACK}>(oa)
        b = Transpose<perm = {BACK}>(ob)""",
        {"wk": (4, 4, 3)}, {"most": [0, 1, 2], "one": [1, 4, 1], "third": [3], "second": [2]}, SQUARE,
    ),
    "computed kernels by other steps": (
        f"""{CHANNELS_FIRST}
        {KERNELS}
        ka = Unsqueeze(k, third)
        oa = Conv(c, ka)
        ob = Conv<strides = [1, 3]>(c, ka)
        a = Transpose<perm = {BACK}>(oa)
        b = Transpose<perm = {BACK}>(ob)""",
        {"wk": (4, 4, 3)}, {"most": [0, 1, 2], "one": [1, 4, 1], "third": [3]}, SQUARE,
    ),
    "means over neurons and some places": (
        """la, na = LayerNormalization<axis = 3>(t, sa)
        lb, nb = LayerNormalization<axis = 2>(t, sb)
        a = Sub(t, na)
        b = Sub(t, nb)""",
        {"sa": (4,), "sb": (4, 4)}, {}, SQUARE,
    ),
    "places of maxima in rows or columns": (
        f"""{CHANNELS_FIRST}
        va, pa0 = MaxPool<kernel_shape = [2, 1]>(c)
        vb, pb0 = MaxPool<kernel_shape = [1, 2]>(c)
        qa = Cast<to = 1>(pa0)
        qb = Cast<to = 1>(pb0)
        hundred = Constant<value = float {{100.0}}>()
        ra = Div(qa, hundred)
        rb = Div(qb, hundred)
        a = Transpose<perm = {BACK}>(ra)
        b = Transpose<perm = {BACK}>(rb)""",
        {}, {}, SQUARE,
    ),
    "maxima put back into other pictures": (
        f"""{CHANNELS_FIRST}
        n, p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(c)
        ua = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(n, p)
        ub = MaxUnpool<kernel_shape = [2, 2], strides = [2, 2]>(n, p, size)
        a = Transpose<perm = {BACK}>(ua)
        b = Transpose<perm = {BACK}>(ub)""",
        {}, {"size": [1, 4, 5, 5]}, SQUARE,
    ),
    "rows or columns cropped and padded": (
        "a = CenterCropPad<axes = [1, 2]>(t, low)\n b = CenterCropPad<axes = [1, 2]>(t, wide)",
        {}, {"low": [2, 6], "wide": [6, 2]}, SQUARE,
    ),
    "rows or columns repeated": (
        f"""{CHANNELS_FIRST}
        ra = Resize<{REPEAT}>(c, , , rows)
        rb = Resize<{REPEAT}>(c, , , columns)
        a = Transpose<perm = {BACK}>(ra)
        b = Transpose<perm = {BACK}>(rb)""",
        {}, {"rows": [1, 4, 8, 4], "columns": [1, 4, 4, 8]}, SQUARE,
    ),
    "grids of other sizes": (
        """m = ReduceMean<keepdims = 0>(t, places)
        mt = MatMul(m, wt)
        theta = Reshape(mt, matrix)
        a = AffineGrid(theta, high)
        b = AffineGrid(theta, wide)""",
        {"wt": (4, 6), "wa": (2, 5), "wb": (2, 5)},
        {"matrix": [1, 2, 3], "high": [1, 1, 6, 4], "wide": [1, 1, 4, 6]}, SQUARE,
    ),
    "blocks put into other pictures": (
        f"""{CHANNELS_FIRST}
        r = Reshape(c, blocks)
        ca = Col2Im<strides = [2, 2]>(r, square, block)
        cb = Col2Im<strides = [2, 2]>(r, wide, block)
        a = Transpose<perm = {BACK}>(ca)
        b = Transpose<perm = {BACK}>(cb)""",
        {}, {"blocks": [1, 16, 4], "square": [4, 4], "wide": [2, 8], "block": [2, 2]}, SQUARE,
    ),
    "diagonals": (
        """p = Gather<axis = 2>(t, order)
        da = Einsum<equation = "bhhc->bhc">(t)
        db = Einsum<equation = "bhhc->bhc">(p)
        a = Unsqueeze(da, one)
        b = Unsqueeze(db, one)""",
        {}, {"order": [1, 2, 3, 0], "one": [1]}, SQUARE,
    ),
    "places of what is not zero, in other shapes": (
        """ra = Reshape(t, long)
        rb = Reshape(t, square)
        na = NonZero(ra)
        nb = NonZero(rb)
        ca = Cast<to = 1>(na)
        cb = Cast<to = 1>(nb)
        ta0 = Transpose(ca)
        tb0 = Transpose(cb)
        a = Unsqueeze(ta0, front)
        b = Unsqueeze(tb0, front)""",
        {"wa": (2, 5), "wb": (2, 5)}, {"long": [16, 4], "square": [8, 8], "front": [0, 1]}, SQUARE,
    ),
    "places of the first or last maximum": (
        """r = Sign(t)
        ma0 = ArgMax<axis = 1, select_last_index = 0>(r)
        mb0 = ArgMax<axis = 1, select_last_index = 1>(r)
        a = Cast<to = 1>(ma0)
        b = Cast<to = 1>(mb0)""",
        {}, {}, SQUARE,
    ),
}  # fmt: skip


RANDOM = (
    """half = Constant<value = float {0.5}>()
    yes = Constant<value = bool {1}>()
    a = Dropout<seed = 1>(t, half, yes)
    b = Dropout<seed = 2>(t, half, yes)""",
    """ra = RandomNormalLike<seed = 1.0>(t)
    rb = RandomNormalLike<seed = 2.0>(t)
    a = Add(t, ra)
    b = Add(t, rb)""",
)


@pytest.mark.parametrize("name", first(9, CASES))
def test_what_differs_between_branches_keeps_their_weights_apart(name: str) -> None:
    assert_sound(twins(*CASES[name]), controls=2)


@pytest.mark.parametrize("branches", RANDOM)
def test_draws_do_not_trade_places(branches: str) -> None:
    """No run is like another, so there is nothing to verify: neurons of the sum trade places, no branch does."""
    graph = gmnc.compile(twins(branches, {}, {}, SQUARE))
    assert not graph.opaque
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(120))
