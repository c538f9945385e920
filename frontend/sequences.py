"""Sequences that are taken apart again: `split`, `chunk` and `unbind` of torch, as slices."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

__all__ = ["unpack"]


def unpack(model: ir.Model) -> None:
    """Rewrite SequenceAt of SplitToSequence (with known sizes and places) to Slice, SequenceAt and ConcatFromSequence
    of SequenceConstruct to the entry and to Concat, and OptionalGetElement of Optional to the element. Others stay.
    """
    graph = model.graph
    for node in list(graph):
        source = node.inputs[0].producer() if node.inputs and node.inputs[0] is not None else None
        if source is None or source.domain or node.domain:
            continue
        made = None
        if node.op_type == "SequenceAt" and source.op_type == "SplitToSequence":
            made = _slice(graph, node, source)
        elif node.op_type == "SequenceAt" and source.op_type == "SequenceConstruct":
            made = _entry(node, source)
        elif node.op_type == "ConcatFromSequence" and source.op_type == "SequenceConstruct":
            made = _concat(node, source)
        elif node.op_type == "OptionalGetElement" and source.op_type == "Optional":
            made = ir.Node("", "Identity", source.inputs, num_outputs=1, name=node.name)
        if made is None:
            continue
        name = node.outputs[0].name
        made.outputs[0].name, made.outputs[0].type, made.outputs[0].shape = (
            name,
            node.outputs[0].type,
            node.outputs[0].shape,
        )
        graph.insert_before(node, made)
        node.outputs[0].replace_all_uses_with(made.outputs[0], replace_graph_outputs=True)
        graph.remove(node, safe=True)
    for node in reversed(list(graph)):
        unused = not any(o.uses() or o.is_graph_output() for o in node.outputs)
        if node.op_type in ("SplitToSequence", "SequenceConstruct", "Optional") and unused:
            graph.remove(node, safe=True)


def _slice(graph: ir.Graph, node: ir.Node, source: ir.Node) -> ir.Node | None:
    """The piece of a split with a known size (or sizes) at a known, non-negative place."""
    place = _number(node.inputs[1])
    sizes = _constant(source.inputs[1]) if len(source.inputs) > 1 else np.array(1)
    keep = source.attributes.get_int("keepdims", 1)
    if place is None or sizes is None or place < 0 or (len(source.inputs) < 2 and not keep):
        return None
    if sizes.ndim == 0:
        start, stop = place * int(sizes), (place + 1) * int(sizes)
    elif place < len(sizes):
        start, stop = int(sizes[:place].sum()), int(sizes[: place + 1].sum())
    else:
        return None
    axis = source.attributes.get_int("axis", 0)
    bounds = [_literal(graph, f"{node.outputs[0].name}.{part}", n) for part, n in
              (("start", start), ("stop", stop), ("axis", axis))]  # fmt: skip
    return ir.Node("", "Slice", [source.inputs[0], *bounds], num_outputs=1, name=node.name)


def _entry(node: ir.Node, source: ir.Node) -> ir.Node | None:
    place = _number(node.inputs[1])
    if place is None or not -len(source.inputs) <= place < len(source.inputs):
        return None
    return ir.Node("", "Identity", [source.inputs[place]], num_outputs=1, name=node.name)


def _concat(node: ir.Node, source: ir.Node) -> ir.Node | None:
    if node.attributes.get_int("new_axis", 0):
        return None
    axis = node.attributes.get_int("axis", 0)
    return ir.Node("", "Concat", source.inputs, [ir.AttrInt64("axis", axis)], num_outputs=1, name=node.name)


def _constant(value: ir.Value | None) -> np.ndarray | None:
    if value is None or value.const_value is None or value.const_value.size > 4096:
        return None
    return value.const_value.numpy()


def _number(value: ir.Value | None) -> int | None:
    array = _constant(value)
    return None if array is None or array.size != 1 else int(array.reshape(-1)[0])


def _literal(graph: ir.Graph, name: str, number: int) -> ir.Value:
    tensor = ir.tensor(np.array([number], dtype=np.int64), name=name)
    value = ir.Value(name=name, shape=ir.Shape((1,)), type=ir.TensorType(ir.DataType.INT64), const_value=tensor)
    graph.register_initializer(value)
    return value
