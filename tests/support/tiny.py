"""Small ONNX models of layers whose parameter graphs are known by hand."""

from __future__ import annotations

import onnx

import gmnc
from gmnc.ir import ParameterGraph
from gmnc.testing import build

__all__ = ["deepsets", "lower", "packed_attention", "separate_attention"]

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
    return build(
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
    return build(text, weights, {"heads": [1, 3, 2, 2], "flat": [1, 3, 4]})


def deepsets(swapped: bool = False) -> onnx.ModelProto:
    own, every = ("w2", "w1") if swapped else ("w1", "w2")
    return build(
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


def lower(proto: onnx.ModelProto) -> ParameterGraph:
    """The checked graph of a model of which nothing is opaque."""
    graph = gmnc.compile(proto)
    assert graph.opaque == ()
    assert not graph.unsupported
    graph.check()
    return graph
