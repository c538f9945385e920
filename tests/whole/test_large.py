"""A model whose weights lie in an external file of gigabytes, and the same model in small."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, numpy_helper

import gmnc
from gmnc.testing import Llama, verify

_COMPILE = """
import json, sys
import gmnc
graph = gmnc.compile(sys.argv[1])
# Of this program alone: what getrusage counts begins with the process that started it.
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
memory = int(status["VmHWM"].split()[0]) << 10
print(json.dumps([graph.num_parameter_edges, len(graph.opaque), memory]))
"""


def _edges(llama: Llama) -> int:
    """Parameters, two rotary tables, and a scale for each 32 elements of a packed matrix."""
    norms = (2 * llama.layers + 1) * llama.width
    scales = (llama.parameters - norms - llama.vocabulary * llama.width) // 32
    return llama.parameters + llama.length * llama.width // llama.heads + llama.packed * scales


@pytest.mark.full
@pytest.mark.skipif(sys.platform != "linux", reason="peak memory is counted as Linux does")
@pytest.mark.parametrize("packed", [False, True])
def test_more_than_a_thousand_million_parameters(tmp_path: Path, packed: bool) -> None:
    llama = Llama(packed=packed)
    path = llama.write(tmp_path / "llama.onnx")
    done = subprocess.run([sys.executable, "-c", _COMPILE, path], capture_output=True, text=True, check=True)
    edges, opaque, memory = json.loads(done.stdout)
    assert (edges, opaque) == (_edges(llama), 0)
    assert llama.parameters > 1.1e9
    assert memory < 1.5e9


@pytest.mark.full
@pytest.mark.parametrize("packed", [False, True])
def test_the_same_in_small_is_sound(tmp_path: Path, packed: bool) -> None:
    llama = Llama(80, 64, 96, 2, heads=4, shared=2, length=5, packed=packed, dtype=TensorProto.FLOAT)
    path = llama.write(tmp_path / "llama.onnx")
    rng = np.random.default_rng(0)
    model = onnx.load(path)
    for tensor in model.graph.initializer:
        if tensor.name not in ("cos", "sin"):
            tensor.CopyFrom(numpy_helper.from_array(_random(rng, numpy_helper.to_array(tensor)), tensor.name))
    assert gmnc.compile(model).num_parameter_edges == _edges(llama)
    report = verify(model, trials=3, controls=2)
    assert report.sound, report
    assert report.moved_parameters > 0.9 * llama.parameters


def _random(rng: np.random.Generator, like: np.ndarray) -> np.ndarray:
    if like.dtype == np.uint8:
        return rng.integers(0, 256, like.shape, np.uint8)
    return (1 + 0.1 * rng.standard_normal(like.shape)).astype(like.dtype) * (1 if like.ndim == 1 else 0.05)
