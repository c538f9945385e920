"""Evaluates constants that the model computes from parameters; runs when a backend asks, never during lowering."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir

from ...ir import LoweringError
from ..budget import MAX_WEIGHT_WORK
from ..dialect import DIALECT
from ..model.keys import DOMAIN
from ..model.traversal import describe
from .fold_budget import python_work
from .folding import run
from .shapes import ValueInfo

__all__ = ["evaluate", "too_slow"]


def evaluate(model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], value: onnx_ir.Value) -> np.ndarray:
    """Compute a value that depends on initializers and known values alone.

    Args:
        model: The model of the value.
        known: The result of `shapes.infer`.
        value: The value to compute.

    Returns:
        Its tensor.

    Raises:
        LoweringError: The value depends on an input, or an operator cannot be run or exceeds the budget.
    """
    if slow := too_slow(known, value):
        raise LoweringError(slow)
    made: dict[onnx_ir.Value, np.ndarray] = {}
    stack = [value]
    while stack:
        top = stack[-1]
        if top in made:
            stack.pop()
        elif top.const_value is not None:
            made[top] = top.const_value.numpy()
        elif (entry := known.get(top)) is not None and entry.data is not None:
            made[top] = entry.data
        else:
            node = top.producer()
            if node is None:
                raise LoweringError(f"value {top.name!r} is not a constant")
            # CastLike uses only the type of its second operand, which need not be a constant.
            like = node.op_type == "CastLike" and not node.domain
            inputs = node.inputs[:1] if like else node.inputs
            missing = [v for v in inputs if v is not None and v not in made]
            if missing:
                stack += missing
                continue
            opset = model.graph.opset_imports.get(node.domain, 1)
            operands = [None if v is None else made[v] for v in inputs]
            outputs: Sequence[np.ndarray] | None
            if like:
                outputs = [made[node.inputs[0]].astype(known[node.inputs[1]].dtype)]  # type: ignore[index]
            else:
                outputs = _internal(node, operands) if node.domain == DOMAIN else run(node, opset, operands)
            if outputs is None:
                raise LoweringError(f"{describe(node)}: this constant expression cannot be evaluated")
            made.update(zip(node.outputs, outputs, strict=False))
    return made[value]


def too_slow(known: Mapping[onnx_ir.Value, ValueInfo], value: onnx_ir.Value) -> str:
    """Why evaluating a value exceeds the budget; empty if it does not."""
    waiting, seen = [value], set[onnx_ir.Value]()
    while waiting:
        top = waiting.pop()
        node = None if top in seen else top.producer()
        seen.add(top)
        entry = known.get(top)
        if node is None or entry is None or entry.data is not None or top.const_value is not None:
            continue
        if node.domain != DOMAIN and python_work(node, math.prod(entry.shape)) > MAX_WEIGHT_WORK:
            return (
                f"{describe(node)}: computing a tensor of shape {list(entry.shape)} from weights, element by element, "
                "takes too long; store the result in the file"
            )
        waiting += [v for v in node.inputs if v is not None]
    return ""


def _internal(node: onnx_ir.Node, operands: Sequence[np.ndarray | None]) -> list[np.ndarray] | None:
    """Evaluate an operator of the dialect; None if it is meaningful only inside a loop."""
    internal = DIALECT.get(node.op_type)
    return None if internal is None or internal.evaluate is None else [internal.evaluate(node, *operands)]
