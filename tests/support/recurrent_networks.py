"""Networks around one recurrent cell, with stored and with computed weights."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
from onnx import numpy_helper
from support.cases.recurrent import GATES

from gmnc.testing import build

__all__ = ["computed", "network"]


def network(
    op: str, attributes: str = "", bias: bool = True, directions: int = 1, **floats: tuple[int, ...]
) -> onnx.ModelProto:
    """x [3, 1, 2] -> one cell of 4 hidden units -> all states in a row -> 2 outputs; further operands by `floats`."""
    gates = GATES[op]
    operands = ["x", "w", "r", "b" if bias else "", *(n if n in floats else "" for n in ("n", "h0", "c0", "p"))]
    while not operands[-1]:
        operands.pop()
    inputs = ", ".join(name or '""' for name in operands)
    shapes = {"w": (directions, 4 * gates, 2), "r": (directions, 4 * gates, 4), "wo": (4 * directions, 2)}
    if bias:
        shapes["b"] = (directions, 8 * gates)
    return build(
        f"""(float[3, 1, 2] x) => (float[3, 1, 2] y) {{
            s = {op}<hidden_size = 4{", " * bool(attributes)}{attributes}>({inputs})
            t = Transpose<perm = [0, 2, 1, 3]>(s)
            u = Reshape(t, row)
            y = MatMul(u, wo)
        }}""",
        {**shapes, **floats},
        {"row": [3, 1, 4 * directions]},
    )


def computed(text: str, shapes: dict[str, tuple[int, ...]], **arrays: np.ndarray) -> onnx.ModelProto:
    """tanh(y1) V, where `text` makes y1 [3, 1, 2, 4] (or as many numbers) of x [3, 2, 3]."""
    body = f"""(float[3, 2, 3] x) => (float[3, 2, 2] y) {{
        c3 = Constant<value_ints = [1, 4, 3]>() c324 = Constant<value_ints = [3, 2, 4]>()
        c0 = Constant<value_ints = [0]>() c2 = Constant<value_ints = [2]>()
        {text} s1 = Reshape(y1, c324) t1 = Tanh(s1) y = MatMul(t1, V)
    }}"""
    model = onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["" : 20]> cell {body}')
    rng = np.random.default_rng(0)
    given = {n: rng.uniform(0.1, 1, s).astype(np.float32) for n, s in {**shapes, "V": (4, 2)}.items()}
    model.graph.initializer.extend(numpy_helper.from_array(a, n) for n, a in {**given, **arrays}.items())
    onnx.checker.check_model(model)
    return model
