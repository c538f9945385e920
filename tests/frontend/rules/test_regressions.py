"""Networks on which lowering once claimed a false symmetry or failed, each cut down to what it takes."""

from __future__ import annotations

import numpy as np
import pytest

import gmnc
from gmnc.ir import LoweringError
from gmnc.symmetry.find import generators
from gmnc.testing import assert_sound, build, values, with_values


def test_an_output_that_depends_on_parameters_alone_is_an_output() -> None:
    """The tied weight may not be permuted for one site's sake: the second output shows it."""
    proto = build(
        """(float[1, 2] x) => (float[1, 2] y, float[1, 2] z) {
            h = MatMul(x, w)
            y = MatMul(h, v)
            a = MatMul(start, w)
            b = Tanh(a)
            z = MatMul(b, u)
        }""",
        {"w": (2, 3), "v": (3, 2), "start": (1, 2), "u": (3, 2)},
    )
    graph = gmnc.compile(proto)
    assert [p.name for p in graph.outputs] == ["y", "z"]
    assert {e.where for e in graph.account} == set()
    assert_sound(proto)
    [swaps] = {len(g.src) for g in generators(graph)}
    assert swaps == 4


def test_a_parameter_that_is_an_output_stays() -> None:
    proto = build(
        """(float[1, 3] x) => (float[1, 2] y, float[4, 3] t) {
            h = MatMul(x, w)
            r = Relu(h)
            y = MatMul(r, v)
            t = Transpose(w)
        }""",
        {"w": (3, 4), "v": (4, 2)},
    )
    assert not generators(gmnc.compile(proto))


@pytest.mark.parametrize("spelling", ["broadcast", "expand"])
def test_a_sum_over_one_operands_places_tells_the_operands_apart(spelling: str) -> None:
    """a is spread over columns and b over rows, so a * b is no longer commutative."""
    meet = "p = Mul(a, b)"
    if spelling == "expand":
        meet = "wa = Expand(a, square)\n ta = Relu(wa)\n wb = Expand(b, square)\n tb = Relu(wb)\n p = Mul(ta, tb)"
    proto = build(
        f"""(float[3, 2] x) => (float[1, 2] y) {{
            a = MatMul(x, wa1)
            c = MatMul(x, wb1)
            b = Transpose(c)
            {meet}
            m = ReduceMean<keepdims = 1>(p, zero)
            y = MatMul(m, v)
        }}""",
        {"wa1": (2, 1), "wb1": (2, 1), "v": (3, 2)},
        {"square": [3, 3], "zero": [0]},
    )
    assert_sound(proto)
    assert not generators(gmnc.compile(proto))


def test_a_flattened_value_under_a_token_keeps_its_places() -> None:
    """One token entry per place: places of one neuron meet different partners where the weight is shared."""
    proto = build(
        """(float[1, 4, 4] x) => (float[1, 2] y) {
            h = MatMul(x, w)
            f = Reshape(h, flat)
            k = Concat<axis = 0>(token, f)
            s = MatMul(k, v)
            y = ReduceMean<keepdims = 1>(s, zero)
        }""",
        {"w": (4, 3), "token": (1, 12), "v": (12, 2)},
        {"flat": [1, 12], "zero": [0]},
    )
    assert_sound(proto)


def test_an_average_over_everything_with_padding_is_not_global() -> None:
    """Windows of the full size that are padded overlap, so the order matters."""
    proto = build(
        """(float[1, 2, 2] x) => (float[1, 2, 2] y) {
            h = MatMul(x, w)
            p = AveragePool<auto_pad = "SAME_UPPER", kernel_shape = [3]>(h)
            y = MatMul(p, v)
        }""",
        {"w": (2, 3), "v": (3, 2)},
    )
    assert_sound(proto)
    assert not generators(gmnc.compile(proto))


_COPIES = {
    "running sums": "p = Gather<axis = 1>(h, places)\n q = CumSum(p, one)",
    "a bias": "p = Gather<axis = 1>(h, places)\n q = Add(p, b)",
    "softmax in parts": """p = Gather<axis = 1>(h, places)
        r = Reshape(p, parts)
        s = Softmax<axis = 2>(r)
        q = Reshape(s, flat)""",
    "a sum with places": "u = MatMul(v1, x)\n p = Gather<axis = 0>(u, places)\n t = MatMul(x, w1)\n q = Add(t, p)",
}


