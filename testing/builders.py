"""Small ONNX models from text, with random weights."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper

__all__ = ["build", "values", "with_values"]

Shape = tuple[int, ...]


def build(
    text: str,
    floats: Mapping[str, Shape] | None = None,
    ints: Mapping[str, list[Any]] | None = None,
    opset: int = 20,
    seed: int = 0,
    domains: Mapping[str, int] | None = None,
) -> onnx.ModelProto:
    """A checked model from ONNX text syntax, such as ``(float[1, 2] x) => (float[1, 3] y) { y = MatMul(x, w) }``.

    floats: float32 initializers by shape; they get distinct random values in (0.1, 1). ints: int64 initializers, by
    value. domains: versions of operator sets beside the standard one.
    Raises `onnx.checker.ValidationError` or the parser's `ParseError` for what is no model.
    """
    rng = np.random.default_rng(seed)
    imports = ", ".join(f'"{domain}" : {version}' for domain, version in {"": opset, **(domains or {})}.items())
    parsed = onnx.parser.parse_model(f"<ir_version: 9, opset_import: [{imports}]> agraph {text}")
    for name, shape in (floats or {}).items():
        array = rng.uniform(0.1, 1.0, shape).astype(np.float32)
        parsed.graph.initializer.append(numpy_helper.from_array(array, name))
    for name, value in (ints or {}).items():
        parsed.graph.initializer.append(numpy_helper.from_array(np.array(value, dtype=np.int64), name))
    onnx.checker.check_model(parsed, full_check=True)
    return parsed


def values(model: onnx.ModelProto, name: str) -> np.ndarray:
    """A copy of an initializer's values."""
    [tensor] = [t for t in model.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor).copy()


def with_values(model: onnx.ModelProto, **new: np.ndarray) -> onnx.ModelProto:
    """The same model with other values in these initializers."""
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[tensor.name]), tensor.name))
    return changed
