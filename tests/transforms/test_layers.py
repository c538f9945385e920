"""Layers: tensors that belong together, under the name that people know, and their distances."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import parsed, run
from support.exports import Compiled, by_network

import gmnc
from gmnc.testing import build
from gmnc.transforms import diff
from gmnc.transforms.layers import layers


@pytest.mark.parametrize("name", by_network())
def test_exporters_agree_on_layers(name: str, compiled: Compiled) -> None:
    """One of them names the weights of linear layers by numbers (`onnx::MatMul_17`)."""
    found = [sorted(layer.name for layer in layers(compiled(name, how))) for how in ("dynamo", "torchscript")]
    assert found[0] == found[1]


@pytest.mark.parametrize("name", by_network(["resnet", "vit", "llama"]))
def test_layers_are_modules(name: str, compiled: Compiled) -> None:
    graph = compiled(name)
    for layer in layers(graph):
        for tensor in layer.tensors:
            module, _, part = tensor.rpartition(".")
            assert layer.name == (module if part in ("weight", "bias", "running_mean", "running_var") else tensor)
    every = [t for layer in layers(graph) for t in layer.tensors]
    assert sorted(every) == sorted({b.view.name for b in graph.edges if not b.constant})


FORMS = {
    "nodes": (
        "(float[1, 3] x) => (float[1, 2] y) { a = Gemm(x, t1, t2) b = Relu(a) c = MatMul(b, t3) y = Add(c, t4) }",
        {"t1": (3, 4), "t2": (4,), "t3": (4, 2), "t4": (2,)},
        {"a": {"t1", "t2"}, "c": {"t3", "t4"}},
    ),
    "norm": (
        """(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, t1) b = LayerNormalization(a, t2, t3)
            c = Relu(b) y = MatMul(c, t4) }""",
        {"t1": (3, 4), "t2": (4,), "t3": (4,), "t4": (4, 2)},
        {"t1": {"t1"}, "a": {"t2", "t3"}, "t4": {"t4"}},
    ),
    "underscores": (
        """(float[1, 3] x) => (float[1, 2] y) {
            a = Gemm(x, fc1_w, fc1_b) b = Relu(a) y = Gemm(b, fc2_weight, fc2_bias) }""",
        {"fc1_w": (3, 4), "fc1_b": (4,), "fc2_weight": (4, 2), "fc2_bias": (2,)},
        {"fc1": {"fc1_w", "fc1_b"}, "fc2": {"fc2_weight", "fc2_bias"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
def test_layers_without_modules(form: str) -> None:
    text, shapes, wanted = FORMS[form]
    found = layers(gmnc.compile(build(text, shapes)))
    assert {layer.name: set(layer.tensors) for layer in found} == wanted


def test_the_distance_of_a_layer_is_that_of_its_tensors() -> None:
    text, shapes, _ = FORMS["underscores"]
    a, b = build(text, shapes), build(text, shapes)
    for tensor in b.graph.initializer:
        if tensor.name == "fc2_bias":
            tensor.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(tensor) * 3, tensor.name))
    found = diff(a, b).alignment
    assert found is not None
    far, near = found.layers
    own = {t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in a.graph.initializer}
    weight, bias = (np.square(own[f"fc2_{n}"]).sum() for n in ("weight", "bias"))
    assert (far.name, near.name) == ("fc2", "fc1")
    assert far.after == pytest.approx(np.sqrt(4 * bias / (weight + bias)))
    assert [(t.name, t.after) for t in far.tensors] == [("fc2_bias", pytest.approx(2)), ("fc2_weight", 0)]
    assert near.after == 0


def test_the_commands_print_layers_and_their_tensors_if_asked(tmp_path: Path) -> None:
    text, shapes, _ = FORMS["underscores"]
    paths = [tmp_path / n for n in ("a.onnx", "b.onnx")]
    for seed, path in enumerate(paths):
        onnx.save(build(text, shapes, seed=seed), path)
    for command in (["diff", *paths], ["align", *paths, "-o", tmp_path / "c.onnx"]):
        short, long = run(*command).stdout, run(*command, "--verbose").stdout
        assert "fc1" in short
        assert "fc1_w" not in short
        assert "fc1_w" in long
    found = parsed("align", *paths, "-o", tmp_path / "c.onnx")["layers"]
    assert {t["name"] for layer in found for t in layer["tensors"]} == set(shapes)
