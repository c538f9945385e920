"""Forms of quantised networks: those that compute the same have one graph, and unknown ones are opaque."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from support.quantised_models import permuted, quantised_mlp, quantised_model, tensors

import gmnc
from gmnc.backends.onnx import write
from gmnc.frontend.primitives.quantised import linear, lookup, packed
from gmnc.ir import GmncError
from gmnc.symmetry import isomorphic
from gmnc.testing import assert_sound, disagreement, random_inputs, run


def test_operators_and_pairs_of_quantisers_agree() -> None:
    """QLinearConv is Conv between quantisers: the graphs are isomorphic."""
    rng = np.random.default_rng(5)
    values = {
        "a_s": np.float32(0.05), "a_z": np.uint8(128), "y_s": np.float32(0.1), "y_z": np.uint8(100),
        "w": rng.integers(-60, 60, (4, 2, 3, 3)).astype(np.int8), "s": rng.uniform(0.01, 0.02, 4).astype(np.float32),
        "z": np.zeros(4, np.int8),
    }  # fmt: skip
    text = """(float[1, 2, 8, 8] x) => (float[1, 4, N, N] y) {{
        a = QuantizeLinear(x, a_s, a_z)
        {}
        y = DequantizeLinear(q, y_s, y_z)
    }}"""
    kernel = "q = QLinearConv(a, a_s, a_z, w, s, z, y_s, y_z)"
    pairs = """f = DequantizeLinear(a, a_s, a_z)
        v = DequantizeLinear<axis = 0>(w, s, z)
        c = Conv(f, v)
        q = QuantizeLinear(c, y_s, y_z)"""
    one, other = (gmnc.compile(quantised_model(text.format(t), **values)) for t in (kernel, pairs))
    assert isomorphic(one, other)
    coarse = gmnc.compile(quantised_model(text.format(kernel), **{**values, "a_s": np.float32(0.5)}))
    assert not isomorphic(one, coarse)


def test_a_second_grid_of_one_tensor_is_a_function_of_its_elements() -> None:
    text = """(float[2, 6] x) => (float[2, 5] y) {
        w = DequantizeLinear<axis = 1>(q, s, z)
        v = DequantizeLinear<axis = 1>(q, t, z)
        a = MatMul(x, w)
        b = MatMul(x, v)
        y = Add(a, b)
    }"""
    rng, stored = (
        np.random.default_rng(7),
        {t.name: numpy_helper.to_array(t) for t in quantised_mlp().graph.initializer},
    )
    values = {"q": stored["q"], "s": stored["s"], "z": stored["z"], "t": rng.uniform(1, 2, 5).astype(np.float32)}
    graph = gmnc.compile(quantised_model(text, **values))
    assert graph.num_parameter_edges == sum(values[n].size for n in "qstz")
    assert "v" not in graph.parameters
    with pytest.raises(GmncError, match="computed in the model, from"):
        write(graph, {"v": np.zeros((6, 5), np.float32)})
    report = assert_sound(quantised_model(text, **values))
    assert report.generators == 0
    hidden = quantised_model(text.replace("y = Add(a, b)", "h = Add(a, b)\n r = Relu(h)\n y = MatMul(r, o)"),
                             **values, o=rng.normal(size=(5, 2)).astype(np.float32))  # fmt: skip
    assert assert_sound(hidden).generators == 4


@pytest.mark.parametrize("kind", ["packed", "typed"])
def test_effective_weights_are_those_of_onnx_runtime(kind: str) -> None:
    rng = np.random.default_rng(9)
    stored = {"packed": (rng.integers(0, 256, (5, 16)).astype(np.uint8), rng.integers(0, 256, (5, 1)).astype(np.uint8)),
              "typed": (rng.integers(-8, 8, (5, 32)).astype(ml_dtypes.int4),
                        rng.integers(-3, 3, (5, 2)).astype(ml_dtypes.int4))}[kind]  # fmt: skip
    model = quantised_model(
        """(float[3, 32] x) => (float[3, 32] y) {
            b = com.microsoft.GatherBlockQuantized<block_size = 16, quantize_axis = 1, gather_axis = 0>(w, at, s, z)
            u = Relu(b)
            y = Add(x, u)
        }""",
        w=stored[0], z=stored[1], s=rng.uniform(0.1, 0.2, (5, 2)).astype(np.float32), at=np.array([4, 0, 2]),
    )  # fmt: skip
    folded = gmnc.compile(model, fold_weights=True).parameters["u"].load()
    assert np.array_equal(folded, run(model, {"x": np.zeros((3, 32), np.float32)})["y"])


def _quant(x: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.rint(x / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def test_weights_that_are_trained_quantised_move_with_their_scales() -> None:
    """QONNX's Quant, which ONNX Runtime does not run: the network is computed here."""
    rng = np.random.default_rng(8)
    model = quantised_model(
        """(float[2, 6] x) => (float[2, 3] y) {
            wq = onnx.brevitas.Quant<signed = 1, narrow = 0>(w, s, zero, four)
            h = MatMul(x, wq)
            r = Relu(h)
            a = onnx.brevitas.Quant<signed = 1, narrow = 0>(r, t, zero, eight)
            y = MatMul(a, v)
        }""",
        w=rng.standard_normal((6, 5)).astype(np.float32), s=rng.uniform(0.1, 0.3, (1, 5)).astype(np.float32),
        t=rng.uniform(0.1, 0.2, (1, 5)).astype(np.float32), v=rng.standard_normal((5, 3)).astype(np.float32),
        zero=np.float32(0), four=np.float32(4), eight=np.float32(8),
    )  # fmt: skip
    graph = gmnc.compile(model)
    assert not graph.opaque
    assert graph.num_parameter_edges >= 30 + 5 + 5 + 15

    def outputs(values: dict[str, np.ndarray]) -> np.ndarray:
        x = np.linspace(-2, 2, 12).reshape(2, 6)
        hidden = np.maximum(x @ _quant(values["w"], values["s"], 4), 0)
        return _quant(hidden, values["t"], 8) @ values["v"]

    values = {n: p.load() for n, p in graph.parameters.items()}
    changes = permuted(graph)
    assert {"w", "s", "t", "v"} <= changes.keys()
    assert np.allclose(outputs(values), outputs({**values, **changes}), atol=1e-12)
    assert not np.allclose(outputs(values), outputs({**values, **changes, "s": values["s"]}))
    written = write(graph, changes)
    assert all(np.array_equal(tensors(written)[n], v) for n, v in changes.items())


