"""Which one-element float constants are numbers of the program (literals) and which are learned scalars."""

from __future__ import annotations

import re

import onnx_ir as ir

from .normalise import CONSTANT

__all__ = ["is_literal"]

# Names that exporters give to constants that they made up themselves. A module's parameters keep the module's names.
_MADE_UP = (
    ("torch.onnx dynamo, optimised", r"val_\d+"),
    ("torch.onnx torchscript", r"(.*/)?Constant_(\d+_)?output_\d+"),
    ("torch.onnx torchscript, opset < 13", r"onnx::(?!MatMul_|Conv_|Gemm_|LSTM_|GRU_|RNN_|PRelu_)\w+_\d+"),
    ("onnxscript", r"(scalar|const|int64|float32?|tmp)_[\w.]*|_?const(ant)?_?\d*"),
    ("tf2onnx", r"(.*/)?const_fold_opt__\d+|(.*/)?(Const|const|y|x|mul_|add_|sub_)?(_\d+)?(:0)?__\d+|const_\w+__\d+"),
    (
        "tf2onnx, TensorFlow graph constants",
        r"(.*/)?(Const|y|x|alpha|add/y|mul/x|mul/y|sub/x|truediv/y)(_\d+)?(/\w+)?:0",
    ),
    ("onnxslim, onnxsim", r"onnx_slim_\w+|ortshared_\w+|_v_\d+|\d+"),
    ("ONNX Runtime optimizer", r"ortshared_\d+_\d+_\d+_\d+_token_\d+|.*_token_\d+"),
    ("Paddle2ONNX", r"(Constant|p2o\.\w+|helper\.constant)\.\d+"),
    ("skl2onnx", r"(\w+_)?(cst|Cst|shape_tensor|const)\w*"),
)
_PATTERN = re.compile("|".join(f"(?:{pattern})" for _, pattern in _MADE_UP))


def is_literal(value: ir.Value) -> bool:
    """Whether a constant is a scalar literal, not a parameter: one element, and made up by an exporter.

    That is: it was a Constant node (see `normalise`), or its name is one that an exporter gives to its own constants.
    """
    tensor = value.const_value
    if tensor is None or tensor.size != 1:
        return False
    return CONSTANT in value.meta or _PATTERN.fullmatch(value.name or "") is not None
