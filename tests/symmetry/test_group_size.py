"""The size of the symmetry group: known by hand, and by counting; symmetries in words; what `symmetries()` returns."""

from __future__ import annotations

from math import factorial, log10

import numpy as np
import pytest
from support.exports import Compiled, by_network
from support.parameter_graphs import attention, mlp, random_graph

import gmnc
from gmnc.ir import GraphError, ParameterGraph
from gmnc.symmetry.automorphism import Automorphism, verify_exact
from gmnc.symmetry.group import components
from gmnc.testing import assert_sound, build

WORDS = {
    "resnet": ["4.conv1: 8 channels, free", "5.conv2, 5.skip.0: 12 channels, jointly in 2 layers"],
    "vit": ["blocks.0.attention.qkv: 3 heads x 4 dims, heads swap jointly in qkv, proj", "image: pinned, inputs"],
    "decoder": ["cross.q, cross.k, cross.v: 2 heads x 4 dims, heads swap jointly in q, k, v, o"],
    "groupnorm": ["0: 2 groups x 4 channels, groups swap jointly in 0, 3"],
}


def order(graph: ParameterGraph, most: int) -> int | None:
    """How many permutations the generators generate, by counting them; None if more than `most`."""
    found = gmnc.symmetries(graph).generators
    base = np.unique(np.concatenate([np.concatenate([g.src, g.biclique_src]) for g in found]))
    moves = []
    for g in found:
        image = dict(zip(np.concatenate([g.src, g.biclique_src]), np.concatenate([g.dst, g.biclique_dst]), strict=True))
        moves.append(np.searchsorted(base, [image.get(x, x) for x in base]))
    seen = {tuple(range(len(base)))}
    queue = list(seen)
    while queue and len(seen) <= most:
        here = np.array(queue.pop())
        new = {tuple(here[move].tolist()) for move in moves} - seen
        seen |= new
        queue += new
    return None if queue else len(seen)


def test_perceptron() -> None:
    found = gmnc.symmetries(mlp(8, 16, 16, 3))
    assert [len(o) for o in found.orbits] == [16, 16]
    assert found.log10_size == pytest.approx(2 * log10(factorial(16)))
    assert found.exact


@pytest.mark.parametrize(("heads", "dims"), [(2, 3), (3, 4), (4, 1), (1, 5)])
def test_attention(heads: int, dims: int) -> None:
    found = gmnc.symmetries(attention(heads, dims)[0])
    # and the residual stream of four
    inside = 2 * heads * log10(factorial(dims)) if dims > 1 else 0
    assert found.log10_size == pytest.approx(log10(factorial(heads)) + inside + log10(factorial(4)))
    assert found.exact


LAYER = """
    q{n} = MatMul(x, wq{n})
    k{n} = MatMul(x, wk{n})
    v{n} = MatMul(x, wv{n})
    qh{n} = Reshape(q{n}, heads)
    kh{n} = Reshape(k{n}, heads)
    vh{n} = Reshape(v{n}, heads)
    context{n} = Einsum<equation = "bnhd,bnhe->bhde">(kh{n}, vh{n})
    read{n} = Einsum<equation = "bnhd,bhde->bnhe">(qh{n}, context{n})
    scaled{n} = Mul(vh{n}, scale)
    place{n} = Mul(qh{n}, scaled{n})
    sum{n} = Add(read{n}, place{n})
    flat{n} = Reshape(sum{n}, back)
    o{n} = MatMul(flat{n}, wo{n})"""


@pytest.mark.parametrize(("heads", "dims"), [(2, 3), (3, 4), (1, 6)])
def test_factorised_attention_with_shared_scales(heads: int, dims: int) -> None:
    """Products of every key with every value; a scale shared by two layers ties queries, keys and values of both.

    The layers are alike and added: they trade places too.
    """
    layers = "".join(LAYER.format(n=n) for n in (1, 2))
    text = f"(float[1, 5, 3] x) => (float[1, 5, 2] y) {{{layers}\n y = Add(o1, o2)\n}}"
    width = heads * dims
    sizes = {f"w{side}{n}": (3, width) for side in "qkv" for n in (1, 2)}
    model = build(text, {**sizes, "scale": (heads, dims), "wo1": (width, 2), "wo2": (width, 2)},
                  {"heads": [1, 5, heads, dims], "back": [1, 5, width]})  # fmt: skip
    report = assert_sound(model)
    assert report.graph is not None
    found = gmnc.symmetries(report.graph)
    assert found.log10_size == pytest.approx(log10(2 * factorial(heads) * factorial(dims) ** heads))
    assert found.exact


@pytest.mark.parametrize("name", by_network(WORDS))
def test_words(name: str, compiled: Compiled) -> None:
    graph = compiled(name)
    lines = str(gmnc.symmetries(graph)).splitlines()
    assert set(WORDS[name]) <= set(lines), lines
    named = sorted(g for f in gmnc.symmetries(graph).families for g in f.groups)
    assert set(named) >= {i for i, g in enumerate(graph.groups) if g.kind in ("neuron", "input")}


