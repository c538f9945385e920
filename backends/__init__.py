"""From the parameter graph to other forms: tensors (`coo`, `blocks`), `networkx`, `store`d files, pictures, and `onnx`.

Each form is a submodule, loaded on first use: importing this package imports neither torch nor networkx.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

__all__ = ["blocks", "coo", "draw", "networkx", "onnx", "store"]


def __getattr__(name: str) -> ModuleType:
    if name in __all__:
        return import_module(f".{name}", __name__)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
