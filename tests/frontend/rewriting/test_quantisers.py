"""Weights that the network itself rounds to a grid: the quantiser's own scales, its range and its type count."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.quantised_models import quantised_model
from support.tiers import first

import gmnc
from gmnc.symmetry import KINDS, fingerprint
from gmnc.testing import assert_sound, build

HEAD = "(float[5, 4] x) => (float[5, 2] y) { a = MatMul(x, wa) h = Relu(a) "
TAIL = " o = MatMul(h, w) y = MatMul(o, v) }"
S6 = math.factorial(6)


def rounding(step: str, **values: np.ndarray) -> onnx.ModelProto:
    """4 inputs, 6 hidden neurons, 6 more behind a weight [6, 6] that `step` makes of `f`, 2 outputs."""
    rng = np.random.default_rng(3)
    weights = {"wa": (4, 6), "f": (6, 6), "v": (6, 2)}
    floats = {n: rng.normal(size=shape).astype(np.float32) for n, shape in weights.items()}
    return quantised_model(HEAD + step + TAIL, **floats, **values)


def steps(count: int | None = None, seed: int = 0) -> np.ndarray:
    """Scales."""
    return np.random.default_rng(seed).uniform(0.01, 0.04, () if count is None else count).astype(np.float32)


def points(count: int | None = None, seed: int = 0) -> np.ndarray:
    """Zero points."""
    return np.random.default_rng(seed).integers(-9, 9, () if count is None else count).astype(np.int8)


PAIR = "q = QuantizeLinear<axis = {0}>(f, s, z) w = DequantizeLinear<axis = {1}>(q, t, u)"
BOTH = {"s": steps(6), "z": points(6), "t": steps(6, 1), "u": points(6, 1)}
ONE = {"s": steps(), "z": points()}
# Steps, their constants, and the number of permutations: columns swap with their scales, rows likewise.
ROUNDED = {
    "own scales per output": (PAIR.format(1, 1), BOTH, S6 * S6),
    "own scales per input": (PAIR.format(0, 0), BOTH, S6 * S6),
    "per input, then per output": (PAIR.format(0, 1), BOTH, S6 * S6),
    "per input, then per tensor": (PAIR.format(0, 0), {**BOTH, "t": steps(), "u": points()}, S6 * S6),
    "per tensor, then per input": (PAIR.format(0, 0), {**BOTH, **ONE}, S6 * S6),
    # One vector along both axes: row i and column i swap together.
    "one vector along two axes": (
        "q = QuantizeLinear<axis = 0>(f, s, z) w = DequantizeLinear<axis = 1>(q, s, z)", {**BOTH}, S6,
    ),
    # Rows swap within a block of three, blocks as wholes, columns freely.
    "blocks, then per output": (
        "q = QuantizeLinear<axis = 0, block_size = 3, output_dtype = 3>(f, b) w = DequantizeLinear<axis = 1>(q, t)",
        {"b": steps(12, 2).reshape(2, 6), "t": steps(6)}, 2 * 6 * 6 * S6,
    ),
    "clipped to 255 steps": (
        "q = QuantizeLinear<axis = 1>(f, s, z) c = Clip(q, lo, hi) w = DequantizeLinear<axis = 1>(c, s, z)",
        {"s": steps(6), "z": points(6), "lo": np.int8(-127), "hi": np.int8(127)}, S6 * S6,
    ),
    "transposed in between": (
        "q = QuantizeLinear<axis = 0>(f, s, z) c = Transpose(q) w = DequantizeLinear<axis = 0>(c, t, u)",
        BOTH, S6 * S6,
    ),
    "integers as floats": ("q = QuantizeLinear<axis = 1>(f, s, z) w = Cast<to = 1>(q)", BOTH, S6 * S6),
    "per input": ("q = QuantizeLinear<axis = 0>(f, s, z) w = DequantizeLinear<axis = 0>(q, s, z)", BOTH, S6 * S6),
    "per tensor": ("q = QuantizeLinear(f, s, z) w = DequantizeLinear(q, s, z)", ONE, S6 * S6),
    "dynamic": ("q, s, z = DynamicQuantizeLinear(f) w = DequantizeLinear(q, s, z)", {}, S6 * S6),
}  # fmt: skip


@pytest.mark.parametrize("name", first(5, ROUNDED))
def test_a_rounded_weight_moves_with_its_grid_and_absorbs_nothing(name: str) -> None:
    step, given, permutations = ROUNDED[name]
    values = {n: v for n, v in given.items() if f"{n})" in step or f"{n}," in step}
    report = assert_sound(rounding(step, **values), kinds=KINDS, trials=4)
    assert report.graph is not None
    assert not report.graph.opaque
    assert report.graph.num_parameters == report.graph.num_parameter_edges + sum(
        e.count for e in report.graph.account if e.name not in values
    )
    found = gmnc.symmetries(report.graph)
    assert math.isclose(10**found.log10_size, permutations, rel_tol=1e-6)
    assert (report.kinds["sign"], report.kinds["scale"]) == (0, 0)


STORED = {
    "per input": ("w = DequantizeLinear<axis = 0>(f, s, z)", (6,)),
    "per output": ("w = DequantizeLinear<axis = 1>(f, s, z)", (6,)),
    "per tensor": ("w = DequantizeLinear(f, s, z)", ()),
    "after a transpose": ("t = Transpose(f) w = DequantizeLinear<axis = 0>(t, s, z)", (6,)),
    "no scale": ("t = DequantizeLinear<axis = 1>(f, s, z) w = Identity(t)", (6,)),
}


@pytest.mark.parametrize("name", STORED)
def test_stored_integers_absorb_no_factor(name: str) -> None:
    step, shape = STORED[name]
    rng = np.random.default_rng(4)
    text = HEAD.replace("h = Relu(a) ", "h = Identity(a) ") + step + TAIL
    model = quantised_model(
        text, wa=rng.normal(size=(4, 6)).astype(np.float32), v=rng.normal(size=(6, 2)).astype(np.float32),
        f=rng.integers(-100, 100, (6, 6)).astype(np.int8), s=np.float32(rng.uniform(0.01, 0.03, shape)),
        z=rng.integers(-9, 9, shape).astype(np.int8),
    )  # fmt: skip
    report = assert_sound(model, kinds=KINDS)
    assert (report.kinds["sign"], report.kinds["scale"]) == (0, 0)


JOINED = """(float[5, 4] x) => (float[5, 2] y) {
    a = MatMul(x, wa) h = Relu(a) %s b = MatMul(h, w) c = MatMul(h, u) o = Concat<axis = 1>(b, c) y = MatMul(o, v)
}"""


OPERANDS = {
    "stored, per head": ("w = DequantizeLinear<axis = 0>(i, s, z)", (3,)),
    "stored, per column": ("w = DequantizeLinear<axis = 2>(i, s, z)", (3,)),
    "stored, per tensor": ("w = DequantizeLinear(i, s, z)", ()),
    "rounded, per row": ("q = QuantizeLinear<axis = 1>(f, s, z) w = DequantizeLinear<axis = 1>(q, s, z)", (3,)),
    "rounded, per column": ("q = QuantizeLinear<axis = 2>(f, s, z) w = DequantizeLinear<axis = 2>(q, s, z)", (3,)),
    "rounded, by its range": ("q, s, z = DynamicQuantizeLinear(f) w = DequantizeLinear(q, s, z)", None),
}


@pytest.mark.parametrize("name", OPERANDS)
def test_a_quantised_operand_of_a_product_absorbs_nothing(name: str) -> None:
    """In each of 3 heads w mixes the tokens of h, and all heads and features are summed, so nothing is free.

    If w could absorb a factor, a head of h and that of w would change their signs together.
    """
    step, shape = OPERANDS[name]
    rng = np.random.default_rng(11)
    values = {"a": rng.normal(size=(2, 9)).astype(np.float32)}
    if "(f" in step:
        values["f"] = rng.normal(size=(3, 3, 3)).astype(np.float32)
    else:
        values["i"] = rng.integers(-100, 100, (3, 3, 3)).astype(np.int8)
    if shape is not None:
        values |= {"s": rng.uniform(0.01, 0.03, shape).astype(np.float32), "z": np.zeros(shape, np.int8)}
    values |= {"heads": np.array([1, 3, 3, 3]), "axes": np.array([1, 3])}
    model = quantised_model(
        f"""(float[1, 3, 2] x) => (float[1, 3] y) {{
            h = MatMul(x, a) r = Reshape(h, heads) t = Transpose<perm = [0, 2, 1, 3]>(r) {step} m = MatMul(w, t)
            y = ReduceSum<keepdims = 0>(m, axes)
        }}""",
        **values,
    )
    report = assert_sound(model, kinds=KINDS, trials=4)
    assert (report.kinds["sign"], report.kinds["scale"]) == (0, 0)


def joined(step: str, **values: np.ndarray) -> onnx.ModelProto:
    """6 hidden neurons, and 3 + 3 more behind weights that `step` makes of `f` and `g`; all six enter one layer."""
    rng = np.random.default_rng(5)
    weights = {"wa": (4, 6), "f": (6, 3), "g": (6, 3), "v": (6, 2)}
    floats = {n: rng.normal(size=shape).astype(np.float32) for n, shape in weights.items()}
    return quantised_model(JOINED % step, **floats, **values)


def test_two_tensors_of_different_ranges_swap_as_wholes_only() -> None:
    """6! hidden neurons, 3! and 3! columns, and both tensors with each other."""
    step = """i, s, z = DynamicQuantizeLinear(f) w = DequantizeLinear(i, s, z)
              j, t, k = DynamicQuantizeLinear(g) u = DequantizeLinear(j, t, k)"""
    report = assert_sound(joined(step), kinds=KINDS)
    assert report.graph is not None
    assert math.isclose(10 ** gmnc.symmetries(report.graph).log10_size, S6 * 36 * 2, rel_tol=1e-6)


@pytest.mark.parametrize("same", [True, False])
def test_grids_of_different_types_do_not_mix(same: bool) -> None:
    """Two int8 tensors with scales per column swap as wholes; int8 and uint8 ones do not: their ranges differ."""
    step = """i = QuantizeLinear<axis = 1>(f, s, z) w = DequantizeLinear<axis = 1>(i, s, z)
              j = QuantizeLinear<axis = 1>(g, t, k) u = DequantizeLinear<axis = 1>(j, t, k)"""
    zeros = {"z": points(3), "k": points(3, 1) if same else points(3, 1).astype(np.uint8)}
    report = assert_sound(joined(step, s=steps(3), t=steps(3, 1), **zeros), kinds=KINDS)
    assert report.graph is not None
    expected = S6 * 36 * (2 if same else 1)
    assert math.isclose(10 ** gmnc.symmetries(report.graph).log10_size, expected, rel_tol=1e-6)


def test_bits_of_a_quantiser_count() -> None:
    """QONNX's Quant, which ONNX Runtime does not run: tensors of 2 bits swap, those of 2 and of 8 bits do not."""
    step = """w = onnx.brevitas.Quant<signed = 1, narrow = 0>(f, s, zero, {0})
              u = onnx.brevitas.Quant<signed = 1, narrow = 0>(g, t, zero, {1})"""
    given = {"s": steps(3).reshape(1, 3), "t": steps(3, 1).reshape(1, 3), "zero": np.float32(0)}
    given |= {"two": np.float32(2), "eight": np.float32(8)}
    graphs = {}
    for bits, expected in (("two", "two"), S6 * 72), (("two", "eight"), S6 * 36):
        used = {n: v for n, v in given.items() if n not in ("two", "eight") or n in bits}
        graphs[bits] = gmnc.compile(joined(step.format(*bits), **used))
        assert math.isclose(10 ** gmnc.symmetries(graphs[bits]).log10_size, expected, rel_tol=1e-6)
    assert fingerprint(graphs["two", "two"], values=False) != fingerprint(graphs["two", "eight"], values=False)


