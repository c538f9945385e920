"""Quantised networks: edges have real numbers, the account counts stored elements, write-back keeps the storage."""

from __future__ import annotations

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

import gmnc
from gmnc.backends.onnx import off_grid, write
from gmnc.frontend.primitives.quantised import linear, lookup, packed
from gmnc.ir import StorageWarning, isomorphic
from gmnc.testing import assert_sound, disagreement, random_inputs, run, verify

EXAMPLES = Path(__file__).parent.parent / "examples"
MLP = """(float[2, 6] x) => (float[2, N] y) {
    w = DequantizeLinear<axis = 1>(q, s, z)
    h = MatMul(x, w)
    r = Relu(h)
    y = MatMul(r, v)
}"""


def _model(text: str, **values: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "onnx.brevitas" : 1]> agraph {text}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in values.items())
    onnx.checker.check_model(model)
    return model


def _mlp(dtype: type = np.int8, low: int = -60, high: int = 60) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return _model(
        MLP,
        q=rng.integers(low, high, (6, 5)).astype(dtype),
        s=rng.uniform(0.01, 0.02, 5).astype(np.float32),
        z=rng.integers(0, 7, 5).astype(dtype),
        v=rng.standard_normal((5, 3)).astype(np.float32),
    )


def _tensors(model: ir.Model) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in ir.to_proto(model).graph.initializer}


def _permuted(graph: gmnc.ParameterGraph, seed: int = 0) -> dict[str, np.ndarray]:
    values = {n: p.load() for n, p in graph.parameters.items()}
    return graph.symmetries().sample(np.random.default_rng(seed)).apply(values)


def test_edges_are_real_numbers_of_stored_elements() -> None:
    model = _mlp()
    graph = gmnc.compile(model)
    stored = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    expected = (stored["q"].astype(np.float32) - stored["z"]) * stored["s"]
    assert graph.parameters["q"].dtype == "float32"
    assert graph.parameters["q"].storage is not None
    assert graph.parameters["q"].storage.dtype == "int8"
    assert np.array_equal(graph.parameters["q"].load(), expected)
    [block] = [b for b in graph.edges if b.view.name == "q"]
    assert np.array_equal(graph.values(block)[0, :, :, 0], expected.T)
    # 6 x 5 stored elements, 5 scales, 5 zero points, 5 x 3 floats; every one has its edge.
    assert graph.num_parameters == graph.num_parameter_edges == 30 + 5 + 5 + 15
    roles = {b.view.name: b.role for b in graph.edges}
    assert roles == {"q": "weight", "s": "weight.scale", "z": "weight.zero_point", "v": "weight"}


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.int8, -128, 128),
        (np.uint8, 0, 256),
        (np.int16, -32768, 32768),
        (ml_dtypes.int4, -8, 8),
        (ml_dtypes.uint4, 0, 16),
    ],
    ids=["int8", "uint8", "int16", "int4", "uint4"],
)
def test_a_permuted_network_keeps_its_storage(dtype: type, low: int, high: int) -> None:
    model = _mlp(dtype, low, high)
    graph = gmnc.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write(graph, _permuted(graph))
    old = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    new = _tensors(written)
    order = [int(np.flatnonzero((old["v"] == row).all(axis=1))[0]) for row in new["v"]]
    assert order != list(range(5))
    assert new["q"].dtype == old["q"].dtype
    for name, axis in (("q", 1), ("s", 0), ("z", 0)):
        assert np.array_equal(new[name], old[name].take(order, axis=axis))
    inputs = random_inputs(model)
    assert disagreement(run(model, inputs), run(ir.to_proto(written), inputs)) < 1e-6


def test_identity_is_bit_exact() -> None:
    model = _mlp(np.int8, -128, 128)
    graph = gmnc.compile(model)
    written = write(graph, {n: p.load() for n, p in graph.parameters.items()})
    assert ir.to_proto(written).graph == ir.to_proto(graph.model).graph


def test_what_leaves_the_grid_becomes_float_and_says_so() -> None:
    model = _mlp()
    graph = gmnc.compile(model)
    new = graph.parameters["q"].load() * np.float32(0.37)
    [found] = off_grid(graph, {"q": new})
    assert (found.name, found.becomes) == ("q", "float")
    with pytest.warns(StorageWarning, match="'q' do not fit.*floats take its place"):
        written = ir.to_proto(write(graph, {"q": new}))
    tensors = {t.name: numpy_helper.to_array(t) for t in written.graph.initializer}
    assert not {"q", "s", "z"} & tensors.keys()
    assert [n.op_type for n in written.graph.node] == ["MatMul", "Relu", "MatMul"]
    assert any(np.array_equal(t, new) for t in tensors.values())


