"""The `gmnc` domain in NumPy, and running a graph that has been through idiom recognition."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


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


def run_rewritten(model: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a model with nodes of the domain `gmnc`."""
    ops = [Standardize, RMSNormalize, LpNormalize, Softmax, LogSoftmax]
    return ReferenceEvaluator(ir.to_proto(model), new_ops=ops).run(None, feeds)


def run_original(model: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    """The outputs of a standard model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options).run(None, feeds)
