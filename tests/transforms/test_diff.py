"""`diff`: the same parameters, the same network up to a symmetry, other parameters, or another architecture."""

from __future__ import annotations

import onnx

import gmnc
from gmnc.testing import build
from gmnc.transforms import diff, fingerprints, scramble

TEXT = "(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) }"
SHAPES = {"w": (3, 6), "v": (6, 2)}


def scrambled(model: onnx.ModelProto, **options: object) -> onnx.ModelProto:
    made = scramble(model, seed=1, **options)  # type: ignore[arg-type]
    return onnx.shape_inference.infer_shapes(_proto(gmnc.write(made.graph, made.values)))


def _proto(model: object) -> onnx.ModelProto:
    import onnx_ir

    assert isinstance(model, onnx_ir.Model)
    return onnx_ir.to_proto(model)


def test_the_same_parameters() -> None:
    found = diff(build(TEXT, SHAPES), build(TEXT, SHAPES))
    assert found.equal
    assert found.summary == "the same parameters"


def test_another_order() -> None:
    found = diff(build(TEXT, SHAPES), scrambled(build(TEXT, SHAPES)))
    assert found.equal
    assert "up to a symmetry" in found.summary


def test_signs_count_unless_they_are_asked_for() -> None:
    model = build(TEXT, SHAPES)
    other = scrambled(model, kinds=("sign",))
    assert not diff(model, other).equal
    assert diff(model, other, kinds=("permutation", "sign")).equal


def test_other_parameters_by_layer() -> None:
    model = build(TEXT, SHAPES)
    other = scrambled(model)
    for tensor in other.graph.initializer:
        if tensor.name == "v":
            numbers = onnx.numpy_helper.to_array(tensor) * 1.5
            tensor.CopyFrom(onnx.numpy_helper.from_array(numbers, "v"))
    found = diff(model, other)
    assert not found.equal
    assert found.alignment is not None
    assert [(layer.name, round(layer.after, 3)) for layer in found.alignment.layers] == [("v", 0.5), ("w", 0.0)]


def test_fingerprints_tell_structure_and_network_apart() -> None:
    model, other = build(TEXT, SHAPES), build(TEXT, SHAPES, seed=1)
    same = fingerprints(scrambled(model))
    assert fingerprints(model) == same
    assert fingerprints(other)[0] == same[0]
    assert fingerprints(other)[1] != same[1]
    assert fingerprints(build(TEXT.replace("Tanh", "Relu"), SHAPES))[0] != same[0]
