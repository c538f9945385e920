"""gmnc, the graph-metanetwork compiler: any ONNX file to a parameter graph, to tensors, and back.

The names here are for everyday work; each is loaded on first use, so that `import gmnc` is instant. The rooms
(`gmnc.ir`, `gmnc.symmetry`, `gmnc.frontend`, `gmnc.backends`, `gmnc.kernels`, `gmnc.metanets`, `gmnc.files`,
`gmnc.tasks`, `gmnc.testing`, `gmnc.transforms`, and `gmnc.passes`) hold the rest.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._lazy import lazy

if TYPE_CHECKING:
    from .backends.blocks import Blocks, batch, blocks
    from .backends.checkpoints import load_values, save_values
    from .backends.coo import coo
    from .backends.draw import draw
    from .backends.networkx import networkx
    from .backends.onnx import write
    from .backends.store import load, save
    from .frontend import LowerToParameterGraph, compile, from_torch
    from .ir import GmncError, ParameterGraph
    from .metanets import GMN
    from .symmetry import Symmetries, fingerprint, isomorphic, symmetries
    from .testing import verify
    from .transforms import align, diff, merge, prune, scramble

__all__ = [
    "GMN",
    "Blocks",
    "GmncError",
    "LowerToParameterGraph",
    "ParameterGraph",
    "Symmetries",
    "align",
    "batch",
    "blocks",
    "compile",
    "coo",
    "diff",
    "draw",
    "fingerprint",
    "from_torch",
    "isomorphic",
    "load",
    "load_values",
    "merge",
    "networkx",
    "prune",
    "save",
    "save_values",
    "scramble",
    "symmetries",
    "verify",
    "write",
]

__version__ = "0.1.0"

_ROOMS = (
    "backends",
    "cli",
    "files",
    "frontend",
    "ir",
    "kernels",
    "metanets",
    "passes",
    "symmetry",
    "tasks",
    "testing",
    "transforms",
)
_HOMES = {
    "GMN": "metanets",
    "Blocks": "backends.blocks",
    "GmncError": "ir",
    "LowerToParameterGraph": "frontend",
    "ParameterGraph": "ir",
    "Symmetries": "symmetry",
    "align": "transforms",
    "batch": "backends.blocks",
    "blocks": "backends.blocks",
    "compile": "frontend",
    "coo": "backends.coo",
    "diff": "transforms",
    "draw": "backends.draw",
    "fingerprint": "symmetry",
    "from_torch": "frontend",
    "isomorphic": "symmetry",
    "load": "backends.store",
    "load_values": "backends.checkpoints",
    "merge": "transforms",
    "networkx": "backends.networkx",
    "prune": "transforms",
    "save": "backends.store",
    "save_values": "backends.checkpoints",
    "scramble": "transforms",
    "symmetries": "symmetry",
    "verify": "testing",
    "write": "backends.onnx",
}

__getattr__, __dir__ = lazy(__name__, _HOMES, _ROOMS)
