"""`gmnc prune`: what it prints, what it writes, and how it exits."""

from __future__ import annotations

import json
from pathlib import Path

import onnx
import pytest
from support.commands import parsed, run
from support.paths import CNN, MLP


def test_it_prints_what_left_and_the_proof(tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    done = run("prune", CNN, "--ratio", "0.5", "-o", small)
    assert done.exit_code == 0, done.stderr
    assert "2 of 4" in done.stdout
    assert "outputs equal those of the masked original" in done.stdout
    onnx.checker.check_model(small, full_check=True)


def test_json_has_the_report() -> None:
    found = parsed("prune", CNN, "--ratio", "0.25", "--importance", "l1")
    assert found["proof"]["holds"]
    assert found["after"]["parameters"] < found["before"]["parameters"]
    assert [f["removed"] for f in found["families"]] == [0, 1, 0]


def test_scores_come_from_a_file(tmp_path: Path) -> None:
    [name] = parsed("prune", MLP)["removed"]
    (tmp_path / "scores.json").write_text(json.dumps({name: [0, 2, 1]}))
    assert parsed("prune", MLP, "--importance", tmp_path / "scores.json", "--ratio", "0.4")["removed"][name] == [[0]]


@pytest.mark.parametrize(
    "options", [["--ratio", "2"], ["--importance", "l7"], ["--only", "("], ["--only", "nothing"], ["--round-to", "0"]]
)
def test_bad_options_write_nothing(options: list[str], tmp_path: Path) -> None:
    small = tmp_path / "small.onnx"
    done = run("prune", CNN, "-o", small, *options)
    assert done.exit_code == 2
    assert not small.exists()


def test_it_never_replaces_its_input(tmp_path: Path) -> None:
    model = tmp_path / "model.onnx"
    model.write_bytes(CNN.read_bytes())
    assert run("prune", model, "-o", model).exit_code == 2
    assert model.read_bytes() == CNN.read_bytes()
