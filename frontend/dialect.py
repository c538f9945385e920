"""The internal dialect: operators of the domain `gmnc`, which rewriting passes insert and rules lower.

One table declares everything about each: what it computes, its operands and attributes, output shapes, a reference
evaluation, and which of its operands are parameters or program constants.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx_ir

from .primitives.elementwise import unary_step
from .primitives.functions import FUNCTIONS, Steps
from .primitives.quantised import TABLES, packed

__all__ = ["DIALECT", "InternalOp", "Shaped", "declared", "internal_ops"]

Shaped = tuple[tuple[int, ...], str]
"""A shape and the name of a data type."""

Shapes = Callable[[onnx_ir.Node, Sequence[Shaped | None]], list[Shaped | None]]
Evaluate = Callable[..., np.ndarray]


def _like_first(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    return [inputs[0]]


@dataclass(frozen=True, slots=True)
class InternalOp:
    """An operator of the dialect.

    Attributes:
        doc: What it computes or stands for.
        operands: Their names, in order; "*" marks a list of any length.
        attributes: Their names.
        shapes: Shape and data type of each output, from the node and those of its operands (None where unknown).
        evaluate: The output, from the node and the arrays of its operands (None where one is left out); None for
            operators whose value differs between iterations.
        weights: Operands that a rule reads as parameters; None if any may be one.
        learned: Operands that are always parameters, never literals, whoever wrote the constant.
        scales: Scales and zero points of operand 0; they are program constants if that is an activation.
        quantised: Whether integers among its operands are stored weights, not indices.
        stores: Whether its output is the weight that operand 0 stores in encoded form.
        moves: Whether it only moves or re-encodes entries, so that its rule also runs on parameters.
        selects: Whether its output is a part of operand 0.
        starts: Whether its output has new nodes, whatever its operands are.
        iterates: Whether it is a value of one iteration, hence not constant even if its operands are.
    """

    doc: str
    operands: tuple[str, ...] = ("x",)
    attributes: tuple[str, ...] = ()
    shapes: Shapes = _like_first
    evaluate: Evaluate | None = None
    weights: tuple[int, ...] | None = ()
    learned: tuple[int, ...] = ()
    scales: tuple[int, ...] = ()
    quantised: bool = False
    stores: bool = False
    moves: bool = False
    selects: bool = False
    starts: bool = False
    iterates: bool = False


def _typed(operand: int, default: str) -> Shapes:
    """The shape of operand 0, in the data type of another one."""

    def shapes(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
        like = inputs[operand] if operand < len(inputs) else None
        return [inputs[0] and (inputs[0][0], default if like is None else like[1])]

    return shapes


def _weight_of_bits(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    scale = inputs[1]
    return [((node.attributes["N"].as_int(), node.attributes["K"].as_int()), "float32" if scale is None else scale[1])]


def _broadcast(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    found = [entry for entry in inputs if entry is not None]
    return [(np.broadcast_shapes(*(shape for shape, _ in found)), found[0][1]) if len(found) == len(inputs) else None]


def _scattered(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    return [inputs[0] and (tuple(node.attributes["shape"].as_ints()), inputs[0][1])]


def _entry(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    axis, x = node.attributes["axis"].as_int(), inputs[0]
    return [x and ((*x[0][:axis], *x[0][axis + 1 :]), x[1])]


def _ranked(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    x = inputs[0]
    return [x and ((*x[0][:-1], node.attributes["k"].as_int(), x[0][-1]), x[1])]


def _resized(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    """The shape of operand 0 with other sizes along some axes."""
    x, axes = inputs[0], node.attributes.get_ints("axes", ())
    sizes = dict(zip(axes, node.attributes.get_ints("sizes", ()), strict=True))
    return [x and (tuple(sizes.get(a, n) for a, n in enumerate(x[0])), x[1])]


def _as_given(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    return [(tuple(node.attributes.get_ints("shape", ())), node.attributes["dtype"].as_string())]


def _number(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    return [((), "int64")]


def _loop_end(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    """Carried values keep their shapes; rows are stacked, each along its axis."""
    carried, rows, trips = (node.attributes[name].as_int() for name in ("carried", "rows", "trips"))
    made = list(inputs[:carried])
    for axis, row in zip(node.attributes["axes"].as_ints(), inputs[3 * carried :][:rows], strict=True):
        made.append(row and ((*row[0][:axis], trips, *row[0][axis:]), row[1]))
    return made


def _aligned(node: onnx_ir.Node, param: np.ndarray | None, shape: tuple[int, ...]) -> np.ndarray | None:
    """A scale or zero point, reshaped to broadcast against a tensor of this shape."""
    if param is None or param.size == 1:
        return None if param is None else param.reshape(())
    rank, block = len(shape), node.attributes.get_int("block_size", 0)
    axes = [a % rank for a in node.attributes.get_ints("axes", ())]
    if len(axes) != param.ndim:
        axes = list(range(rank - param.ndim, rank))
    param = param.reshape([param.shape[axes.index(a)] if a in axes else 1 for a in range(rank)])
    for axis, size in enumerate(shape):
        if 1 < param.shape[axis] < size:
            param = param.repeat(block, axis)[(slice(None),) * axis + (slice(size),)]
    return param


def _run(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    steps = Steps([unary_step(text) for text in node.attributes["steps"].as_strings()])
    return steps(x).astype(x.dtype)


def _dequantize(
    node: onnx_ir.Node, x: np.ndarray, scale: np.ndarray | None = None, zero: np.ndarray | None = None,
    whole: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    shift = _aligned(node, zero, x.shape)
    numbers = x.astype(np.float32) if shift is None else x.astype(np.float32) - shift.astype(np.float32)
    for factor in (_aligned(node, scale, x.shape), _aligned(node, whole, x.shape)):
        numbers = numbers if factor is None else numbers * factor.astype(np.float32)
    return numbers.astype(np.float32 if scale is None else scale.dtype)


def _quantize(node: onnx_ir.Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None) -> np.ndarray:
    step, shift = _aligned(node, scale, x.shape), _aligned(node, zero, x.shape)
    kind = np.dtype(np.uint8) if zero is None else zero.dtype
    at = np.rint(x / step) + (0 if shift is None else shift.astype(np.float32))
    return np.clip(at, np.iinfo(kind).min, np.iinfo(kind).max).astype(kind)


def _dynamic_quantize(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    low, high = min(float(x.min(initial=0)), 0.0), max(float(x.max(initial=0)), 0.0)
    scale = (high - low) / 255 or 1.0
    zero = np.clip(np.rint(-low / scale), 0, 255)
    return ((np.clip(np.rint(x / scale) + zero, 0, 255) - zero) * scale).astype(x.dtype)


def _dequantize_bits(
    node: onnx_ir.Node, x: np.ndarray, scale: np.ndarray, zero: np.ndarray | None = None
) -> np.ndarray:
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


def _sparse(node: onnx_ir.Node, values: np.ndarray) -> np.ndarray:
    out = np.zeros(tuple(node.attributes["shape"].as_ints()), values.dtype)
    out[tuple(node.attributes["indices"].as_tensor().numpy().T)] = values
    return out


def _log_softmax(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    axis = node.attributes.get_int("axis", -1)
    shifted = x - x.max(axis=axis, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True)))


def _rms_normalize(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    mean = (x**2).mean(axis=_axes(node), keepdims=True)
    return np.asarray(x / np.sqrt(mean + node.attributes.get_float("epsilon", 0.0)))


def _standardize(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    return _rms_normalize(node, x - x.mean(axis=_axes(node), keepdims=True))


def _lp_normalize(node: onnx_ir.Node, x: np.ndarray) -> np.ndarray:
    p, epsilon = node.attributes.get_int("p", 2), node.attributes.get_float("epsilon", 0.0)
    return np.asarray(x / np.maximum((np.abs(x) ** p).sum(axis=_axes(node), keepdims=True) ** (1 / p), epsilon))


def _axes(node: onnx_ir.Node) -> tuple[int, ...]:
    return tuple(node.attributes["axes"].as_ints())


DIALECT: Mapping[str, InternalOp] = {
    "Dequantize": InternalOp(
        "(x - zero_point) * scale * whole. axes: the axes of x that scale and zero point lie along, the last ones by "
        "default. block_size: how many entries of an axis share a scale. written: the file has this value.",
        ("x", "scale", "zero_point", "whole"), ("axes", "block_size", "written"), _typed(1, "float32"), _dequantize,
        weights=(0, 1, 2, 3), scales=(1, 2, 3), quantised=True, stores=True, moves=True,
    ),
    "Quantize": InternalOp(
        "As QuantizeLinear, with axes as in Dequantize.",
        ("x", "scale", "zero_point"), ("axes", "written"), _typed(2, "uint8"), _quantize,
        weights=(0, 1, 2), scales=(1, 2), quantised=True, moves=True,
    ),
    "DynamicQuantize": InternalOp(
        "DynamicQuantizeLinear, then DequantizeLinear.",
        evaluate=_dynamic_quantize, weights=(0,), moves=True,
    ),
    "DequantizeBits": InternalOp(
        "The weight [N, K] that MatMulNBits packs: elements of `bits` bits, a scale per `block_size` of them along K. "
        "table: the lookup table of MatMulBnb4, fp4 or nf4.",
        ("packed", "scale", "zero_point"), ("N", "K", "bits", "block_size", "table"), _weight_of_bits, _dequantize_bits,
        weights=(0, 1, 2), quantised=True, stores=True, moves=True,
    ),
    "Sparse": InternalOp(
        "Zeros of a shape, with values[i] at indices[i].",
        ("values",), ("shape", "indices"), _scattered, _sparse, weights=(0,), learned=(0,), stores=True, moves=True,
    ),
    "Standardize": InternalOp(
        "(x - mean(x)) / sqrt(mean((x - mean(x))^2) + epsilon) over axes, counted from the end.",
        attributes=("axes", "epsilon"), evaluate=_standardize,
    ),
    "RMSNormalize": InternalOp(
        "x / sqrt(mean(x^2) + epsilon) over axes, counted from the end.",
        attributes=("axes", "epsilon"), evaluate=_rms_normalize,
    ),
    "LpNormalize": InternalOp(
        "x / max((sum abs(x)^p)^(1/p), epsilon) over axes, counted from the end.",
        attributes=("axes", "p", "epsilon"), evaluate=_lp_normalize,
    ),
    "Softmax": InternalOp(
        "Softmax as of opset 13, in any opset.",
        attributes=("axis",), evaluate=lambda node, x: np.exp(_log_softmax(node, x)),
    ),
    "LogSoftmax": InternalOp(
        "LogSoftmax as of opset 13, in any opset.", attributes=("axis",), evaluate=_log_softmax
    ),
    "Chosen": InternalOp(
        "x where `scores` (by default x) are among the k largest (smallest if not `largest`) along an axis. Others do "
        "not count for what reads them: normalisations and sums cover the chosen ones. mask: instead of x, "
        "one number for the chosen entries and another for the others.",
        ("x", "scores"), ("k", "axis", "largest", "mask"),
    ),
    "Ranked": InternalOp(
        "Of each rank below k and each entry along the last axis, whether the entry has that rank among the largest "
        "(smallest if not `largest`).",
        ("x",), ("k", "largest"), _ranked,
    ),
    "Chain": InternalOp(
        "All operands combined by `op`: Add, Mul, Max, Min, And, Or or Xor, whose operands may come in any order.",
        ("*operands",), ("op",), _broadcast, lambda node, *xs: FUNCTIONS[node.attributes["op"].as_string()](*xs),
        weights=None,
    ),
    "Run": InternalOp(
        "Elementwise operators of one operand, one after the other. steps: as JSON, the name, the attributes and the "
        "operands of each, of which the value itself is null and the others are numbers.",
        attributes=("steps",), evaluate=_run,
    ),
    "Choice": InternalOp("One of two values of different shapes, by a condition.", ("then", "else", "condition")),
    "ByData": InternalOp(
        "x, whose sizes depend on data. along: the axes along which entries may move by data, as operator `of` moves "
        "them; axes, sizes: other sizes that they get; settings: what is known of the operator's operands. fill: an "
        "operand that new entries are made of.",
        ("x", "data", "fill"), ("of", "along", "axes", "sizes", "settings", "part"), _resized,
    ),
    "FromData": InternalOp(
        "A value of a given shape that is computed from all operands, in order, as operator `of` does. number: which "
        "of several such values.",
        ("*operands",), ("of", "shape", "dtype", "settings", "number"), _as_given,
    ),
    "Carry": InternalOp("A loop-carried value at the start of an iteration.", ("initial",), starts=True, iterates=True),
    "Iteration": InternalOp("The iteration number.", (), shapes=_number, iterates=True),
    "Step": InternalOp(
        "The entry along an axis that an iteration reads, counted from the end if backward.",
        attributes=("axis", "backward", "loop", "trips"), shapes=_entry, selects=True, iterates=True,
    ),
    "LoopEnd": InternalOp(
        "The final carried values, and the rows of all iterations, stacked along axes. It closes the cycles: the ends "
        "of one iteration are the carries of the next. The number of iterations depends on the deciders.",
        ("*carries", "*initials", "*ends", "*rows", "*deciders"),
        ("carried", "rows", "trips", "axes", "backward", "loop"), shapes=_loop_end, iterates=True,
    ),
}  # fmt: skip
"""The internal operators by name."""


def declared(op: str) -> str:
    """The name of an internal operator. Raises `KeyError` for one that the dialect does not declare."""
    if op not in DIALECT:
        raise KeyError(f"there is no internal operator {op!r}: declare it in frontend/dialect.py")
    return op


def internal_ops(property_of: Callable[[InternalOp], Any]) -> frozenset[str]:
    """The names of the operators of which a property holds."""
    return frozenset(name for name, op in DIALECT.items() if property_of(op))