CASTS = {
    "int32": "Cast<to = 6>(s)",
    "bool": "Cast<to = 9>(i)",
    "uint8": "Cast<to = 2>(i)",
    "int8": "Cast<to = 3>(i)",
    "int64": "Cast<to = 7>(i)",
}


def test_casts_between_integers_that_change_numbers_show() -> None:
    """int32 to int64 keeps all numbers; to bool, uint8 and int8 it does not."""
    text = """(float[5, 4] x) => (float[5, 2] y) {
        a = MatMul(x, w) s = Sign(a) i = Cast<to = 6>(s) c = %s f = Cast<to = 1>(c) y = MatMul(f, v)
    }"""
    marks = {
        name: fingerprint(gmnc.compile(build(text % cast, {"w": (4, 6), "v": (6, 2)})), values=False)
        for name, cast in CASTS.items()
    }
    assert marks["int32"] == marks["int64"]
    assert len(set(marks.values())) == 4


CHANNELS = {"s": steps(6), "t": steps(6, 1), "z": points(6), "u": points(6, 1)}
OTHERS = {
    "integer kernel": """a = MatMul(x, wa) h = Relu(a) p = QuantizeLinear(h, g, k)
        q = QuantizeLinear<axis = 1>(f, s, z) m = QLinearMatMul(p, g, k, q, t, u, g, k)
        o = DequantizeLinear(m, g, k) y = MatMul(o, v)""",
    "bias": """a = MatMul(x, wa) q = QuantizeLinear<axis = 0>(b, s, z) c = DequantizeLinear<axis = 0>(q, t, z)
        d = Add(a, c) h = Relu(d) y = MatMul(h, v)""",
    "table": """a = MatMul(x, wa) i = ArgMax<axis = 1, keepdims = 0>(x) q = QuantizeLinear<axis = 0>(f, s, z)
        w = DequantizeLinear<axis = 0>(q, t, z) e = Gather(w, i) d = Add(a, e) h = Relu(d) y = MatMul(h, v)""",
    "twice": """a = MatMul(x, wa) h = Relu(a) q = QuantizeLinear<axis = 0>(f, s, z)
        c = DequantizeLinear<axis = 0>(q, s, z) d = QuantizeLinear<axis = 1>(c, t, u)
        w = DequantizeLinear<axis = 1>(d, t, u) o = MatMul(h, w) y = MatMul(o, v)""",
    "rounded and not": """a = MatMul(x, wa) j = MatMul(a, f) h = Relu(j) q = QuantizeLinear<axis = 0>(f, s, z)
        w = DequantizeLinear<axis = 1>(q, t, u) o = MatMul(h, w) y = MatMul(o, v)""",
    "a computed scale": """a = MatMul(x, wa) h = Relu(a) q = QuantizeLinear<axis = 0>(f, s, z) e = Abs(t)
        w = DequantizeLinear<axis = 1>(q, e, u) o = MatMul(h, w) y = MatMul(o, v)""",
}


