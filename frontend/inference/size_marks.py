"""Which axes have sizes that depend on data, from inferences with different numbers; data that follows is forgotten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import onnx_ir

from ..model.keys import DOMAIN
from ..model.traversal import reads, subgraphs
from .data_sizes import SIZE_OPERANDS, Assumed, moving_axes
from .known_entries import moved_entries, partly_known
from .value_info import ValueInfo

__all__ = ["downstream", "is_fixed", "marked"]

Known = Mapping[onnx_ir.Value, ValueInfo]


def marked(
    nodes: Sequence[onnx_ir.Node], one: Known, other: Known, assumed: Assumed, opset: int
) -> dict[onnx_ir.Value, ValueInfo] | None:
    """Mark the axes whose sizes depend on data, and forget data that follows from these sizes.

    Args:
        nodes: All nodes, those of subgraphs included, in order.
        one: What is known with some assumed numbers.
        other: The same with others.
        assumed: The numbers of `other`.
        opset: The version of the default operator set.

    Returns:
        `one` with these marks; None if the two do not compare.
    """
    if one.keys() != other.keys() or any(len(one[v].shape) != len(other[v].shape) for v in one):
        return None
    out = dict(one)
    for value, entry in one.items():
        axes = frozenset(a for a, (n, m) in enumerate(zip(entry.shape, other[value].shape, strict=True)) if n != m)
        if not axes <= entry.by_data:
            out[value] = replace(entry, by_data=axes | entry.by_data)
    forgotten: set[onnx_ir.Value] = set()
    behind = downstream(nodes, one, assumed.nodes) if not assumed.exact else set()
    for node in nodes:
        for value in node.outputs:
            if value not in out:
                continue
            axes = _resized(node, value, out, other, opset) | _windowed(node, value, out)
            if any(v in forgotten for v in node.inputs) and _may_size(node):
                axes = frozenset(range(len(out[value].shape)))
            if not axes <= out[value].by_data:
                out[value] = replace(out[value], by_data=out[value].by_data | axes)
            if out[value].data is not None and (value in behind or _follows(node, value, out, opset, forgotten)):
                out[value] = replace(out[value], data=None)
                forgotten.add(value)
    return out if all(any(v in out and out[v].by_data for v in n.outputs) for n in assumed.nodes) else None


def downstream(nodes: Sequence[onnx_ir.Node], known: Known, sources: Mapping[onnx_ir.Node, None]) -> set[onnx_ir.Value]:
    """All values that depend on the outputs of nodes, of those with sizes that depend on data, or on their shapes."""
    found: set[onnx_ir.Value] = set()
    inside: set[onnx_ir.Graph] = set()
    around = {n for n in nodes if subgraphs(n) and any(i in sources for g in subgraphs(n) for i in g.all_nodes())}
    for node in nodes:
        own = node in sources or node in around or is_fixed(node)
        own = own or any(v in known and known[v].by_data for v in node.outputs)
        if own or node.graph in inside or any(v in found for v in reads(node)):
            found.update(node.outputs)
            for graph in subgraphs(node) if not own or node in around else ():
                inside.add(graph)
                found.update(graph.inputs)
    return found


def is_fixed(node: onnx_ir.Node) -> bool:
    """Whether a node stands for one whose size depends on data (see `rewriting.data_sizes`)."""
    return node.domain == DOMAIN and node.op_type in ("ByData", "FromData")


def _follows(node: onnx_ir.Node, value: onnx_ir.Value, out: Known, opset: int, forgotten: set[onnx_ir.Value]) -> bool:
    """Whether the data of an output follows from sizes that depend on data."""
    read = [v for v in node.inputs if v is not None]
    if subgraphs(node):
        return any(entry.by_data for entry in out.values())
    if not any(v in forgotten or (v in out and out[v].by_data) for v in read):
        return False
    return bool(out[value].by_data) or not moved_entries(node, value, out, opset)


def _resized(node: onnx_ir.Node, value: onnx_ir.Value, out: Known, other: Known, opset: int) -> frozenset[int]:
    """The axes of an output that get their sizes from entries of an operand that are not known.

    These need not differ between two inferences: the entry may be the smaller of two numbers.
    """
    rank = len(out[value].shape)
    places = SIZE_OPERANDS.get(node.op_type, ()) if not node.domain else ()
    given = [node.inputs[i] for i in places if i < len(node.inputs)]
    if all(v is None or v not in out or out[v].data is not None for v in given):
        return frozenset()
    if node.op_type in ("Pad", "Slice", "Split", "TopK"):
        return moving_axes(node, out, opset)
    if node.op_type in ("ConstantOfShape", "Expand", "Reshape", "Tile"):
        entries = partly_known(given[0], out, opset)
        if entries is not None and len(entries) <= rank:
            axes = frozenset(a + rank - len(entries) for a, n in enumerate(entries) if n is None)
            x = out.get(node.inputs[0]) if node.op_type == "Reshape" and node.inputs[0] is not None else None
            if x is not None and not x.by_data and len(axes) == 1 and -1 not in entries:
                return frozenset()  # It follows from the number of elements.
            alike = any(out[value].shape[a] == other[value].shape[a] for a in axes)
            rest = {a for a, n in enumerate(entries) if n == -1 and node.op_type == "Reshape"}
            return axes | rest if alike else axes
    return frozenset(range(rank))


def _may_size(node: onnx_ir.Node) -> bool:
    """Whether an operator with no row in `SIZE_OPERANDS` may compute the shape of its result from an operand."""
    return node.op_type in _SIZED if not node.domain else node.domain != DOMAIN


def _windowed(node: onnx_ir.Node, value: onnx_ir.Value, out: Known) -> frozenset[int]:
    """The axes along which windows lie over an axis whose size depends on data; sizes may agree by chance."""
    x = node.inputs[0] if node.inputs else None
    if x is None or x not in out or not out[x].by_data or len(out[x].shape) != len(out[value].shape):
        return frozenset()
    return out[x].by_data if any(word in node.op_type for word in _WINDOWS) else frozenset()


_SIZED = frozenset(["Resize", "Upsample", "MaxUnpool", "Col2Im", "AffineGrid", "DFT", "STFT", "HannWindow",
                    "HammingWindow", "BlackmanWindow", "MelWeightMatrix"])  # fmt: skip
"""Other operators with operands that give sizes."""

_WINDOWS = ("Conv", "Pool", "Slice", "Resize", "Upsample", "Pad")
