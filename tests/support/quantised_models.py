"""Quantised networks, and new values for them that are symmetric to the old ones."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
from onnx import numpy_helper

import gmnc

__all__ = ["MLP", "permuted", "quantised_mlp", "quantised_model", "tensors"]

MLP = """(float[2, 6] x) => (float[2, N] y) {
    w = DequantizeLinear<axis = 1>(q, s, z)
    h = MatMul(x, w)
    r = Relu(h)
    y = MatMul(r, v)
}"""


def quantised_model(text: str, **values: np.ndarray) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1, "onnx.brevitas" : 1]> agraph {text}'
    )
    model.graph.initializer.extend(numpy_helper.from_array(np.asarray(v), n) for n, v in values.items())
    onnx.checker.check_model(model)
    return model


def quantised_mlp(dtype: type = np.int8, low: int = -60, high: int = 60) -> onnx.ModelProto:
    rng = np.random.default_rng(0)
    return quantised_model(
        MLP,
        q=rng.integers(low, high, (6, 5)).astype(dtype),
        s=rng.uniform(0.01, 0.02, 5).astype(np.float32),
        z=rng.integers(0, 7, 5).astype(dtype),
        v=rng.standard_normal((5, 3)).astype(np.float32),
    )


def tensors(model: onnx_ir.Model) -> dict[str, np.ndarray]:
    return {t.name: numpy_helper.to_array(t) for t in onnx_ir.to_proto(model).graph.initializer}


def permuted(graph: gmnc.ParameterGraph, seed: int = 0) -> dict[str, np.ndarray]:
    values = {n: p.load() for n, p in graph.parameters.items()}
    return gmnc.symmetries(graph).sample(np.random.default_rng(seed)).apply(values)
