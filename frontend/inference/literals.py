"""Tells float constants that the exporter wrote (literals) from learned ones."""

from __future__ import annotations

import ast
import re

import numpy as np
import onnx_ir

from ..budget import MAX_FOLDED_ELEMENTS
from ..dialect import DIALECT
from ..model.keys import CONSTANT, LEARNED

__all__ = ["is_exporters_own", "is_literal"]

# Names that exporters generate for constants of their own; parameters keep the names that they have in the module.
_GENERATED_NAMES = (
    ("torch.onnx dynamo, optimised", r"val_\d+"),
    ("torch.onnx torchscript", r"(.*/)?Constant_(\d+_)?output_\d+"),
    ("torch.onnx torchscript, not a renamed weight", r"onnx::(?!MatMul_|Conv|Gemm_|LSTM_|GRU_|RNN_|PRelu_)\w+_\d+"),
    ("torch.onnx torchscript before 1.13", r"\d+"),
    ("onnxscript", r"(int64|int32|float|bool)_m?[\d.e+-]+(_1d)?(_cast)?(_\d+)?|const(_cast)?(_\d+)?"),
    ("onnxscript", r"scalar_tensor(_default)?(_\d+)?"),
    ("tf2onnx", r"(.*/)?const_fold_opt__\d+|const_\w+__\d+|(.*[/_])?(Const|const|zeros?|ones?)(_\w+)?__\d+"),
    ("TensorFlow", r".*[/;](Const|[xy]|alpha|epsilon|zeros_like|ones_like|truediv_recip|div_no_nan)(_\d+)?(:0)?"),
    ("TensorFlow", r"Const(_\d+)?:0"),
    ("onnxslim, onnxsim", r"(onnx_slim_|ortshared_)\w+"),
    ("ONNX Runtime optimizer", r"(ortshared_\d+_\d+_\d+_\d+|.*)_token_\d+"),
    ("Paddle2ONNX", r"(Constant|helper\.constant|p2o\.(Constant|helper\.\w+))\.\d+"),
    ("skl2onnx", r"(\w+_)?([A-Z]\w*)?(cst|shape_tensor)\d*"),
)
_PATTERN = re.compile("|".join(f"(?:{pattern})" for _, pattern in _GENERATED_NAMES))
# TensorFlow Lite joins the names of the ops that it fused with semicolons; reading a variable leaves its name there.
_FUSED = re.compile(r"(?!.*(ReadVariableOp|Variable|FusedBatchNorm)).*;.*")

# Names that torch.onnx never gives to a tensor of a module; the metadata key of what a constant was folded from.
_TORCHS_OWN = re.compile(r"val_\d+|(.*/)?Constant_(\d+_)?output_\d+")
_FOLDED_FROM = "pkg.onnxscript.optimizer.folded_from"

_WEIGHT_SLOTS = frozenset(
    (op, slot)
    for ops, slots in (
        ("Conv ConvTranspose Gemm ConvInteger DeformConv", (1, 2)),
        ("MatMul MatMulInteger PRelu Einsum", (1,)),
        ("BatchNormalization", (1, 2, 3, 4)),
        ("LayerNormalization GroupNormalization InstanceNormalization RMSNormalization", (1, 2)),
        ("RNN GRU LSTM", (1, 2, 3, 5, 6, 7)),
        ("QuantizeLinear DequantizeLinear", (1,)),
        ("QLinearMatMul QLinearConv", (1, 3, 4, 6, 8)),
    )
    for op in ops.split()
    for slot in slots
) | {(name, slot) for name, op in DIALECT.items() for slot in op.learned}


# Operands that scale or shift operand 0 of a quantiser, and those that say to which numbers it rounds.
_QUANTISERS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "Quant": (1, 2),
    "BipolarQuant": (1,),
    "FloatQuant": (1,),
    **{name: op.scales for name, op in DIALECT.items() if op.scales},
}
_FORMATS = frozenset({("Quant", 3), ("Dequantize", 3), *(("FloatQuant", i) for i in (2, 3, 4, 5))})
_MASKING = -1e4
"""Attention masks add this or less to the scores that they exclude."""


