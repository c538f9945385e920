"""Writing small graphs, and checking what idiom recognition makes of them."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun

from gmnc.frontend.inference.shapes import infer
from gmnc.frontend.rewriting.idioms import recognise
from gmnc.frontend.rewriting.normalise import normalise

Attributes = dict[str, object]


class Standardize(OpRun):
    op_domain = "gmnc"

    def _run(self, x, axes=None, epsilon=None):
        c = x.astype(np.float64) - x.mean(axis=tuple(axes), keepdims=True, dtype=np.float64)
        return ((c / np.sqrt((c * c).mean(axis=tuple(axes), keepdims=True) + epsilon)).astype(x.dtype),)


class RMSNormalize(OpRun):
    op_domain = "gmnc"

    def _run(self, x, axes=None, epsilon=None):
        y = x.astype(np.float64)
        return ((y / np.sqrt((y * y).mean(axis=tuple(axes), keepdims=True) + epsilon)).astype(x.dtype),)


class LpNormalize(OpRun):
    op_domain = "gmnc"

    def _run(self, x, axes=None, epsilon=None, p=None):
        norm = (np.abs(x.astype(np.float64)) ** p).sum(axis=tuple(axes), keepdims=True) ** (1 / p)
        return ((x / np.maximum(norm, epsilon)).astype(x.dtype),)


class Softmax(OpRun):
    op_domain = "gmnc"

    def _run(self, x, axis=None):
        e = np.exp(x.astype(np.float64) - x.max(axis=axis, keepdims=True))
        return ((e / e.sum(axis=axis, keepdims=True)).astype(x.dtype),)


class LogSoftmax(OpRun):
    op_domain = "gmnc"

    def _run(self, x, axis=None):
        z = x.astype(np.float64) - x.max(axis=axis, keepdims=True)
        return ((z - np.log(np.exp(z).sum(axis=axis, keepdims=True))).astype(x.dtype),)


def run_rewritten(model: onnx_ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model with nodes of the domain `gmnc`."""
    ops = [Standardize, RMSNormalize, LpNormalize, Softmax, LogSoftmax]
    return ReferenceEvaluator(onnx_ir.to_proto(model), new_ops=ops).run(None, feeds)


def run_original(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a standard model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)


class Graph:
    """Writes a graph of one float input `x`; constants are Constant nodes, so they are literals."""

    def __init__(self, shape: tuple[int, ...], opset: int = 18, dtype: int = TensorProto.FLOAT) -> None:
        self.shape, self.opset, self.dtype = shape, opset, dtype
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self.real: object = np.float32

    def op(self, op: str, *inputs: str, name: str | None = None, **attributes: object) -> str:
        name = name or f"{op}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], name=f"node_{name}", **attributes))
        return name

    def literal(self, value: object, dtype: object = None) -> str:
        return self.op("Constant", value=numpy_helper.from_array(np.array(value, dtype or self.real)))

    def parameter(self, name: str, value: object) -> str:
        self.initializers.append(numpy_helper.from_array(np.array(value, np.float32), name))
        return name

    def reduce(self, op: str, value: str, axes: tuple[int, ...], keepdims: int = 1) -> str:
        if self.opset >= 18 or (op == "ReduceSum" and self.opset >= 13):
            return self.op(op, value, self.literal(axes, np.int64), keepdims=keepdims)
        return self.op(op, value, axes=axes, keepdims=keepdims)

    def model(self, *outputs: str) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes, "test", [helper.make_tensor_value_info("x", self.dtype, self.shape)],
            [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs], self.initializers,
        )  # fmt: skip
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=9)
        return onnx.shape_inference.infer_shapes(proto) if self.dtype != TensorProto.FLOAT else proto


def standardised(g: Graph, axes: tuple[int, ...], x: str = "x", epsilon: float = 1e-5) -> str:
    c = g.op("Sub", x, g.reduce("ReduceMean", x, axes))
    v = g.reduce("ReduceMean", g.op("Mul", c, c), axes)
    return g.op("Div", c, g.op("Sqrt", g.op("Add", v, g.literal(epsilon))))


def found(model: onnx_ir.Model) -> list[tuple[str, Attributes]]:
    """The nodes of the domain `gmnc` with their attributes, in order."""
    nodes = [n for n in model.graph.all_nodes() if n.domain == "gmnc"]
    return [(n.op_type, {k: a.value for k, a in n.attributes.items()}) for n in nodes]


def ops(model: onnx_ir.Model) -> list[str]:
    return [n.op_type for n in model.graph.all_nodes()]


def recognised(proto: onnx.ModelProto, tolerance: float = 2e-5) -> onnx_ir.Model:
    """The model after recognition, checked to compute the same and to know the shapes of its values."""
    model = normalise(onnx_ir.from_proto(proto))
    known = infer(model)
    outputs = [v.name for v in model.graph.outputs]
    parameters = {n: v.const_value.numpy().copy() for n, v in model.graph.initializers.items() if v.const_value}
    count = recognise(model, known)
    assert count == len(found(model))
    assert [v.name for v in model.graph.outputs] == outputs
    assert ("gmnc" in model.graph.opset_imports) == bool(count)
    assert model.graph.initializers.keys() == parameters.keys()
    for value, fact in infer(model).items():
        assert (known[value].shape, known[value].dtype) == (fact.shape, fact.dtype), value.name
    rng = np.random.default_rng(0)
    feeds = {}
    for value in model.graph.inputs:
        shape = [d if isinstance(d, int) else 2 for d in value.shape]
        feeds[value.name] = (rng.normal(size=shape) * 2 + 1).astype(value.dtype.numpy())
    for expected, got in zip(run_original(proto, feeds), run_rewritten(model, feeds), strict=True):
        assert expected.dtype == got.dtype
        np.testing.assert_allclose(got.astype(np.float64), expected.astype(np.float64), tolerance, tolerance)
    return model


def untouched(proto: onnx.ModelProto) -> None:
    model = normalise(onnx_ir.from_proto(proto))
    before = onnx_ir.to_proto(model).SerializeToString()
    assert recognise(model) == 0
    assert onnx_ir.to_proto(model).SerializeToString() == before
