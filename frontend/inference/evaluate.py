"""The number behind a constant that is computed from parameters; run when a backend asks, never by lowering."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir

from ...ir import LoweringError
from ..budget import WEIGHT_STEPS
from ..model.traversal import describe
from ..primitives.quantised import TABLES, packed
from .affordable import steps
from .folding import run
from .shapes import ValueInfo

__all__ = ["evaluate", "hopeless"]


def evaluate(model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], value: onnx_ir.Value) -> np.ndarray:
    """The tensor of a value that depends on initializers, and on what is known without them, only.

    Raises `LoweringError` where an op cannot be run, or takes more than the budget.
    """
    if slow := hopeless(known, value):
        raise LoweringError(slow)
    made: dict[onnx_ir.Value, np.ndarray] = {}
    stack = [value]
    while stack:
        top = stack[-1]
        if top in made:
            stack.pop()
        elif top.const_value is not None:
            made[top] = top.const_value.numpy()
        elif (entry := known.get(top)) is not None and entry.data is not None:
            made[top] = entry.data
        else:
            node = top.producer()
            if node is None:
                raise LoweringError(f"value {top.name!r} is no constant")
            # Only the type of CastLike's second operand counts, and that operand may be no constant.
            like = node.op_type == "CastLike" and not node.domain
            inputs = node.inputs[:1] if like else node.inputs
            missing = [v for v in inputs if v is not None and v not in made]
            if missing:
                stack += missing
                continue
            opset = model.graph.opset_imports.get(node.domain, 1)
            operands = [None if v is None else made[v] for v in inputs]
            outputs: Sequence[np.ndarray] | None
            if like:
                outputs = [made[node.inputs[0]].astype(known[node.inputs[1]].dtype)]  # type: ignore[index]
            else:
                outputs = _own(node, operands) if node.domain == "gmnc" else run(node, opset, operands)
            if outputs is None:
                raise LoweringError(f"{describe(node)}: this constant expression cannot be evaluated")
            made.update(zip(node.outputs, outputs, strict=False))
    return made[value]


def hopeless(known: Mapping[onnx_ir.Value, ValueInfo], value: onnx_ir.Value) -> str:
    """Why the numbers of a value are not computed; empty if they are."""
    waiting, seen = [value], set[onnx_ir.Value]()
    while waiting:
        top = waiting.pop()
        node = None if top in seen else top.producer()
        seen.add(top)
        entry = known.get(top)
        if node is None or entry is None or entry.data is not None or top.const_value is not None:
            continue
        if node.domain != "gmnc" and steps(node, math.prod(entry.shape)) > WEIGHT_STEPS:
            return (
                f"{describe(node)}: it makes {list(entry.shape)} of weights, one number after the other, which takes "
                "too long; let the file hold the result"
            )
        waiting += [v for v in node.inputs if v is not None]
    return ""


def _own(node: onnx_ir.Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """An operator of the domain `gmnc`."""
    stored = _STORED.get(node.op_type)
    if stored is not None:
        return [stored(node, *operands)]
    return _idiom(node, operands)


def _lined(node: onnx_ir.Node, side: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """A scale or zero point, broadcastable to what it belongs to (see `kernels`)."""
    if side is None or side.size == 1:
        return None if side is None else side.reshape(())
    rank, block = len(shape), node.attributes.get_int("block_size", 0)
    axes = [a % rank for a in node.attributes.get_ints("axes", ())]
    if len(axes) != side.ndim:
        axes = list(range(rank - side.ndim, rank))
    side = side.reshape([side.shape[axes.index(a)] if a in axes else 1 for a in range(rank)])
    for axis, size in enumerate(shape):
        if 1 < side.shape[axis] < size:
            side = side.repeat(block, axis)[(slice(None),) * axis + (slice(size),)]
    return side


def _unpacked(node: onnx_ir.Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    """DequantizeBits."""
    n, k, bits, block = (node.attributes[name].as_int() for name in ("N", "K", "bits", "block_size"))
    table, blocks = node.attributes.get_string("table", ""), -(-k // block)
    numbers = packed(bits, high_first=bool(table)).unwrap(x).reshape(n, -1)[:, :k]
    numbers = TABLES[table][numbers] if table else numbers.astype(np.float32)
    if zero is not None:
        rows = zero if zero.dtype != np.uint8 else packed(bits).unwrap(zero.reshape(n, -1))
        numbers = numbers - rows.reshape(n, -1)[:, :blocks].repeat(block, axis=1)[:, :k]
    elif not table:
        numbers = numbers - 2 ** (bits - 1)
    return (numbers * scale.reshape(n, blocks).repeat(block, axis=1)[:, :k]).astype(scale.dtype)


def _dequantised(
    node: onnx_ir.Node, x: np.ndarray, scale: np.ndarray | None = None, zero: np.ndarray | None = None,
    whole: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    shift = _lined(node, zero, x.shape)
    numbers = x.astype(np.float32) if shift is None else x.astype(np.float32) - shift.astype(np.float32)
    for factor in (_lined(node, scale, x.shape), _lined(node, whole, x.shape)):
        numbers = numbers if factor is None else numbers * factor.astype(np.float32)
    return numbers.astype(np.float32 if scale is None else scale.dtype)


def _quantised(node: onnx_ir.Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    step, shift = _lined(node, scale, x.shape), _lined(node, zero, x.shape)
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    at = np.rint(x / step) + (0 if shift is None else shift.astype(np.float32))
    return np.clip(at, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


def _dynamic(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(x.dtype)


def _spread(node: onnx_ir.Node, values: np.ndarray) -> np.ndarray:
    """Sparse."""
    out = np.zeros(tuple(node.attributes["shape"].as_ints()), values.dtype)
    out[tuple(node.attributes["indices"].as_tensor().numpy().T)] = values
    return out


_STORED: Mapping[str, Callable[..., np.ndarray]] = {
    "Dequantize": _dequantised,
    "Quantize": _quantised,
    "DynamicQuantize": _dynamic,
    "DequantizeBits": _unpacked,
    "Sparse": _spread,
}


def _idiom(node: onnx_ir.Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """What `idioms` put in the place of a written-out normalisation (see its table)."""
    x = operands[0]
    assert x is not None
    if node.op_type in ("Softmax", "LogSoftmax"):
        axis = node.attributes.get_int("axis", -1)
        shifted = x - x.max(axis=axis, keepdims=True)
        logarithm = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return [np.exp(logarithm) if node.op_type == "Softmax" else logarithm]
    axes, epsilon = tuple(node.attributes["axes"].as_ints()), node.attributes.get_float("epsilon", 0.0)
    if node.op_type == "LpNormalize":
        p = node.attributes.get_int("p", 2)
        return [x / np.maximum((np.abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p), epsilon)]
    centred = x - x.mean(axis=axes, keepdims=True) if node.op_type == "Standardize" else x
    return [centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + epsilon)]
