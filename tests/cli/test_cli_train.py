"""`gmnc train`, `evaluate` and `predict`: what they print and write, and what they refuse."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from support.commands import parsed, run
from support.exports import exported
from support.fake_zoo import FakeZoo, fake_zoo
from support.paths import MLP

import gmnc
from gmnc.backends.onnx import write
from gmnc.tasks import zoo as zoos
from gmnc.tasks.members import Zoo
from gmnc.tasks.predictor import SHIPPED


@pytest.fixture(scope="module")
def members() -> FakeZoo:
    return fake_zoo(40)


@pytest.fixture(autouse=True)
def _fake(members: FakeZoo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Zoo, "open", lambda *_, **__: members)


SMALL = ["--option", "hidden_channels=8", "--option", "num_layers=2", "--option", "hash_buckets=64"]


def train(out: Path, *more: object) -> list[object]:
    return ["train", "accuracy", "--zoo", "fake", "--out", out, "--epochs", 2, *more]


def test_a_run_is_trained_evaluated_and_drawn(tmp_path: Path) -> None:
    results = [parsed(*train(tmp_path / str(seed), "--seed", seed, *SMALL)) for seed in (0, 1)]
    assert all({"r2", "tau", "mse"} == r["metrics"].keys() for r in results)
    assert results[0]["settings"]["metanet"] == {"hidden_channels": 8, "num_layers": 2, "hash_buckets": 64}
    assert {p.name for p in (tmp_path / "0").iterdir()} == {"run.json", "log.jsonl", "checkpoint.pt", "result.json"}
    found = parsed("evaluate", tmp_path / "0", tmp_path / "1", "--plots", tmp_path / "plots")
    assert found["rows"][0]["seeds"] == [0, 1]
    assert [Path(p).name for p in found["pictures"]] == [
        "accuracy-curves.png", "accuracy-full-gmn-0.png", "accuracy-full-gmn-1.png",
    ]  # fmt: skip
    (row,) = parsed("evaluate", tmp_path / "0", "--of", "valid")["rows"]
    said = json.loads((tmp_path / "0" / "result.json").read_text())
    assert {n: m["mean"] for n, m in row["metrics"].items()} == said["history"][said["best_epoch"] - 1]["valid"]
    text = run("evaluate", tmp_path / "0").stdout
    assert text.startswith("**accuracy**\n\n| split | model | r2 | tau | mse |")
    assert text.count("\n") == 5
    shown = run(*train(tmp_path / "0", *SMALL))
    assert f"{results[0]['metrics']['r2']:.4f}" in shown.stdout
    assert shown.stderr == f"wrote {tmp_path / '0'}\n"


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "family"], "none is given: choose with --held-out: cnn, mlp"),
        (["--split", "family", "--held-out", "vit"], "there is no 'vit' in this zoo: choose with --held-out: cnn, mlp"),
        (["--model", "nfn"], "NFN takes"),
        (["--option", "depth=3"], "gmn has no option 'depth': choose hidden_channels, mlp_channels, num_layers"),
        (["--model", "statnn", "--option", "head=3"], "statnn has no option 'head': choose hidden_channels"),
        (["--option", "dropout"], "expected NAME=VALUE"),
        (["--model", "dmc", "--option", "length=4", "--predictor", "p"], "only `accuracy` with `--model gmn`"),
        (["--probes", "8", "--predictor", "p"], "omit --probes"),
        (
            ["--model", "none", "--probes", "8", "--option", "hidden_channels=8"],
            "none takes no options, but 'hidden_channels' is given",
        ),
        (["--model", "none"], "choose their number with --probes"),
        (["--device", "cuda:77"], "not available"),
        (["--examples", "1000"], "fewer than 1000 examples"),
    ],
)
def test_wrong_use_is_an_error(more: list[str], message: str, tmp_path: Path) -> None:
    result = run(*train(tmp_path / "run"), *more)
    assert result.exit_code == 2
    assert re.search(message, result.stderr)


def test_folders_that_are_no_runs_are_errors(tmp_path: Path) -> None:
    result = run("evaluate", tmp_path)
    assert (result.exit_code, result.stdout) == (2, "")
    assert "no finished run" in result.stderr


@pytest.mark.full
def test_the_predictor_in_the_package_is_small_and_knows_what_is_far(tmp_path: Path) -> None:
    assert SHIPPED.stat().st_size < 5e6
    zoos.make_zoo(tmp_path / "zoo", 2, seed=0)
    near = sorted((tmp_path / "zoo" / "networks").iterdir())
    said = parsed("predict", *near)
    assert all(0 < m["accuracy"] < 1 and m["far"] == [] for m in said["models"])
    assert said["predictor"]["metrics"].keys() == {"r2", "tau", "mse"}
    assert run("predict", *near).stderr == ""
    graph = gmnc.compile(near[0])
    huge = {n: np.full(p.shape, 1e4, np.float32) for n, p in graph.parameters.items() if p.dtype == "float32"}
    write(graph, huge, tmp_path / "huge.onnx")
    onnx.save(exported("gpt", "dynamo"), tmp_path / "gpt.onnx")
    for path in (tmp_path / "huge.onnx", tmp_path / "gpt.onnx", MLP):
        result = run("predict", path)
        assert result.exit_code == 0
        assert "warning" in result.stderr
        assert "unlike the networks" in result.stderr
        assert parsed("predict", path)["models"][0]["far"]
