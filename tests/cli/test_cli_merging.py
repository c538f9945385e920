"""`gmnc align --by activations` and `gmnc merge --repair`: what they say they used, and how they exit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import parsed, run

from gmnc.testing import build

TEXT = """(float[N, 3] x) => (float[N, 2] y) {
    a = Gemm(x, w, b) c = Relu(a) y = MatMul(c, v) }"""


@pytest.fixture
def files(tmp_path: Path) -> list[str]:
    """Two networks, and data."""
    paths = [tmp_path / n for n in ("a.onnx", "b.onnx", "data.npz")]
    for seed, path in enumerate(paths[:2]):
        onnx.save(build(TEXT, {"w": (3, 8), "b": (8,), "v": (8, 2)}, {}, seed=seed), path)
    np.savez(paths[2], x=np.random.default_rng(0).standard_normal((50, 3)).astype(np.float32))
    return [str(p) for p in paths]


def test_align_by_activations_names_its_inputs(files: list[str], tmp_path: Path) -> None:
    options = ["align", *files[:2], "-o", str(tmp_path / "c.onnx"), "--by", "activations"]
    assert parsed(*options)["by"] == "activations on random inputs"
    assert parsed(*options, "--inputs", files[2])["by"] == "activations on the given inputs"


def test_merge_reports_its_repair(files: list[str], tmp_path: Path) -> None:
    target = tmp_path / "c.onnx"
    options = ["merge", *files[:2], "-o", str(target), "--repair", files[2]]
    found = parsed(*options)["repaired"]
    assert found["rescaled"] == ["b"]
    assert found["skipped"] == [{"name": "v", "reason": "it has no bias"}]
    printed = run(*options)
    assert printed.exit_code == 0
    assert "repaired: 1 layers rescaled; 1 layers left as they are" in printed.output
    assert "not repaired: v: it has no bias" in printed.output


def test_data_for_another_network_write_nothing(files: list[str], tmp_path: Path) -> None:
    np.savez(files[2], z=np.zeros((5, 3), np.float32))
    target = tmp_path / "c.onnx"
    for options in (["merge", "--repair", files[2]], ["align", "--by", "activations", "--inputs", files[2]]):
        failed = run(*options, *files[:2], "-o", str(target))
        assert failed.exit_code == 2
        assert "the data lacks the input 'x'" in failed.output
        assert not target.exists()
