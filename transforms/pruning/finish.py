"""The rewritten model as it is written: without what only lowering needs, and readable by ONNX Runtime."""

from __future__ import annotations

import onnx_ir

from ...frontend.model.keys import ATTRIBUTE

__all__ = ["finish"]

_INITIALIZERS_ALONE = 4
"""The version of the format since which initializers need not be inputs too."""


def finish(model: onnx_ir.Model) -> None:
    """Drop initializers that stand for attributes, and raise the version of the format where it is needed."""
    for name, value in list(model.graph.initializers.items()):
        if ATTRIBUTE in value.meta and not value.uses():
            del model.graph.initializers[name]
    model.ir_version = max(model.ir_version, _INITIALIZERS_ALONE)