def test_codes_are_inverse() -> None:
    rng = np.random.default_rng(6)
    scale = rng.uniform(1e-4, 1e-2, (1, 7)).astype(np.float32)
    for name, low, high in (("int8", -128, 128), ("uint16", 0, 65536), ("int32", -(2**31), 2**31)):
        q = rng.integers(low, high, (500, 7)).astype(name)
        code = linear(name, "float32")
        number = code.decode(q, scale=scale)
        assert np.array_equal(code.decode(code.encode(number, np.zeros_like(q), scale=scale), scale=scale), number)
    table = np.linspace(-1, 1, 16).astype(np.float32)
    code, q = lookup(table, "uint8", "float32"), rng.integers(0, 16, (50, 7)).astype(np.uint8)
    assert np.array_equal(code.encode(code.decode(q, scale=scale), np.zeros_like(q), scale=scale), q)
    for bits in (2, 4, 8):
        for first in (False, True):
            array = rng.integers(0, 2**bits, (3, 16)).astype(np.uint8)
            form = packed(bits, first)
            assert np.array_equal(form.unwrap(form.wrap(array)), array)
    assert packed(4).wrap(np.array([[1, 2]], np.uint8)).tolist() == [[0x21]]
    assert packed(4, high_first=True).wrap(np.array([[1, 2]], np.uint8)).tolist() == [[0x12]]


def test_the_input_of_an_unknown_quantised_operator_is_opaque() -> None:
    """What it gets in 8 bits is weights, as far as anyone knows; what it gets in 64 is not."""
    node = helper.make_node("QOrderedMatMul", ["x", "p", "w", "s", "n"], ["y"], domain="com.microsoft", name="experts")
    info = helper.make_tensor_value_info
    graph = helper.make_graph(
        [node], "net", [info("x", TensorProto.FLOAT, [2, 4]), info("p", TensorProto.FLOAT, [2, 2])],
        [info("y", TensorProto.FLOAT, [2, 4])],
        [numpy_helper.from_array(np.ones((2, 4, 2), np.uint8), "w"),
         numpy_helper.from_array(np.ones((2, 4), np.float32), "s"),
         numpy_helper.from_array(np.array([2, 4]), "n")],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
    found = gmnc.compile(helper.make_model(graph, opset_imports=opsets))
    assert {(e.name, e.count, e.where) for e in found.account} == {("w", 16, "opaque"), ("s", 8, "opaque")}


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("block", [0, 16])
def test_experts_of_few_bits_have_the_numbers_of_plain_ones(bits: int, block: int) -> None:
    """The numbers on edges, put into MoE, compute what QMoE does."""
    rng = np.random.default_rng(0)
    values = {"p": rng.standard_normal((3, 2)).astype(np.float32)}
    for name in ("1", "2"):
        values[f"w{name}"] = rng.integers(0, 256, (2, 32, 32 * bits // 8)).astype(np.uint8)
        shape = (2, 32, 32 // block) if block else (2, 32)
        values[f"s{name}"] = rng.uniform(0.01, 0.02, shape).astype(np.float32)
    route = "k = 1, normalize_routing_weights = 1"
    blocks = f", block_size = {block}" if block else ""
    body = f"com.microsoft.QMoE<{{}}, expert_weight_bits = {bits}{blocks}>(x, p, w1, s1, , w2, s2)".format(route)
    head = "(float[3, 32] x) => (float[3, 32] y) {{ y = {} }}"
    model = quantised_model(head.format(body), **values)
    graph = gmnc.compile(model)
    assert not graph.opaque
    numbers = {n: graph.parameters[n].load().reshape(2, 32, 32) for n in ("w1", "w2")}
    plain = quantised_model(head.format(f"com.microsoft.MoE<{route}>(x, p, w1, , w2)"), p=values["p"], **numbers)
    inputs = random_inputs(model)
    # Packed ahead, initializers are multiplied with activations of 8 bits.
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del model.graph.initializer[:]
    assert disagreement(run(model, {**inputs, **values}), run(plain, inputs)) < 1e-5
