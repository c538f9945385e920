"""What tests of writing files share: values, a graph over all initializers, and a run in ONNX Runtime."""

import os

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from gmnc.frontend.reading.load import load
from gmnc.frontend.reading.source import LoadedModel
from gmnc.ir import AccountEntry, GraphBuilder, Parameter

X = np.arange(4, dtype=np.float32)[None]
RNG = np.random.default_rng(7)


def floats(*shape):
    return RNG.standard_normal(shape).astype(np.float32)


def value(name, *shape, kind=TensorProto.FLOAT):
    return helper.make_tensor_value_info(name, kind, shape)


def initializers(path):
    """A graph over every initializer of the main graph of a file, values mapped."""
    model = load(path)
    builder = GraphBuilder()
    for name, v in model.graph.initializers.items():
        t = v.const_value
        builder.parameters[name] = Parameter(name, tuple(t.shape), t.dtype.numpy().name, "initializer", t.numpy)
    account = [AccountEntry(p.name, p.size, "dead") for p in builder.parameters.values()]
    return builder.finish("net", account, [], [], source=LoadedModel(model))


def run(model, x=None):
    session = onnxruntime.InferenceSession(os.fspath(model), providers=["CPUExecutionProvider"])
    return session.run(None, {"x": np.arange(4, dtype=np.float32)[None] if x is None else x})[0]
