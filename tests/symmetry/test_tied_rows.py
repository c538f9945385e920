"""Weight sharing as arcs: rows of shared parameters, unrolled steps, and ends of parallel arcs aligned in lockstep."""

from __future__ import annotations

from math import factorial, log10, prod

import onnx
import pytest

import gmnc
from gmnc.symmetry.automorphism import verify_exact
from gmnc.symmetry.closure import Closure
from gmnc.symmetry.incidence import Incidence
from gmnc.testing import assert_sound, build

PLAIN = "p{n} = Add(g{n}, r{n})"
BIASED = "q{n} = Add(g{n}, r{n}) z{n} = Add(q{n}, B) p{n} = Add(z{n}, C)"


def unrolled(steps: int, biased: bool = False, channels: int = 4, height: int = 3, width: int = 5) -> onnx.ModelProto:
    """A recurrence over the columns of an image, one node per step, all with the same weights."""
    step = (
        "c{n} = Gather<axis = 3>(b, t{n}) f{n} = Flatten(c{n}) g{n} = MatMul(f{n}, W) r{n} = MatMul(s{n}, R) "
        + (BIASED if biased else PLAIN)
        + " s{m} = Tanh(p{n})\n"
    )
    body = "".join(step.format(n=n, m=n + 1) for n in range(steps))
    text = f"""(float[1, 3, {height}, {steps}] x) => (float[1, 2] y) {{
        a = Conv(x, A) b = Relu(a) {body} y = MatMul(s{steps}, U)
    }}"""
    floats = {"A": (channels, 3, 1, 1), "W": (channels * height, width), "R": (width, width), "U": (width, 2)}
    floats["s0"] = (1, width)
    if biased:
        floats |= {"B": (width,), "C": (width,)}
    return build(text, floats, {f"t{n}": n for n in range(steps)})  # type: ignore[misc]


