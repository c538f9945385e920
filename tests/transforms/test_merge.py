"""Merging: the mean of networks in one order, and the other methods on numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import gmnc
from gmnc.testing import build, random_inputs, run
from gmnc.transforms import merge, scramble

TEXT = "(float[2, 3] x) => (float[2, 2] y) { a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) }"
SHAPES = {"w": (3, 6), "v": (6, 2)}


def model(seed: int = 0) -> onnx.ModelProto:
    return build(TEXT, SHAPES, seed=seed)


def test_a_network_merged_with_its_scrambled_self_is_itself(tmp_path: Path) -> None:
    original, other, merged, plain = (tmp_path / f"{n}.onnx" for n in ("a", "b", "c", "d"))
    onnx.save(model(), original)
    made = scramble(original, seed=1)
    gmnc.write(made.graph, made.values, other)
    found = merge([original, other])
    gmnc.write(found.graph, found.values, merged)
    inputs = random_inputs(model())
    expected = run(str(original), inputs)["y"]
    np.testing.assert_allclose(run(str(merged), inputs)["y"], expected, rtol=1e-5)
    naive = merge([original, other], aligned=False)
    gmnc.write(naive.graph, naive.values, plain)
    assert np.abs(run(str(plain), inputs)["y"] - expected).max() > 0.01


METHODS = {
    "mean": ({"weights": [3, 1]}, [1.75, -0.5]),
    "slerp": ({"method": "slerp"}, None),
    "task-arithmetic": ({"method": "task-arithmetic", "weights": [1, 0.5]}, [1.5 - 0.5 + 0.5 * 2.5, 0 - 2 + 0.5 * 4]),
    # Of the differences (-0.5, -2) and (2.5, 4) the larger ones stay, -2 and 4; the sign of their sum wins.
    "ties": ({"method": "ties"}, [1.5, 0 + 4.0]),
}


def constant(first: float, second: float) -> onnx.ModelProto:
    """y = x w with two numbers, all in a fixed order."""
    made = build("(float[1, 2] x) => (float[1, 1] y) { y = MatMul(x, w) }", {"w": (2, 1)})
    made.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(np.float32([[first], [second]]), "w"))
    return made


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    """Of w = (1, -2) and (4, 4), from the base (1.5, 0) where there is one."""
    options, expected = METHODS[name]
    base = constant(1.5, 0.0) if name in ("task-arithmetic", "ties") else None
    found = merge([constant(1, -2), constant(4, 4)], base=base, **options).values["w"].reshape(-1)
    if expected is None:
        # On the arc between both directions, with the mean of the norms.
        a, b = np.array([1.0, -2.0]), np.array([4.0, 4.0])
        middle = a / np.linalg.norm(a) + b / np.linalg.norm(b)
        expected = middle / np.linalg.norm(middle) * (np.linalg.norm(a) + np.linalg.norm(b)) / 2
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "median"}, "no method 'median'"),
        ({"method": "ties"}, "need the base"),
        ({"base": "b"}, "need the base"),
        ({"weights": [1]}, "2 networks need as many"),
        ({"weights": [1, -1]}, "no positive sum"),
        ({"weights": [np.nan, 1]}, "finite weights"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(gmnc.GmncError, match=message):
        merge([model(), model(1)], **options)  # type: ignore[arg-type]


def test_other_architectures_are_refused() -> None:
    other = build(TEXT.replace("Tanh", "Relu"), SHAPES)
    for aligned in (True, False):
        with pytest.raises(gmnc.GmncError, match="different architectures"):
            merge([model(), other], aligned=aligned)
