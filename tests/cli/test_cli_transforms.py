"""Outputs of the commands that transform networks never replace what they read."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
from typer.testing import CliRunner

from gmnc.cli import app
from gmnc.testing import build

TEXT = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Tanh(a) y = MatMul(b, v) }"


@pytest.mark.parametrize("command", [["align", "a", "b"], ["merge", "a", "b"], ["scramble", "b"]], ids=lambda c: c[0])
def test_an_output_that_is_read_is_refused_and_stays(command: list[str], tmp_path: Path) -> None:
    for seed, name in enumerate("ab"):
        onnx.save(build(TEXT, {"w": (3, 5), "v": (5, 2)}, seed=seed), tmp_path / f"{name}.onnx")
    verb, *names = command
    output = tmp_path / "b.onnx"
    before = output.read_bytes()
    result = CliRunner().invoke(app, [verb, *(str(tmp_path / f"{n}.onnx") for n in names), "-o", str(output)])
    assert result.exit_code == 2
    assert "read by the same command" in result.output
    assert output.read_bytes() == before