def test_floats_take_every_place_of_a_tensor() -> None:
    text = """(float[2, 6] x) => (float[2, 5] y) {
        w = DequantizeLinear<axis = 1>(q, s, z)
        v = DequantizeLinear<axis = 1>(q, s, z)
        a = MatMul(x, w)
        b = Sin(x)
        c = MatMul(b, v)
        y = Add(a, c)
    }"""
    stored = {t.name: numpy_helper.to_array(t) for t in _mlp().graph.initializer if t.name != "v"}
    model = _model(text, **stored)
    graph = gmnc.compile(model)
    assert graph.num_tied_edges == 30 + 5 + 5
    new = graph.parameters["q"].load() * np.float32(0.37)
    with pytest.warns(StorageWarning):
        written = ir.to_proto(write(graph, {"q": new}))
    x = random_inputs(model)["x"]
    expected = x @ new + np.sin(x) @ new
    assert np.allclose(run(written, {"x": x})["y"], expected, atol=1e-6)
    assert_sound(model)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_numbers_have_the_type_of_the_scale(dtype: type) -> None:
    rng = np.random.default_rng(10)
    code = np.dtype(dtype).name
    model = _model(
        MLP.replace("float[", f"{code}["),
        q=rng.integers(-60, 60, (6, 5)).astype(np.int8), s=rng.uniform(0.01, 0.02, 5).astype(dtype),
        z=np.zeros(5, np.int8), v=rng.standard_normal((5, 3)).astype(dtype),
    )  # fmt: skip
    graph = gmnc.compile(model)
    assert graph.parameters["q"].dtype == code
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _tensors(write(graph, _permuted(graph)))["q"].dtype == np.int8
    assert not verify(model, trials=2).failures


def test_on_request_numbers_are_rounded_to_the_grid() -> None:
    graph = gmnc.compile(_mlp())
    q, scale = graph.parameters["q"].load(), graph.parameters["s"].load()
    new = q + np.float32(0.3) * scale
    with pytest.warns(StorageWarning, match="rounded to it"):
        written = write(graph, {"q": new}, rounded=True)
    assert np.array_equal(_tensors(written)["q"], numpy_helper.to_array(_mlp().graph.initializer[0]))