@pytest.mark.parametrize("name", _COPIES)
def test_copies_of_a_neuron_that_become_different_are_told_apart(name: str) -> None:
    """A neuron picked twice is one neuron, until the copies meet different things; then partners are not alike."""
    sizes = {"wh": (4, 6), "wm": (4, 6), "w": (6, 2), "b": (6,), "v1": (4, 6), "w1": (4, 4)}
    shape, meet = "1, 4", "m = MatMul(x, wm)\n k = Tanh(m)\n j = Add(q, k)\n y = MatMul(j, w)"
    if name == "a sum with places":
        shape, sizes["v1"], sizes["k"], sizes["wz"] = "6, 4", (6, 6), (6, 1), (6, 2)
        meet = 'c = Concat<axis = 1>(q, k)\n y = Einsum<equation = "ab,az->zb">(c, wz)'
    text = f"(float[{shape}] x) => (float[N, M] y) {{ h = MatMul(x, wh)\n {_COPIES[name]}\n {meet} }}"
    used = {n: s for n, s in sizes.items() if f"{n})" in text or f"{n}," in text}
    ints = {"places": [0, 1, 2, 1, 0, 3], "parts": [1, 2, 3], "flat": [1, 6], "one": 1}
    assert_sound(build(text, used, {n: v for n, v in ints.items() if f"{n})" in text}), controls=6)


def test_scattering_over_everything_is_the_updates() -> None:
    proto = build(
        """(float[1, 2, 4] x) => (float[1, 2, 2] y) {
            h = MatMul(x, w)
            t = Tanh(h)
            s = ScatterElements<axis = 1>(h, places, t)
            y = MatMul(s, v)
        }""",
        {"w": (4, 3), "v": (3, 2)},
        {"places": [[[1, 1, 1], [0, 0, 0]]]},
    )
    assert_sound(proto)


@pytest.mark.parametrize("op", ["ArgMax", "Hardmax"])
def test_of_equal_entries_the_first_wins(op: str) -> None:
    """Rounded numbers are often equal, and then the order of the neurons decides."""
    choose = "p = ArgMax<axis = 1, keepdims = 1>(r)\n c = Cast<to = 1>(p)\n z = Mul(c, r)"
    proto = build(
        f"""(float[4, 3] x) => (float[4, 2] y) {{
            h = MatMul(x, w)
            r = Round(h)
            {choose if op == "ArgMax" else "z = Hardmax<axis = 1>(r)"}
            y = MatMul(z, v)
        }}""",
        {"w": (3, 6), "v": (6, 2)},
    )
    assert not gmnc.symmetries(gmnc.compile(proto)).generators


def test_an_effective_weight_of_an_operator_without_reference_implementation() -> None:
    proto = build(
        """(float[1, 3, 2] x) => (float[1, 3, 2] y) {
            t = Tanh(w)
            p = GlobalLpPool(t)
            y = Mul(x, p)
        }""",
        {"w": (1, 3, 2)},
    )
    [folded] = gmnc.compile(proto, fold_weights=True).parameters.values()
    want = np.sqrt((np.tanh(values(proto, "w")) ** 2).sum(axis=2, keepdims=True))
    np.testing.assert_allclose(folded.load(), want, rtol=1e-6)


def test_indices_that_are_computed_from_parameters() -> None:
    proto = build(
        """(float[1, 3] x) => (float[1, 3] y) {
            places = ArgMax<axis = 0, keepdims = 0>(scores)
            g = Gather<axis = 0>(table, places)
            y = Add(x, g)
        }""",
        {"scores": (4, 1), "table": (4, 3)},
    )
    graph = gmnc.compile(proto)
    assert graph.num_parameter_edges == 16
    assert not graph.opaque


