"""What a network costs: parameters, multiply-accumulates, bytes, milliseconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np
import onnx_ir

from ...frontend.inference.shapes import ValueInfo
from ...frontend.model.traversal import every_node

__all__ = ["Costs", "latency", "macs", "parameters"]

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]

_RUNS, _SECONDS = 30, 1.0


@dataclass(frozen=True, slots=True)
class Costs:
    """The costs of a network.

    Attributes:
        parameters: The number of elements of its tensors that are parameters.
        macs: Multiply-accumulates of convolutions, matrix products, recurrent cells and attention in one run.
        bytes: The size of its file, with external data.
        milliseconds: The median time of a run in ONNX Runtime; None if it was not run.
    """

    parameters: int
    macs: int
    bytes: int
    milliseconds: float | None = None


def parameters(model: onnx_ir.Model, names: Mapping[str, object]) -> int:
    """The number of elements of the initializers with these names."""
    return sum(prod(v.const_value.shape.numpy()) for n, v in model.graph.initializers.items()
               if n in names and v.const_value is not None)  # fmt: skip


def macs(model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo]) -> int:
    """The multiply-accumulates of one run, from the shapes of a model; a loop's body counts once."""
    total = 0
    for node in every_node(model.graph):
        count = _COUNTS.get(node.op_type)
        if count is not None:
            ins, outs = (
                [known[v].shape if v is not None and v in known else None for v in some]
                for some in (node.inputs, node.outputs)
            )
            attributes = {n: a.value for n, a in node.attributes.items()}
            total += count(ins, outs, attributes) if ins[0] is not None and outs[0] is not None else 0
    return total


def latency(source: bytes | Path, feed: Mapping[str, np.ndarray]) -> float:
    """The median time of a run in ONNX Runtime on one CPU thread, optimised, in milliseconds."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    given = source if isinstance(source, bytes) else str(source)
    session = onnxruntime.InferenceSession(given, options, providers=["CPUExecutionProvider"])
    session.run(None, dict(feed))
    times: list[float] = []
    start = time.perf_counter()
    while len(times) < _RUNS and (len(times) < 3 or time.perf_counter() - start < _SECONDS):
        before = time.perf_counter()
        session.run(None, dict(feed))
        times.append(time.perf_counter() - before)
    return 1e3 * float(np.median(times))


Count = Callable[[Shapes, Shapes, Mapping[str, object]], int]


def _conv(weight: int) -> Count:
    def count(ins: Shapes, outs: Shapes, attributes: Mapping[str, object]) -> int:
        w = ins[weight] or ()
        return prod(outs[0] or ()) * prod(w[1:])

    return count


def _conv_transpose(ins: Shapes, outs: Shapes, attributes: Mapping[str, object]) -> int:
    return prod(ins[0] or ()) * prod((ins[1] or ())[1:])


def _matmul(ins: Shapes, outs: Shapes, attributes: Mapping[str, object]) -> int:
    last = -2 if attributes.get("transA") else -1
    return prod(outs[0] or ()) * (ins[0] or (1,))[last]


def _einsum(ins: Shapes, outs: Shapes, attributes: Mapping[str, object]) -> int:
    text = str(attributes.get("equation", "")).replace(" ", "")
    if "." in text or len(ins) < 2:
        return 0
    sizes = {c: n for term, shape in zip(text.split("->")[0].split(","), ins, strict=False)
             for c, n in zip(term, shape or (), strict=False)}  # fmt: skip
    return prod(sizes.values())


def _recurrent(ins: Shapes, outs: Shapes, attributes: Mapping[str, object]) -> int:
    x, w, r = (ins[i] or (0, 0, 0) for i in range(3))
    return x[0] * x[1] * (prod(w) + prod(r))


def _attention(ins: Shapes, outs: Shapes, attributes: Mapping[str, object]) -> int:
    """Scores and values of fused attention of whole sequences, queries [batch, length, width]."""
    q = ins[0] or (0, 0, 0)
    if len(q) < 3:
        return 0
    keys = ins[1] if len(ins) > 1 and ins[1] is not None and len(ins[1]) == len(q) else q
    return prod(q) * keys[-2] + prod(outs[0] or ()) * keys[-2]


_COUNTS: dict[str, Count] = {
    "Conv": _conv(1),
    "FusedConv": _conv(1),
    "ConvInteger": _conv(1),
    "QLinearConv": _conv(3),
    "ConvTranspose": _conv_transpose,
    "Einsum": _einsum,
    **dict.fromkeys(
        ("MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "QLinearMatMul",
         "DynamicQuantizeMatMul", "MatMulNBits"),
        _matmul,
    ),
    **dict.fromkeys(("LSTM", "GRU", "RNN", "DynamicQuantizeLSTM"), _recurrent),
    **dict.fromkeys(("Attention", "MultiHeadAttention", "GroupQueryAttention"), _attention),
}  # fmt: skip