@pytest.mark.parametrize("seed", range(40))
def test_random_graphs_by_counting(seed: int) -> None:
    """Exact sizes are what counting gives, lower bounds are below it."""
    graph = random_graph(np.random.default_rng(seed))
    found = gmnc.symmetries(graph)
    if not found.generators:
        assert found.log10_size == 0
        return
    counted = order(graph, 3000)
    if counted is None:
        assert found.log10_size > log10(3000) or not found.exact
    elif found.exact:
        assert found.log10_size == pytest.approx(log10(counted))
    else:
        assert found.log10_size <= log10(counted) + 1e-9


def _cycles(*cycles: tuple[int, ...]) -> Automorphism:
    image = {a: b for c in cycles for a, b in zip(c, (*c[1:], c[0]), strict=True)}
    return Automorphism.of_items(image, 1000)


def test_groups_that_are_no_product_of_symmetric_groups_get_a_lower_bound() -> None:
    [rotation] = components([_cycles((0, 1, 2, 3, 4))])
    assert not rotation.exact
    assert 0 < rotation.log10 <= log10(5) + 1e-9


def test_pairs_of_transpositions_are_not_taken_for_one() -> None:
    """Two columns that share one generator but not the other: not the same permutation of both."""
    [both] = components([_cycles((0, 1), (10, 11)), _cycles((1, 2), (11, 12)), _cycles((0, 1), (20, 21))])
    assert both.log10 <= log10(factorial(3) * factorial(2) ** 2 * factorial(3)) + 1e-9


def test_sample_and_apply() -> None:
    graph = mlp(3, 5, 2)
    found = gmnc.symmetries(graph)
    assert gmnc.symmetries(graph) is found
    chosen = found.sample(np.random.default_rng(0))
    verify_exact(graph, chosen)
    values = {n: p.load() for n, p in graph.parameters.items()}
    new = chosen.apply(values)
    image = np.arange(5)
    first = graph.groups[1].start
    image[chosen.src - first] = chosen.dst - first
    np.testing.assert_array_equal(new["w0"][image], values["w0"])
    with pytest.raises(GraphError, match="does not know its graph"):
        Automorphism(chosen.src, chosen.dst).apply(values)


# The rows of the result are ordered; a, b and c have 4 columns, and p, q and r weigh the rows of each.
_ROWS = """h0 = MatMul(x, k) h = Tanh(h0) t = Transpose<perm = [1, 0]>(h) a0 = MatMul(t, wa) a = Tanh(a0)
    b0 = MatMul(t, wb) b = Tanh(b0) p0 = MatMul(t, wp) p = Sigmoid(p0) q0 = MatMul(t, wq) q = Sigmoid(q0)"""
_COLUMNS_AND_ROWS = {
    # 4! columns, and the two products trade places: b and q with a and p.
    "a sum of products": ("m = Mul(a, p) n = Mul(b, q) s = Add(m, n)", 2 * factorial(4)),
    "a product of sums": ("m = Add(a, p) n = Add(b, q) s = Mul(m, n)", 2 * factorial(4)),
    "the larger of two products": ("m = Mul(a, p) n = Mul(b, q) s = Max(m, n)", 2 * factorial(4)),
    # The bias tells the products apart.
    "a bias on one": ("m = Mul(a, p) e = Add(b, bias) n = Mul(e, q) s = Add(m, n)", factorial(4)),
    # The rows of one product are scaled, so that the two matrices keep their places: 4! 3! 4!.
    "rows that are scaled before one of two matrices": (
        "m = Mul(a, scale) m1 = MatMul(m, w1) m2 = MatMul(a, w2) s0 = Add(m1, m2) s1 = Tanh(s0) s = MatMul(s1, w3)",
        factorial(4) ** 2 * factorial(3),
    ),
    # p has no columns.
    "a product and rows": ("m = Mul(a, p) s = Add(m, q)", factorial(4)),
    "three products": (
        "c0 = MatMul(t, wc) c = Tanh(c0) r0 = MatMul(t, wr) r = Sigmoid(r0) m = Mul(a, p) n = Mul(b, q) o = Mul(c, r)"
        " s = Sum(m, n, o)", factorial(3) * factorial(4),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", _COLUMNS_AND_ROWS)
def test_what_weighs_rows_stays_with_its_columns(name: str) -> None:
    text, size = _COLUMNS_AND_ROWS[name]
    shapes = {"k": (3, 5), **dict.fromkeys(("wa", "wb", "wc"), (2, 4)), **dict.fromkeys(("wp", "wq", "wr"), (2, 1))}
    shapes |= {"bias": (4,), "v": (4, 2), "scale": (5, 1), "w1": (4, 3), "w2": (4, 3), "w3": (3, 4)}
    body = f"{_ROWS} {text} y = MatMul(s, v)"
    used = set(body.replace(",", " ").replace(")", " ").replace("(", " ").split())
    model = build(f"(float[2, 3] x) => (float[N, M] y) {{ {body} }}", {n: s for n, s in shapes.items() if n in used})
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == pytest.approx(log10(size))
    assert_sound(model)
