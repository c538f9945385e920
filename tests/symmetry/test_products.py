"""Products and inverses of symmetries: they know their graph and do what their factors do, one after the other."""

from __future__ import annotations

import numpy as np
import pytest
from support.paths import CNN

import gmnc
from gmnc.ir import GraphError, ParameterGraph
from gmnc.symmetry import Automorphism, Product, Rescaling, swap
from gmnc.symmetry.automorphism import compose, compose_all, verify_exact
from gmnc.symmetry.kinds import RESCALINGS

KINDS = ("permutation", *RESCALINGS)
"""The kinds that move or multiply numbers without rounding them."""
Values = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def graph() -> ParameterGraph:
    return gmnc.compile(CNN)


def values(graph: ParameterGraph) -> Values:
    return {n: p.load() for n, p in graph.parameters.items()}


def done(old: Values, *symmetries: Automorphism | Rescaling | Product) -> Values:
    for each in symmetries:
        old = {**old, **each.apply(old)}
    return old


def equal(a: Values, b: Values) -> bool:
    return all(np.array_equal(a[n], b[n]) for n in a)


def drawn(graph: ParameterGraph, *kinds: str, seed: int = 0) -> Automorphism | Product:
    return gmnc.symmetries(graph, kinds).sample(np.random.default_rng(seed))


def test_products_of_automorphisms_know_their_graph(graph: ParameterGraph) -> None:
    a, b, *_ = gmnc.symmetries(graph).generators
    start = values(graph)
    for both in (compose(a, b), b @ a, compose_all(graph, [b, a])):
        assert isinstance(both, Automorphism)
        assert both.graph is graph
        assert equal(done(start, both), done(start, a, b))
        verify_exact(graph, both)
    assert not equal(done(start, a @ b), done(start, b @ a)), "these two do not commute"
    nodes = a.src[:2]
    found = swap(graph, int(nodes[0]), int(a.moved[int(nodes[0])]))
    assert found
    assert found.graph is graph


def test_an_inverse_takes_everything_back(graph: ParameterGraph) -> None:
    first, second = (drawn(graph, "permutation", seed=s) for s in (1, 2))
    for each in (first, first @ second, *gmnc.symmetries(graph).generators):
        back = each.inverse()
        assert back.graph is graph
        assert equal(done(done(values(graph), each), back), values(graph))
        nothing = back @ each
        assert not len(nothing.src)
        assert not len(nothing.biclique_src)
    cycle = gmnc.symmetries(graph).generators[0] @ gmnc.symmetries(graph).generators[1]
    assert cycle.inverse().moved != cycle.moved, "of three nodes in a cycle"
    assert (np.diff(cycle.inverse().src) > 0).all()


@pytest.mark.parametrize("left", KINDS)
@pytest.mark.parametrize("right", KINDS)
def test_kinds_multiply_with_one_another(graph: ParameterGraph, left: str, right: str) -> None:
    def one(kind: str, seed: int) -> Automorphism | Rescaling:
        found = drawn(graph, kind, seed=seed)
        return found if isinstance(found, Automorphism) else found.factors[0]

    a, b, start = one(left, 3), one(right, 4), values(graph)
    both = a @ b
    assert equal(done(start, both), done(start, b, a))
    assert equal(done(start, both, both.inverse()), start)
    assert isinstance(both, type(a) if left == right else Product)
    every = drawn(graph, *KINDS, seed=5)
    assert equal(done(start, every @ both), done(start, b, a, every))
    assert equal(done(start, both @ every), done(start, every, b, a))
    assert equal(done(start, every, every.inverse()), start)


def test_symmetries_of_two_graphs_have_no_product(graph: ParameterGraph) -> None:
    other = gmnc.compile(CNN)
    for kind in KINDS:
        for another in KINDS:
            with pytest.raises(GraphError, match="two graphs"):
                _ = drawn(graph, kind, seed=1) @ drawn(other, another, seed=1)
    with pytest.raises(TypeError):
        _ = drawn(graph, "sign") @ 3
    with pytest.raises(TypeError):
        _ = drawn(graph, "permutation") @ 3
