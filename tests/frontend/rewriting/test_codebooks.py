"""An index from ArgMax or ArgMin that only looks up a table: scores and rows move together, unless scores tie."""

from __future__ import annotations

from math import factorial, log10

import onnx
import pytest

import gmnc
from gmnc.testing import assert_sound, brute_force, build

# 6 scores and the 6 rows of a table e with 4 columns, which meet the 4 rows of v: 6! 4!.
ALL = factorial(6) * factorial(4)
HEAD = "(float[1, 5, 3] x) => (float[1, 5, 2] y) {"
INTS = {"one": [1], "two": [2], "flat": [5, 4], "back": [1, 5, 4], "apart": [5, 1, 4], "six": [6], "ends": [0, 1]}
TABLE = {"w": (3, 6), "e": (6, 4), "v": (4, 2)}
READ = "g = Gather(e, i) r = Tanh(g) y = MatMul(r, v) }"
# The codes e are compared with 4 features h, which w maps from 3 inputs: code k is nearest if |h|^2 + |e_k|^2 - 2 h e_k
# is smallest.
QUANTISER = {"w": (3, 4), "e": (6, 4), "v": (4, 2)}
DISTANCES = """minus = Constant<value_float = -2.0>() h0 = MatMul(x, w) h = Tanh(h0) f = Reshape(h, flat) ff = Mul(f, f)
    a = ReduceSum<keepdims = 1>(ff, one) ee = Mul(e, e) b = ReduceSum<keepdims = 0>(ee, one) ab = Add(a, b)
    et = Transpose(e) p = MatMul(f, et) q = Mul(p, minus) d = Add(ab, q)"""
STRAIGHT = "qr = Reshape(q1, back) df = Sub(qr, h) st = Add(h, df) y = MatMul(st, v) }"

CODEBOOKS = {
    "a row": (f"s = MatMul(x, w) i = ArgMax<axis = 2, keepdims = 0>(s) {READ}", TABLE),
    "a row of one": (f"s = MatMul(x, w) k = ArgMin<axis = -1>(s) i = Squeeze(k, two) {READ}", TABLE),
    "a row by the best of one": (f"s = MatMul(x, w) n, k = TopK(s, one) i = Squeeze(k, two) {READ}", TABLE),
    "a one-hot code": (
        """s = MatMul(x, w) i = ArgMax<axis = 2, keepdims = 0>(s) o = OneHot(i, six, ends) c = Cast<to = 1>(o)
        g = MatMul(c, e) r = Tanh(g) y = MatMul(r, v) }""", TABLE,
    ),
    "a bias tells rectified scores apart": (
        f"s0 = MatMul(x, w) s1 = Relu(s0) s = Add(s1, t) i = ArgMax<axis = 2, keepdims = 0>(s) {READ}",
        {**TABLE, "t": (6,)},
    ),
    "the nearest code": (
        f"{DISTANCES} i = ArgMin<axis = 1, keepdims = 0>(d) q1 = Gather(e, i) {STRAIGHT}", QUANTISER,
    ),
    "the nearest code, one-hot": (
        f"""{DISTANCES} i = ArgMin<axis = 1, keepdims = 0>(d) o = OneHot(i, six, ends) c = Cast<to = 1>(o)
        q1 = MatMul(c, e) {STRAIGHT}""", QUANTISER,
    ),
    "the nearest code, all differences": (
        f"""h0 = MatMul(x, w) h = Tanh(h0) f = Reshape(h, apart) u = Sub(f, e) uu = Mul(u, u)
        d = ReduceSum<keepdims = 0>(uu, two) i = ArgMin<axis = 1, keepdims = 0>(d) q1 = Gather(e, i) {STRAIGHT}""",
        QUANTISER,
    ),
    "the nearest code of one of two books": (
        f"""n1 = Constant<value_int = 1>() e = Gather<axis = 0>(books, n1) {DISTANCES}
        i = ArgMin<axis = 1, keepdims = 0>(d) q1 = Gather(e, i) {STRAIGHT}""",
        {"w": (3, 4), "books": (2, 6, 4), "v": (4, 2)},
    ),
    "the nearest direction": (
        f"""tiny = Constant<value_float = 0.001>() n0 = ReduceL2<keepdims = 1>(c, one) n1 = Clip(n0, tiny)
        full = Constant<value_ints = [6, 4]>() n = Expand(n1, full) e = Div(c, n)
        h = MatMul(x, w) et = Transpose(e) s = MatMul(h, et)
        i = ArgMax<axis = 2, keepdims = 0>(s) {READ}""",
        {"w": (3, 4), "c": (6, 4), "v": (4, 2)},
    ),
}  # fmt: skip


def network(body: str, floats: dict[str, tuple[int, ...]], outputs: str = "") -> onnx.ModelProto:
    return build(f"{HEAD.replace('y) {', f'y{outputs}) {{')} {body}", floats, INTS, opset=20)


@pytest.mark.parametrize("name", CODEBOOKS)
def test_scores_and_rows_move_together(name: str) -> None:
    model = network(*CODEBOOKS[name])
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(ALL))
    assert_sound(model)


@pytest.mark.full
@pytest.mark.parametrize("name", CODEBOOKS)
def test_no_claim_is_false_by_brute_force(name: str) -> None:
    report = brute_force(network(*CODEBOOKS[name]), max_runs=600)
    assert not report.false
    assert not report.missed


@pytest.mark.parametrize(
    ("body", "order"),
    [
        # The columns of e with the rows of v are free; scores that are rectified, or products of numbers that are all
        # rectified, are often equal.
        (f"s0 = MatMul(x, w) s = Relu(s0) i = ArgMax<axis = 2, keepdims = 0>(s) {READ}", factorial(4)),
        (f"s0 = MatMul(x, w) s = Round(s0) i = ArgMax<axis = 2, keepdims = 0>(s) {READ}", factorial(4)),
        (
            f"h0 = MatMul(x, u) h = Relu(h0) s = MatMul(h, t) i = ArgMax<axis = 2, keepdims = 0>(s) {READ}",
            factorial(4) * factorial(5),
        ),
        (
            f"""s0 = MatMul(x, w) s1 = Relu(s0) a = Add(s1, t0) s = Softmax<axis = 1>(a)
            i = ArgMax<axis = 2, keepdims = 0>(s) {READ}""", factorial(4),
        ),
    ],
)  # fmt: skip
def test_the_first_of_equal_scores_counts(body: str, order: int) -> None:
    floats = {n: s for n, s in {**TABLE, "u": (3, 5), "t": (5, 6), "t0": (6,)}.items() if n in body.replace("(", " ")
              .replace(")", " ").replace(",", " ").split()}  # fmt: skip
    model = network(body, floats)
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(log10(order))
    assert_sound(model)


def test_an_index_that_is_an_output_counts() -> None:
    body, floats = CODEBOOKS["the nearest code"]
    model = network(body, floats, outputs=", int64[5] i")
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(log10(factorial(4)))
