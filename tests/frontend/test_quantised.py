"""Quantised networks: edges have real numbers, the account counts stored elements, write-back keeps the storage."""

from __future__ import annotations

import warnings
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir
import pytest
from onnx import numpy_helper
from support.paths import EXAMPLES
from support.quantised_models import MLP, permuted, quantised_mlp, quantised_model, tensors
from support.tiers import first

import gmnc
from gmnc.backends.onnx import off_grid, write
from gmnc.ir import StorageWarning
from gmnc.testing import assert_sound, disagreement, random_inputs, run, verify


def test_edges_are_real_numbers_of_stored_elements() -> None:
    model = quantised_mlp()
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
    model = quantised_mlp(dtype, low, high)
    graph = gmnc.compile(model)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        written = write(graph, permuted(graph))
    old = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    new = tensors(written)
    order = [int(np.flatnonzero((old["v"] == row).all(axis=1))[0]) for row in new["v"]]
    assert order != list(range(5))
    assert new["q"].dtype == old["q"].dtype
    for name, axis in (("q", 1), ("s", 0), ("z", 0)):
        assert np.array_equal(new[name], old[name].take(order, axis=axis))
    inputs = random_inputs(model)
    assert disagreement(run(model, inputs), run(onnx_ir.to_proto(written), inputs)) < 1e-6


def test_identity_is_bit_exact() -> None:
    model = quantised_mlp(np.int8, -128, 128)
    graph = gmnc.compile(model)
    written = write(graph, {n: p.load() for n, p in graph.parameters.items()})
    assert onnx_ir.to_proto(written).graph == onnx_ir.to_proto(graph.model).graph


def test_what_leaves_the_grid_becomes_float_and_says_so() -> None:
    model = quantised_mlp()
    graph = gmnc.compile(model)
    new = graph.parameters["q"].load() * np.float32(0.37)
    [found] = off_grid(graph, {"q": new})
    assert (found.name, found.fallback) == ("q", "float")
    with pytest.warns(StorageWarning, match="'q' cannot represent.*stored as floats"):
        written = onnx_ir.to_proto(write(graph, {"q": new}))
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
    stored = {t.name: numpy_helper.to_array(t) for t in quantised_mlp().graph.initializer if t.name != "v"}
    model = quantised_model(text, **stored)
    graph = gmnc.compile(model)
    assert graph.num_tied_edges == 30 + 5 + 5
    new = graph.parameters["q"].load() * np.float32(0.37)
    with pytest.warns(StorageWarning):
        written = onnx_ir.to_proto(write(graph, {"q": new}))
    x = random_inputs(model)["x"]
    expected = x @ new + np.sin(x) @ new
    assert np.allclose(run(written, {"x": x})["y"], expected, atol=1e-6)
    assert_sound(model)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16], ids=["float16", "bfloat16"])
def test_numbers_have_the_type_of_the_scale(dtype: type) -> None:
    rng = np.random.default_rng(10)
    code = np.dtype(dtype).name
    model = quantised_model(
        MLP.replace("float[", f"{code}["),
        q=rng.integers(-60, 60, (6, 5)).astype(np.int8), s=rng.uniform(0.01, 0.02, 5).astype(dtype),
        z=np.zeros(5, np.int8), v=rng.standard_normal((5, 3)).astype(dtype),
    )  # fmt: skip
    graph = gmnc.compile(model)
    assert graph.parameters["q"].dtype == code
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert tensors(write(graph, permuted(graph)))["q"].dtype == np.int8
    assert not verify(model, trials=2).failures


def test_on_request_numbers_are_rounded_to_the_grid() -> None:
    graph = gmnc.compile(quantised_mlp())
    q, scale = graph.parameters["q"].load(), graph.parameters["s"].load()
    new = q + np.float32(0.3) * scale
    with pytest.warns(StorageWarning, match="rounded to it"):
        written = write(graph, {"q": new}, rounded=True)
    assert np.array_equal(tensors(written)["q"], numpy_helper.to_array(quantised_mlp().graph.initializer[0]))


