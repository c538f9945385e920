"""Constant folding of shape arithmetic, masks and tables.

Common operators are NumPy one-liners; all others run in `onnx.reference`. Constant-valued arrays are kept as
zero-stride views, so that a mask of any size takes no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import onnx_ir
from onnx.reference import ReferenceEvaluator

from ..budget import MAX_FOLDED_ELEMENTS
from ..model.attribute_weights import own_inputs

__all__ = ["FOLDS", "NEVER", "core", "elementwise", "fold", "run", "stored"]

NEVER = frozenset(
    [
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
        "Dropout",
        "If",
        "Loop",
        "Scan",
        "SequenceMap",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
    ]
)

Array = np.ndarray
Fold = Callable[[onnx_ir.Node, int, Sequence[Any]], Array]


def fold(node: onnx_ir.Node, opset: int, inputs: Sequence[Array | None]) -> list[Array] | None:
    """The outputs of `node` for these inputs (None where an optional one is left out); None if it is never folded.

    Raises whatever NumPy raises where the inputs do not fit together.
    """
    if node.op_type in NEVER:
        return None
    return run(node, opset, inputs)


def run(node: onnx_ir.Node, opset: int, inputs: Sequence[Array | None]) -> list[Array] | None:
    """The outputs of `node` for these inputs, also for operators that are never folded; None if it cannot be run."""
    function = FOLDS.get(node.op_type) if not node.domain else None
    if function is not None:
        with np.errstate(all="ignore"):
            return [np.asarray(function(node, opset, inputs))]
    if node.domain not in ("", "ai.onnx.ml"):
        return None
    return _reference(node, opset, inputs)


def _reference(node: onnx_ir.Node, opset: int, inputs: Sequence[Array | None]) -> list[Array] | None:
    inputs = inputs[: own_inputs(node)]
    names = ["" if a is None else f"i{k}" for k, a in enumerate(inputs)]
    proto = onnx.NodeProto(op_type=node.op_type, domain=node.domain, input=names)
    proto.output.extend(f"o{k}" if o.name else "" for k, o in enumerate(node.outputs))
    for attribute in node.attributes.values():
        onnx_ir.serde.serialize_attribute_into(proto.attribute.add(), attribute)
    try:
        evaluator = ReferenceEvaluator(proto, opsets={node.domain: opset, "": opset})
        values = evaluator.run(None, {n: a for n, a in zip(names, inputs, strict=True) if n})
    except Exception:
        # The reference implementation does not cover old operator versions and fails on them in many ways.
        return None
    if not isinstance(values, list) or not all(isinstance(v, (np.ndarray, np.generic)) for v in values):
        return None
    return [np.asarray(v) for v in values]


def stored(array: Array) -> int:
    """How many elements an array holds in memory: zero-stride axes count once."""
    if array.size <= MAX_FOLDED_ELEMENTS:
        return array.size
    return int(np.prod([n for n, s in zip(array.shape, array.strides, strict=True) if s], dtype=np.int64))


def core(array: Array) -> Array:
    """The array with zero-stride axes reduced to size 1."""
    if array.size <= 64 or 0 not in array.strides:
        return array
    return array[tuple(slice(0, 1) if s == 0 else slice(None) for s in array.strides)]


def elementwise(function: Callable[..., Any], *arrays: Array) -> Array:
    """Apply a function to broadcast arrays, once per element in memory."""
    result = np.asarray(function(*map(core, arrays)))
    shape = np.broadcast_shapes(*(a.shape for a in arrays))
    return result if result.shape == shape else np.broadcast_to(result, shape)


def _attr(node: onnx_ir.Node, name: str, default: Any = None) -> Any:
    attribute = node.attributes.get(name)
    return default if attribute is None else attribute.value


def _each(function: Callable[..., Any]) -> Fold:
    return lambda node, opset, inputs: elementwise(function, *inputs)


def _chain(function: Callable[..., Any]) -> Fold:
    def run(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
        result = inputs[0]
        for other in inputs[1:]:
            result = elementwise(function, result, other)
        return result

    return run


def _divide(a: Array, b: Array) -> Array:
    if np.issubdtype(a.dtype, np.integer):
        return (np.sign(a) * np.sign(b) * (np.abs(a) // np.abs(b))).astype(a.dtype)
    return a / b


def _power(a: Array, b: Array) -> Array:
    return np.asarray(np.power(a, b)).astype(a.dtype)


def _cast(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    to = onnx_ir.DataType(_attr(node, "to"))
    if to == onnx_ir.DataType.STRING or inputs[0].dtype == object or (to.bitwidth < 16 and to not in _NATIVE_SMALL):
        result = _reference(node, opset, inputs)
        assert result is not None
        return result[0]
    return elementwise(lambda a: a.astype(to.numpy()), inputs[0])


_NATIVE_SMALL = (onnx_ir.DataType.BOOL, onnx_ir.DataType.INT8, onnx_ir.DataType.UINT8)


def _axes(node: onnx_ir.Node, inputs: Sequence[Any]) -> tuple[int, ...] | None:
    if len(inputs) > 1 and inputs[1] is not None:
        return tuple(int(a) for a in inputs[1].reshape(-1))
    axes = _attr(node, "axes")
    return None if axes is None else tuple(axes)


def _unsqueeze(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    return np.expand_dims(inputs[0], _axes(node, inputs) or ())


def _squeeze(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    return np.squeeze(inputs[0], _axes(node, inputs))


def _reshape(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    array = inputs[0]
    target = inputs[1] if len(inputs) > 1 else _attr(node, "shape")
    shape = [int(n) for n in target]
    if not _attr(node, "allowzero", 0):
        shape = [array.shape[k] if n == 0 else n for k, n in enumerate(shape)]
    single = core(array)
    if single.size == 1 and array.size > 1:
        rest = int(np.prod([n for n in shape if n >= 0], dtype=np.int64))
        shape = [array.size // rest if n < 0 else n for n in shape]
        if int(np.prod(shape, dtype=np.int64)) != array.size:
            raise ValueError(f"cannot reshape {array.shape} into {tuple(shape)}")
        return np.broadcast_to(single.reshape(()), shape)
    return array.reshape(shape)


def _concat(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    return np.concatenate(inputs, axis=_attr(node, "axis", 1))


def _gather(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    array, index = inputs
    axis = _attr(node, "axis", 0)
    if index.size and (index.min() < -array.shape[axis] or index.max() >= array.shape[axis]):
        raise IndexError(f"index {index} is out of range for axis {axis} of {array.shape}")
    return np.take(array, index, axis=axis)


def _slice(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    array = inputs[0]
    if opset < 10:
        starts, ends = _attr(node, "starts"), _attr(node, "ends")
        axes, steps = _attr(node, "axes"), None
    else:
        starts, ends = inputs[1].tolist(), inputs[2].tolist()
        axes = inputs[3].tolist() if len(inputs) > 3 and inputs[3] is not None else None
        steps = inputs[4].tolist() if len(inputs) > 4 and inputs[4] is not None else None
    axes = range(len(starts)) if axes is None else axes
    cut = [slice(None)] * array.ndim
    for k, axis in enumerate(axes):
        step = 1 if steps is None else steps[k]
        size = array.shape[axis]
        end = ends[k]
        # A backward slice that includes element 0 ends below -size in ONNX, which is None in Python.
        cut[axis] = slice(starts[k], None if step < 0 and end < -size else end, step)
    return array[tuple(cut)]


def _transpose(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    return np.transpose(inputs[0], _attr(node, "perm"))


def _expand(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    shape = np.broadcast_shapes(inputs[0].shape, tuple(int(n) for n in inputs[1]))
    return np.broadcast_to(inputs[0], shape)


def _constant_of_shape(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    value = _attr(node, "value")
    number = np.zeros(1, np.float32) if value is None else value.numpy().reshape(1)
    return np.broadcast_to(number.reshape(()), tuple(int(n) for n in inputs[0]))


def _range(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    start, limit, delta = (a.reshape(()) for a in inputs)
    return np.arange(start, limit, delta, dtype=start.dtype)


def _trilu(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    k = int(inputs[1]) if len(inputs) > 1 and inputs[1] is not None else 0
    return (np.triu if _attr(node, "upper", 1) else np.tril)(inputs[0], k)


def _global_lp_pool(node: onnx_ir.Node, opset: int, inputs: Sequence[Any]) -> Array:
    array, p = inputs[0], _attr(node, "p", 2)
    axes = tuple(range(2, array.ndim))
    return np.asarray((np.abs(array) ** p).sum(axis=axes, keepdims=True) ** (1 / p), dtype=array.dtype)


FOLDS: dict[str, Fold] = {
    "Abs": _each(np.abs), "Neg": _each(np.negative), "Sqrt": _each(np.sqrt), "Exp": _each(np.exp),
    "Log": _each(np.log), "Sin": _each(np.sin), "Cos": _each(np.cos), "Tanh": _each(np.tanh),
    "Floor": _each(np.floor), "Ceil": _each(np.ceil), "Round": _each(np.rint), "Sign": _each(np.sign),
    "Reciprocal": _each(np.reciprocal), "Not": _each(np.logical_not), "IsNaN": _each(np.isnan),
    "Add": _each(np.add), "Sub": _each(np.subtract), "Mul": _each(np.multiply), "Div": _each(_divide),
    "Pow": _each(_power), "Equal": _each(np.equal), "Less": _each(np.less), "Greater": _each(np.greater),
    "LessOrEqual": _each(np.less_equal), "GreaterOrEqual": _each(np.greater_equal),
    "And": _each(np.logical_and), "Or": _each(np.logical_or), "Xor": _each(np.logical_xor),
    "Where": _each(np.where), "Min": _chain(np.minimum), "Max": _chain(np.maximum),
    "Mod": lambda node, opset, inputs: elementwise(np.fmod if _attr(node, "fmod", 0) else np.mod, *inputs),
    "Identity": lambda node, opset, inputs: inputs[0],
    "Cast": _cast, "Unsqueeze": _unsqueeze, "Squeeze": _squeeze, "Reshape": _reshape, "Concat": _concat,
    "Gather": _gather, "Slice": _slice, "Transpose": _transpose, "Expand": _expand,
    "ConstantOfShape": _constant_of_shape, "Range": _range, "Trilu": _trilu, "GlobalLpPool": _global_lp_pool,
}  # fmt: skip
