"""Operators whose weights the file computes: recurrent, quantised and fused ones, and weights of one element."""

from __future__ import annotations

import math

import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import numpy_helper
from support.recurrent_networks import computed
from support.tiers import first

import gmnc
from gmnc.frontend.interpret import rule_lookup
from gmnc.frontend.passes import passes_up_to, prepare
from gmnc.frontend.plan import plan
from gmnc.frontend.reading.load import load
from gmnc.frontend.rewriting.cells import expand_cells
from gmnc.frontend.rules.plugins import installed
from gmnc.testing import assert_exact, assert_sound, brute_force, build, run, verify

NORM = "n = ReduceL2<keepdims = 1>(r, c2) d = Div(r, n) q = Mul(d, g)"
GRU = {"w": (1, 12, 3), "r": (1, 12, 4), "g": (1, 12, 1), "b": (1, 24)}
LSTM = {"w": (1, 16, 3), "r": (1, 16, 4), "e": (1, 16, 4)}
CELLS = {
    "low rank": (
        "p = MatMul(f, k) u = Unsqueeze(p, c0) q = Add(r, u) y1, h = RNN<hidden_size = 4>(x, w, q)",
        {"w": (1, 4, 3), "r": (1, 4, 4), "f": (4, 2), "k": (2, 4)}, (4, 2),
    ),
    "a skew matrix": (
        "rt = Transpose<perm = [0, 2, 1]>(r) q = Sub(r, rt) y1, h = RNN<hidden_size = 4>(x, w, q)",
        {"w": (1, 4, 3), "r": (1, 4, 4)}, (4,),
    ),
    "weight norm of an LSTM": (
        f"{NORM} y1, h, c = LSTM<hidden_size = 4>(x, w, q)", {"w": (1, 16, 3), "r": (1, 16, 4), "g": (1, 16, 1)}, (4,)
    ),
    "a sum, backward": (
        'q = Add(r, e) y1, h, c = LSTM<hidden_size = 4, direction = "reverse">(x, w, q, b)',
        {**LSTM, "b": (1, 32)}, (4, 2),
    ),
    "input and forget gate in one": (
        "q = Add(r, e) y1, h, c = LSTM<hidden_size = 4, input_forget = 1>(x, w, q)", LSTM, ()
    ),
    "weight norm of a GRU": (f"{NORM} y1, h = GRU<hidden_size = 4>(x, w, q, b)", GRU, (4,)),
    "reset after the product": (
        f"{NORM} y1, h = GRU<hidden_size = 4, linear_before_reset = 1>(x, w, q, b)", GRU, (4,)
    ),
    "the last state": (
        "q = Add(w, e) y2, h = RNN<hidden_size = 4>(x, q, r) y1 = Expand(h, c324)",
        {"w": (1, 4, 3), "e": (1, 4, 3), "r": (1, 4, 4)}, (4, 2),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", first(3, CELLS))
def test_a_cell_whose_weights_are_computed_has_the_symmetries_of_its_units(name: str) -> None:
    text, shapes, orders = CELLS[name]
    model = computed(text, shapes)
    graph = gmnc.compile(model)
    assert not graph.unsupported
    assert sum(graph.not_parameters().values()) == (12 if "gate in one" in name else 0)
    assert graph.num_parameters == sum(math.prod(i.dims) for i in model.graph.initializer)
    if orders:
        right = sum(math.log10(math.factorial(n)) for n in orders)
        assert gmnc.symmetries(graph).log10_size == pytest.approx(right)
        assert assert_exact(model, max_runs=1500).claims
    assert assert_sound(model).detected


def test_both_directions_peepholes_and_first_states() -> None:
    text = """q = Add(r, e) hs = Tile(h0, t) cs = Tile(g0, t)
        yy, h, c = LSTM<hidden_size = 4, direction = "bidirectional", clip = 3.0>(x, w, q, b, , hs, cs, p)
        ya, yb = Split<axis = 1, num_outputs = 2>(yy) y1 = Add(ya, yb)"""
    shapes = {"w": (2, 16, 3), "r": (2, 16, 4), "e": (2, 16, 4), "b": (2, 32), "p": (2, 12)}
    model = computed(text, {**shapes, "h0": (2, 1, 4), "g0": (2, 1, 4)}, t=np.array([1, 2, 1]))
    graph = gmnc.compile(model)
    assert not graph.unsupported
    assert graph.num_parameter_edges == graph.num_parameters
    report = assert_sound(model)
    assert report.detected
    assert report.reacting == 1


CELL_GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Attributes and further operands of cells whose every number matters.
FORMS = {
    "an LSTM": ("LSTM", "", "b"),
    "without biases": ("LSTM", "", ""),
    "both directions": ("LSTM", 'direction = "bidirectional"', "b"),
    "backward": ("GRU", 'direction = "reverse"', "b"),
    "peepholes and first states": ("LSTM", "clip = 2.0", "b, , h0, c0, p"),
    "one gate for two": ("LSTM", "input_forget = 1", "b"),
    "a GRU": ("GRU", "", "b, , h0"),
    "reset after the product": ("GRU", "linear_before_reset = 1", "b"),
    "a plain cell": ("RNN", "", "b"),
    "other functions": ("LSTM", 'activations = ["softsign", "Relu", "Sigmoid"]', "b"),
    "functions of two directions": ("RNN", 'direction = "bidirectional", activations = ["Relu", "Softplus"]', "b"),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_cell_that_is_written_out_computes_the_same(form: str) -> None:
    """In ONNX Runtime; symmetries alone would not tell gates that are mistaken for each other."""
    op, marks, more = FORMS[form]
    ways, width = 2 if "bidirectional" in marks else 1, 4 * CELL_GATES[op]
    results = "yy, h, c" if op == "LSTM" else "yy, h"
    text = f"""(float[3, 2, 3] x) => (float[i, j, k, l] y, float[o, p, q] last) {{
        q = Add(r, e) {results} = {op}<hidden_size = 4{", " * bool(marks)}{marks}>(x, w, q{", " * bool(more)}{more})
        y = Identity(yy) last = Identity({results[-1]})
    }}"""
    shapes = {
        "w": (width, 3),
        "r": (width, 4),
        "e": (width, 4),
        "b": (2 * width,),
        "p": (12,),
        "h0": (2, 4),
        "c0": (2, 4),
    }
    own = {n: (ways, *s) for n, s in shapes.items() if n in ("w", "r", "e") or n in more.split(", ")}
    model = build(text, own)
    rng = np.random.default_rng(0)
    for tensor in model.graph.initializer:
        tensor.CopyFrom(numpy_helper.from_array(rng.standard_normal(tensor.dims).astype(np.float32), tensor.name))
    rules = installed()
    network, known = prepare(load(model), {}, {}, rules, passes_up_to("expand-functions"))
    find = rule_lookup(rules, network)
    assert expand_cells(network, known, plan(network, known, find).mixed, lambda node: False)
    written = onnx_ir.to_proto(network)
    assert op not in {n.op_type for n in written.graph.node}
    feed = {"x": rng.standard_normal((3, 2, 3)).astype(np.float32)}
    right, found = run(model, feed), run(written, feed)
    for name in ("y", "last"):
        np.testing.assert_allclose(found[name], right[name], rtol=1e-5, atol=1e-6)


SCAN = """(float[3, {0}, 3] x) => (float[p, q, r] y) {{
    h0 = ConstantOfShape(s) xi = MatMul(x, w)
    hl, k = Scan<num_scan_inputs = 1, body = b (float[n, 4] hi, float[n, 4] xt) => (float[n, 4] ho, float[n, 4] o) {{
        e2 = MatMul(hi, r) e3 = Add(xt, e2) ho = Tanh(e3) o = Identity(ho)
    }}>(h0, xi)
    t = Tanh(k) y = MatMul(t, v)
}}"""


@pytest.mark.parametrize("op", [*CELL_GATES, "Scan"])
def test_the_batch_makes_no_odds(op: str) -> None:
    """Also where a loop starts from zeros, as many as there are rows."""

    def lowered(batch: int, steps: int) -> str:
        if op == "Scan":
            model = build(SCAN.format(batch), {"w": (3, 4), "r": (4, 4), "v": (4, 2)}, {"s": [batch, 4]})
            return gmnc.fingerprint(gmnc.compile(model))
        width = 4 * CELL_GATES[op]
        text = f"""(float[{steps}, {batch}, 3] x) => (float[p, q, r, s] y) {{
            q1 = Add(r, e) h, hn = {op}<hidden_size = 4>(x, w, q1, b) t = Tanh(h) y = MatMul(t, v)
        }}"""
        shapes = {"w": (1, width, 3), "r": (1, width, 4), "e": (1, width, 4), "b": (1, 2 * width), "v": (4, 2)}
        return gmnc.fingerprint(gmnc.compile(build(text, shapes)))

    assert len({lowered(batch, steps) for batch in (1, 2, 8) for steps in (3, 5)}) == 1


CONVOLUTION = """(float[1, 2, 5, 5] x) => (float[1, 2] y) {{
    a = Conv(x, u) b = Tanh(a) {} t = Tanh(c) m = GlobalAveragePool(t) f = Flatten(m) y = MatMul(f, v)
}}"""
SCALES = np.array([-4, -4.1, -4.2, -4.3], np.float32)
CODES = np.random.default_rng(1).integers(-99, 99, (4, 4, 3, 3)).astype(np.int8)
ZERO, ZEROS = np.int8(0), np.zeros(4, np.int8)
ROUNDED = "i = QuantizeLinear{0}(s, q, z) d = DequantizeLinear{0}(i, q, z) c = Conv(b, d)"
QUANTISED: dict[str, tuple[str, dict[str, np.ndarray | None]]] = {
    "a learned step": ("q = Exp(l) " + ROUNDED.format(""), {"s": None, "l": SCALES[0], "z": ZERO}),
    "a learned step per channel": (
        "q = Exp(l) " + ROUNDED.format("<axis = 0>"), {"s": None, "l": SCALES, "z": ZEROS}
    ),
    "the greatest entry": (
        "e = Abs(s) g = ReduceMax<keepdims = 0>(e) k = Constant<value_float = 127.0>() q = Div(g, k) "
        + ROUNDED.format(""),
        {"s": None, "z": ZERO},
    ),
    "the greatest entry of a channel": (
        "e = Abs(s) o = Constant<value_ints = [1, 2, 3]>() g = ReduceMax<keepdims = 0>(e, o) "
        "k = Constant<value_float = 127.0>() q = Div(g, k) " + ROUNDED.format("<axis = 0>"),
        {"s": None, "z": ZEROS},
    ),
    "a product that is rounded": (
        "w = Mul(s, s2) i = QuantizeLinear(w, q) d = DequantizeLinear(i, q) c = Conv(b, d)",
        {"s": None, "s2": None, "q": np.float32(0.01)},
    ),
    "stored codes and a learned scale": (
        "q = Exp(l) d = DequantizeLinear<axis = 0>(i, q, z) c = Conv(b, d)", {"i": CODES, "l": SCALES, "z": ZEROS}
    ),
    "stored codes and a product of scales": (
        "q = Mul(l, l2) d = DequantizeLinear<axis = 0>(i, q, z) c = Conv(b, d)",
        {"i": CODES, "l": np.exp(SCALES), "l2": 1 + np.exp(SCALES), "z": ZEROS},
    ),
    "stored codes beside a weight": (
        "d = DequantizeLinear<axis = 0>(i, q, z) w = Add(d, s) c = Conv(b, w)",
        {"i": CODES, "q": np.exp(SCALES), "s": None, "z": ZEROS},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", QUANTISED)
def test_scales_that_are_computed_and_weights_that_are_computed_and_rounded(name: str) -> None:
    text, given = QUANTISED[name]
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> g {CONVOLUTION.format(text)}')
    rng = np.random.default_rng(0)
    for key, array in {"u": rng.random((4, 2, 3, 3)), "v": rng.random((4, 2)), **given}.items():
        numbers = rng.random((4, 4, 3, 3)) if array is None else np.asarray(array)
        wide = numbers.astype(np.float32) if numbers.dtype == np.float64 else numbers
        model.graph.initializer.append(numpy_helper.from_array(wide, key))
    onnx.checker.check_model(model)
    graph = gmnc.compile(model)
    assert not graph.unsupported
    assert graph.num_parameter_edges == sum(math.prod(i.dims) for i in model.graph.initializer)
    # Channels before and after the weight; and that the two factors may trade places.
    right = 2 * math.log10(24) + (math.log10(2) if "product that" in name else 0)
    assert gmnc.symmetries(graph).log10_size == pytest.approx(right)
    report = verify(model)
    assert report.sound is not False
    assert report.detected or "rounded" in name


INTEGERS = np.random.default_rng(3).integers(-90, 90, (4, 4)).astype(np.int8)
NIBBLES = INTEGERS[:2].view(np.uint8)
FLOATS: dict[str, tuple[int, ...]] = {"s4": (4,), "s24": (2, 4), "s214": (2, 1, 4), "z214": (2, 1, 4), "s41": (4, 1)}
GROUPED = "g = Constant<value_ints = [2, 2, 4]>() h = Constant<value_ints = [4, 4]>() "
# Ways in which exporters spell a weight that they store in 8 bits; how many trade places (of four, four) by groups.
SPELLED: dict[str, tuple[str, tuple[int, ...]]] = {
    "scaled": ("c = Cast<to = 1>(q) w = Mul(c, s4)", (4, 4)),
    "not scaled": ("w = Cast<to = 1>(q)", (4, 4)),
    "divided": ("c = Cast<to = 1>(q) w = Div(c, s4)", (4, 4)),
    "transposed": ("t = Transpose(q) c = Cast<to = 1>(t) w = Mul(c, s4)", (4, 4)),
    "cast like the scale": ("c = CastLike(q, s4) w = Mul(c, s4)", (4, 4)),
    "zero points in integers": (
        "a0 = Cast<to = 6>(q) b0 = Cast<to = 6>(z) d = Sub(a0, b0) c = Cast<to = 1>(d) w = Mul(c, s4)", (4, 4)
    ),
    "scales by group": (
        "i = Constant<value_ints = [0, 0, 1, 1]>() t = Gather(s24, i) c = Cast<to = 1>(q) w = Mul(c, t)", ()
    ),
    "reshaped into groups": (GROUPED + "c = Cast<to = 1>(q) r = Reshape(c, g) k = Mul(r, s214) w = Reshape(k, h)", ()),
    "groups with zero points": (
        GROUPED + "r = Reshape(q, g) c = Cast<to = 1>(r) d = Sub(c, z214) k = Mul(d, s214) w = Reshape(k, h)", ()
    ),
    "rows that are picked": (
        "i = Constant<value_ints = [1, 2, 0, 3]>() r = Gather(q, i) c = Cast<to = 1>(r) "
        "t = Gather(s41, i) w = Mul(c, t)",
        (4, 4),
    ),
    "two in a byte": (
        'm = Constant<value = uint8 {15}>() f = Constant<value = uint8 {4}>() l = BitwiseAnd(n, m) '
        'e = BitShift<direction = "RIGHT">(n, f) j = Concat<axis = 0>(l, e) c = Cast<to = 1>(j) w = Mul(c, s4)',
        (),
    ),
    "eight in an integer of 32 bits": (
        "k = Constant<value = uint32[8] {0, 4, 8, 12, 16, 20, 24, 28}>() m = Constant<value = uint32 {15}>() "
        'f = Constant<value_ints = [2, 1]>() r = Reshape(p, f) e = BitShift<direction = "RIGHT">(r, k) '
        "l = BitwiseAnd(e, m) h = Constant<value_ints = [4, 4]>() j = Reshape(l, h) c = Cast<to = 1>(j) w = Mul(c, s4)",
        (),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", first(4, SPELLED))
def test_integers_that_become_floats_are_weights_however_they_do(name: str) -> None:
    text, orders = SPELLED[name]
    body = f"""<ir_version: 9, opset_import: ["" : 20]> g (float[1, 3] x) => (float[1, 2] y) {{
        a = MatMul(x, u) {text} h0 = MatMul(a, w) t0 = Tanh(h0) y = MatMul(t0, v)
    }}"""
    model = onnx.parser.parse_model(body)
    words = set(body.replace("(", " ").replace(")", " ").replace(",", " ").split())
    rng = np.random.default_rng(0)
    arrays = {"q": INTEGERS, "z": INTEGERS[0], "n": NIBBLES, "p": NIBBLES.reshape(-1).view(np.uint32)}
    for key, shape in {"u": (3, 4), "v": (4, 2), **FLOATS, **dict.fromkeys(arrays, ())}.items():
        if key in words:
            array = arrays.get(key, rng.uniform(0.01, 0.1, shape).astype(np.float32))
            model.graph.initializer.append(numpy_helper.from_array(array, key))
    onnx.checker.check_model(model)
    graph = gmnc.compile(model)
    assert not graph.unsupported
    assert graph.num_parameter_edges == sum(math.prod(i.dims) for i in model.graph.initializer)
    if orders:
        right = sum(math.log10(math.factorial(n)) for n in orders)
        assert gmnc.symmetries(graph).log10_size == pytest.approx(right)
    assert assert_sound(model).tried
    assert not brute_force(model, max_runs=500).false


def test_a_mask_of_bytes_is_no_weight() -> None:
    text = """(float[1, 3] x) => (float[1, 2] y) {
        m = Constant<value = uint8[3, 4] {1, 0, 1, 1, 1, 1, 0, 1, 0, 1, 1, 1}>() c = Cast<to = 1>(m) w = Mul(c, u)
        a = MatMul(x, w) t = Tanh(a) y = MatMul(t, v)
    }"""
    assert set(gmnc.compile(build(text, {"u": (3, 4), "v": (4, 2)})).parameters) == {"u", "v"}


def test_the_scale_of_a_scale_has_an_edge() -> None:
    text = """(float[2, 3] x) => (float[2, 2] y) {
        a = MatMul(x, u) k = DequantizeLinear(s, l) d = DequantizeLinear<axis = 1>(q, k) m = MatMul(a, d)
        t = Tanh(m) y = MatMul(t, v)
    }"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> g {text}')
    rng = np.random.default_rng(0)
    scales = {"s": np.array([10, 20, 30, 40], np.uint8), "l": np.float32(0.001), "q": INTEGERS}
    for key, array in {"u": rng.random((3, 4), np.float32), "v": rng.random((4, 2), np.float32), **scales}.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), key))
    assert gmnc.compile(model).num_parameter_edges == 41
    assert assert_sound(model).tried


FUSED = {
    "FusedMatMul": ("w = Mul(s, s2) c = com.microsoft.FusedMatMul<alpha = 0.5>(b, w)", (4, 4)),
    "FusedGemm": ('w = Add(s, s2) c = com.microsoft.FusedGemm<activation = "Relu">(b, w, k)', (4, 4)),
    "Attention": ("e = Constant<value_ints = [0]>() bb = Unsqueeze(b, e) w = Mul(s, s2) "
                  "cc = com.microsoft.Attention<num_heads = 2>(bb, w, k) c = Squeeze(cc, e)", (4, 12)),
}  # fmt: skip


@pytest.mark.parametrize("name", FUSED)
def test_fused_operators_take_computed_weights_as_others_do(name: str) -> None:
    text, shape = FUSED[name]
    body = f"(float[3, 4] x) => (float[3, 2] y) {{ a = MatMul(x, u) b = Tanh(a) {text} t = Tanh(c) y = MatMul(t, v) }}"
    shapes = {"u": (4, 4), "v": (4, 2), "s": shape, "s2": shape, **({} if name == "FusedMatMul" else {"k": shape[1:]})}
    model = build(body, shapes, domains={"com.microsoft": 1})
    graph = gmnc.compile(model)
    assert not graph.unsupported
    assert graph.num_parameter_edges == graph.num_parameters
    # The hidden units before the weight, and that the two factors may trade places.
    assert gmnc.symmetries(graph).log10_size > math.log10(24) + math.log10(2) - 1e-9
    assert assert_sound(model).detected


def test_a_weight_of_one_element_starts_a_stream() -> None:
    text = """(float[3, 4] x) => (float[3, 2] y) {
        a = MatMul(x, u) b = Tanh(a) s = Softplus(w) q = MatMul(s, p) c = MatMul(b, q) d = Tanh(c) y = MatMul(d, v)
    }"""
    model = build(text, {"u": (4, 1), "w": (1, 1), "p": (1, 5), "v": (5, 2)})
    assert gmnc.compile(model).num_parameter_edges == 20
    assert_exact(model)


def test_zeros_of_the_program_are_no_parameters_in_any_slot() -> None:
    """A state that starts from stored zeros, unrolled: one graph for every batch."""

    def lowered(batch: int) -> gmnc.ParameterGraph:
        zeros = ", ".join(["0"] * 4 * batch)
        text = f"""(float[{batch}, 3] x) => (float[{batch}, 2] y) {{
            z = Constant<value = float[{batch}, 4] {{{zeros}}}>() a = MatMul(x, u) b = MatMul(z, r) c = Add(a, b)
            h = Tanh(c) d = MatMul(h, r) e = Tanh(d) y = MatMul(e, v)
        }}"""
        return gmnc.compile(build(text, {"u": (3, 4), "r": (4, 4), "v": (4, 2)}))

    graphs = [lowered(batch) for batch in (1, 2, 8)]
    assert {g.num_parameter_edges for g in graphs} == {12 + 16 + 8}
    assert len({gmnc.fingerprint(g) for g in graphs}) == 1


def test_tied_embeddings_have_controls() -> None:
    text = "(int64[1, 2] x) => (float[1, 2, 6] y) { e = Gather(E, x) t = Tanh(e) et = Transpose(E) y = MatMul(t, et) }"
    assert assert_sound(build(text, {"E": (6, 4)})).detected
