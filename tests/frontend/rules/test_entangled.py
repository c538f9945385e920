"""What an operator does is data: its operands in order, on one node; opaque only where a parameter is among them."""

from __future__ import annotations

import math

import onnx
import pytest

import gmnc
from gmnc.testing import assert_sound, build

SIZES = {"w": (3, 4), "v": (4, 5), "o": (5, 2)}


def network(body: str, floats: dict[str, tuple[int, ...]], ints: dict[str, object]) -> onnx.ModelProto:
    """Neurons t [2, 4], of which the body makes p; beside them a layer that nothing disturbs, and its output."""
    text = f"""(float[2, 3] x, int64[1] n) => (float[N, M] y, float[A, B] q) {{
        h = MatMul(x, w)
        t = Tanh(h)
        {body}
        k = MatMul(x, w2)
        l = Tanh(k)
        m = MatMul(l, v)
        c = Tanh(m)
        y = MatMul(c, o)
        q = Identity(p)
    }}"""
    return build(text, {**SIZES, "w2": (3, 4), **floats}, ints)


SETTINGS = {
    "from where the input says": "p = Slice(t, n, end, one)",
    "in the shape that the input says": "s = Concat<axis = 0>(n, end)\n p = Reshape(t, s)",
    "as often as the input says": "s = Concat<axis = 0>(n, n)\n p = Tile(t, s)",
    "along the axis that the input says": "p = CumSum(t, n)",
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_computed_setting_orders_the_operands(setting: str) -> None:
    model = network(SETTINGS[setting], {}, {"end": [4], "one": [1]})
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters
    # Only the layers on the side trade places.
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(math.factorial(4) * math.factorial(5)))
    assert_sound(model, controls=2)


def test_the_greatest_features_are_ordered_by_their_values() -> None:
    """How many is an input, which ones does not depend on their order: 4! times the 4! 5! of the layers on the side."""
    model = network("p, i = TopK<axis = 1>(t, n)", {}, {})
    graph = gmnc.compile(model)
    assert not graph.opaque
    order = math.factorial(4) ** 2 * math.factorial(5)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(order))
    assert_sound(model, controls=2)


def test_what_follows_a_shape_that_is_data() -> None:
    """It is entangled as well, but for what holds parameters: they are accounted for as under an opaque operator."""
    reshaped = "s = Concat<axis = 0>(n, rest)\n r = Reshape(t, s)"
    model = network(f"{reshaped}\n p = Neg(r)", {}, {"rest": [-1]})
    assert not gmnc.compile(model).opaque
    model = network(f"{reshaped}\n p = MatMul(r, b)", {"b": (8, 2)}, {"rest": [-1]})
    graph = gmnc.compile(model)
    assert [o.op for o in graph.opaque] == ["MatMul"]
    assert {(e.name, e.count, e.where) for e in graph.account} == {("b", 16, "opaque")}


def test_one_size_follows_from_the_others() -> None:
    """All 2 x 4 entries in rows of 4 are 2 rows, whatever the input says: b is a weight of 4! free features."""
    model = network("s = Concat<axis = 0>(n, end)\n r = Reshape(t, s)\n p = MatMul(r, b)", {"b": (4, 2)}, {"end": [4]})
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert graph.num_parameter_edges == graph.num_parameters
    order = math.factorial(4) ** 2 * math.factorial(5)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(math.log10(order))


def test_entangled_operands_that_are_too_many() -> None:
    """One link for each: beyond a limit the operator is opaque."""
    model = build(
        "(float[1, 3] x, int64[1] n) => (float[N, M] y) { h = MatMul(x, w)\n y = CumSum(h, n) }",
        {"w": (3, 70_000)},
    )
    assert [o.op for o in gmnc.compile(model).opaque] == ["CumSum"]
