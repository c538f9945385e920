"""The training loop: kills, resuming, processes, stopping, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from support.paths import TESTS
from support.training_toy import OPTIONS, Toy, network

from gmnc.ir import GmncError, LoadError
from gmnc.tasks import training

SCRIPT = TESTS / "support" / "training_toy.py"


def state(out: Path) -> dict[str, torch.Tensor]:
    return torch.load(out / training.CHECKPOINT, weights_only=True)["model"]


def log(out: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (out / training.LOG).read_text().splitlines()]


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.full
@pytest.mark.parametrize("seconds", [0.0, 3600.0])
def test_a_killed_run_goes_on_to_the_same_bits(tmp_path: Path, seconds: float) -> None:
    options = replace(OPTIONS, checkpoint_seconds=seconds)
    whole = training.fit(Toy(), network(), options, tmp_path / "whole")
    # 8 steps an epoch: the 21st is the fifth of the third
    run = [sys.executable, str(SCRIPT), str(tmp_path / "killed"), "0.1", "21"]
    assert subprocess.run(run, check=False, timeout=120).returncode == -9
    assert len(log(tmp_path / "killed")) == 2
    assert not same(state(tmp_path / "killed"), state(tmp_path / "whole"))
    rest = Toy()
    history = training.fit(rest, network(), options, tmp_path / "killed")
    # The script keeps a checkpoint after each step.
    assert rest.calls == 32 - 20
    assert same(state(tmp_path / "killed"), state(tmp_path / "whole"))
    for a, b in zip(whole.rows, history.rows, strict=True):
        assert {**a, "seconds": 0} == {**b, "seconds": 0}


@pytest.mark.full
def test_two_processes_have_the_loss_curve_of_one(tmp_path: Path) -> None:
    history = training.fit(Toy(), network(0.0), OPTIONS, tmp_path / "one")
    run = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [*run, str(SCRIPT), str(tmp_path / "two"), "0.0"], check=False, timeout=300, capture_output=True
    )
    assert done.returncode == 0, done.stderr.decode()
    for ours, theirs in zip(history.rows, log(tmp_path / "two"), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["score"] == pytest.approx(theirs["score"], rel=1e-5)
    assert history.rows[-1]["loss"] < history.rows[0]["loss"]


@pytest.mark.full
def test_training_learns_and_leaves_the_best_weights(tmp_path: Path) -> None:
    task, model = Toy(), network(0.0)
    history = training.fit(task, model, replace(OPTIONS, epochs=100, lr=0.03), tmp_path)
    best = max(row["score"] for row in history.rows)
    assert history.rows[history.best]["score"] == best
    assert task.evaluate(model, "valid")["mse"] == -best
    assert best > -0.02 > history.rows[0]["score"]


def test_training_stops_when_the_score_no_longer_rises(tmp_path: Path) -> None:
    class Worse(Toy):
        def evaluate(self, model: torch.nn.Module, part: str) -> dict[str, float]:
            self.calls += 1
            return {"mse": float(self.calls)}

    history = training.fit(Worse(), network(), replace(OPTIONS, epochs=30, patience=3), tmp_path)
    assert (len(history.rows), history.best) == (4, 0)
    # and does not start again
    assert len(training.fit(Worse(), network(), replace(OPTIONS, epochs=30, patience=3), tmp_path).rows) == 4


def test_batches_keep_to_the_budget() -> None:
    items, sizes = np.array([3, 0, 1, 2, 4]), np.array([2.0, 2.0, 9.0, 3.0, 1.0])
    found = training.by_budget(items, sizes, 5.0, 10)
    assert [part.tolist() for part in found] == [[3, 0], [1], [2], [4]]
    assert [len(part) for part in training.by_budget(items, sizes, 100.0, 2)] == [2, 2, 1]
    assert training.by_budget(items[:0], sizes, 1.0, 1) == []


def test_the_learning_rate_rises_and_falls() -> None:
    options = training.Options(lr=2.0, warmup=0.1)
    rates = [training.learning_rate(options, done) for done in (0.0, 0.05, 0.1, 0.55, 1.0)]
    assert rates == pytest.approx([0.02, 1.0, 2.0, 1.0, 0.0])


def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    training.fit(Toy(), network(), replace(OPTIONS, epochs=1), tmp_path)
    with pytest.raises(GmncError, match="another epochs, lr"):
        training.fit(Toy(), network(), replace(OPTIONS, epochs=2, lr=0.5), tmp_path)
    with pytest.raises(LoadError, match="not of this run"):
        training.fit(Toy(), torch.nn.Linear(1, 1), replace(OPTIONS, epochs=1), tmp_path)
    (tmp_path / training.CHECKPOINT).write_bytes(b"PK")
    with pytest.raises(LoadError, match=training.CHECKPOINT):
        training.fit(Toy(), network(), replace(OPTIONS, epochs=1), tmp_path)


def test_losses_that_are_not_finite_and_empty_tasks_are_errors(tmp_path: Path) -> None:
    task = Toy()
    task.y = task.y * float("nan")
    with pytest.raises(GmncError, match="lower learning rate"):
        training.fit(task, network(), OPTIONS, tmp_path)

    class Empty(Toy):
        def batches(self, epoch: int) -> list[np.ndarray]:
            return []

    with pytest.raises(GmncError, match="nothing to train on"):
        training.fit(Empty(), network(), OPTIONS, tmp_path)