@pytest.mark.parametrize("op", ["ReduceSum", "ReduceMax", "Softmax"])
def test_a_flattened_value_that_is_reduced_with_others_keeps_its_places(op: str) -> None:
    """Each place of one neuron has another partner, so the partners are not alike."""
    made = "p = Softmax<axis = 0>(k)" if op == "Softmax" else f"p = {op}<keepdims = 1>(k, zero)"
    proto = build(
        f"""(float[1, 4, 2] x) => (float[N, 2] y) {{
            h = MatMul(x, w)
            f = Reshape(h, flat)
            k = Concat<axis = 0>(token, f)
            {made}
            t = Tanh(p)
            y = MatMul(t, v)
        }}""",
        {"w": (2, 3), "token": (1, 12), "v": (12, 2)},
        {"flat": [1, 12], "zero": [0]} if op != "Softmax" else {"flat": [1, 12]},
    )
    assert_sound(proto, controls=6)


def test_a_scalar_is_moved_like_any_other_value() -> None:
    proto = build(
        """(float[1, 3] x) => (float[N] y) {
            h = MatMul(x, w)
            t = Tanh(h)
            m = ReduceSum<keepdims = 0>(t)
            c = Cast<to = 1>(m)
            y = Mul(c, v)
        }""",
        {"w": (3, 4), "v": (2,)},
    )
    assert_sound(proto)


def test_settings_of_an_operator_that_are_put_together() -> None:
    """The older exporter concatenates the scales of a resize from two constants; they are no parameters."""
    proto = build(
        """(float[1, 2, 4, 4] x) => (float[N, C, H, W] y) {
            h = Conv(x, w)
            keep = Constant<value = float[2] {1.0, 1.0}>()
            double = Constant<value = float[2] {2.0, 2.0}>()
            scales = Concat<axis = 0>(keep, double)
            r = Resize(h, , scales)
            y = Conv(r, v)
        }""",
        {"w": (3, 2, 1, 1), "v": (2, 3, 1, 1)},
    )
    graph = gmnc.compile(proto)
    assert {b.view.name for b in graph.edges} == {"w", "v"}
    assert len(gmnc.symmetries(graph).generators) == 2
    assert_sound(proto)


def test_a_weight_with_another_site_does_not_trade_places_with_one_without() -> None:
    """Elements at one place of two tensors are different elements."""
    proto = build(
        """(float[1, 2, 4] x, float[1, 3, 2] u) => (float[N, M] y, float[A, B, C] z) {
            a = MatMul(x, wa)
            b = MatMul(x, wb)
            s = Add(a, b)
            t = Tanh(s)
            m = ReduceMean<keepdims = 0>(t, one)
            y = MatMul(m, v)
            wt = Transpose(wa)
            k = MatMul(u, wt)
            n = Tanh(k)
            z = MatMul(n, q)
        }""",
        {"wa": (4, 2), "wb": (4, 2), "v": (2, 2), "q": (4, 2)},
        {"one": [1]},
    )
    assert_sound(proto)
    assert not generators(gmnc.compile(proto))


def test_a_product_with_places_keeps_the_order_of_neurons() -> None:
    """h weighs the rows of u, which are places of the same neurons."""
    proto = build(
        """(float[1, 3] x, float[4, 2] z) => (float[1, 2] y) {
            h = MatMul(x, w)
            u = MatMul(z, v)
            m = MatMul(h, u)
            y = MatMul(m, o)
        }""",
        {"w": (3, 4), "v": (2, 5), "o": (5, 2)},
    )
    report = assert_sound(proto)
    assert report.graph is not None
    assert {len(o) for o in gmnc.symmetries(report.graph).orbits} == {5}


def test_two_scales_of_one_neuron_are_told_apart() -> None:
    """Which weights read h times s, and which h times t: the layers behind are not alike."""
    proto = build(
        """(float[1, 3] x) => (float[1, 2] y) {
            h = MatMul(x, w)
            a = Mul(h, s)
            b = Mul(h, t)
            c = MatMul(a, u)
            d = MatMul(b, v)
            e = Tanh(c)
            f = Tanh(d)
            k = Concat<axis = 1>(e, f)
            y = MatMul(k, o)
        }""",
        {"w": (3, 4), "s": (4,), "t": (4,), "u": (4, 3), "v": (4, 3), "o": (6, 2)},
    )
    assert_sound(proto)
    swapped = with_values(proto, s=values(proto, "t"), t=values(proto, "s"))
    assert gmnc.fingerprint(gmnc.compile(proto)) != gmnc.fingerprint(gmnc.compile(swapped))


