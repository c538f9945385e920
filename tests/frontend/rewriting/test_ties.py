"""Scores that are equal for many inputs: the first entry is chosen then, so that entries keep their order."""

from __future__ import annotations

import pytest

import gmnc
from gmnc.testing import assert_sound, build

HEAD = "(float[8, 3] x) => (float[8, 2] y)"
SHAPES = {"r": (3, 4), "k": (4, 5), "k2": (4, 10), "b": (5,), "c": (5, 2), "u": (4,), "o": (1, 4)}
TABLE = "y = Gather<axis = 0>(c, i)"
EQUAL = {
    "rectified scores": "s = MatMul(x, r) d = MatMul(s, k) e = Relu(d) i = ArgMax<axis = 1, keepdims = 0>(e)",
    "rounded scores": "s = MatMul(x, r) d = MatMul(s, k) e = Round(d) i = ArgMax<axis = 1, keepdims = 0>(e)",
    "shares of rectified scores": (
        "s = MatMul(x, r) d = MatMul(s, k) e = Relu(d) p = Softmax<axis = 1>(e) i = ArgMax<axis = 1, keepdims = 0>(p)"
    ),
    "scores of few rectified features": (
        "s0 = MatMul(x, r) s1 = Add(s0, u) s = Relu(s1) d = MatMul(s, k) i = ArgMax<axis = 1, keepdims = 0>(d)"
    ),
}
EQUAL["the greatest of rectified scores of each group"] = (
    "s = MatMul(x, r) d0 = MatMul(s, k2) d = Relu(d0) t = Constant<value_ints = [8, 5, 2]>() e = Reshape(d, t)"
    " two = Constant<value_ints = [2]>() f = ReduceMax<keepdims = 0>(e, two) i = ArgMax<axis = 1, keepdims = 0>(f)"
)
EQUAL["scores of a number that counts"] = (
    "a = ArgMax<axis = 1>(x) f = Cast<to = 1>(a) g = Tanh(f) h = MatMul(g, o) d = MatMul(h, k)"
    " i = ArgMax<axis = 1, keepdims = 0>(d)"
)
APART = {
    "scores of any features": "s = MatMul(x, r) d = MatMul(s, k) i = ArgMax<axis = 1, keepdims = 0>(d)",
    "rectified scores with a bias": (
        "s = MatMul(x, r) d = MatMul(s, k) e = Relu(d) f = Add(e, b) i = ArgMax<axis = 1, keepdims = 0>(f)"
    ),
    "scores of few rectified features with a bias": (
        "s0 = MatMul(x, r) s = Relu(s0) d = MatMul(s, k) f = Add(d, b) i = ArgMax<axis = 1, keepdims = 0>(f)"
    ),
    "the greatest score of each group": (
        "s = MatMul(x, r) d = MatMul(s, k2) t = Constant<value_ints = [8, 5, 2]>() e = Reshape(d, t)"
        " two = Constant<value_ints = [2]>() f = ReduceMax<keepdims = 0>(e, two)"
        " i = ArgMax<axis = 1, keepdims = 0>(f)"
    ),
}


def rows_move(text: str) -> bool:
    words = set(text.replace("(", " ").replace(")", " ").replace(",", " ").split())
    model = build(f"{HEAD} {{ {text} {TABLE} }}", {n: s for n, s in SHAPES.items() if n in {*words, "c"}})
    assert_sound(model)
    found = gmnc.symmetries(gmnc.compile(model))
    return any("c" in a.apply({n: p.load() for n, p in found.graph.parameters.items()}) for a in found.generators)


@pytest.mark.parametrize("name", EQUAL)
def test_rows_that_equal_scores_choose_keep_their_order(name: str) -> None:
    assert not rows_move(EQUAL[name])


@pytest.mark.parametrize("name", APART)
def test_rows_that_scores_choose_trade_places(name: str) -> None:
    assert rows_move(APART[name])
