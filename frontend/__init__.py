"""ONNX to parameter graph: load, normalise, interpret."""

from __future__ import annotations

from .algebra import Algebra
from .compile import compile
from .contraction import Spec
from .passes import LowerToParameterGraph
from .plugins import installed
from .registry import Registry, Rule, Unsupported, builtin, rule
from .torch import from_torch
from .values import Op, Value

__all__ = [
    "Algebra",
    "LowerToParameterGraph",
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
    "rule",
]
