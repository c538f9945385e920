"""Output shapes of operators for which ONNX has no inference: gmnc's own and `com.microsoft`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir

__all__ = ["Shaped", "output_shapes"]

Shaped = tuple[tuple[int, ...], str]
"""A shape and the name of a data type."""

_LIKE_FIRST = frozenset(
    [
        "Gelu",
        "FastGelu",
        "BiasGelu",
        "QuickGelu",
        "LayerNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "RotaryEmbedding",
        "GroupNorm",
        "GroupNormalization",
        "SkipGroupNorm",
        "BiasAdd",
        "BiasSoftmax",
        "BiasDropout",
        "Inverse",
        "MeanVarianceNormalization",
        "Quant",
        "BipolarQuant",
        "Identity",
    ]
)


# Operators whose output has the type of an operand, by its number, and the type where it is left out.
_TYPED = {"Dequantize": 1, "Quantize": 2}
_DEFAULT_TYPE = {"Dequantize": "float32", "Quantize": "uint8"}


def output_shapes(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    """The outputs of an operator, None where nothing is known.

    Operators of domain "gmnc" and one-to-one operators have the shape of their first input.
    """
    rest: list[Shaped | None] = [None] * (len(node.outputs) - 1)
    if not inputs or inputs[0] is None:
        return [None, *rest]
    shape, dtype = inputs[0]
    if node.domain == "gmnc" and node.op_type in _TYPED:
        other = inputs[_TYPED[node.op_type]] if len(inputs) > _TYPED[node.op_type] else None
        return [(shape, _DEFAULT_TYPE[node.op_type] if other is None else other[1]), *rest]
    if (node.domain == "gmnc" and node.op_type not in _SPECIAL) or node.op_type in _LIKE_FIRST:
        return [(shape, dtype), *rest]
    special = _SPECIAL.get(node.op_type)
    return [None, *rest] if special is None else special(node, inputs, shape, dtype)


def _fused_matmul(
    node: onnx_ir.Node, inputs: Sequence[Shaped | None], left: tuple[int, ...], dtype: str
) -> list[Shaped | None]:
    if inputs[1] is None:
        return [None]
    right = inputs[1][0]
    if node.attributes.get_int("transA", 0):
        left = (*left[:-2], left[-1], left[-2])
    if node.attributes.get_int("transB", 0):
        right = (*right[:-2], right[-1], right[-2])
    return [((*np.broadcast_shapes(left[:-2], right[:-2]), left[-2], right[-1]), dtype)]


def _matmul_nbits(
    node: onnx_ir.Node, inputs: Sequence[Shaped | None], shape: tuple[int, ...], dtype: str
) -> list[Shaped | None]:
    return [((*shape[:-1], node.attributes["N"].as_int()), dtype)]


def _weight_of_bits(
    node: onnx_ir.Node, inputs: Sequence[Shaped | None], shape: tuple[int, ...], dtype: str
) -> list[Shaped | None]:
    scale = inputs[1]
    return [((node.attributes["N"].as_int(), node.attributes["K"].as_int()), "float32" if scale is None else scale[1])]


def _as_attribute(
    node: onnx_ir.Node, inputs: Sequence[Shaped | None], shape: tuple[int, ...], dtype: str
) -> list[Shaped | None]:
    return [(tuple(node.attributes["shape"].as_ints()), dtype)]


def _always(shaped: Shaped) -> Callable[..., list[Shaped | None]]:
    def known(node: onnx_ir.Node, *_: object) -> list[Shaped | None]:
        return [shaped] * len(node.outputs)

    return known


def _step(
    node: onnx_ir.Node, inputs: Sequence[Shaped | None], shape: tuple[int, ...], dtype: str
) -> list[Shaped | None]:
    axis = node.attributes["axis"].as_int()
    return [((*shape[:axis], *shape[axis + 1 :]), dtype)]


def _loop_end(
    node: onnx_ir.Node, inputs: Sequence[Shaped | None], shape: tuple[int, ...], dtype: str
) -> list[Shaped | None]:
    """Carried values as they are, rows stacked along an axis each (see `control`)."""
    carried, rows, trips = (node.attributes[name].as_int() for name in ("carried", "rows", "trips"))
    made = list(inputs[:carried])
    for axis, row in zip(node.attributes["axes"].as_ints(), inputs[3 * carried :][:rows], strict=True):
        made.append(row and ((*row[0][:axis], trips, *row[0][axis:]), row[1]))
    return made


_SPECIAL: Mapping[str, Callable[..., list[Shaped | None]]] = {
    "DequantizeBits": _weight_of_bits,
    "LoopEnd": _loop_end,
    "OptionalHasElement": _always(((), "bool")),
    "SequenceLength": _always(((), "int64")),
    **dict.fromkeys(("SequenceInsert", "SequenceErase", "SequenceMap", "Optional"), _always(((), ""))),
    "Sparse": _as_attribute,
    "Step": _step,
    "FusedMatMul": _fused_matmul,
    "MatMulNBits": _matmul_nbits,
}