def test_an_integer_kernel_keeps_integers_and_says_so() -> None:
    rng = np.random.default_rng(1)
    model = _model(
        """(float[2, 6] x) => (float[2, 4] y) {
            a = QuantizeLinear(x, a_s, a_z)
            b = QLinearMatMul(a, a_s, a_z, w, w_s, w_z, y_s, a_z)
            y = DequantizeLinear(b, y_s, a_z)
        }""",
        a_s=np.float32(0.05), a_z=np.uint8(128), y_s=np.float32(0.1),
        w=rng.integers(-60, 60, (6, 4)).astype(np.int8), w_s=rng.uniform(0.01, 0.02, 4).astype(np.float32),
        w_z=np.zeros(4, np.int8),
    )  # fmt: skip
    graph = gmnc.compile(model)
    new = graph.parameters["w"].load() * np.float32(0.5)
    [found] = off_grid(graph, {"w": new})
    assert found.becomes == "nearest"
    assert 0 < found.error * np.abs(new).max() <= 0.5 * 0.02
    with pytest.warns(StorageWarning, match="'w'"):
        written = write(graph, {"w": new})
    assert _tensors(written)["w"].dtype == np.int8
    assert np.abs(gmnc.compile(written).parameters["w"].load() - new).max() <= 0.5 * 0.02
    halved = graph.parameters["w_s"].load() * np.float32(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = write(graph, {"w": new, "w_s": halved})
    assert np.array_equal(_tensors(exact)["w"], numpy_helper.to_array(model.graph.initializer[3]))


def test_packed_weights_are_counted_and_written_unpacked() -> None:
    rng = np.random.default_rng(2)
    model = _model(
        """(float[2, 20] x) => (float[2, 3] y) {
            h = com.microsoft.MatMulNBits<K = 20, N = 8, bits = 4, block_size = 16>(x, w, s, z)
            r = Relu(h)
            y = MatMul(r, v)
        }""",
        w=rng.integers(0, 256, (8, 2, 8)).astype(np.uint8), s=rng.uniform(0.1, 0.2, 16).astype(np.float32),
        z=rng.integers(0, 256, 8).astype(np.uint8), v=rng.standard_normal((8, 3)).astype(np.float32),
    )  # fmt: skip
    graph = gmnc.compile(model)
    # Rows of 20 fill two blocks of 16: 12 of 32 are padding. Two zero points of 4 bits fill a byte.
    assert graph.parameters["w"].shape == (8, 32)
    assert graph.parameters["z"].shape == (8, 2)
    assert graph.num_parameter_edges == 8 * 20 + 16 + 16 + 24
    assert [(e.name, e.count, e.where) for e in graph.account] == [("w", 8 * 12, "padding")]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write(graph, _permuted(graph))
    old, new = ({t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, ir.to_proto(written)))
    order = [int(np.flatnonzero((old["v"] == row).all(axis=1))[0]) for row in new["v"]]
    assert np.array_equal(new["z"], old["z"][order])
    # Padding is on no edge and stays where it is.
    assert np.array_equal(new["w"].reshape(8, 16)[:, :10], old["w"].reshape(8, 16)[order, :10])
    inputs = random_inputs(model)
    assert disagreement(run(model, inputs), run(ir.to_proto(written), inputs)) < 1e-6


def test_blocks_limit_what_may_move() -> None:
    """Six inputs in two blocks of three trade places within their block, and the blocks as wholes: 3! 3! 2."""
    rng = np.random.default_rng(3)
    model = _model(
        """(float[2, 4] x) => (float[2, 3] y) {
            h = MatMul(x, u)
            r = Relu(h)
            w = DequantizeLinear<axis = 0, block_size = 3>(q, s)
            y = MatMul(r, w)
        }""",
        u=rng.standard_normal((4, 6)).astype(np.float32), q=rng.integers(-60, 60, (6, 3)).astype(np.int8),
        s=rng.uniform(0.01, 0.02, (2, 3)).astype(np.float32),
    )  # fmt: skip
    found = gmnc.compile(model).symmetries()
    assert found.exact
    assert np.isclose(10**found.log10_size, 72)
    assert_sound(model)


def test_int8_behind_a_cast_is_stored() -> None:
    rng = np.random.default_rng(4)
    model = _model(
        """(float[2, 6] x) => (float[2, N] y) {
            c = Cast<to = 1>(q)
            w = Mul(c, s)
            h = MatMul(x, w)
            r = Relu(h)
            y = MatMul(r, v)
        }""",
        q=rng.integers(-60, 60, (6, 5)).astype(np.int8), s=rng.uniform(0.01, 0.02, (1, 5)).astype(np.float32),
        v=rng.standard_normal((5, 3)).astype(np.float32),
    )  # fmt: skip
    graph = gmnc.compile(model)
    assert graph.num_parameters == graph.num_parameter_edges == 30 + 5 + 15
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert _tensors(write(graph, _permuted(graph)))["q"].dtype == np.int8


@pytest.mark.parametrize("per_channel", [False, True], ids=["tensor", "channel"])
@pytest.mark.parametrize("kind", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.parametrize("name", ["cnn", "mlp"])
def test_networks_of_the_quantiser(name: str, kind: str, per_channel: bool, tmp_path: Path) -> None:
    model = _quantised(EXAMPLES / f"{name}.onnx", kind, per_channel, tmp_path)
    found = verify(model, trials=3)
    graph = found.graph
    assert found.sound
    assert found.generators == verify(EXAMPLES / f"{name}.onnx", trials=0).generators
    assert found.detected
    assert found.round_trip == "bit-exact"
    assert not graph.opaque
    assert {e.where for e in graph.account} <= {"scalar literal"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write(graph, _permuted(graph))
    assert {n: t.dtype for n, t in _tensors(written).items()} == {n: t.dtype for n, t in _tensors(graph.model).items()}


def _quantised(source: Path, kind: str, per_channel: bool, folder: Path) -> Path:
    """A file that onnxruntime's quantiser made."""
    tools = pytest.importorskip("onnxruntime.quantization")
    target, rng = folder / "quantised.onnx", np.random.default_rng(0)
    options = {"per_channel": per_channel, "weight_type": tools.QuantType.QInt8}
    if kind == "dynamic":
        tools.quantize_dynamic(source, target, **options)
        return target

    class Reader(tools.CalibrationDataReader):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            self.rows = iter([random_inputs(onnx.load(source), seed=int(rng.integers(99))) for _ in range(4)])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self.rows, None)

    tools.quantize_static(source, target, Reader(), quant_format=getattr(tools.QuantFormat, kind), **options)
    return target


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
    one, other = (gmnc.compile(_model(text.format(t), **values)) for t in (kernel, pairs))
    assert isomorphic(one, other)
    coarse = gmnc.compile(_model(text.format(kernel), **{**values, "a_s": np.float32(0.5)}))
    assert not isomorphic(one, coarse)


def test_a_second_grid_of_one_tensor_is_folded() -> None:
    text = """(float[2, 6] x) => (float[2, 5] y) {
        w = DequantizeLinear<axis = 1>(q, s, z)
        v = DequantizeLinear<axis = 1>(q, t, z)
        a = MatMul(x, w)
        b = MatMul(x, v)
        y = Add(a, b)
    }"""
    rng, stored = np.random.default_rng(7), {t.name: numpy_helper.to_array(t) for t in _mlp().graph.initializer}
    values = {"q": stored["q"], "s": stored["s"], "z": stored["z"], "t": rng.uniform(1, 2, 5).astype(np.float32)}
    graph = gmnc.compile(_model(text, **values))
    assert graph.parameters["v"].origin == "folded"
    expected = (values["q"].astype(np.float32) - values["z"]) * values["t"]
    assert np.array_equal(graph.parameters["v"].load(), expected)
    written = gmnc.compile(write(graph, {"v": 2 * expected}))
    assert any(np.array_equal(p.load(), 2 * expected) for p in written.parameters.values())
    assert_sound(_model(text, **values))


@pytest.mark.parametrize("kind", ["packed", "typed"])
def test_folded_constants_are_those_of_onnx_runtime(kind: str) -> None:
    rng = np.random.default_rng(9)
    stored = {"packed": (rng.integers(0, 256, (5, 16)).astype(np.uint8), rng.integers(0, 256, (5, 1)).astype(np.uint8)),
              "typed": (rng.integers(-8, 8, (5, 32)).astype(ml_dtypes.int4),
                        rng.integers(-3, 3, (5, 2)).astype(ml_dtypes.int4))}[kind]  # fmt: skip
    model = _model(
        """(float[3, 32] x) => (float[3, 32] y) {
            b = com.microsoft.GatherBlockQuantized<block_size = 16, quantize_axis = 1, gather_axis = 0>(w, at, s, z)
            u = Relu(b)
            y = Add(x, u)
        }""",
        w=stored[0], z=stored[1], s=rng.uniform(0.1, 0.2, (5, 2)).astype(np.float32), at=np.array([4, 0, 2]),
    )  # fmt: skip
    folded = gmnc.compile(model).parameters["u"].load()
    assert np.array_equal(folded, run(model, {"x": np.zeros((3, 32), np.float32)})["y"])


def _quant(x: np.ndarray, scale: np.ndarray, bits: int) -> np.ndarray:
    return np.clip(np.rint(x / scale), -(2 ** (bits - 1)), 2 ** (bits - 1) - 1) * scale


def test_weights_that_are_trained_quantised_move_with_their_scales() -> None:
    """QONNX's Quant, which ONNX Runtime does not run: the network is computed here."""
    rng = np.random.default_rng(8)
    model = _model(
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
    changes = _permuted(graph)
    assert {"w", "s", "t", "v"} <= changes.keys()
    assert np.allclose(outputs(values), outputs({**values, **changes}), atol=1e-12)
    assert not np.allclose(outputs(values), outputs({**values, **changes, "s": values["s"]}))
    written = write(graph, changes)
    assert all(np.array_equal(_tensors(written)[n], v) for n, v in changes.items())


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
    model = _model(head.format(body), **values)
    graph = gmnc.compile(model)
    assert not graph.opaque
    numbers = {n: graph.parameters[n].load().reshape(2, 32, 32) for n in ("w1", "w2")}
    plain = _model(head.format(f"com.microsoft.MoE<{route}>(x, p, w1, , w2)"), p=values["p"], **numbers)
    inputs = random_inputs(model)
    # Packed ahead, initializers are multiplied with activations of 8 bits.
    for tensor in model.graph.initializer:
        model.graph.input.append(helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    del model.graph.initializer[:]
    assert disagreement(run(model, {**inputs, **values}), run(plain, inputs)) < 1e-5
