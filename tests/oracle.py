"""The network itself, run by ONNX Runtime: what every claim about its function is checked against."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime

__all__ = ["disagreement", "random_inputs", "run"]

Arrays = dict[str, np.ndarray]


def run(model: onnx.ModelProto, inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Outputs by name; CPU, one thread, no graph optimisation."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, dict(inputs)), strict=True))


def random_inputs(model: onnx.ModelProto, seed: int = 0, high: int = 4, free: int = 2) -> Arrays:
    """One array per graph input without initializer: standard normal, or integers below `high`; free axes: `free`."""
    rng = np.random.default_rng(seed)
    given = {tensor.name for tensor in model.graph.initializer}
    arrays: Arrays = {}
    for value in model.graph.input:
        if value.name in given:
            continue
        tensor = value.type.tensor_type
        shape = [dim.dim_value or free for dim in tensor.shape.dim]
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
        if np.issubdtype(dtype, np.floating):
            arrays[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            arrays[value.name] = rng.integers(0, 2 if dtype == np.bool_ else high, shape).astype(dtype)
    return arrays


def disagreement(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """Largest difference of two sets of outputs, relative to the largest magnitude of that output in `a`.

    Infinite if names or shapes differ, or if one side is not finite where the other is.
    """
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    return max((_relative(a[name], b[name]) for name in a), default=0.0)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not np.array_equal(np.isfinite(x), np.isfinite(y)):
        return float("inf")
    known = np.isfinite(x)
    if not known.any():
        return 0.0
    return float(np.abs(x - y)[known].max() / max(np.abs(x[known]).max(), 1e-30))
