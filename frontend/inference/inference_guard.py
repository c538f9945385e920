"""Guards ONNX's shape inference: native code that hangs or crashes on some attributes, which are refused here first."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import onnx_ir

from ..budget import MAX_AXES

__all__ = ["unsafe_reason"]

Shapes = Sequence[tuple[int, ...] | None]

_TERM = r"[A-Za-z]*(\.\.\.)?[A-Za-z]*"
_EQUATION = re.compile(rf"{_TERM}(,{_TERM})*(->{_TERM})?")
# Operands that list one size or index per axis of the output.
_LISTS = {
    "Expand": (1,), "Reshape": (1,), "ConstantOfShape": (0,), "Tile": (1,), "Resize": (1, 2, 3), "Upsample": (1,),
    "Pad": (3,), "CenterCropPad": (1,), "AffineGrid": (1,), "MaxUnpool": (2,), "Slice": (1, 2, 3, 4),
    "Squeeze": (1,), "Unsqueeze": (1,), "Col2Im": (1, 2),
}  # fmt: skip


def unsafe_reason(node: onnx_ir.Node, inputs: Shapes) -> str:
    """Why a node must not be passed to ONNX's shape inference; empty if it may.

    Args:
        node: The node.
        inputs: Shapes of its operands, None where one is left out.
    """
    for name, attribute in node.attributes.items():
        if attribute.type is onnx_ir.AttributeType.STRING and "\0" in attribute.as_string():
            return f"attribute {name!r} contains a null character"
    for place in _LISTS.get(node.op_type, ()):
        if place < len(inputs) and (shape := inputs[place]) and len(shape) == 1 and shape[0] > MAX_AXES:
            return f"operand {place} lists {shape[0]:,} axes, more than {MAX_AXES}"
    if not -MAX_AXES <= (axis := node.attributes.get_int("axis", 0) if _is_number(node, "axis") else 0) <= MAX_AXES:
        return f"its axis {axis} is out of range"
    check = _CHECKS.get(node.op_type)
    return check(node, inputs) if check is not None else ""


def _is_number(node: onnx_ir.Node, name: str) -> bool:
    attribute = node.attributes.get(name)
    return attribute is not None and attribute.type is onnx_ir.AttributeType.INT


def _einsum(node: onnx_ir.Node, inputs: Shapes) -> str:
    equation = node.attributes["equation"].as_string()
    if not _EQUATION.fullmatch(equation.replace(" ", "")):
        return f"{equation[:80]!r} is not an einsum equation such as 'bij,bjk->bik'"
    return ""


def _gather_nd(node: onnx_ir.Node, inputs: Shapes) -> str:
    batch = node.attributes.get_int("batch_dims", 0)
    ranks = [len(shape) for shape in inputs if shape is not None]
    return "" if 0 <= batch < max(min(ranks, default=1), 1) else f"batch_dims is {batch}, but the ranks are {ranks}"


def _normalisation(node: onnx_ir.Node, inputs: Shapes) -> str:
    axis, rank = node.attributes.get_int("axis", -1), len(inputs[0] or ()) if inputs else 0
    return "" if -rank <= axis < max(rank, 1) else f"its axis is {axis}, but the rank is {rank}"


def _split(node: onnx_ir.Node, inputs: Shapes) -> str:
    count = node.attributes.get_int("num_outputs", len(node.outputs))
    return "" if count == len(node.outputs) else f"num_outputs is {count}, but it has {len(node.outputs)} outputs"


_CHECKS: Mapping[str, Callable[[onnx_ir.Node, Shapes], str]] = {
    "Einsum": _einsum,
    "GatherND": _gather_nd,
    "LayerNormalization": _normalisation,
    "RMSNormalization": _normalisation,
    "Split": _split,
}