@pytest.fixture
def closures(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """The swaps that are searched one by one."""
    made: list[tuple[int, int]] = []
    swap = Closure.swap

    def counted(closure: Closure, a: int, b: int) -> object:
        made.append((a, b))
        return swap(closure, a, b)

    monkeypatch.setattr(Closure, "swap", counted)
    return made


@pytest.mark.parametrize("biased", [False, True])
def test_unrolled_steps_move_as_one(biased: bool, closures: list[tuple[int, int]]) -> None:
    """4! channels times 5! hidden units, whatever the number of steps; no swap is searched on its own."""
    for steps in (3, 6):
        graph = gmnc.compile(unrolled(steps, biased))
        found = gmnc.symmetries(graph)
        assert found.log10_size == pytest.approx(log10(factorial(4) * factorial(5)))
        assert found.exact
        assert not closures
    verify_exact(graph, found.generators[0])
    verify_exact(graph, found.generators[-1])


def test_unrolled_steps_are_sound() -> None:
    assert assert_sound(unrolled(3)).generators == 3 + 4


def test_arcs_grow_with_the_steps_alone() -> None:
    few, twice, more = (len(Incidence(gmnc.compile(unrolled(n))).label) for n in (4, 8, 12))
    assert more - twice == twice - few


def test_branches_that_share_a_weight_trade_places() -> None:
    """4! rows and 5! columns of W, alike in both branches, and 2 for the branches themselves."""
    text = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, A) b = MatMul(x, B) h = Relu(a) g = Relu(b)
        u = MatMul(h, W) v = MatMul(g, W) p = Relu(u) q = Relu(v) s = Add(p, q) y = MatMul(s, C)
    }"""
    report = assert_sound(build(text, {"A": (3, 4), "B": (3, 4), "W": (4, 5), "C": (5, 2)}))
    assert report.graph is not None
    found = gmnc.symmetries(report.graph)
    assert found.log10_size == pytest.approx(log10(2 * factorial(4) * factorial(5)))


def test_a_site_that_views_a_part() -> None:
    """The first four columns of W have a second use: 4! with it, 2! for the other two."""
    text = """(float[1, 3] x, float[1, 3] z) => (float[1, 2] y, float[1, 2] w) {
        a = MatMul(x, W) h = Relu(a) y = MatMul(h, U)
        S = Slice(W, from, to, axis) b = MatMul(z, S) g = Relu(b) w = MatMul(g, V)
    }"""
    report = assert_sound(build(text, {"W": (3, 6), "U": (6, 2), "V": (4, 2)}, {"from": [0], "to": [4], "axis": [1]}))
    assert report.graph is not None
    assert gmnc.symmetries(report.graph).log10_size == pytest.approx(log10(factorial(4) * factorial(2)))


def test_a_site_that_views_a_part_of_each_column() -> None:
    """The first two rows of W have a second use: its 6 columns trade places at both sites, 6!."""
    text = """(float[1, 3] x, float[1, 2] z) => (float[1, 2] y, float[1, 2] w) {
        a = MatMul(x, W) h = Relu(a) y = MatMul(h, U)
        S = Slice(W, from, to, axis) b = MatMul(z, S) g = Relu(b) w = MatMul(g, V)
    }"""
    report = assert_sound(build(text, {"W": (3, 6), "U": (6, 2), "V": (6, 2)}, {"from": [0], "to": [2], "axis": [0]}))
    assert report.graph is not None
    assert gmnc.symmetries(report.graph).log10_size == pytest.approx(log10(factorial(6)))


def test_a_transposed_use() -> None:
    """An autoencoder with tied weights: 5! hidden units, which are columns here and rows there."""
    text = """(float[1, 3] x) => (float[1, 3] y) {
        a = MatMul(x, W) h = Relu(a) T = Transpose<perm = [1, 0]>(W) y = MatMul(h, T)
    }"""
    report = assert_sound(build(text, {"W": (3, 5)}))
    assert report.graph is not None
    assert gmnc.symmetries(report.graph).log10_size == pytest.approx(log10(factorial(5)))


def test_a_square_weight_used_twice_in_a_row() -> None:
    """Rows and columns of W belong to one stream: 4!, not (4!)^2."""
    text = """(float[1, 3] x) => (float[1, 2] y) {
        a = MatMul(x, A) b = MatMul(a, W) c = Relu(b) d = Add(a, c) e = MatMul(d, W) f = Relu(e) g = Add(d, f)
        y = MatMul(g, C)
    }"""
    report = assert_sound(build(text, {"A": (3, 4), "W": (4, 4), "C": (4, 2)}))
    assert report.graph is not None
    assert gmnc.symmetries(report.graph).log10_size == pytest.approx(log10(factorial(4)))


@pytest.mark.parametrize(("heads", "dims"), [(1, 5), (3, 4)])
def test_linear_attention_in_lockstep(heads: int, dims: int, closures: list[tuple[int, int]]) -> None:
    """A node for each key with each value: per head d! keys, with the queries, and d! values; h! heads.

    Inside a head all is found at once: swaps are searched between heads only. One orbit each of queries, keys, values.
    """
    text = """(float[1, 6, 3] x) => (float[1, 6, 2] y) {
        q = MatMul(x, Q) k = MatMul(x, K) v = MatMul(x, V)
        a = Reshape(q, split) b = Reshape(k, split) c = Reshape(v, split)
        s = Einsum<equation = "bnhd,bnhe->bhde">(b, c) r = Einsum<equation = "bnhd,bhde->bnhe">(a, s)
        o = Reshape(r, merge) y = MatMul(o, O)
    }"""
    width = heads * dims
    model = build(text, {"Q": (3, width), "K": (3, width), "V": (3, width), "O": (width, 2)},
                  {"split": [1, 6, heads, dims], "merge": [1, 6, width]})  # fmt: skip
    report = assert_sound(model)
    assert report.graph is not None
    closures.clear()
    found = gmnc.symmetries(gmnc.compile(model))
    assert found.log10_size == pytest.approx(log10(factorial(heads) * prod([factorial(dims) ** 2] * heads)))
    assert found.exact
    # Queries, keys and values have consecutive ids, behind the three inputs.
    assert all((a - 3) // dims != (b - 3) // dims for a, b in closures if b < 3 + 3 * width)
    assert len(found.generators) == 2 * heads * (dims - 1) + heads - 1
