"""ONNX to parameter graph: load, normalise, interpret."""

from __future__ import annotations

from .compile import compile
from .passes import LowerToParameterGraph
from .registry import Registry, Rule, Unsupported, builtin
from .torch import from_torch

__all__ = ["LowerToParameterGraph", "Registry", "Rule", "Unsupported", "builtin", "compile", "from_torch"]
