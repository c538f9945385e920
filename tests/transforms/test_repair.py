"""Repair of a merged network: statistics of channels are set from data, by NumPy's own computation of the networks."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import gmnc
from gmnc.ir import GmncError
from gmnc.testing import build, run
from gmnc.transforms import merge
from gmnc.transforms.repair import Repairer

BIASES = """(float[N, 3] x) => (float[N, 2] y) {
    a = MatMul(x, w) b = Add(a, bw) c = Relu(b) d = Gemm(c, u, bu) e = Relu(d) f = MatMul(e, v) y = Add(f, bv) }"""
NORMS = """(float[N, 3] x) => (float[N, 2] y) {
    a = MatMul(x, w) b = BatchNormalization(a, s1, b1, m1, v1) c = Relu(b)
    d = Gemm(c, u, bu) e = BatchNormalization(d, s2, b2, m2, v2) f = Relu(e) y = MatMul(f, v) }"""
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    BIASES: {"w": (3, 8), "bw": (8,), "u": (8, 8), "bu": (8,), "v": (8, 2), "bv": (2,)},
    NORMS: {"w": (3, 8), "u": (8, 8), "bu": (8,), "v": (8, 2)} | {f"{n}{i}": (8,) for n in "sbmv" for i in (1, 2)},
}
DATA = np.random.default_rng(0).standard_normal((300, 3)).astype(np.float32)


def model(text: str, seed: int) -> onnx.ModelProto:
    made = build(text, SHAPES[text], {}, seed=seed)
    for tensor in made.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if tensor.name.startswith("v") and len(tensor.name) == 2:
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.abs(value) + 0.5, tensor.name))
    return made


def values(source: onnx.ModelProto) -> dict[str, np.ndarray]:
    return {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in source.graph.initializer}


def layers(p: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The values before both activations of `BIASES`."""
    first = DATA @ p["w"] + p["bw"]
    return first, np.maximum(first, 0) @ p["u"] + p["bu"]


def test_channels_without_norm_get_the_mean_statistics_of_both_networks() -> None:
    a, b = model(BIASES, 0), model(BIASES, 1)
    found = merge([a, b], weights=[3, 1], aligned=False, repair={"x": DATA})
    assert found.repaired is not None
    assert found.repaired.rescaled == ("bw", "bu")
    assert found.repaired.error < 1e-4
    assert [(s.name, s.reason) for s in found.repaired.skipped] == [("bv", "it makes an output of the network")]
    made = layers({n: np.asarray(v, np.float64) for n, v in found.values.items()})
    for mine, x, y in zip(made, layers(values(a)), layers(values(b)), strict=True):
        assert np.allclose(mine.mean(0), 0.75 * x.mean(0) + 0.25 * y.mean(0), atol=1e-5)
        assert np.allclose(mine.std(0), 0.75 * x.std(0) + 0.25 * y.std(0), atol=1e-5)
    assert np.array_equal(found.values["v"], merge([a, b], weights=[3, 1], aligned=False).values["v"])


def test_running_statistics_are_those_of_the_merged_network() -> None:
    found = merge([model(NORMS, 0), model(NORMS, 1)], aligned=False, repair={"x": DATA})
    assert found.repaired is not None
    assert len(found.repaired.recomputed) == 2
    assert found.repaired.rescaled == ()
    p = {n: np.asarray(v, np.float64) for n, v in found.values.items()}
    first = DATA @ p["w"]
    normed = (first - first.mean(0)) / np.sqrt(first.var(0) + 1e-5) * p["s1"] + p["b1"]
    second = np.maximum(normed, 0) @ p["u"] + p["bu"]
    for number, own in (("1", first), ("2", second)):
        assert np.allclose(p[f"m{number}"], own.mean(0), atol=1e-4)
        assert np.allclose(p[f"v{number}"], own.var(0), rtol=1e-3)


def test_the_repaired_file_needs_no_data() -> None:
    a = model(BIASES, 0)
    found = merge([a, model(BIASES, 1)], repair={"x": DATA})
    written = onnx.load_from_string(gmnc.backends.onnx.serialised(found.graph, found.values))
    assert [n.op_type for n in written.graph.node] == [n.op_type for n in a.graph.node]
    assert np.isfinite(run(written, {"x": DATA})["y"]).all()


@pytest.mark.parametrize("text", [BIASES, NORMS])
def test_a_network_merged_with_itself_stays_as_it_is(text: str) -> None:
    """Its running statistics are first those of the data, as after training."""
    graph = gmnc.compile(model(text, 0))
    repairer = Repairer(graph, [{"x": DATA}])
    own = {n: np.asarray(p.load()) for n, p in graph.parameters.items()}
    own = dict(repairer.repaired(own, [repairer.moments(own)], [1]).values)
    again = repairer.repaired(own, [repairer.moments(own)] * 2, [0.5, 0.5]).values
    assert all(np.allclose(again[n], own[n], atol=1e-5) for n in own)


IMAGES = """(float[N, 3, 6, 6] x) => (float[N, 2] y) {{
    a = Conv(x, w, bw) b = InstanceNormalization(a, s, t) c = Relu(b) d = Conv({first}) e = Relu(d)
    f = Conv(e, {second}) g = Relu(f) h = GlobalAveragePool(g) i = Flatten(h) y = MatMul(i, v) }}"""


def images(seed: int, first: str = "c, u, bu", second: str = "z") -> onnx.ModelProto:
    shapes = {"w": (4, 3, 3, 3), "bw": (4,), "s": (4,), "t": (4,), "u": (4, 4, 1, 1), "bu": (4,), "v": (4, 2)}
    if second == "z":
        shapes["z"] = (4, 4, 1, 1)
    return build(IMAGES.format(first=first, second=second), shapes, {}, seed=seed)


PICTURES = np.random.default_rng(1).standard_normal((40, 3, 6, 6)).astype(np.float32)


def test_what_is_normalised_is_set_behind_the_norm() -> None:
    found = merge([images(0), images(1)], aligned=False, repair={"x": PICTURES}).repaired
    assert found is not None
    assert found.rescaled == ("t", "bu")
    assert {(s.name, s.reason) for s in found.skipped} == {("z", "it has no bias"), ("v", "it has no bias")}


def test_shared_weights_stay() -> None:
    found = merge([images(i, second="u") for i in (0, 1)], aligned=False, repair={"x": PICTURES}).repaired
    assert found is not None
    assert found.rescaled == ("t",)
    assert ("bu", "'u' is shared") in {(s.name, s.reason) for s in found.skipped}


def test_data_for_other_inputs_are_refused() -> None:
    with pytest.raises(GmncError, match="lacks the input 'x'"):
        merge([model(BIASES, 0), model(BIASES, 1)], repair={"z": DATA})
