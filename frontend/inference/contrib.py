"""Output shapes of operators that ONNX does not infer: those of the internal dialect and of `com.microsoft`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir

from ..dialect import DIALECT, Shaped
from ..model.keys import DOMAIN

__all__ = ["output_shapes"]

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
        "FloatQuant",
        "Identity",
    ]
)


def output_shapes(node: onnx_ir.Node, inputs: Sequence[Shaped | None]) -> list[Shaped | None]:
    """Shape and dtype of each output, None where unknown; elementwise operators keep those of their first operand."""
    rest: list[Shaped | None] = [None] * (len(node.outputs) - 1)
    if inputs and inputs[0] is None:
        return [None, *rest]
    if node.domain == DOMAIN:
        internal = DIALECT.get(node.op_type)
        return [None, *rest] if internal is None else internal.shapes(node, inputs)
    if not inputs or inputs[0] is None:
        return [None, *rest]
    shape, dtype = inputs[0]
    if node.op_type in _LIKE_FIRST:
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


def _always(shaped: Shaped) -> Callable[..., list[Shaped | None]]:
    def known(node: onnx_ir.Node, *_: object) -> list[Shaped | None]:
        return [shaped] * len(node.outputs)

    return known


_SPECIAL: Mapping[str, Callable[..., list[Shaped | None]]] = {
    "OptionalHasElement": _always(((), "bool")),
    "SequenceLength": _always(((), "int64")),
    **dict.fromkeys(("SequenceInsert", "SequenceErase", "SequenceMap", "Optional"), _always(((), ""))),
    "FusedMatMul": _fused_matmul,
    "MatMulNBits": _matmul_nbits,
}
