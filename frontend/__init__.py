"""ONNX to parameter graph: load, normalise, interpret."""

from __future__ import annotations

from .compile import compile
from .context import LoweringContext
from .errors import Unsupported
from .ir_pass import LowerToParameterGraph
from .labelled import LabelledModel, label_values
from .primitives.contraction import Spec
from .primitives.values import Op, Value
from .rules.plugins import installed
from .rules.registry import Registry, Rule, builtin, rule
from .torch import from_torch

__all__ = [
    "LabelledModel",
    "LowerToParameterGraph",
    "LoweringContext",
    "Op",
    "Registry",
    "Rule",
    "Spec",
    "Unsupported",
    "Value",
    "builtin",
    "compile",
    "from_torch",
    "installed",
    "label_values",
    "rule",
]
