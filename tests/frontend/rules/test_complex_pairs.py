"""Real and imaginary parts that are neurons move as one complex number."""

from __future__ import annotations

from math import factorial, log10

import pytest

import gmnc
from gmnc.testing import assert_sound, build

PAIRS = """(float[1, 5, 3] x) => (float[1, 5, 2] y) {{
    h = MatMul(x, w)
    t = Tanh(h)
    c = Reshape(t, pairs)
    f = {transform}
    r = Reshape(f, flat)
    y = MatMul(r, v)
}}"""


@pytest.mark.parametrize("transform", ["DFT(c, , one)", "DFT<inverse = 1>(c, , one)"])
def test_pairs_into_a_dft_swap_as_wholes(transform: str) -> None:
    """Eight hidden features are four complex numbers: 4! orders of these, and no swap within a pair."""
    model = build(
        PAIRS.format(transform=transform),
        {"w": (3, 8), "v": (8, 2)},
        ints={"pairs": [1, 5, 4, 2], "flat": [1, 5, 8], "one": 1},
        opset=20,
    )
    graph = gmnc.compile(model)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(log10(factorial(4)))
    assert (graph.num_parameter_edges, len(graph.opaque)) == (40, 0)
    assert_sound(model)


def test_the_parts_of_one_number_are_distinct() -> None:
    """One complex number of two features: nothing can be permuted."""
    model = build(
        PAIRS.format(transform="DFT(c, , one)"),
        {"w": (3, 2), "v": (2, 2)},
        ints={"pairs": [1, 5, 1, 2], "flat": [1, 5, 2], "one": 1},
        opset=20,
    )
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == 0
