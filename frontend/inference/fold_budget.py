"""Decides whether folding a node stays within the budget, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx_ir

from ..budget import MAX_FOLD_WORK, MAX_FOLDED_ELEMENTS
from .folding import FOLDS, core, stored

__all__ = ["fits_budget", "python_work"]

Arrays = Sequence[np.ndarray]
Shapes = Sequence[tuple[int, ...] | None]

# Operators whose reference implementation is a few NumPy calls; that of others may loop over elements in Python.
_VECTORISED = frozenset(
    "Acos Acosh ArgMax ArgMin Asin Asinh Atan Atanh BatchNormalization BitwiseAnd BitwiseNot BitwiseOr BitwiseXor "
    "Celu Clip Compress Cosh CumSum DepthToSpace Elu Erf Expand EyeLike Flatten GatherElements Gelu HardSigmoid "
    "HardSwish IsInf LayerNormalization LeakyRelu LogSoftmax Mean MeanVarianceNormalization Mish NonZero OneHot "
    "PRelu Pad RMSNormalization ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin "
    "ReduceProd ReduceSum ReduceSumSquare Relu Selu Shrink Sigmoid Sinh Size Softmax Softplus Softsign "
    "SpaceToDepth Split Sum Swish Tan ThresholdedRelu Tile TopK".split()
)
# Operators that multiply entries of all operands: the product of the operand sizes bounds their work.
_PRODUCTS = frozenset({"Einsum", "Gemm", "MatMul", "MatMulInteger", "QLinearMatMul"})
_WORK = 1 << 28
# Operators whose output shape depends on data, but whose output is no larger than the operand size times its rank.
_NO_LARGER = frozenset({"Compress", "NonZero", "Unique", "NonMaxSuppression", "StringSplit", "SequenceAt"})


def fits_budget(node: onnx_ir.Node, inputs: Sequence[np.ndarray | None], shapes: Callable[[], Shapes]) -> bool:
    """Whether computing the outputs of a node from these operands stays within the budget.

    Args:
        node: The node to fold.
        inputs: Its operands, None where one is left out.
        shapes: Returns the shapes of its outputs, None where one is unknown; called only if the operands do not decide.

    Returns:
        Whether it may be folded.

    Raises:
        ValueError: The operands do not fit together.
    """
    arrays = [a for a in inputs if a is not None]
    if any(stored(a) > MAX_FOLDED_ELEMENTS for a in arrays):
        return False
    if not node.domain and node.op_type in FOLDS:
        return _STORED_OUTPUT.get(node.op_type, _broadcast)(node, arrays) <= MAX_FOLDED_ELEMENTS
    whole = math.prod(max(a.size, 1) for a in arrays)
    product = node.op_type in _PRODUCTS
    if product and whole > _WORK:
        return False
    quick = product or node.op_type in _VECTORISED
    if any(a.size > (MAX_FOLDED_ELEMENTS if quick else MAX_FOLD_WORK) for a in arrays):
        return False
    made = shapes()
    if any(s is None for s in made) or not made:
        return node.op_type in _NO_LARGER
    count = sum(math.prod(s) for s in made if s is not None)
    return count <= MAX_FOLDED_ELEMENTS if quick else count * _work_per_element(node) <= MAX_FOLD_WORK


def python_work(node: onnx_ir.Node, made: int) -> int:
    """The work of a node with `made` output elements in Python; 0 if its operator is vectorised."""
    quick = node.op_type in FOLDS or node.op_type in _PRODUCTS or node.op_type in _VECTORISED
    return 0 if quick and not node.domain else made * _work_per_element(node)


def _work_per_element(node: onnx_ir.Node) -> int:
    """The work per output element of operators that loop over windows, samples or n-grams; 1 for others."""
    attributes = node.attributes
    window = math.prod(max(int(n), 1) for n in attributes.get_ints("kernel_shape", None) or ())
    samples = max(attributes.get_int("sampling_ratio", 0), 1) ** 2
    grams = max(attributes.get_int("max_gram_length", 1), 1) * (1 + max(attributes.get_int("max_skip_count", 0), 0))
    cells = 64 if node.op_type in ("Resize", "GridSample", "RoiAlign", "Upsample") else 1
    return window * samples * grams * cells


def _broadcast(node: onnx_ir.Node, arrays: Arrays) -> int:
    return math.prod(np.broadcast_shapes(*(core(a).shape for a in arrays)))


def _stores_nothing(node: onnx_ir.Node, arrays: Arrays) -> int:
    return 0


def _as_first(node: onnx_ir.Node, arrays: Arrays) -> int:
    return arrays[0].size


def _reshape(node: onnx_ir.Node, arrays: Arrays) -> int:
    return 0 if core(arrays[0]).size == 1 else arrays[0].size


def _concat(node: onnx_ir.Node, arrays: Arrays) -> int:
    return sum(a.size for a in arrays)


def _gather(node: onnx_ir.Node, arrays: Arrays) -> int:
    data, index = arrays
    axis = node.attributes.get_int("axis", 0)
    return index.size * math.prod(n for a, n in enumerate(data.shape) if a != axis % max(data.ndim, 1))


def _range(node: onnx_ir.Node, arrays: Arrays) -> int:
    start, limit, delta = (float(a.reshape(())) for a in arrays)
    count = (limit - start) / delta if delta else math.inf
    return math.ceil(count) if math.isfinite(count) and count < MAX_FOLDED_ELEMENTS else MAX_FOLDED_ELEMENTS + 1


_STORED_OUTPUT: Mapping[str, Callable[[onnx_ir.Node, Arrays], int]] = {
    **dict.fromkeys(
        ("Identity", "Unsqueeze", "Squeeze", "Slice", "Transpose", "Expand", "ConstantOfShape"), _stores_nothing
    ),
    **dict.fromkeys(("Trilu", "GlobalLpPool"), _as_first),
    "Reshape": _reshape,
    "Concat": _concat,
    "Gather": _gather,
    "Range": _range,
}
