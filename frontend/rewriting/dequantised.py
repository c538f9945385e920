"""Fuses dequantisation and dynamic quantisation that exporters write in primitive operators.

| written | becomes |
|---|---|
| Mul(Cast(q), scale), Mul(Sub(Cast(q), zero), scale) with integers q | Dequantize |
| DequantizeLinear(Gather(q, ids), scale, zero), or another movement | Gather(Dequantize(q, scale, zero), ids) |
| Mul(Cast(MatMulInteger(DynamicQuantizeLinear(x), q)), both scales) | MatMul(DynamicQuantize(x), Dequantize(q)) |
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir

from ..dialect import declared
from ..inference.program_data import is_mask
from ..model.keys import DOMAIN
from ..model.traversal import every_node
from .editor import NodeWriter, remove_dead

__all__ = ["fuse_dequantisation"]

_STORED = frozenset(onnx_ir.DataType[n] for n in ("INT2", "UINT2", "INT4", "UINT4", "INT8", "UINT8", "INT16", "UINT16"))
_MOVING = frozenset({"Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


Keep = Callable[[onnx_ir.Node], bool]


def fuse_dequantisation(model: onnx_ir.Model, keep: Keep) -> int:
    """Fuse these forms in a normalised model, in place; returns how many were found.

    keep: whether a node stays, since it has a rule that is not built in.
    """
    count = 0
    for node in every_node(model.graph):
        if node.graph is not None and node.op_type == "Mul" and not node.domain and not keep(node):
            count += _dynamic(node, keep) or _written_out(node, keep)
    for value in list(model.graph.initializers.values()):
        count += _hoisted(value, keep)
    if count:
        model.graph.opset_imports[DOMAIN] = 1
    return count


def _made_by(keep: Keep, value: onnx_ir.Value | None, *ops: str) -> onnx_ir.Node | None:
    node = None if value is None else value.producer()
    return node if node is not None and not node.domain and node.op_type in ops and not keep(node) else None


def _operands(node: onnx_ir.Node) -> list[tuple[onnx_ir.Value, onnx_ir.Value]]:
    """Both orders of the operands."""
    a, b = node.inputs[:2]
    return [] if a is None or b is None else [(a, b), (b, a)]


def _stored(value: onnx_ir.Value | None) -> bool:
    """Whether it is an initializer of several integers of at most 16 bits that is not a mask."""
    tensor = None if value is None else value.const_value
    return tensor is not None and tensor.dtype in _STORED and tensor.size > 1 and not is_mask(tensor)


def _weight(value: onnx_ir.Value | None, keep: Keep) -> bool:
    """Whether it is a stored integer weight, or a stored float weight that the model itself quantises."""
    source = _made_by(keep, value, "DynamicQuantizeLinear")
    if source is None:
        return _stored(value)
    return value is source.outputs[0] and source.inputs[0] is not None and source.inputs[0].const_value is not None


def _written_out(node: onnx_ir.Node, keep: Keep) -> bool:
    """Fuse Mul(Cast(q), scale), optionally with Sub(..., zero point)."""
    for numbers, scale in _operands(node):
        constant = scale.const_value
        if constant is None or not constant.dtype.is_floating_point():
            continue
        shift = _made_by(keep, numbers, "Sub")
        cast = _made_by(keep, numbers if shift is None else shift.inputs[0], "Cast")
        if (
            cast is None
            or not _stored(cast.inputs[0])
            or onnx_ir.DataType(cast.attributes.get_int("to", 0)) != constant.dtype
        ):
            continue
        zero = None if shift is None else shift.inputs[1]
        before = _made_by(keep, zero, "Cast")
        zero = zero if before is None else before.inputs[0]
        if shift is not None and (zero is None or zero.const_value is None):
            continue
        writer = NodeWriter(node)
        inputs = (cast.inputs[0], scale, zero)
        writer.replace([writer.internal("Dequantize", *inputs, attributes={"written": 1})])
        return True
    return False


def _dynamic(node: onnx_ir.Node, keep: Keep) -> bool:
    """Fuse the integer product of a dynamically quantised activation and a stored weight, then Mul by both scales."""
    for product, scales in _operands(node):
        cast = _made_by(keep, product, "Cast")
        kernel = _made_by(keep, None if cast is None else cast.inputs[0], "MatMulInteger", "ConvInteger")
        both = _made_by(keep, scales, "Mul")
        if kernel is None or both is None or not _weight(kernel.inputs[1], keep):
            continue
        source = _made_by(keep, kernel.inputs[0], "DynamicQuantizeLinear")
        zero = kernel.inputs[2] if len(kernel.inputs) > 2 else None
        for own, scale in _operands(both):
            if source is None or own is not source.outputs[1] or zero is not source.outputs[2]:
                continue
            if kernel.op_type == "ConvInteger" and not _single(scale, keep):
                continue
            _as_float(node, kernel, source.inputs[0], scale)
            return True
    return False


def _single(scale: onnx_ir.Value, keep: Keep) -> bool:
    """Whether it has a single element."""
    tensor = scale.const_value
    return _made_by(keep, scale, "DynamicQuantizeLinear") is not None or (tensor is not None and tensor.size == 1)


def _as_float(node: onnx_ir.Node, kernel: onnx_ir.Node, x: onnx_ir.Value | None, scale: onnx_ir.Value) -> None:
    writer = NodeWriter(node)
    zero = kernel.inputs[3] if len(kernel.inputs) > 3 else None
    matmul, weight = kernel.op_type == "MatMulInteger", kernel.inputs[1]
    assert weight is not None
    operands = (
        writer.internal("DynamicQuantize", x),
        writer.dequantize(weight, scale, zero, axes=(-1,) if matmul else (0,)),
    )
    attributes = dict(kernel.attributes.items())
    writer.replace([writer.one("MatMul" if matmul else "Conv", *operands, attributes=attributes)])


def _hoisted(value: onnx_ir.Value, keep: Keep) -> bool:
    """Dequantise stored integers before data movement if all readers of the moved ones dequantise them alike."""
    if not _stored(value):
        return False
    ends: list[onnx_ir.Node] = []
    moved: list[onnx_ir.Value] = []
    waiting = [value]
    while waiting:
        top = waiting.pop()
        if top.is_graph_output():
            return False
        for use in top.uses():
            if use.idx or use.node.domain or use.node.op_type not in _MOVING | {"DequantizeLinear"} or keep(use.node):
                return False
            if use.node.op_type == "DequantizeLinear":
                ends.append(use.node)
            else:
                moved.append(use.node.outputs[0])
                waiting.append(use.node.outputs[0])
    quant_params = {tuple(n.inputs[1:]) for n in ends}
    if not moved or len(quant_params) != 1 or any(n.outputs[0].is_graph_output() for n in ends):
        return False
    scale = ends[0].inputs[1]
    if scale is None or scale.const_value is None or scale.const_value.size != 1:
        return False
    _dequantise_first(value, moved, ends, scale.const_value.dtype)
    return True


def _dequantise_first(
    value: onnx_ir.Value, moved: list[onnx_ir.Value], ends: list[onnx_ir.Node], dtype: onnx_ir.DataType
) -> None:
    graph = ends[0].graph
    users = [u.node for u in value.uses()]
    assert graph is not None
    node = onnx_ir.Node(DOMAIN, declared("Dequantize"), [value, *ends[0].inputs[1:]], num_outputs=1, name=ends[0].name)
    node.outputs[0].name = f"{ends[0].outputs[0].name}/Dequantize"
    first = next(n for n in graph if n in users)
    graph.insert_before(first, node)
    for user in users:
        user.replace_input_with(0, node.outputs[0])
    for inner in moved:
        inner.type = onnx_ir.TensorType(dtype)
    for end in ends:
        numbers = end.inputs[0]
        assert numbers is not None
        onnx_ir.convenience.replace_all_uses_with(end.outputs[0], numbers)
        remove_dead([end.outputs[0]])
