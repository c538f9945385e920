"""The number behind a constant that is computed from parameters; run when a backend asks, never by lowering."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from ..ir import LoweringError
from .folding import run
from .order import describe

__all__ = ["evaluate"]


def evaluate(model: ir.Model, value: ir.Value) -> np.ndarray:
    """The tensor of a value that depends on initializers only. Raises `LoweringError` where an op cannot be run."""
    made: dict[ir.Value, np.ndarray] = {}
    stack = [value]
    while stack:
        top = stack[-1]
        if top in made:
            stack.pop()
        elif top.const_value is not None:
            made[top] = top.const_value.numpy()
        else:
            node = top.producer()
            if node is None:
                raise LoweringError(f"value {top.name!r} is no constant")
            missing = [v for v in node.inputs if v is not None and v not in made]
            if missing:
                stack += missing
                continue
            opset = model.graph.opset_imports.get(node.domain, 1)
            outputs = run(node, opset, [None if v is None else made[v] for v in node.inputs])
            if outputs is None:
                raise LoweringError(f"{describe(node)}: this constant expression cannot be evaluated")
            made.update(zip(node.outputs, outputs, strict=False))
    return made[value]
