"""Which float constants are numbers of the program (literals) and which are learned."""

from __future__ import annotations

import ast
import re

import numpy as np
import onnx_ir

from ..budget import FOLDED
from ..dialect import DIALECT
from ..model.keys import CONSTANT, LEARNED

__all__ = ["is_exporters_own", "is_literal"]

# Names that exporters give to constants of their own, by exporter. A module's parameters keep the module's names.
_MADE_UP = (
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
_PATTERN = re.compile("|".join(f"(?:{pattern})" for _, pattern in _MADE_UP))
# TensorFlow Lite joins the names of all ops that it fused with semicolons; a variable's name says where it was read.
_FUSED = re.compile(r"(?!.*(ReadVariableOp|Variable|FusedBatchNorm)).*;.*")

# Names that torch.onnx gives to no tensor of a module, and where it says of what it has folded one.
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


# Operands of quantisers that scale and shift operand 0; number 3 is of no weight: an activation's scale, a bit width.
_QUANTISERS = {
    "QuantizeLinear": (1, 2),
    "DequantizeLinear": (1, 2),
    "Quant": (1, 2, 3),
    "BipolarQuant": (1,),
    **{name: op.scales for name, op in DIALECT.items() if op.scales},
}
_FORBIDS = -1e4
"""At most as much is added to a score that is not to count."""


def is_literal(value: onnx_ir.Value) -> bool:
    """Whether a constant is a literal, not a parameter: one element, zeros, numbers of places, one huge negative
    number that forbids all of them, or another number throughout of which it is known who made it.

    And an exporter made it up: it was a Constant node or is on no list of parameters (see `normalise`), or its name is
    one that an exporter gives to its own constants.
    What fills the slot of a weight, a bias or a scale (of a convolution, a normalisation, a quantiser) is none; but
    the scale and the zero point of an activation are literals.
    """
    tensor = value.const_value
    if tensor is None:
        return False
    if tensor.size != 1:
        return _is_uniform_or_positional(value, tensor)
    if _is_of_activation(value):
        return True
    name = value.name or ""
    if not _is_made_up(value) and not (len(tensor.shape) == 0 and _FUSED.fullmatch(name)):
        return False
    return not _fills_weight_slot(value)


def is_exporters_own(value: onnx_ir.Value, like: str = "") -> bool:
    """Whether no module owns a tensor of any size, not even through folding, unless of the shape of the value `like`.

    Stricter than what is asked of a literal of one element.
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
    """Whether it is nothing but scales and zero points of activations."""
    uses = value.uses()
    return bool(uses) and all(
        use.idx in _QUANTISERS.get(use.node.op_type, ()) and (use.idx == 3 or _depends(use.node.inputs[0]))
        for use in uses
    )


def _depends(value: onnx_ir.Value | None) -> bool:
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


def _is_made_up(value: onnx_ir.Value) -> bool:
    """Whether an exporter made a constant, as far as it or the name says."""
    if LEARNED in value.meta:
        return False
    return CONSTANT in value.meta or _PATTERN.fullmatch(value.name or "") is not None


def _is_uniform_or_positional(value: onnx_ir.Value, tensor: onnx_ir.TensorProtocol) -> bool:
    """Whether it is 0, 1, 2, ... along one axis, a mask before it is cut, or one number: what comes of sizes alone."""
    if not 1 < tensor.size <= FOLDED or not tensor.dtype.is_floating_point() or not _is_made_up(value):
        return False
    numbers = tensor.numpy().reshape(-1)
    first, last = float(numbers[0]), float(numbers[-1])
    if first == last:
        anywhere = not first or first <= _FORBIDS
        told = CONSTANT in value.meta or _FOLDED_FROM in value.metadata_props
        own = anywhere or (told and is_exporters_own(value) and not _fills_weight_slot(value))
        return own and bool((numbers == numbers[0]).all())
    along = sum(n > 1 for n in tensor.shape.numpy())
    return (first, last, along) == (0, len(numbers) - 1, 1) and bool((numbers == np.arange(len(numbers))).all())
