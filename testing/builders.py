"""Small ONNX models from ONNX's text syntax, with random weights."""

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
    """Build a model from text such as ``(float[1, 2] x) => (float[1, 3] y) { y = MatMul(x, w) }``.

    Args:
        text: A graph in ONNX's text syntax, without its name.
        floats: Shapes of float32 initializers, which get distinct random values in (0.1, 1).
        ints: Values of int64 initializers.
        opset: Version of the standard operator set.
        seed: Seed of the random values.
        domains: Versions of further operator sets.

    Returns:
        The model, checked by ONNX's checker.

    Raises:
        onnx.parser.ParseError: The text is not valid.
        onnx.checker.ValidationError: The model is not valid.
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
    """Copy the values of an initializer.

    Args:
        model: A model.
        name: Name of an initializer of its main graph.

    Returns:
        The values.
    """
    [tensor] = [t for t in model.graph.initializer if t.name == name]
    return numpy_helper.to_array(tensor).copy()


def with_values(model: onnx.ModelProto, **new: np.ndarray) -> onnx.ModelProto:
    """Copy a model with other initializer values.

    Args:
        model: A model.
        **new: Arrays by initializer name; they may change shape and dtype.

    Returns:
        The new model.
    """
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    for tensor in changed.graph.initializer:
        if tensor.name in new:
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(new[tensor.name]), tensor.name))
    return changed
