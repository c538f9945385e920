"""The network itself, run by ONNX Runtime: what every claim about its function is checked against."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime

from ..backends import onnx as write_back
from ..backends.datafiles import external_tensors
from ..ir import ParameterGraph, StorageWarning

__all__ = ["Arrays", "Network", "disagreement", "run", "session"]

Arrays = dict[str, np.ndarray]

_LARGEST = 1 << 30


class Network:
    """The network of a graph, to be run with any parameter values."""

    def __init__(self, graph: ParameterGraph) -> None:
        self.graph = graph
        size = sum(p.size * 4 for p in graph.parameters.values())
        self._in_files = size > _LARGEST or (
            isinstance(graph.model, ir.Model) and next(external_tensors(graph.model), None) is not None
        )

    def run(self, values: Mapping[str, np.ndarray], feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Arrays]:
        """The outputs for each of the feeds, with these values written into the model."""
        with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
            # Controls leave the grids of quantised weights; rounded, so that scales matter.
            warnings.simplefilter("ignore", StorageWarning)
            path = Path(folder) / "network.onnx" if self._in_files else None
            written = write_back.write(self.graph, values, path, rounded=True)
            return _run(ir.to_proto(written).SerializeToString() if path is None else path, feeds)


def run(model: onnx.ModelProto | str | os.PathLike[str], inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Outputs by name; CPU, one thread, no graph optimisation. Outputs that are no tensors are left out."""
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else Path(model)
    return _run(source, [inputs])[0]


def session(source: bytes | Path) -> onnxruntime.InferenceSession:
    """A session on the CPU, with one thread and without graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    model = source if isinstance(source, bytes) else os.fspath(source)
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _run(source: bytes | Path, feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Arrays]:
    running = session(source)
    names = [output.name for output in running.get_outputs()]
    results = (zip(names, running.run(names, dict(feed)), strict=True) for feed in feeds)
    return [{name: value for name, value in pairs if isinstance(value, np.ndarray)} for pairs in results]


def disagreement(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """Largest difference of two sets of outputs, relative to the largest magnitude of that output in `a`.

    Infinite if names or shapes differ, or if one side is not finite where the other is.
    """
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    return max((_relative(a[name], b[name]) for name in a), default=0.0)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    if a.dtype.kind in "OUS":
        return 0.0 if np.array_equal(a, b) else float("inf")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not np.array_equal(np.isfinite(x), np.isfinite(y)):
        return float("inf")
    known = np.isfinite(x)
    if not known.any():
        return 0.0
    return float(np.abs(x[known] - y[known]).max() / max(np.abs(x[known]).max(), 1e-30))
