"""Sizes that count something (entries that are not zero, iterations, entries of the branch taken) are no constants.

In all networks here, x has 3 features, `w` maps them to 4 hidden features h and `v` to 2 outputs, which are multiplied
with a number that is computed from the size. `u` (4 x 6) only decides the size: as scores `g` of 6 more features.
"""

from __future__ import annotations

from math import factorial, log10

import onnx
import pytest

import gmnc
from gmnc.testing import assert_sound, brute_force, build, verify

HEAD = """(float[1, 5, 3] x) => (float[1, 5, 2] y) {{ a = MatMul(x, w) h = Tanh(a) g = MatMul(h, u) m = Greater(g, half)
    mi = Cast<to = 7>(m) b = ReduceSum<keepdims = 0>(mi) k = Reshape(b, one)
    {} f = Cast<to = 1>(n) r = Mul(h, f) y = MatMul(r, v) }}"""
INTS = {"zero": [0], "one": [1], "m1": [-1], "three": [3], "s0": 0, "s1": 1, "s3": 3, "ones30": [1] * 30, "two": [2],
        "big": [1000], "table": [7, *[5] * 20, *[6] * 20],
        "short": [*[5] * 10, *[6] * 18]}  # fmt: skip
LOOP = """t = Constant<value_int = 1000>() c = Constant<value_ints = [1]>() go = Cast<to = 9>(c) gs = Squeeze(go)
    q0 = Cast<to = 7>(zero) q, rows = Loop(t, gs, q0) <body = each (int64 i, bool before, int64[1] at)
        => (bool again, int64[1] next, int64[1] row) {
        next = Add(at, one) left = Sub(k, next) lq = Squeeze(left) again = Greater(lq, s0) row = Identity(next) }>"""

BODIES = {
    "NonZero": "z = NonZero(m) n = Shape<start = 1>(z)",
    "NonZero, moved": "z = NonZero(m) t = Transpose(z) e = Shape<end = 1>(t) n = Squeeze(e)",
    "NonZero, as a size of something else": """z = NonZero(m) e = Shape<start = 1>(z) o = ConstantOfShape(e)
        n = ReduceSum<keepdims = 0>(o)""",
    "the number of elements": "z = NonZero(m) n = Size(z)",
    "Compress": "e = Reshape(m, m1) z = Compress(ones30, e) n = Shape(z)",
    "Compress along an axis": """gi = Reshape(m, m1) j = Reshape(ones30, wide) z = Compress<axis = 1>(j, gi)
        n = Shape<start = 1>(z)""",
    "Unique": "e = Reshape(g, m1) d = Round(e) z = Unique(d) n = Shape(z)",
    "the rows of a loop": LOOP + " n = Shape<end = 1>(rows)",
    "the branch taken": """kq = Squeeze(k) o = Greater(kq, s3)
        z = If(o) <then_branch = yes () => (int64[1] ra) { ra = Identity(one) },
                   else_branch = no () => (int64[3] rb) { rb = Concat<axis = 0>(one, two, one) }>
        n = Shape(z)""",
    "a size that is at most 3": "l = Min(k, three) z = Slice(x, zero, l, one) n = Shape<start = 1, end = 2>(z)",
    "one of two sizes that is at most 3": """l = Min(k, three) t = Concat<axis = 0>(k, l)
        z = ConstantOfShape(t) n = Shape<start = 1>(z)""",
    "windows over an axis of such a size": """zn = NonZero(m) zf = Cast<to = 1>(zn) zu = Unsqueeze(zf, zero)
        z = MaxPool<kernel_shape = [2], strides = [16], ceil_mode = 1, pads = [1, 1]>(zu) n = Shape<start = 2>(z)""",
    "a condition on the size": """z = NonZero(m) e = Shape<start = 1>(z) eq = Squeeze(e) o = Greater(eq, s3)
        n = If(o) <then_branch = yes () => (int64[1] ra) { ra = Identity(one) },
                   else_branch = no () => (int64[1] rb) { rb = Identity(two) }>""",
    "an index by the size": "z = NonZero(m) e = Shape<start = 1>(z) n = Gather(table, e)",
    "an index beyond the table if all counted": "z = NonZero(m) e = Shape<start = 1>(z) n = Gather(short, e)",
    "the length of a sequence": """z = NonZero(m) t = Transpose(z) e = SplitToSequence(t) l = SequenceLength(e)
        n = Reshape(l, one)""",
    "the number of iterations": """z = NonZero(m) e = Shape<start = 1>(z) t = Squeeze(e) n = Loop(t, , one) <body = each
        (int64 i, bool before, int64[1] at) => (bool again, int64[1] next) {
        again = Identity(before) next = Add(at, one) }>""",
    "the number of rows that are scanned": """z = NonZero(m) t = Transpose(z)
        n, q = Scan<num_scan_inputs = 1, body = each (int64[1] at, int64[3] row) => (int64[1] next, int64[3] same) {
        next = Add(at, one) same = Identity(row) }>(one, t)""",
    "a diagonal": """z = Slice(x, zero, k, one) e = Squeeze(z, zero) i = EyeLike<dtype = 7>(e)
        l = ReduceSum<keepdims = 0>(i) n = Reshape(l, one)""",
}  # fmt: skip


def network(body: str) -> onnx.ModelProto:
    floats = {"w": (3, 4), "v": (4, 2), "u": (4, 6), "half": (1,)}
    return build(HEAD.format(body), floats, {**INTS, "wide": [1, 30]}, opset=20)


@pytest.mark.parametrize("name", BODIES)
def test_what_decides_a_size_has_an_effect(name: str) -> None:
    """No element of u is dead: all are on edges or below an opaque operator."""
    graph = gmnc.compile(network(BODIES[name]))
    assert not [e for e in graph.account if e.name == "u" and e.where in ("dead", "never read")]
    assert sum(b.size for b in graph.edges if b.view.name == "u") in (0, 24)


@pytest.mark.parametrize("name", [n if n in ("NonZero", "the branch taken", "an index by the size")
                                  else pytest.param(n, marks=pytest.mark.full) for n in BODIES])  # fmt: skip
def test_no_claim_is_false_by_brute_force(name: str) -> None:
    model = network(BODIES[name])
    assert not brute_force(model, max_runs=400).false
    assert verify(model).sound is not False


@pytest.mark.parametrize("name", ["NonZero", "NonZero, moved", "the number of elements", "Compress"])
def test_a_count_does_not_depend_on_the_order_of_what_is_counted(name: str) -> None:
    """4! orders of the hidden features, and 6! of the scores, each with all of its weights."""
    model = network(BODIES[name])
    graph = gmnc.compile(model)
    assert (graph.num_parameter_edges, len(graph.opaque)) == (45, 0)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4) * factorial(6)))
    assert_sound(model)
