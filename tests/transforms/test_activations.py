"""Matching by activations: neurons that respond alike belong together, even where their parameters do not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.exports import Compiled, How, by_export

import gmnc
from gmnc.ir import GmncError, ParameterGraph
from gmnc.testing import build
from gmnc.testing.trial import perturbed_values
from gmnc.transforms import align, scramble
from gmnc.transforms.activations import correlations
from gmnc.transforms.correspondence import Correspondence
from gmnc.transforms.matching import match
from gmnc.transforms.proof import feeds_for

LAYERS = """(float[N, 3] x) => (float[N, 2] y) {
    a = MatMul(x, w) b = Relu(a) c = MatMul(b, u) d = Relu(c) y = MatMul(d, v) }"""
SHAPES = {"w": (3, 16), "u": (16, 16), "v": (16, 2)}


def weights(graph: ParameterGraph) -> dict[str, np.ndarray]:
    return {n: np.asarray(p.load()) for n, p in graph.parameters.items()}


def model(seed: int = 0, text: str = LAYERS) -> onnx.ModelProto:
    return build(text, SHAPES, {}, seed=seed)


def normal(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_functions_decide_where_parameters_do_not(tmp_path: Path) -> None:
    """Two layers whose parameters were scaled up and down by random factors: the same function of other parameters."""
    original, other = model(), model()
    graph = gmnc.compile(original)
    factors = np.exp(3 * normal(16))
    own = weights(graph)
    scaled = {"w": own["w"] * factors, "u": own["u"] / factors[:, None], "v": own["v"]}
    gmnc.write(gmnc.compile(other), scaled, tmp_path / "scaled.onnx")
    moved = scramble(tmp_path / "scaled.onnx", seed=1)
    gmnc.write(moved.graph, moved.values, tmp_path / "moved.onnx")
    found = align(original, tmp_path / "moved.onnx", by="activations", inputs={"x": normal(200, 3)})
    assert found.proof.holds
    assert found.criterion == "activations on the given inputs"
    assert all(np.array_equal(found.aligned[n], scaled[n]) for n in scaled)
    by_weights = align(original, tmp_path / "moved.onnx")
    assert not all(np.array_equal(by_weights.aligned[n], scaled[n]) for n in scaled)


def test_neurons_that_never_respond_are_matched_by_parameters() -> None:
    """Half of the neurons of the second layer are off: only their parameters tell them apart."""
    original = model()
    graph = gmnc.compile(original)
    own = {n: np.abs(v) for n, v in weights(graph).items()}
    own["u"] = np.where(np.arange(16) < 8, -own["u"], own["u"])
    dead = gmnc.compile(gmnc.write(graph, own))
    moved = scramble(dead, seed=1)
    b = gmnc.compile(gmnc.write(dead, moved.values))
    found = align(dead, b, by="activations", inputs={"x": np.abs(normal(100, 3))})
    assert all(np.array_equal(found.aligned[n], own[n]) for n in own)


def test_random_inputs_are_used_and_named_where_none_are_given() -> None:
    moved = scramble(model(), seed=1)
    found = align(model(), gmnc.write(moved.graph, moved.values), by="activations")
    assert found.after == 0
    assert "random inputs" in found.summary


def test_rows_are_divided_where_the_network_takes_a_fixed_number() -> None:
    text = LAYERS.replace("N", "5")
    moved = scramble(model(text=text), seed=1)
    b = gmnc.write(moved.graph, moved.values)
    assert align(model(text=text), b, by="activations", inputs={"x": normal(100, 3)}).after == 0
    with pytest.raises(GmncError, match="cannot be divided"):
        align(model(text=text), b, by="activations", inputs={"x": normal(13, 3)})


@pytest.mark.parametrize("given", [{"z": normal(5, 3)}, {"x": normal(5, 3), "z": normal(5, 3)}])
def test_other_inputs_are_refused(given: dict[str, np.ndarray]) -> None:
    with pytest.raises(GmncError, match="the data"):
        align(model(), model(1), by="activations", inputs=given)


def test_other_criteria_are_refused() -> None:
    with pytest.raises(GmncError, match="choose weights or activations"):
        align(model(), model(1), by="names")  # type: ignore[arg-type]


def test_networks_that_name_their_inputs_and_values_otherwise() -> None:
    moved = scramble(model(), seed=1)
    b = gmnc.write(moved.graph, moved.values)
    for value in (*b.graph.inputs, *(v for n in b.graph for v in n.outputs)):
        value.name = f"other_{value.name}"
    assert align(model(), b, by="activations", inputs={"x": normal(50, 3)}).after == 0


def recovered(graph: ParameterGraph, names: Sequence[str]) -> None:
    moved = scramble(graph, seed=1)
    a = {n: np.asarray(graph.parameters[n].load()) for n in names}
    b = gmnc.compile(gmnc.write(graph, moved.values))
    rng = np.random.default_rng(0)
    feeds = feeds_for(graph.model, graph, {}, rng, runs=4)
    groups = gmnc.symmetries(graph).positions
    by = correlations(Correspondence(graph, b), groups, (feeds, feeds))
    assert any(by.covers(g) for g in groups)
    other = {n: np.asarray(b.parameters[n].load()) for n in names}
    found = match(graph, a, other, by=by)
    assert all(np.allclose(found.values[n], a[n], rtol=0, atol=1e-6) for n in names)


@pytest.mark.parametrize(("name", "how"), by_export(hows=["dynamo", "torchscript"]))
def test_the_order_of_exported_networks_is_found(name: str, how: How, compiled: Compiled) -> None:
    graph = compiled(name, how)
    names = sorted({block.view.name for block in graph.edges if not block.constant})
    own = {n: np.array(graph.parameters[n].load()) for n in names}
    distinct = gmnc.compile(gmnc.write(graph, perturbed_values(graph, own, np.random.default_rng(0))))
    recovered(distinct, sorted({b.view.name for b in distinct.edges if not b.constant}))
