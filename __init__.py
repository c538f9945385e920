"""gmnc, the graph-metanetwork compiler: any ONNX file to a parameter graph, to tensors, and back."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .frontend import LowerToParameterGraph, compile, from_torch
    from .ir import GmncError, ParameterGraph

__all__ = ["GmncError", "LowerToParameterGraph", "ParameterGraph", "compile", "from_torch"]

__version__ = "0.1.0"

_HOME = {
    "GmncError": ".ir",
    "LowerToParameterGraph": ".frontend",
    "ParameterGraph": ".ir",
    "compile": ".frontend",
    "from_torch": ".frontend",
}


def __getattr__(name: str) -> Any:
    """Load public names on first use, so that `import gmnc` is instant."""
    if name in _HOME:
        return getattr(import_module(_HOME[name], __name__), name)
    if name in ("backends", "frontend", "ir", "kernels", "metanets", "testing"):
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