def test_an_integer_kernel_keeps_integers_and_says_so() -> None:
    rng = np.random.default_rng(1)
    model = quantised_model(
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
    assert found.fallback == "nearest"
    assert 0 < found.error * np.abs(new).max() <= 0.5 * 0.02
    with pytest.warns(StorageWarning, match="'w'"):
        written = write(graph, {"w": new})
    assert tensors(written)["w"].dtype == np.int8
    assert np.abs(gmnc.compile(written).parameters["w"].load() - new).max() <= 0.5 * 0.02
    halved = graph.parameters["w_s"].load() * np.float32(0.5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exact = write(graph, {"w": new, "w_s": halved})
    assert np.array_equal(tensors(exact)["w"], numpy_helper.to_array(model.graph.initializer[3]))


def test_packed_weights_are_counted_and_written_unpacked() -> None:
    rng = np.random.default_rng(2)
    model = quantised_model(
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
        written = write(graph, permuted(graph))
    old, new = (
        {t.name: numpy_helper.to_array(t) for t in m.graph.initializer} for m in (model, onnx_ir.to_proto(written))
    )
    order = [int(np.flatnonzero((old["v"] == row).all(axis=1))[0]) for row in new["v"]]
    assert np.array_equal(new["z"], old["z"][order])
    # Padding is on no edge and stays where it is.
    assert np.array_equal(new["w"].reshape(8, 16)[:, :10], old["w"].reshape(8, 16)[order, :10])
    inputs = random_inputs(model)
    assert disagreement(run(model, inputs), run(onnx_ir.to_proto(written), inputs)) < 1e-6


def test_blocks_limit_what_may_move() -> None:
    """Six inputs in two blocks of three trade places within their block, and the blocks as wholes: 3! 3! 2."""
    rng = np.random.default_rng(3)
    model = quantised_model(
        """(float[2, 4] x) => (float[2, 3] y) {
            h = MatMul(x, u)
            r = Relu(h)
            w = DequantizeLinear<axis = 0, block_size = 3>(q, s)
            y = MatMul(r, w)
        }""",
        u=rng.standard_normal((4, 6)).astype(np.float32), q=rng.integers(-60, 60, (6, 3)).astype(np.int8),
        s=rng.uniform(0.01, 0.02, (2, 3)).astype(np.float32),
    )  # fmt: skip
    found = gmnc.symmetries(gmnc.compile(model))
    assert found.exact
    assert np.isclose(10**found.log10_size, 72)
    assert_sound(model)


@pytest.mark.parametrize(
    ("first", "second", "swaps"),
    [
        (ml_dtypes.int4, ml_dtypes.int4, 2),
        (ml_dtypes.int4, np.int8, 1),
        (np.uint8, np.int8, 1),
        (np.int16, np.int8, 1),
    ],
    ids=["int4-int4", "int4-int8", "uint8-int8", "int16-int8"],
)
def test_branches_trade_places_only_if_each_can_store_the_values_of_the_other(
    first: type, second: type, swaps: int
) -> None:
    """Two branches of four neurons: 4! 4! orders, times 2 if the branches may trade places."""
    rng = np.random.default_rng(5)
    grids = [
        rng.integers(ml_dtypes.iinfo(t).min, ml_dtypes.iinfo(t).max + 1, (3, 4)).astype(t) for t in (first, second)
    ]
    model = quantised_model(
        """(float[2, 3] x) => (float[2, N] y) {
            wa = DequantizeLinear(a, s)
            wb = DequantizeLinear(b, s)
            p = MatMul(x, wa)
            q = MatMul(x, wb)
            h = Concat<axis = 1>(p, q)
            r = Relu(h)
            y = MatMul(r, v)
        }""",
        a=grids[0], b=grids[1], s=np.float32(0.25), v=rng.standard_normal((8, 2)).astype(np.float32),
    )  # fmt: skip
    found = gmnc.symmetries(gmnc.compile(model))
    assert np.isclose(10**found.log10_size, 24 * 24 * swaps)
    assert_sound(model)


def test_packed_branches_trade_places_only_if_they_have_as_many_bits() -> None:
    """As above, with codes of 4 and of 8 bits that are both stored as bytes: 4! 4!."""
    rng = np.random.default_rng(6)
    shapes = {"a": (4, 1, 8), "b": (4, 1, 16)}
    model = quantised_model(
        """(float[2, 16] x) => (float[2, N] y) {
            p = com.microsoft.MatMulNBits<K = 16, N = 4, bits = 4, block_size = 16>(x, a, sa)
            q = com.microsoft.MatMulNBits<K = 16, N = 4, bits = 8, block_size = 16>(x, b, sb)
            h = Concat<axis = 1>(p, q)
            r = Relu(h)
            y = MatMul(r, v)
        }""",
        **{n: rng.integers(0, 256, shape).astype(np.uint8) for n, shape in shapes.items()},
        **{n: rng.uniform(0.1, 0.2, 4).astype(np.float32) for n in ("sa", "sb")},
        v=rng.standard_normal((8, 2)).astype(np.float32),
    )  # fmt: skip
    assert np.isclose(10 ** gmnc.symmetries(gmnc.compile(model)).log10_size, 24 * 24)


def test_int8_behind_a_cast_is_stored() -> None:
    rng = np.random.default_rng(4)
    model = quantised_model(
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
        assert tensors(write(graph, permuted(graph)))["q"].dtype == np.int8


@pytest.mark.parametrize("per_channel", first(1, [True, False]))
@pytest.mark.parametrize("kind", ["QDQ", "QOperator", "dynamic"])
@pytest.mark.parametrize("name", first(1, ["cnn", "mlp"]))
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
        written = write(graph, permuted(graph))
    assert {n: t.dtype for n, t in tensors(written).items()} == {n: t.dtype for n, t in tensors(graph.model).items()}


def _quantised(source: Path, kind: str, per_channel: bool, folder: Path) -> Path:
    """A file that onnxruntime's quantiser made."""
    tools = pytest.importorskip("onnxruntime.quantization", reason="this ONNX Runtime has no such tools")
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
