"""Predicting accuracies: splits, metrics, runs of the whole experiment, and reports of them."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.fake_zoo import FakeZoo, fake_zoo

from gmnc.ir import GmncError, LoadError
from gmnc.tasks import accuracy, report
from gmnc.tasks.experiment import RESULT, RUN, Settings, load_result, run
from gmnc.tasks.training import Options


@cache
def zoo() -> FakeZoo:
    return fake_zoo(120)


def table(size: int = 1000) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {"family": rng.choice(["a", "b", "c"], size), "width": rng.choice([4, 8, 12, 16, 24], size)}


def test_splits_part_the_members() -> None:
    for name in accuracy.SPLITS:
        parts = accuracy.split(table(), name, 3, "b" if name == "family" else "")
        together = np.concatenate([parts.train, parts.valid, parts.test])
        assert len(set(together.tolist())) == len(together)
        again, other = (accuracy.split(table(), name, seed, "b" if name == "family" else "") for seed in (3, 4))
        assert np.array_equal(again.train, parts.train)
        assert np.array_equal(other.test, parts.test)
        assert not np.array_equal(other.train, parts.train)
    full, tenth = (accuracy.split(table(), n) for n in ("full", "tenth"))
    assert [len(p) for p in (full.train, full.valid, full.test)] == [700, 100, 200]
    assert [len(p) for p in (tenth.train, tenth.valid, tenth.test)] == [70, 10, 200]
    assert np.array_equal(full.test, tenth.test)


def test_fewer_examples_are_among_more_and_change_nothing_else() -> None:
    full, more, fewer = (accuracy.split(table(), "full", 1, examples=n) for n in (0, 200, 50))
    assert [len(p.train) for p in (full, more, fewer)] == [700, 200, 50]
    assert set(fewer.train) < set(more.train) < set(full.train)
    for part in (more, fewer):
        assert np.array_equal(part.valid, full.valid)
        assert np.array_equal(part.test, full.test)
    with pytest.raises(GmncError, match="700 members train, fewer than 701"):
        accuracy.split(table(), "full", examples=701)


def test_the_width_split_tests_on_strictly_wider_members_of_each_family() -> None:
    given = table()
    parts = accuracy.split(given, "width")
    known = np.concatenate([parts.train, parts.valid])
    for family in "abc":
        narrow, wide = (given["width"][part[given["family"][part] == family]] for part in (known, parts.test))
        assert len(wide)
        assert narrow.max() < wide.min()


def test_the_family_split_tests_on_the_held_out_family_alone() -> None:
    given = table()
    parts = accuracy.split(given, "family", 0, "c")
    assert set(given["family"][parts.test]) == {"c"}
    assert set(given["family"][np.concatenate([parts.train, parts.valid])]) == {"a", "b"}
    with pytest.raises(GmncError, match="choose with --held-out: a, b, c"):
        accuracy.split(given, "family", 0, "d")
    with pytest.raises(GmncError, match="unknown split 'half'"):
        accuracy.split(given, "half")
    with pytest.raises(GmncError, match="too few"):
        accuracy.split({k: v[:4] for k, v in given.items()}, "tenth")


def test_metrics_by_hand() -> None:
    expected = np.array([0.0, 0.5, 1.0, 0.5])
    found = accuracy.metrics(expected, np.array([0.0, 0.5, 1.0, 0.5]))
    assert found == {"r2": 1.0, "tau": pytest.approx(1.0), "mse": 0.0}
    of_mean = accuracy.metrics(expected, np.full(4, 0.5))
    assert (of_mean["r2"], of_mean["tau"], of_mean["mse"]) == (0.0, 0.0, 0.125)
    # 4 of the 5 pairs that are not tied in `expected` agree, 1 does not: tau-b = 3 / sqrt(5 * 6)
    swapped = accuracy.metrics(expected, np.array([0.2, 0.1, 0.9, 0.4]))
    assert swapped["tau"] == pytest.approx(3 / np.sqrt(5 * 6))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert accuracy.metrics(np.array([0.5]), np.array([0.4]))["tau"] == 0


def settings(model: str, **more: object) -> Settings:
    gmn = {"hidden_channels": 16, "num_layers": 2, "hash_buckets": 256}
    small = {"gmn": gmn, "deepsets": {"hidden_channels": 16}, "dmc": {"length": 256}}
    return Settings("accuracy", "fake", model, members=8, metanet=small.get(model, {}), **more)  # type: ignore[arg-type]


def trained(model: str, out: Path, epochs: int = 15, **more: object) -> dict[str, object]:
    options = Options(epochs=epochs, lr=4e-3)
    return run(lambda s: accuracy.experiment(s, zoo()), settings(model, **more), options, out)


@pytest.mark.full
@pytest.mark.parametrize("model", ["gmn", "deepsets", "statnn"])
def test_metanetworks_learn_what_values_say(model: str, tmp_path: Path) -> None:
    result = trained(model, tmp_path)
    assert result["metrics"]["r2"] > 0.5
    assert result["mean_of_training"]["r2"] < 0.05
    assert load_result(tmp_path) == json.loads(json.dumps(result))
    predictions = result["predictions"]
    found = accuracy.metrics(np.array(predictions["accuracy"]), np.array(predictions["predicted"]))
    assert found["r2"] == pytest.approx(result["metrics"]["r2"], abs=1e-4)


@pytest.mark.full
def test_a_run_is_repeated_to_the_bit_and_told_from_others(tmp_path: Path) -> None:
    first, second = (trained("gmn", tmp_path / name, 2) for name in ("a", "b"))
    assert first["metrics"] == second["metrics"]
    assert trained("gmn", tmp_path / "a", 2)["metrics"] == first["metrics"]
    assert trained("gmn", tmp_path / "c", 2, seed=1)["metrics"] != first["metrics"]
    with pytest.raises(GmncError, match="another seed"):
        trained("gmn", tmp_path / "a", 2, seed=1)
    with pytest.raises(GmncError, match="another epochs"):
        trained("gmn", tmp_path / "a", 3)


def test_runs_of_earlier_versions_lack_settings(tmp_path: Path) -> None:
    made = trained("statnn", tmp_path, 2)
    for name in (RUN, RESULT):
        written = json.loads((tmp_path / name).read_text())
        del written["settings"]["examples"]
        (tmp_path / name).write_text(json.dumps(written))
    assert load_result(tmp_path)["settings"]["examples"] == 0
    with pytest.raises(GmncError, match="another examples;"):
        trained("statnn", tmp_path, 2, examples=9)
    assert trained("statnn", tmp_path, 2)["metrics"] == made["metrics"]


@pytest.mark.full
def test_reports_have_mean_and_deviation_over_seeds(tmp_path: Path) -> None:
    runs = [tmp_path / f"{model}{seed}" for model in ("dmc", "statnn") for seed in (0, 1)]
    for out in runs:
        trained(out.name[:-1], out, 1, seed=int(out.name[-1]))
    results = [load_result(out) for out in runs]
    rows = report.summary(results)
    assert [(r.model, r.seeds) for r in rows] == [("dmc", (0, 1)), ("statnn", (0, 1))]
    mses = [r["metrics"]["mse"] for r in results[:2]]
    mean, std = rows[0].metrics["mse"]
    assert mean == pytest.approx(sum(mses) / 2)
    assert std == pytest.approx(abs(mses[0] - mses[1]) / np.sqrt(2))
    text = report.markdown(rows)
    assert text.count("\n| full |") == 2
    assert f"{mean:.3f} ± {std:.3f}" in text
    assert report.to_json(rows)[0]["metrics"]["mse"]["mean"] == mean
    assert rows[0].device.endswith("of a CPU")
    assert report.summary([{**results[0], "device": "a GPU"}])[0].device == "a GPU"
    # Names are no mathematics: matplotlib fails on this one where it reads them as such.
    results[0]["predictions"]["family"] = ["$x^$"] * len(results[0]["predictions"]["family"])
    made = report.plots([*results, results[0]], tmp_path / "plots")
    assert len(set(made)) == 6
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in made)


def test_runs_of_other_settings_are_told_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def result(seed: int, lr: float, r2: float, **metanet: int) -> dict[str, Any]:
        given = asdict(Settings("accuracy", "zoo", "gmn", seed=seed, metanet=metanet))
        history = [{"valid": {"r2": r2 - 1}}, {"valid": {"r2": r2 - 0.5}}, {"valid": {"r2": r2 - 2}}]
        about = {"parameters": 1, "epochs": 3, "best_epoch": 2, "seconds": 1.0, "history": history}
        return {"settings": given, "options": asdict(Options(lr=lr, seed=seed)), "metrics": {"r2": r2}, **about}

    tries = [result(0, 0.1, 1.0), result(1, 0.1, 3.0), result(0, 0.2, 7.0), result(0, 0.1, 9.0, width=8)]
    rows = report.summary(tries)
    assert [(r.settings, r.seeds, r.metrics["r2"][0]) for r in rows] == [
        ("lr 0.1", (0, 1), 2.0), ("lr 0.2", (0,), 7.0), ("lr 0.1, width 8", (0,), 9.0)
    ]  # fmt: skip
    assert report.titles(tries) == [
        "gmn, full, lr 0.1, seed 0", "gmn, full, lr 0.1, seed 1", "gmn, full, lr 0.2, seed 0",
        "gmn, full, lr 0.1, width 8, seed 0",
    ]  # fmt: skip
    assert report.titles(tries[:2]) == ["gmn, full, seed 0", "gmn, full, seed 1"]
    drawn: list[Any] = []
    monkeypatch.setattr(report, "_write", lambda figure, path: drawn.append(figure))
    plain = [{"epoch": n, "loss": 0.1, "score": 0.2} for n in (1, 2)]
    guess = {"accuracy": [0.5], "predicted": [0.4], "family": ["cnn"]}
    report.plots([{**one, "history": plain, "predictions": guess} for one in tries], tmp_path)
    assert [text.get_text() for text in drawn[0].axes[0].get_legend().get_texts()] == report.titles(tries)
    assert [f.axes[0].get_title().split("\n")[0] for f in drawn[1:]] == report.titles(tries)
    assert "| full | gmn | lr 0.1, width 8 | 9.000 |" in report.markdown(rows)
    assert "settings" not in report.markdown(report.summary(tries[:2]))
    assert [r.metrics["r2"][0] for r in report.summary(tries, "valid")] == [1.5, 6.5, 8.5]
    before = {**tries[1], "parameters": 2}
    assert [(r.seeds, r.parameters) for r in report.summary([tries[0], before])] == [((0,), 1), ((1,), 2)]
    with pytest.raises(GmncError, match="choose test or valid"):
        report.summary(tries, "train")
    with pytest.raises(GmncError, match="accuracy, full, gmn: two runs have seed 0 and the same settings"):
        report.summary([tries[0], result(0, 0.1, 2.0)])


def test_folders_without_a_result_are_errors(tmp_path: Path) -> None:
    with pytest.raises(LoadError, match="no finished run"):
        load_result(tmp_path)
    (tmp_path / RESULT).write_text("{}")
    with pytest.raises(LoadError, match="not the result of a run"):
        load_result(tmp_path)
