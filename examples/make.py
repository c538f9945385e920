"""Make the example models beside this file: `python examples/make.py` (needs numpy and onnx only)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
OPSET = 18


def train_xor(hidden: int = 3, steps: int = 4000, rate: float = 0.5) -> dict[str, np.ndarray]:
    """Weights of a 2-3-1 perceptron with tanh that computes XOR, by plain gradient descent."""
    rng = np.random.default_rng(4)
    x = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float64)
    y = np.array([[0], [1], [1], [0]], dtype=np.float64)
    w1, b1 = rng.normal(size=(hidden, 2)), np.zeros(hidden)
    w2, b2 = rng.normal(size=(1, hidden)), np.zeros(1)
    for _ in range(steps):
        h = np.tanh(x @ w1.T + b1)
        error = (h @ w2.T + b2 - y) / len(x)
        back = (error @ w2) * (1 - h**2)
        w2, b2 = w2 - rate * error.T @ h, b2 - rate * error.sum(0)
        w1, b1 = w1 - rate * back.T @ x, b1 - rate * back.sum(0)
    weights = {"fc1.weight": w1, "fc1.bias": b1, "fc2.weight": w2, "fc2.bias": b2}
    return {name: value.astype(np.float32) for name, value in weights.items()}


def mlp() -> onnx.ModelProto:
    """A 2-3-1 perceptron: 13 parameters."""
    nodes = [
        helper.make_node("Gemm", ["x", "fc1.weight", "fc1.bias"], ["h"], "/fc1/Gemm", transB=1),
        helper.make_node("Tanh", ["h"], ["a"], "/act/Tanh"),
        helper.make_node("Gemm", ["a", "fc2.weight", "fc2.bias"], ["y"], "/fc2/Gemm", transB=1),
    ]
    return model("mlp", nodes, {"x": ["batch", 2]}, {"y": ["batch", 1]}, train_xor())


def cnn() -> onnx.ModelProto:
    """Two convolutions with a residual add, batch normalisation, pooling and a classifier, random weights."""
    rng = np.random.default_rng(0)

    def weight(*shape: int) -> np.ndarray:
        return rng.normal(size=shape) / np.sqrt(np.prod(shape[1:]))

    weights = {"conv1.weight": weight(4, 1, 3, 3), "conv2.weight": weight(4, 4, 3, 3), "conv2.bias": 0.1 * weight(4)}
    weights |= {"bn.weight": 1 + 0.1 * weight(4), "bn.bias": 0.1 * weight(4)}
    weights |= {"bn.running_mean": 0.1 * weight(4), "bn.running_var": np.exp(0.1 * weight(4))}
    weights |= {"fc.weight": weight(3, 4), "fc.bias": 0.1 * weight(3)}
    pads = [1, 1, 1, 1]
    norm = ["c1", "bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"]
    nodes = [
        helper.make_node("Conv", ["image", "conv1.weight"], ["c1"], "/conv1/Conv", kernel_shape=[3, 3], pads=pads),
        helper.make_node("BatchNormalization", norm, ["n1"], "/bn/BatchNormalization"),
        helper.make_node("Relu", ["n1"], ["r1"], "/relu/Relu"),
        helper.make_node("MaxPool", ["r1"], ["p1"], "/pool/MaxPool", kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node(
            "Conv", ["p1", "conv2.weight", "conv2.bias"], ["c2"], "/conv2/Conv", kernel_shape=[3, 3], pads=pads
        ),
        helper.make_node("Add", ["c2", "p1"], ["s"], "/Add"),
        helper.make_node("GlobalAveragePool", ["s"], ["g"], "/gap/GlobalAveragePool"),
        helper.make_node("Flatten", ["g"], ["f"], "/Flatten"),
        helper.make_node("Gemm", ["f", "fc.weight", "fc.bias"], ["scores"], "/fc/Gemm", transB=1),
    ]
    floats = {name: value.astype(np.float32) for name, value in weights.items()}
    return model("cnn", nodes, {"image": ["batch", 1, 8, 8]}, {"scores": ["batch", 3]}, floats)


def model(
    name: str,
    nodes: list[onnx.NodeProto],
    inputs: dict[str, list[str | int]],
    outputs: dict[str, list[str | int]],
    weights: dict[str, np.ndarray],
) -> onnx.ModelProto:
    """A checked float32 model of these parts."""
    ports = [
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in side.items()]
        for side in (inputs, outputs)
    ]
    tensors = [numpy_helper.from_array(value, n) for n, value in weights.items()]
    graph = helper.make_graph(nodes, name, *ports, initializer=tensors)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=9)
    onnx.checker.check_model(made, full_check=True)
    return made


if __name__ == "__main__":
    for make in (mlp, cnn):
        onnx.save(make(), HERE / f"{make.__name__}.onnx")
