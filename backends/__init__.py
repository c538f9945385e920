"""From the parameter graph to other forms: tensors (`coo`, `blocks`), `networkx`, `store`d files, pictures, and `onnx`.

Each form is a submodule, loaded on first use: importing this package imports neither torch nor networkx.
"""

from __future__ import annotations

from .._lazy import lazy

__all__ = ["blocks", "coo", "draw", "networkx", "onnx", "store"]

__getattr__, __dir__ = lazy(__name__, {}, __all__)