@pytest.mark.parametrize("name", first(2, OTHERS))
def test_other_uses_of_a_rounded_tensor(name: str) -> None:
    body, rng = OTHERS[name], np.random.default_rng(6)
    shapes = {"wa": (4, 6), "f": (6, 6), "v": (6, 2), "b": (6,)}
    every: dict[str, np.ndarray] = {n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()}
    every |= {**CHANNELS, "g": np.float32(0.05), "k": np.uint8(120)}
    used = {n: v for n, v in every.items() if f"{n})" in body or f" {n}," in body or f"({n}," in body}
    report = assert_sound(quantised_model(f"(float[5, 4] x) => (float[5, 2] y) {{ {body} }}", **used), kinds=KINDS)
    assert report.account_closed


def test_a_store_keeps_what_a_quantised_tensor_absorbs(tmp_path: Path) -> None:
    model = rounding("q = QuantizeLinear<axis = 0>(f, s, z) w = DequantizeLinear<axis = 0>(q, s, z)", s=steps(6),
                     z=points(6))  # fmt: skip
    path = tmp_path / "graph.safetensors"
    gmnc.save(gmnc.compile(model), path)
    assert [r.dimension for r in gmnc.symmetries(gmnc.load(path), KINDS).rescalings] == [0, 0]


READS = {
    "read twice": "r = QuantizeLinear(w, s, z) d = DequantizeLinear(r, s, z) p = MatMul(a, d) q = MatMul(b, w)",
    "rounded last": "q = MatMul(b, w) r = QuantizeLinear(w, s, z) d = DequantizeLinear(r, s, z) p = MatMul(a, d)",
    "moved once": """k = Transpose(wt) r = QuantizeLinear(k, s, z) d = DequantizeLinear(r, s, z) p = MatMul(a, d)
        q = MatMul(b, k)""",
    "moved once, rounded last": """k = Transpose(wt) q = MatMul(b, k) r = QuantizeLinear(k, s, z)
        d = DequantizeLinear(r, s, z) p = MatMul(a, d)""",
    "by its range": """k = Transpose(wt) r, g, o = DynamicQuantizeLinear(k) d = DequantizeLinear(r, g, o)
        p = MatMul(a, d) q = MatMul(b, k)""",
}


@pytest.mark.parametrize("name", READS)
def test_a_tensor_that_is_read_unrounded_too_is_not_rounded_there(name: str) -> None:
    """Both branches use w, one of them rounded: they keep their places; the 4 columns have 4! orders."""
    rng = np.random.default_rng(8)
    weights = {n: rng.standard_normal(5).astype(np.float32) for n in ("u1", "u2")}
    w = rng.standard_normal((5, 4)).astype(np.float32)
    weights |= {"wt": w.T.copy()} if "wt" in READS[name] else {"w": w}
    weights |= {} if name == "by its range" else {"s": np.float32(0.3), "z": np.int8(0)}
    model = quantised_model(
        f"""(float[2, 5] x) => (float[2, 2] y) {{
            a0 = Mul(x, u1) a = Tanh(a0) b0 = Mul(x, u2) b = Tanh(b0) {READS[name]}
            t = Add(p, q) h = Tanh(t) y = MatMul(h, v)
        }}""",
        **weights, v=rng.standard_normal((4, 2)).astype(np.float32),
    )  # fmt: skip
    assert np.isclose(10 ** gmnc.symmetries(gmnc.compile(model)).log10_size, 24)
    assert_sound(model)
