"""Tolerances of outputs, from the float types in which their values are computed."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir

from ..backends.values import dtype_of
from ..frontend.model.traversal import reads
from ..ir import ParameterGraph
from .inputs import InferredModel

__all__ = ["AMPLIFIED", "NOISE", "eps_of", "float_types", "tolerance_of"]

ROUNDING_STEPS = 64
NOISE = 3e-6
"""Relative noise on parameters that shows how a network amplifies rounding: ten times the rounding of float32."""

AMPLIFIED = 3
"""The multiple of the effect of this noise that a tolerance allows."""
_DATA_MOVEMENT = {
    "Cast",
    "CastLike",
    "DequantizeLinear",
    "Identity",
    "Reshape",
    "Transpose",
    "Unsqueeze",
    "Squeeze",
    "Gather",
}


def float_types(inferred: InferredModel) -> dict[str, str]:
    """The least precise float type in which each output is computed.

    Only computed tensors count, where sums are rounded: not scalars, stored tensors, or casts and moves of these (a
    bfloat16 table in a float32 network is exact).

    Args:
        inferred: The model.

    Returns:
        NumPy's name of the type by output; "float32" if it is not computed in floats.
    """
    dependent = _dependent(inferred)
    found = {}
    for output in inferred.model.graph.outputs:
        types = [t for v in _before(output) if (t := _type(inferred, v, v in dependent))]
        own = inferred.known[output].dtype if output in inferred.known else ""
        types += [own] if "float" in own else []
        found[output.name or ""] = max(types, key=eps_of, default="float32")
    return found


def tolerance_of(graph: ParameterGraph, dtype: str = "float32") -> float:
    """The allowed relative change of an output: 64 machine epsilons times the square root of the depth.

    The rounding errors of independent layers accumulate like a random walk.
    """
    depth = max((g.depth for g in graph.groups), default=0)
    return ROUNDING_STEPS * eps_of(dtype) * max(depth, 1) ** 0.5


def eps_of(dtype: str) -> float:
    """The machine epsilon of a float type."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype_of(dtype)).eps)


def _dependent(inferred: InferredModel) -> set[onnx_ir.Value]:
    """Values that depend on a graph input."""
    found = set(inferred.model.graph.inputs)
    for node in inferred.model.graph:
        if any(v in found for v in reads(node)):
            found.update(node.outputs)
    return found


def _before(output: onnx_ir.Value) -> Iterator[onnx_ir.Value]:
    """Every value that an output depends on, itself included."""
    seen, queue = {output}, [output]
    while queue:
        value = queue.pop()
        yield value
        node = value.producer()
        new = [v for v in (() if node is None else reads(node)) if v is not None and v not in seen]
        seen.update(new)
        queue += new


def _type(inferred: InferredModel, value: onnx_ir.Value, dependent: bool) -> str:
    """The float type in which a tensor is computed; "" for stored or moved tensors, scalars and other types."""
    entry, node = inferred.known.get(value), value.producer()
    if entry is None or node is None or entry.data is not None or math.prod(entry.shape) <= 1:
        return ""
    if "float" not in entry.dtype or np.dtype(dtype_of(entry.dtype)).itemsize < 2:
        return ""
    return entry.dtype if dependent or node.op_type not in _DATA_MOVEMENT else ""
