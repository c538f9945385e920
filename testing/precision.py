"""How exact an output can be: the float types that values on the way to it are computed in."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import onnx_ir

from ..backends.values import dtype_of
from ..frontend.model.traversal import reads
from ..ir import ParameterGraph
from .inputs import Network

__all__ = ["eps_of", "float_types", "tolerance_of"]

ROUNDING_STEPS = 64
_KEEPING = {
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


def float_types(network: Network) -> dict[str, str]:
    """The coarsest float type on the way to each output, by NumPy's name; "float32" where there is none.

    Of tensors that are computed, as it is there that sums are rounded. Scalars do not count, nor do stored tensors and
    what is made of them by casts and moves: a bfloat16 table in a float32 network is exact.
    """
    dependent = _dependent(network)
    found = {}
    for output in network.model.graph.outputs:
        types = [t for v in _before(output) if (t := _type(network, v, v in dependent))]
        own = network.known[output].dtype if output in network.known else ""
        types += [own] if "float" in own else []
        found[output.name or ""] = max(types, key=eps_of, default="float32")
    return found


def tolerance_of(graph: ParameterGraph, dtype: str = "float32") -> float:
    """How far outputs may differ: 64 rounding steps of this float type, times the square root of the depth.

    Rounding errors of independent layers add up like a random walk.
    """
    depth = max((g.depth for g in graph.groups), default=0)
    return ROUNDING_STEPS * eps_of(dtype) * max(depth, 1) ** 0.5


def eps_of(dtype: str) -> float:
    """The relative size of a rounding step."""
    import ml_dtypes

    return float(ml_dtypes.finfo(dtype_of(dtype)).eps)


def _dependent(network: Network) -> set[onnx_ir.Value]:
    """Values that depend on an input."""
    found = set(network.model.graph.inputs)
    for node in network.model.graph:
        if any(v in found for v in reads(node)):
            found.update(node.outputs)
    return found


def _before(output: onnx_ir.Value) -> Iterator[onnx_ir.Value]:
    """Every value that an output is computed from, itself included."""
    seen, queue = {output}, [output]
    while queue:
        value = queue.pop()
        yield value
        node = value.producer()
        new = [v for v in (() if node is None else reads(node)) if v is not None and v not in seen]
        seen.update(new)
        queue += new


def _type(network: Network, value: onnx_ir.Value, dependent: bool) -> str:
    """The float type in which a tensor is computed; "" if it is stored, moved, a scalar, or no float."""
    entry, node = network.known.get(value), value.producer()
    if entry is None or node is None or entry.data is not None or math.prod(entry.shape) <= 1:
        return ""
    if "float" not in entry.dtype or np.dtype(dtype_of(entry.dtype)).itemsize < 2:
        return ""
    return entry.dtype if dependent or node.op_type not in _KEEPING else ""
