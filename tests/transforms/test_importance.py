"""What a position counts for: all parameters that connect it to others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import numpy as np
import pytest
from onnx import numpy_helper

from gmnc import prune
from gmnc.testing import build

Values = dict[str, np.ndarray]
Level = Literal["inner", "outer"]

STREAM = """(float[1, 3] x) => (float[1, 2] y) {
    a = MatMul(x, w) b = Relu(a) c = MatMul(b, v) d = Add(a, c) y = MatMul(d, u) }"""

DEPTHWISE = """(float[1, 2, 5, 5] x) => (float[1, 3, 3, 3] y) {
    a = Conv(x, w) b = Relu(a) c = Conv<group = 6>(b, v) d = Relu(c) y = Conv(d, u) }"""

HEADS = """(float[1, 4, 3] x) => (float[1, 4, 3] y) {
    q0 = MatMul(x, q) k0 = MatMul(x, k) v0 = MatMul(x, v)
    q1 = Reshape(q0, parts) k1 = Reshape(k0, parts) v1 = Reshape(v0, parts)
    q2 = Transpose<perm = [0, 2, 1, 3]>(q1) k2 = Transpose<perm = [0, 2, 3, 1]>(k1)
    v2 = Transpose<perm = [0, 2, 1, 3]>(v1)
    s = MatMul(q2, k2) p = Softmax(s) h = MatMul(p, v2)
    t = Transpose<perm = [0, 2, 1, 3]>(h) f = Reshape(t, whole) y = MatMul(f, o) }"""


def of_stream(t: Values) -> np.ndarray:
    """A channel of the stream is written by w and v, and read by v and u; its own entry of v connects it to nothing."""
    return t["w"].sum(0) + t["v"].sum(0) + t["v"].sum(1) - 2 * t["v"].diagonal() + t["u"].sum(1)


def of_depthwise(t: Values) -> np.ndarray:
    """The kernel of a channel leads from this channel to itself alone."""
    return t["w"].sum((1, 2, 3)) + t["u"].sum((0, 2, 3))


def of_heads(t: Values) -> np.ndarray:
    return sum(t[n].reshape(3, 6, 2).sum((0, 2)) for n in "qkv") + t["o"].reshape(6, 2, 3).sum((1, 2))


@pytest.mark.parametrize(("importance", "power"), [("l1", 1), ("l2", 2)])
@pytest.mark.parametrize("removed", [1, 2, 4])
@pytest.mark.parametrize(
    ("text", "shapes", "expected", "level"),
    [
        (STREAM, {"w": (3, 6), "v": (6, 6), "u": (6, 2)}, of_stream, "inner"),
        (DEPTHWISE, {"w": (6, 2, 1, 1), "v": (6, 1, 3, 3), "u": (3, 6, 1, 1)}, of_depthwise, "inner"),
        (HEADS, {"q": (3, 12), "k": (3, 12), "v": (3, 12), "o": (12, 3)}, of_heads, "outer"),
    ],
    ids=["stream", "depthwise", "heads"],
)
def test_the_positions_of_the_smallest_norms_leave(
    text: str, shapes: dict[str, tuple[int, ...]], expected: Callable[[Values], np.ndarray], level: Level,
    removed: int, importance: str, power: int,
) -> None:  # fmt: skip
    model = build(text, shapes, {"parts": [1, 4, 6, 2], "whole": [1, 4, 12]} if text is HEADS else None)
    sizes = {i.name: np.abs(numpy_helper.to_array(i).astype(np.float64)) ** power for i in model.graph.initializer}
    pruned = prune(model, removed / 6, importance=importance, level=level, measure=False)
    [[positions]] = pruned.removed.values()
    assert positions == sorted(np.argsort(expected(sizes))[:removed].tolist())
