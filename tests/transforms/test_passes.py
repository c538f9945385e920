"""The transforms as passes of onnx-ir, among passes of others."""

from __future__ import annotations

from importlib import import_module

import numpy as np
import onnx_ir
import onnxscript.optimizer
import pytest
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import RemoveUnusedNodesPass, ShapeInferencePass

import gmnc
from gmnc import passes
from gmnc.testing import build, random_inputs, run
from gmnc.transforms import Proof

TEXT = "(float[2, 3] x) => (float[2, 2] y) { u = Mul(x, x) a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) }"
MODEL = build(TEXT, {"w": (3, 6), "v": (6, 2)})
WITHOUT_DEAD_NODES = build(TEXT.replace("u = Mul(x, x) ", ""), {"w": (3, 6), "v": (6, 2)})


def numbers(model: onnx_ir.Model, name: str) -> np.ndarray:
    tensor = model.graph.initializers[name].const_value
    assert tensor is not None
    return tensor.numpy()


def test_in_a_pipeline_of_other_passes() -> None:
    """Shapes inferred, scrambled, optimised, and put in order again."""
    original = onnx_ir.from_proto(MODEL)
    pipeline = Sequential(
        ShapeInferencePass(), passes.Scramble(seed=1), RemoveUnusedNodesPass(), passes.Align(WITHOUT_DEAD_NODES)
    )
    result = pipeline(onnx_ir.from_proto(MODEL))
    assert result.modified
    for name in ("w", "v"):
        np.testing.assert_array_equal(numbers(result.model, name), numbers(original, name))


def test_beside_the_optimizer_of_onnxscript() -> None:
    model = passes.Scramble(seed=2)(onnx_ir.from_proto(MODEL)).model
    onnxscript.optimizer.optimize_ir(model)
    made = passes.Align(MODEL)(model)
    inputs = random_inputs(MODEL)
    np.testing.assert_allclose(run(onnx_ir.to_proto(made.model), inputs)["y"], run(MODEL, inputs)["y"], rtol=1e-5)
    np.testing.assert_array_equal(numbers(made.model, "w"), numbers(onnx_ir.from_proto(MODEL), "w"))


def test_the_input_is_not_modified() -> None:
    model = onnx_ir.from_proto(MODEL)
    before = numbers(model, "w").copy()
    made = passes.Scramble(seed=1)
    assert made(model).modified
    assert made.result is not None
    assert made.result.proof.holds
    np.testing.assert_array_equal(numbers(model, "w"), before)


def test_a_model_in_order_stays_as_it_is() -> None:
    result = passes.Align(MODEL)(onnx_ir.from_proto(MODEL))
    assert not result.modified
    np.testing.assert_array_equal(numbers(result.model, "w"), numbers(onnx_ir.from_proto(MODEL), "w"))


def test_another_architecture_is_refused() -> None:
    other = build(TEXT.replace("Tanh", "Relu"), {"w": (3, 6), "v": (6, 2)})
    with pytest.raises(gmnc.GmncError, match="different architectures"):
        passes.Align(other).call(onnx_ir.from_proto(MODEL))


def test_a_pass_whose_proof_fails_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    module = import_module("gmnc.transforms.scramble")
    monkeypatch.setattr(module, "proof_of", lambda *_: Proof(1.0, 1e-6, 1))
    with pytest.raises(gmnc.GmncError, match="is not the same"):
        passes.Scramble(seed=1).call(onnx_ir.from_proto(MODEL))