def is_literal(value: onnx_ir.Value) -> bool:
    """Whether a float constant is a literal of the program, not a parameter.

    A literal has one element, or is all zeros, positions counted from 0 or 1, one large negative number throughout (a
    mask), or one other number throughout that is known to come from an exporter. Also, an exporter must have generated
    it: it was a Constant node, the exporter does not list it as a parameter (see `normalise`), or its name looks
    generated.
    A constant used as weight, bias or scale (of a convolution, a normalisation, a quantiser) is a parameter, but the
    scale and the zero point of an activation are literals.
    """
    tensor = value.const_value
    if tensor is None:
        return False
    if tensor.size != 1:
        return _is_uniform_or_positional(value, tensor)
    if _is_of_activation(value):
        return True
    name = value.name or ""
    if not _is_generated(value) and not (len(tensor.shape) == 0 and _FUSED.fullmatch(name)):
        return False
    return not _fills_weight_slot(value)


def is_exporters_own(value: onnx_ir.Value, like: str = "") -> bool:
    """Whether a tensor of any size comes from the exporter alone, folded from no tensor of a module.

    Stricter than the test for one-element literals. Folding from the value named `like` is allowed: that is where the
    shape comes from.
    """
    name = value.name or ""
    if not _TORCHS_OWN.fullmatch(name) and not (CONSTANT in value.meta and name.isdecimal()):
        return False
    try:
        sources = ast.literal_eval(value.metadata_props.get(_FOLDED_FROM, "[]"))
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False

    def own(source: object) -> bool:
        return isinstance(source, str) and (source == like or _TORCHS_OWN.fullmatch(source) is not None)

    return isinstance(sources, list) and all(map(own, sources))


def _fills_weight_slot(value: onnx_ir.Value) -> bool:
    return any((use.node.op_type, use.idx) in _WEIGHT_SLOTS for use in value.uses())


def _is_of_activation(value: onnx_ir.Value) -> bool:
    """Whether all uses of a value are as scale or zero point of an activation, or as the format of rounded numbers."""
    uses = value.uses()
    return bool(uses) and all(
        (use.node.op_type, use.idx) in _FORMATS
        or (use.idx in _QUANTISERS.get(use.node.op_type, ()) and _depends_on_input(use.node.inputs[0]))
        for use in uses
    )


def _depends_on_input(value: onnx_ir.Value | None) -> bool:
    """Whether a value depends on the network's input."""
    waiting, seen = [value], set()
    while waiting:
        top = waiting.pop()
        if top is None or top in seen or top.is_initializer():
            continue
        seen.add(top)
        node = top.producer()
        if node is None:
            return True
        waiting += node.inputs
    return False


def _is_generated(value: onnx_ir.Value) -> bool:
    """Whether an exporter generated a constant, as its metadata or its name tells."""
    if LEARNED in value.meta:
        return False
    return CONSTANT in value.meta or _PATTERN.fullmatch(value.name or "") is not None


def _is_uniform_or_positional(value: onnx_ir.Value, tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether it counts from 0 or 1 along one axis or is one number throughout, as computed from sizes alone."""
    if not 1 < tensor.size <= MAX_FOLDED_ELEMENTS or not tensor.dtype.is_floating_point() or not _is_generated(value):
        return False
    numbers = tensor.numpy().reshape(-1)
    first, last = float(numbers[0]), float(numbers[-1])
    if first == last:
        anywhere = not first or first <= _MASKING
        has_provenance = CONSTANT in value.meta or _FOLDED_FROM in value.metadata_props
        own = anywhere or (has_provenance and is_exporters_own(value) and not _fills_weight_slot(value))
        return own and bool((numbers == numbers[0]).all())
    along = sum(n > 1 for n in tensor.shape.numpy())
    counted = first in (0, 1) and last == first + len(numbers) - 1 and along == 1
    return counted and bool((numbers == first + np.arange(len(numbers))).all())
