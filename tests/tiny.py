"""Small ONNX models from text, with random weights; and what hand-counted tests compare."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

__all__ = ["count", "deepsets", "model", "packed_attention", "separate_attention", "values", "with_values"]

Shape = tuple[int, ...]


def model(
    text: str,
    floats: Mapping[str, Shape] | None = None,
    ints: Mapping[str, list[Any]] | None = None,
    opset: int = 20,
    seed: int = 0,
) -> onnx.ModelProto:
    """A checked model of a graph in ONNX text syntax; `floats` become initializers of distinct values in (0.1, 1).

    ints: int64 initializers, by value.
    """
    rng = np.random.default_rng(seed)
    parsed = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : {opset}]> agraph {text}')
    for name, shape in (floats or {}).items():
        values = rng.uniform(0.1, 1.0, shape).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(values, name))
    for name, value in (ints or {}).items():
        parsed.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    onnx.checker.check_model(parsed, full_check=True)
    return parsed


def count(graph: Any) -> dict[str, dict[str, int]]:
    """Nodes by kind; parameter edges, tied edges and links by role; only what is there."""
    nodes, edges, tied, links = (Counter[str]() for _ in range(4))
    for group in graph.groups:
        nodes[group.kind] += group.size
    for block in graph.edges:
        (links if block.constant else tied if block.tied else edges)[block.role] += block.size
    for link in graph.links:
        links[link.role] += link.size
    found = {"nodes": nodes, "edges": edges, "tied": tied, "links": links}
    return {name: {k: n for k, n in counter.items() if n} for name, counter in found.items() if counter.total()}


ATTENTION = """
    qt = Transpose<perm = [0, 2, 1, 3]>(q)
    kt = Transpose<perm = [0, 2, 3, 1]>(k)
    vt = Transpose<perm = [0, 2, 1, 3]>(v)
    s = MatMul(qt, kt)
    scale = Constant<value_float = 0.7071067811865476>()
    t = Mul(s, scale)
    p = Softmax<axis = -1>(t)
    o = MatMul(p, vt)
    ot = Transpose<perm = [0, 2, 1, 3]>(o)
    merged = Reshape(ot, flat)
    m = MatMul(merged, wo)
    y = Add(m, bo)
}"""


def packed_attention() -> onnx.ModelProto:
    return model(
        """(float[1, 3, 4] x) => (float[1, 3, 4] y) {
            a = MatMul(x, wqkv)
            b = Add(a, bqkv)
            c = Reshape(b, split)
            q3, k3, v3 = Split<axis = 2, num_outputs = 3>(c)
            q = Squeeze(q3, two)
            k = Squeeze(k3, two)
            v = Squeeze(v3, two)"""
        + ATTENTION,
        {"wqkv": (4, 12), "bqkv": (12,), "wo": (4, 4), "bo": (4,)},
        {"split": [1, 3, 3, 2, 2], "two": [2], "flat": [1, 3, 4]},
    )


def separate_attention() -> onnx.ModelProto:
    lines = "\n".join(f"m{t} = MatMul(x, w{t})\n a{t} = Add(m{t}, b{t})\n {t} = Reshape(a{t}, heads)" for t in "qkv")
    weights = {f"w{t}": (4, 4) for t in "qkvo"} | {f"b{t}": (4,) for t in "qkvo"}
    text = "(float[1, 3, 4] x) => (float[1, 3, 4] y) {" + lines + ATTENTION
    return model(text, weights, {"heads": [1, 3, 2, 2], "flat": [1, 3, 4]})


def deepsets(swapped: bool = False) -> onnx.ModelProto:
    own, every = ("w2", "w1") if swapped else ("w1", "w2")
    return model(
        f"""(float[1, 4, 2] x) => (float[1, 1] y) {{
            a = MatMul(x, {own})
            b = Add(a, bias)
            m = ReduceMean<keepdims = 1>(x, one)
            c = MatMul(m, {every})
            d = Add(b, c)
            r = Tanh(d)
            s = ReduceSum<keepdims = 0>(r, one)
            y = MatMul(s, out)
        }}""",
        {"w1": (2, 3), "w2": (2, 3), "bias": (3,), "out": (3, 1)},
        {"one": [1]},
    )


def values(proto: onnx.ModelProto, name: str) -> np.ndarray:
    """A copy of an initializer's values."""
    [tensor] = [t for t in proto.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor).copy()


def with_values(proto: onnx.ModelProto, **new: np.ndarray) -> onnx.ModelProto:
    """The same model with other values in these initializers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(proto)
    for tensor in changed.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[tensor.name]), tensor.name))
    return changed
