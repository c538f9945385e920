"""Contradictions between shapes that ONNX's own shape inference accepts."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod

import numpy as np
import onnx_ir

__all__ = ["contradiction"]

Shape = tuple[int, ...]
Shapes = Sequence[Shape | None]
_WINDOWS = frozenset({"Conv", "ConvTranspose", "ConvInteger", "QLinearConv", "MaxPool", "AveragePool", "LpPool"})


def contradiction(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    """Describe how the shapes of a node of the default domain contradict each other.

    Args:
        node: The node; its attributes are read.
        inputs: Shapes of its operands; unknown ones (None) agree with everything.
        outputs: Shapes of its outputs, likewise.

    Returns:
        The contradiction, None if none is found.
    """
    for shape in outputs:
        if shape is not None and min(shape, default=0) < 0:
            return f"an output would have the shape {list(shape)}"
        if shape is not None and node.op_type in _WINDOWS and 0 in shape and not any(s and 0 in s for s in inputs):
            return f"the window is larger than the input: the output would have the shape {list(shape)}"
    check = _CHECKS.get(node.op_type)
    return None if check is None else check(node, inputs, outputs)


def _at(shapes: Shapes, place: int) -> Shape | None:
    return shapes[place] if place < len(shapes) else None


def _conv(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    data, weight = _at(inputs, 0), _at(inputs, 1)
    group = node.attributes.get_int("group", 1)
    if data is None or weight is None or len(data) < 2 or data[1] == weight[1] * group:
        return None if node.op_type == "ConvInteger" else _bias(_at(inputs, 2), _at(outputs, 0))
    return f"the input has {data[1]} channels, the weight expects {weight[1] * group}"


def _conv_transpose(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    data, weight = _at(inputs, 0), _at(inputs, 1)
    if data is None or weight is None or data[1] == weight[0]:
        return _bias(_at(inputs, 2), _at(outputs, 0))
    return f"the input has {data[1]} channels, the weight expects {weight[0]}"


def _bias(bias: Shape | None, result: Shape | None) -> str | None:
    """The bias has one element per output channel."""
    if bias is None or result is None or bias == result[1:2]:
        return None
    return f"the bias has the shape {list(bias)}, it must be {list(result[1:2])}"


def _gemm(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    bias, result = _at(inputs, 2), _at(outputs, 0)
    return None if bias is None or result is None else _broadcasts(bias, result)


def _scaled(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    """Scale and bias of LayerNormalization and RMSNormalization broadcast to the input."""
    data = _at(inputs, 0)
    wrong = (_broadcasts(s, data) for s in inputs[1:3] if s is not None and data is not None)
    return next((w for w in wrong if w), None)


def _broadcasts(shape: Shape, result: Shape) -> str | None:
    try:
        fits = np.broadcast_shapes(shape, result) == result
    except ValueError:
        fits = False
    return None if fits else f"{list(shape)} does not broadcast to {list(result)}"


def _reshape(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    before, after = _at(inputs, 0), _at(outputs, 0)
    if before is None or after is None or prod(before) == prod(after):
        return None
    return f"{list(before)} cannot be reshaped to {list(after)}"


def _einsum(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
    terms = node.attributes["equation"].as_string().replace(" ", "").split("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, inputs, strict=False):
        if shape is None or "." in term or len(term) != len(shape):
            continue
        for letter, size in zip(term, shape, strict=True):
            if sizes.setdefault(letter, size) != size and 1 not in (size, sizes[letter]):
                return f"index {letter!r} has size {sizes[letter]} and {size}"
    return None


def _recurrent(gates: int) -> Callable[[onnx_ir.Node, Shapes, Shapes], str | None]:
    def check(node: onnx_ir.Node, inputs: Shapes, outputs: Shapes) -> str | None:
        data, weight, recurrence = (_at(inputs, k) for k in range(3))
        if data is None or weight is None or recurrence is None:
            return None
        if data[2] != weight[2]:
            return f"the input has {data[2]} features, the weight expects {weight[2]}"
        if not weight[1] == recurrence[1] == gates * recurrence[2]:
            return f"weight {list(weight)} and recurrence weight {list(recurrence)} have different sizes"
        return None

    return check


_CHECKS: Mapping[str, Callable[[onnx_ir.Node, Shapes, Shapes], str | None]] = {
    "Conv": _conv,
    "ConvInteger": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "LayerNormalization": _scaled,
    "RMSNormalization": _scaled,
    "Reshape": _reshape,
    "Einsum": _einsum,
    "RNN": _recurrent(1),
    "GRU": _recurrent(3),
    "LSTM": _recurrent(4),
}
