"""The experiment from nothing: a zoo is made, a metanetwork trained and evaluated, and accuracies are predicted."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.commands import parsed, run

SIZE, MARGIN = 200, 0.3


@pytest.fixture(scope="module")
def zoo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("zoo") / "zoo"
    workers = min(os.cpu_count() or 1, 4)
    assert parsed("zoo", "make", "--out", out, "--size", SIZE, "--workers", workers)["made"] == SIZE
    return out


@pytest.mark.full
def test_a_metanetwork_trained_on_a_zoo_predicts_held_out_members(zoo: Path, tmp_path: Path) -> None:
    """It beats the mean by a margin, and its predictor tells members from other networks."""
    out, file = tmp_path / "run", tmp_path / "predictor.safetensors"
    training = ["train", "accuracy", "--zoo", zoo, "--out", out, "--epochs", 15, "--lr", 4e-3, "--members", 16]
    result = parsed(*training, "--predictor", file)
    assert result["members"] == {"train": 140, "valid": 20, "test": 40}
    assert result["mean_of_training"]["r2"] <= 0
    assert result["metrics"]["r2"] > MARGIN
    assert result["metrics"]["tau"] > MARGIN

    (row,) = parsed("evaluate", out, "--plots", tmp_path / "plots")["rows"]
    assert row["metrics"]["r2"] == {"mean": result["metrics"]["r2"], "std": 0.0}
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {"accuracy-curves.png", "accuracy-full-gmn-0.png"}

    found = json.loads((out / "result.json").read_text())["predictions"]
    tested = [zoo / "networks" / f"{number:05}.onnx" for number in found["id"][:3]]
    said = parsed("predict", *tested, "--predictor", file)["models"]
    assert [m["accuracy"] for m in said] == pytest.approx(found["predicted"][:3], abs=1e-4)
    assert run("train", *training[1:3], zoo / "networks", "--out", tmp_path / "other").exit_code == 2
