"""Numbers that a model computes from sizes: what becomes of them as sizes change."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx_ir

from ...frontend.inference.folding import run
from .step import Cuts

__all__ = ["computed"]


def computed(cuts: Cuts, node: onnx_ir.Node) -> bool:
    """Compute the new data of a node whose results are known numbers; False if they are not.

    Integers (sizes, positions) follow the new sizes. A float that would change, as 1 / sqrt of the size of a head,
    stays what it was: it becomes a constant.
    """
    known = [cuts.known.get(v) for v in node.outputs]
    if not known or any(k is None or k.data is None for k in known):
        return False
    if any(v.name in cuts.nodes for v in node.outputs):
        return False
    for value, data in zip(node.outputs, _data(cuts, node), strict=True):
        old = cuts.known[value].data
        assert old is not None
        cuts.now[value] = data
        changed = data is None or not np.array_equal(data, old)
        if changed and old.dtype.kind == "f" and (data is None or data.shape == old.shape) and value.uses():
            kept = cuts.initializer(np.array(old), f"{value.name}_kept")
            cuts.known[kept] = cuts.known[value]
            onnx_ir.convenience.replace_all_uses_with(value, kept, replace_graph_outputs=False)
    return True


def _data(cuts: Cuts, node: onnx_ir.Node) -> Sequence[np.ndarray | None]:
    nothing = [None] * len(node.outputs)
    opset = cuts.opset if node.domain == "" else 1
    if node.op_type in ("Shape", "Size") and not node.domain:
        cut = cuts.get(node.inputs[0])
        if cut is None:
            return nothing
        if node.op_type == "Size":
            return [np.array(np.prod(cut.new, dtype=np.int64))]
        _read_cut(cuts, node)
        start, end = (node.attributes.get(n) for n in ("start", "end"))
        sizes = np.array(cut.new, np.int64)
        return [sizes[slice(start.value if start else 0, end.value if end else None)]]
    operands = [v for v in node.inputs if v is not None]
    like = node.op_type == "CastLike"
    if all(v not in cuts.now or _unchanged(cuts, v) for v in operands[: 1 if like else None]):
        return [cuts.known[v].data for v in node.outputs]
    inputs = [None if v is None else cuts.data(v) for v in node.inputs]
    if like and inputs[0] is not None:
        return [inputs[0].astype(cuts.known[node.outputs[0]].dtype)]
    if any(v is not None and a is None for v, a in zip(node.inputs, inputs, strict=True)):
        return nothing
    found = run(node, opset, inputs)
    return nothing if found is None else found


def _read_cut(cuts: Cuts, node: onnx_ir.Node) -> None:
    """Let a node that reads the shape of an initializer read what is left of it."""
    value = node.inputs[0]
    cut = cuts.get(value)
    if value is not None and cut is not None and cut.any and value.is_initializer():
        node.replace_input_with(0, cuts.shortened(value, cut))


def _unchanged(cuts: Cuts, value: onnx_ir.Value) -> bool:
    now, entry = cuts.now[value], cuts.known.get(value)
    return now is not None and entry is not None and entry.data is not None and np.array_equal(now, entry.data)
