"""Features of inputs that are too large for a label per element."""

from __future__ import annotations

import math

import pytest

import gmnc
from gmnc.frontend import discovery
from gmnc.ir import LoweringError
from gmnc.symmetry import isomorphic
from gmnc.testing import assert_exact, build

TEXTS = {
    "convolution": ("(float[1, 3, 6, 6] x) => (float[1, 4, 4, 4] y) { y = Conv(x, w) }", {"w": (4, 3, 3, 3)}),
    "channels last": (
        "(float[1, 6, 6, 3] x) => (float[1, 4, 4, 4] y) { t = Transpose<perm=[0, 3, 1, 2]>(x) y = Conv(t, w) }",
        {"w": (4, 3, 3, 3)},
    ),
    "tokens": ("(float[2, 5, 4] x) => (float[2, 5, 3] y) { y = MatMul(x, w) }", {"w": (4, 3)}),
    "image as vector": ("(float[2, 3, 4] x) => (float[2, 5] y) { f = Flatten(x) y = MatMul(f, w) }", {"w": (12, 5)}),
    "two inputs": (
        "(float[2, 4] x, float[2, 4] z) => (float[2, 3] y) { s = Mul(x, z) y = MatMul(s, w) }",
        {"w": (4, 3)},
    ),
}


@pytest.mark.parametrize("text", TEXTS)
def test_axis_by_axis_the_features_are_the_same(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(*TEXTS[text])
    whole = gmnc.compile(model)
    monkeypatch.setattr(discovery, "MAX_FULLY_LABELLED", 0)
    assert isomorphic(gmnc.compile(model), whole)


def test_an_image_of_a_thousand_million_numbers() -> None:
    head = "(float[1, 3, 20000, 20000] x) => (float[1, 4, 20000, 20000] y)"
    graph = gmnc.compile(build(f"{head} {{ y = Conv<pads=[1, 1, 1, 1]>(x, w) }}", {"w": (4, 3, 3, 3)}))
    assert (graph.num_nodes, graph.num_parameter_edges) == (7, 108)


def test_more_features_than_can_be_held_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    model = build(*TEXTS["image as vector"])
    monkeypatch.setattr(discovery, "MAX_FULLY_LABELLED", 0)
    monkeypatch.setattr(discovery, "MAX_SOURCE_LABELS", 11)
    with pytest.raises(LoweringError, match=r"'x' of shape \[2, 3, 4\]: .*--dim"):
        gmnc.compile(model)


@pytest.mark.parametrize("more", ["", " c = Add(c0, p)"])
def test_a_token_beside_values_that_one_index_chose_keeps_its_features(more: str) -> None:
    """4! features of the token and of the layer; the index reaches all of them, but makes none of them equal."""
    joined = "c" if not more else "c0"
    model = build(
        "(float[1, 5, 3] x, int64[1, 2, 1] ids) => (float[1, 3, 2] y) { h = MatMul(x, a)"
        " size = Constant<value_ints = [1, 2, 4]>() i = Expand(ids, size) g = GatherElements<axis = 1>(h, i)"
        f" {joined} = Concat<axis = 1>(g, t){more} r = Tanh(c) y = MatMul(r, b) }}",
        {"a": (3, 4), "t": (1, 1, 4), "b": (4, 2), **({"p": (1, 3, 4)} if more else {})},
    )
    graph = gmnc.compile(model)
    assert graph.num_parameter_edges == graph.num_parameters
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(math.factorial(4)))
    assert_exact(model)
