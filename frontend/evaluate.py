"""The number behind a constant that is computed from parameters; run when a backend asks, never by lowering."""

from __future__ import annotations

from collections.abc import Sequence

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
            operands = [None if v is None else made[v] for v in node.inputs]
            outputs = _idiom(node, operands) if node.domain == "gmnc" else run(node, opset, operands)
            if outputs is None:
                raise LoweringError(f"{describe(node)}: this constant expression cannot be evaluated")
            made.update(zip(node.outputs, outputs, strict=False))
    return made[value]


def _idiom(node: ir.Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray]:
    """What `idioms` put in the place of a written-out normalisation (see its table)."""
    x = operands[0]
    assert x is not None
    if node.op_type in ("Softmax", "LogSoftmax"):
        axis = node.attributes.get_int("axis", -1)
        shifted = x - x.max(axis=axis, keepdims=True)
        logarithm = shifted - np.log(np.exp(shifted).sum(axis=axis, keepdims=True))
        return [np.exp(logarithm) if node.op_type == "Softmax" else logarithm]
    axes, epsilon = tuple(node.attributes["axes"].as_ints()), node.attributes.get_float("epsilon", 0.0)
    if node.op_type == "LpNormalize":
        p = node.attributes.get_int("p", 2)
        return [x / np.maximum((np.abs(x) ** p).sum(axis=axes, keepdims=True) ** (1 / p), epsilon)]
    centred = x - x.mean(axis=axes, keepdims=True) if node.op_type == "Standardize" else x
    return [centred / np.sqrt((centred**2).mean(axis=axes, keepdims=True) + epsilon)]
