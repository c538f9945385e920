"""Interchangeable positions: all orders of what can be put in any order, with everything that moves along."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.exports import Compiled, How, by_export

import gmnc
from gmnc.symmetry import verify_exact
from gmnc.testing import build

LAYERS = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Relu(a) y = MatMul(b, v) }"
PAIR = """(float[2, 3] x) => (float[2, 2] y) {
    a0 = MatMul(x, wa) a1 = Tanh(a0) a = MatMul(a1, va)
    b0 = MatMul(x, wb) b1 = Tanh(b0) b = MatMul(b1, vb)
    y = Add(a, b)
}"""
BRANCHES = {f"{n}{b}": s for b in "ab" for n, s in (("w", (3, 5)), ("v", (5, 2)))}


@pytest.mark.parametrize(("name", "how"), by_export(hows=["dynamo"]))
def test_all_positions_together_are_the_whole_group(name: str, how: How, compiled: Compiled) -> None:
    found = gmnc.symmetries(compiled(name, how))
    degrees = [each.degree for outer in found.positions for each in outer.everything()]
    assert sum(math.lgamma(d + 1) for d in degrees) / math.log(10) == pytest.approx(found.log10_size)


@pytest.mark.parametrize(("name", "how"), by_export(["resnet", "vit", "llama"], hows=["dynamo"]))
def test_any_order_is_a_symmetry(name: str, how: How, compiled: Compiled) -> None:
    rng = np.random.default_rng(0)
    graph = compiled(name, how)
    for outer in gmnc.symmetries(graph).positions:
        for each in outer.everything():
            verify_exact(graph, each.permutation(rng.permutation(each.degree)))


def test_a_position_gets_what_the_order_names() -> None:
    graph = gmnc.compile(build(LAYERS, {"w": (3, 4), "v": (4, 2)}))
    [group] = gmnc.symmetries(graph).positions
    order = [2, 0, 3, 1]
    values = {n: graph.parameters[n].load() for n in ("w", "v")}
    new = group.permutation(order).apply(values)
    np.testing.assert_array_equal(new["w"], values["w"][:, order])
    np.testing.assert_array_equal(new["v"], values["v"][order])


def test_a_family_names_the_tensors_and_axes_that_an_order_moves() -> None:
    graph = gmnc.compile(build(LAYERS, {"w": (3, 4), "v": (4, 2)}))
    [family] = [f for f in gmnc.symmetries(graph).families if f.generators]
    [group] = family.positions
    assert group.axes == (("w", 1), ("v", 0))
    assert group.nodes.shape == (1, 4)
    moved = group.permutation([1, 2, 3, 0])
    back = moved.inverse() @ moved
    assert not len(back.src)


def test_heads_count_with_the_axis_that_they_fill_a_part_of() -> None:
    graph = gmnc.compile(build(PAIR, BRANCHES))
    [outer] = gmnc.symmetries(graph).positions
    assert [inner.axes for inner in outer.inside[0]] == [(("wa", 1), ("va", 0))]
    transposed = build(LAYERS.replace("MatMul(b, v)", "Gemm<transB = 1>(b, v)"), {"w": (3, 4), "v": (2, 4)})
    [group] = gmnc.symmetries(gmnc.compile(transposed)).positions
    assert group.axes == (("w", 1), ("v", 1))


def test_what_is_inside_a_position_moves_with_it() -> None:
    graph = gmnc.compile(build(PAIR, BRANCHES))
    [outer] = gmnc.symmetries(graph).positions
    assert outer.degree == 2
    assert [[inner.degree for inner in position] for position in outer.inside] == [[5], [5]]
    values = {n: graph.parameters[n].load() for n in BRANCHES}
    new = outer.permutation([1, 0]).apply(values)
    assert new.keys() == BRANCHES.keys()
    for kind in "wv":
        for one, other in ("ab", "ba"):
            assert new[f"{kind}{one}"].sum() == pytest.approx(values[f"{kind}{other}"].sum())


@pytest.mark.parametrize("order", [[0, 1, 2], [0, 1, 2, 2], [1, 2, 3, 4]])
def test_an_order_that_is_none_is_refused(order: list[int]) -> None:
    graph = gmnc.compile(build(LAYERS, {"w": (3, 4), "v": (4, 2)}))
    [group] = gmnc.symmetries(graph).positions
    with pytest.raises(ValueError, match="no permutation of 4 positions"):
        group.permutation(order)
