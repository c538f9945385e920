"""What a parameter graph is converted to, one module per format.

* `blocks`, `coo`: torch tensors for a metanetwork, in blocks or one row per edge (PyG `Data` where installed).
* `checkpoints`: values of parameters from the files that training leaves, and back.
* `draw`: pictures. `networkx`: a NetworkX multigraph.
* `store`: the safetensors file of a graph. `onnx`: new parameter values back into the ONNX model.

The `__all__` of each module is its public interface; modules not listed here are internal. They are imported on first
use: importing this package imports neither torch nor networkx.
"""

from __future__ import annotations

from .._lazy import lazy

__all__ = ["blocks", "checkpoints", "coo", "draw", "networkx", "onnx", "store"]

__getattr__, __dir__ = lazy(__name__, {}, __all__)