def test_directions_start_from_places_of_their_own() -> None:
    """Both directions of a cell start from the same neurons, at another place of a free axis each."""
    proto = build(
        """(float[2, 1, 3] s, float[1, 2] x) => (float[N, 1, 2] y) {
            t = Einsum<equation = "ab,bzc->zac">(x, wx)
            h = MatMul(s, wh)
            every, last = RNN<hidden_size = 2, direction = "bidirectional">(t, w, r, , , h)
            y = Einsum<equation = "abc,az->zbc">(last, v)
        }""",
        {"wx": (2, 3, 2), "wh": (3, 2), "w": (2, 2, 2), "r": (2, 2, 2), "v": (2, 2)},
    )
    assert_sound(proto, trials=12)


def test_a_weight_whose_shape_is_asked_for_stays_a_weight() -> None:
    """torch's unoptimised export writes Shape(weight) beside each convolution."""
    head, tail = "(float[1, 3, 8, 8] x) => (float[1, 4, 6, 6] y) {", "y = Conv(x, v) }"
    plain, asked = (
        gmnc.compile(build(f"{head} {made} {tail}", {"w": (4, 3, 3, 3)}))
        for made in ("v = Identity(w)", "s = Shape(w) v = Expand(w, s)")
    )
    assert asked.num_nodes == plain.num_nodes == 3 + 4


def test_group_normalization_with_a_scale_per_channel_where_it_is_per_group() -> None:
    """Operator set 18 wants one scale per group; four for two groups made a graph that broke its own invariant."""
    text = "(float[1, 4, 3, 3] x) => (float[1, 4, 3, 3] y) { y = GroupNormalization<num_groups = 2>(x, s, b) }"
    model = build(text, {"s": (4,), "b": (4,)}, opset=21)
    assert gmnc.compile(model).num_parameter_edges == 8
    model.opset_import[0].version = 20
    with pytest.raises(LoweringError, match=r"do not fit together: 's' has shape \[4\], it must be \[2\]"):
        gmnc.compile(model)


@pytest.mark.parametrize("op", ["Conv", "ConvTranspose"])
def test_a_bias_of_another_shape_than_the_channels(op: str) -> None:
    text = f"(float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y) {{ y = {op}(x, w, b) }}"
    with pytest.raises(LoweringError, match=r"the bias has the shape \[2, 2, 1, 1\], it must be \[2\]"):
        gmnc.compile(build(text, {"w": (2, 2, 1, 1), "b": (2, 2, 1, 1)}))


def test_an_attribute_of_another_type_on_an_operator_that_is_rewritten() -> None:
    text = """(float[1, 4] x) => (float[1, 2] y) {
        y = com.microsoft.QGemm<transB = "1">(x, s, z, w, s, z)
    }"""
    model = build(text, {"s": (), "z": (), "w": (4, 2)}, domains={"com.microsoft": 1})
    with pytest.raises(LoweringError, match=r"QGemm.*attribute 'transB' is STRING, it must be INT"):
        gmnc.compile(model)


def test_rows_that_pick_by_other_numbers_are_no_copies_because_one_of_them_is() -> None:
    """The first row picks one number twice; the second row picks two."""
    text = """(float[1, 3, 2] x) => (float[1, 3, 2] y) {
        g = GatherElements<axis = 2>(x, i) m = ReduceMean<keepdims = 1>(g, last) e = Expand(m, shape)
        zero = Constant<value_float = 0.0>() half = Constant<value_float = 0.5>() c = Greater(e, zero)
        h = Where(c, g, half) y = MatMul(h, u)
    }"""
    model = build(text, {"u": (2, 2)}, {"i": [[[1, 1], [1, 0], [0, 0]]], "last": [2], "shape": [1, 3, 2]})
    assert gmnc.symmetries(gmnc.compile(model)).log10_size == 0
    assert_sound(model)
