"""Files of zoos, runs and predictors that say what cannot be: errors that name file and field, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from support.commands import refused, run
from support.damaged import SMALL, make_predictor, make_run, make_zoo
from support.paths import MLP
from support.training_toy import Nothing

from gmnc.files.fields import integer, listed, number, parsed, plain, row, table, text, word
from gmnc.ir import GmncError, LoadError
from gmnc.metanets import GMN
from gmnc.tasks import zoo as zoos
from gmnc.tasks.members import Zoo
from gmnc.tasks.training import Options, fit
from gmnc.tasks.zoo import about, read_index

pytest.importorskip("pyarrow", reason="an extra of the experiments: pip install 'gmnc[tasks]'")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo, a run of two epochs on it, and a predictor; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("whole")
    make_zoo(folder / "zoo-of-run")
    (folder / "run").mkdir()
    make_run(folder / "run")
    (folder / "predictor").mkdir()
    make_predictor(folder / "predictor")
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    folder = Path(shutil.copytree(whole, tmp_path / "copy"))
    edit(folder / "run" / "run.json", lambda asked: asked["settings"].update(zoo=str(folder / "zoo-of-run")))
    return folder


def train(copy: Path, out: str = "run") -> Any:
    return run("train", "accuracy", "--zoo", copy / "zoo-of-run", "--out", copy / out, "--epochs", 2, *SMALL)


def edit(path: Path, change: Callable[[Any], object]) -> None:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


def edit_index(zoo: Path, **columns: Any) -> None:
    """Columns of the index with their first value changed."""
    import pyarrow as pa
    from pyarrow import parquet

    rows = parquet.read_table(zoo / "index.parquet").to_pylist()
    rows[0] |= columns
    parquet.write_table(pa.Table.from_pylist(rows), zoo / "index.parquet")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("architecture", "../../escaped"),
        ("architecture", "/tmp/escaped"),
        ("architecture", "a\0b"),
        ("architecture", ".."),
        ("family", "a/b"),
        ("file", "../outside.onnx"),
        ("file", "networks/../../outside.onnx"),
        ("file", "networks/a/b.onnx"),
        ("file", "/etc/passwd"),
        ("file", "rows/00003.json"),
        ("file", "networks/a\0b.onnx"),
        ("accuracy", float("nan")),
        ("accuracy", float("inf")),
        ("accuracy", 1.5),
        ("loss", float("-inf")),
        ("id", 7),
    ],
)
def test_an_index_names_no_other_files_and_has_numbers(name: str, value: object, copy: Path) -> None:
    shutil.copy(MLP, copy / "outside.onnx")
    before = sorted(copy.parent.rglob("*"))
    edit_index(copy / "zoo-of-run", **{name: value})
    refused(train(copy, "new"), "index", name)
    assert sorted(copy.parent.rglob("*")) == before


@pytest.mark.parametrize("name", ["id", "file", "architecture", "accuracy", "family"])
def test_an_index_without_a_column_is_an_error(name: str, copy: Path) -> None:
    from pyarrow import parquet

    path = copy / "zoo-of-run" / "index.parquet"
    parquet.write_table(parquet.read_table(path).drop_columns([name]), path)
    refused(train(copy, "new"), "index", name)


def test_an_index_of_any_length_is_not_read(copy: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = 10**7
    parquet.write_table(pa.table({"id": pa.array(np.zeros(rows, np.int64))}), copy / "zoo-of-run" / "index.parquet")
    with pytest.raises(LoadError, match=r"index\.parquet.*expected 1 to 16 rows, found 10000000"):
        read_index(copy / "zoo-of-run")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda a: a.update(size="16"), "size: expected a whole number"),
        (lambda a: a.update(size=10**30), "size: expected a whole number"),
        (lambda a: a.update(seed=True), "seed: expected a whole number"),
        (lambda a: a.pop("kind"), "expected a field 'kind'"),
        (lambda a: a.update(kind="../x"), "kind: expected a name"),
    ],
)
def test_what_a_zoo_says_of_itself_is_checked(change: Callable[[Any], object], says: str, copy: Path) -> None:
    zoo = copy / "zoo-of-run"
    edit(zoo / "zoo.json", change)
    with pytest.raises(LoadError, match=rf"zoo\.json: {says}"):
        about(zoo)
    refused(run("zoo", "make", "--out", zoo, "--size", 16), "zoo.json", says)


@pytest.mark.parametrize("data", [b"", b"[" * 100_000, b"{}", b"[]", b"\xff", b"null", b'{"a": 1' + b"0" * 5000 + b"}"])
def test_files_that_are_not_what_they_must_be(data: bytes, copy: Path) -> None:
    (copy / "zoo-of-run" / "zoo.json").write_bytes(data)
    refused(run("zoo", "make", "--out", copy / "zoo-of-run", "--size", 16), "zoo.json")
    (copy / "run" / "result.json").write_bytes(data)
    refused(run("evaluate", copy / "run"), "result.json")
    if data != b"{}":
        (copy / "run" / "run.json").write_bytes(data)
        refused(train(copy), "run.json")


def test_rows_of_a_zoo_are_checked(copy: Path) -> None:
    for value in ({"id": 3}, [], {"id": 3, "file": "../x", "architecture": "a"}):
        (copy / "zoo-of-run" / "rows" / "00003.json").write_text(json.dumps(value))
        refused(run("zoo", "make", "--out", copy / "zoo-of-run", "--size", 16), "00003.json")


def test_a_zoo_of_impossible_size_or_seed_is_refused(tmp_path: Path) -> None:
    for size, seed in ((10**9, 0), (1, 10**30)):
        with pytest.raises(GmncError, match="expected a whole number"):
            zoos.make_zoo(tmp_path / "zoo", size, seed)
    assert not (tmp_path / "zoo").exists()


CACHE = ("first-16.json", "first-16.npy", "first-16-starts.npy", "mlp-w4.safetensors")


@pytest.mark.parametrize("how", ["cut", "missing", "changed", "of another kind", "pipe"])
@pytest.mark.parametrize("name", CACHE)
def test_a_damaged_cache_is_made_anew(name: str, how: str, copy: Path, recwarn: pytest.WarningsRecorder) -> None:
    zoo, path = copy / "zoo-of-run", copy / "zoo-of-run" / "cache" / name
    expected = [m.values for m in Zoo.open(zoo)]
    recwarn.clear()
    data = path.read_bytes()
    path.unlink()
    if how == "pipe":
        os.mkfifo(path)
    elif how != "missing":
        at = len(data) // 2
        path.write_bytes({"cut": data[:at], "changed": data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :],
                          "of another kind": b"{}"}[how])  # fmt: skip
    if how == "pipe" and name != "first-16.json":
        with pytest.raises(GmncError, match="a device or a pipe"):
            list(Zoo.open(zoo))
        return
    assert all(torch.equal(a.values, b) for a, b in zip(Zoo.open(zoo), expected, strict=True))
    notes = [str(w.message) for w in recwarn if "cache of the zoo is damaged" in str(w.message)]
    assert len(notes) == (0 if (name, how) == ("first-16.json", "missing") else 1)
    assert path.read_bytes() == data or name == "first-16.json", "of other times"
    recwarn.clear()
    assert len(Zoo.open(zoo)) == len(expected)
    assert not list(recwarn), "it is whole again"


def test_a_run_is_not_put_into_a_zoo(copy: Path) -> None:
    refused(train(copy, "zoo-of-run"), "is a zoo")


@pytest.mark.parametrize(
    ("part", "name", "value"),
    [
        ("settings", "seed", "0"), ("settings", "metanet", {"width": [3]}), ("settings", "task", "../x"),
        ("settings", "members", -1), ("options", "lr", "fast"), ("options", "lr", float("nan")), ("options", "amp", 1),
    ],
)  # fmt: skip
def test_what_was_asked_of_a_run_is_checked(part: str, name: str, value: object, copy: Path) -> None:
    edit(copy / "run" / "run.json", lambda a: a[part].update({name: value}))
    refused(train(copy), "run.json", f"{part}.{name}")


RESULTS = {
    "settings.task": lambda r: r["settings"].update(task="../../escaped"),
    "settings.held_out": lambda r: r["settings"].update(held_out="/tmp/escaped"),
    "settings": lambda r: r["settings"].update(more=1),
    "metrics.mse": lambda r: r["metrics"].update(mse="low"),
    "metrics.r2": lambda r: r["metrics"].update(r2=float("nan")),
    "history[0].epoch": lambda r: r["history"][0].update(epoch=None),
    "history": lambda r: r.update(history=[]),
    "history[1].valid": lambda r: r["history"][1].update(valid=3),
    "best_epoch": lambda r: r.update(best_epoch=9),
    "parameters": lambda r: r.update(parameters=[]),
    "seconds": lambda r: r.update(seconds=float("inf")),
    "device": lambda r: r.update(device=7),
    "predictions.accuracy[0]": lambda r: r["predictions"]["accuracy"].__setitem__(0, "x"),
    "predictions": lambda r: r["predictions"]["family"].pop(),
    "predictions.family[0]": lambda r: r["predictions"]["family"].__setitem__(0, "$x^$"),
    "edited[0].target": lambda r: r.update(edited=[{"original": [0], "target": [0, 1], "edited": [0], "mse": 0}]),
    "members.train": lambda r: r["members"].update(train="many"),
}


@pytest.mark.parametrize("field", RESULTS)
def test_a_result_is_checked(field: str, copy: Path) -> None:
    edit(copy / "run" / "result.json", RESULTS[field])
    before = sorted(copy.parent.rglob("*"))
    refused(run("evaluate", copy / "run", "--plots", copy / "plots"), "result.json", f"{field}: expected")
    assert sorted(copy.parent.rglob("*")) == before


CHECKPOINTS = {
    "a weight of another shape": lambda s: s["model"].update({next(iter(s["model"])): torch.zeros(7)}),
    "a best weight is missing": lambda s: s["best"].popitem(),
    "a weight of another type": lambda s: s["best"].update({next(iter(s["best"])): 3}),
    "moments of another shape": lambda s: s["optimizer"]["state"][0].update(exp_avg=torch.zeros(9)),
    "moments of no parameter": lambda s: s["optimizer"]["state"].update({99: {}}),
    "no optimizer": lambda s: s.update(optimizer=[]),
    "a step that is none": lambda s: s.update(step="two"),
    "a step too far": lambda s: s.update(step=10**6),
    "sums that are none": lambda s: s.update(sums=[1.0]),
    "a best row that is none": lambda s: s["history"].update(best=5),
    "rows that are none": lambda s: s["history"].update(rows=[{"epoch": 1}]),
    "no random state": lambda s: s.update(rng=[]),
    "a random state that is none": lambda s: s.update(rng=[torch.zeros_like(s["rng"][0]) + 255]),
    "time that is none": lambda s: s.update(spent=float("nan")),
    "options that are none": lambda s: s.update(options=3),
    "nothing": lambda s: s.clear(),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_a_checkpoint_is_checked(what: str, copy: Path) -> None:
    path = copy / "run" / "checkpoint.pt"
    state = torch.load(path, weights_only=True)
    CHECKPOINTS[what](state)
    torch.save(state, path)
    refused(train(copy), "checkpoint.pt")


def test_a_whole_checkpoint_is_gone_on_from(copy: Path) -> None:
    assert train(copy).exit_code == 0


HEADERS = {
    "ranges": lambda h: h["ranges"].popitem(),
    "ranges.depth": lambda h: h["ranges"].update(depth=[1]),
    "ranges.log parameters[1]": lambda h: h["ranges"].update({"log parameters": [0, 1e308]}),
    "op_tokens[0]": lambda h: h["op_tokens"].__setitem__(0, "word"),
    "about": lambda h: h.update(about=[]),
}
OPTIONS = {
    "width": 10**9, "layers": "many", "layers ": 10**9, "activation": "sin", "dropout": float("nan"), "buckets": -1,
    "more": 1, "reverse": "yes", "head": "both", "outputs": 2,
}  # fmt: skip


def edit_header(path: Path, key: str, change: Callable[[Any], object]) -> None:
    with safe_open(path, "pt") as file:
        header = dict(file.metadata())
    found = json.loads(header[key])
    change(found)
    save_file(load_file(path), path, header | {key: json.dumps(found)})


@pytest.mark.parametrize("field", HEADERS)
def test_a_predictor_is_checked(field: str, copy: Path) -> None:
    path = copy / "predictor" / "p.safetensors"
    edit_header(path, "gmnc.tasks.predictor", HEADERS[field])
    refused(run("predict", MLP, "-p", path), "p.safetensors", f"{field}: expected")


@pytest.mark.parametrize("name", OPTIONS)
def test_options_in_a_file_of_weights_are_checked(name: str, copy: Path) -> None:
    path = copy / "predictor" / "p.safetensors"
    edit_header(path, "gmnc.metanets.GMN", lambda h: h.update({name.strip(): OPTIONS[name]}))
    refused(run("predict", MLP, "-p", path), "p.safetensors")


def test_a_predictor_takes_the_place_of_no_input(copy: Path) -> None:
    for path in (copy / "zoo-of-run" / "index.parquet", copy / "run" / "run.json"):
        link = copy / f"{path.stem}.safetensors"
        link.symlink_to(path)
        done = run("train", "accuracy", "--zoo", copy / "zoo-of-run", "--out", copy / "run", "--epochs", 2, *SMALL,
                   "--predictor", link)  # fmt: skip
        refused(done, "is read by the same command")


@pytest.mark.parametrize(
    ("option", "says"),
    [
        ("hidden_channels=-3", "option hidden_channels: expected a whole number"),
        ("hidden_channels=wide", "option hidden_channels: expected a whole number"),
        ("act=sin", "option act: expected one of relu, silu, tanh"),
        ("dropout=nan", "option dropout: expected a finite number"),
        ("reverse=2", "option reverse: expected true or false"),
    ],
)
def test_options_that_cannot_be_are_errors(option: str, says: str, copy: Path) -> None:
    done = run("train", "accuracy", "--zoo", copy / "zoo-of-run", "--out", copy / "new", "--option", option)
    assert done.exit_code == 2
    assert says in done.stderr or "metanet" in done.stderr
    name, _, value = option.partition("=")
    given: Any = int(value) if value.lstrip("-").isdigit() else float(value) if value == "nan" else value
    with pytest.raises(GmncError, match=says):
        GMN(**{name: given})


@pytest.mark.parametrize(
    ("more", "says"),
    [
        (["--lr", "inf"], "options.lr: expected a finite number"),
        (["--weight-decay", "inf"], "options.weight_decay: expected a finite number"),
        (["--seed", str(10**30)], "seed: expected a whole number"),
        (["--held-out", "../x"], "settings.held_out: expected a name"),
        (["--model", "statnn", "--option", "hidden_channels=-3"], "statnn"),
    ],
)
def test_settings_that_cannot_be_are_errors(more: list[str], says: str, copy: Path) -> None:
    done = run("train", "accuracy", "--zoo", copy / "zoo-of-run", "--out", copy / "new", *more)
    assert done.exit_code == 2
    assert says in done.stderr


def test_metrics_that_are_not_finite_end_the_run(tmp_path: Path) -> None:
    class Bad(Nothing):
        def evaluate(self, model: torch.nn.Module, part: str) -> dict[str, float]:
            return {"mse": float("nan")}

    with pytest.raises(GmncError, match=r"in validation after epoch 1: .*nan"):
        fit(Bad(), torch.nn.Linear(200, 2), Options(epochs=1), tmp_path)


@pytest.mark.parametrize(
    ("check", "value", "says"),
    [
        (integer(1, 3), 4, "expected a whole number from 1 to 3, found 4"),
        (integer(), True, "found True"),
        (integer(), 1.0, "found 1.0"),
        (number(), 10**400, "expected a finite number"),
        (text, "\ud800", "lone surrogates"),
        (word, "a/b", "expected a name"),
        (word, ".hidden", "expected a name"),
        (word, "new\n", "expected a name"),
        (listed(integer()), [0, "x"], r"\[1\]: expected"),
        (row(text, text), ["x"], "a list of 2"),
        (table({"a": table({"b": text})}), {"a": {"b": 1}}, r"a\.b: expected text, found 1"),
        (plain, [[[[[[[[[[1]]]]]]]]]], "less nesting"),
        (text, 10**60, "found 1000000"),
    ],
)
def test_checks_name_the_field_and_what_it_must_be(check: Callable[[Any], Any], value: Any, says: str) -> None:
    with pytest.raises(LoadError, match=f"FILE: {says}|FILE: .*{says}") as caught:
        parsed(json.dumps(value), check, "FILE")
    assert len(str(caught.value)) < 250


def test_values_that_are_what_they_must_be_come_back_as_they_are() -> None:
    check = table({"a": listed(row(integer(), number(), word))}, {"b": plain})
    value = {"a": [[1, 0.5, "relu-w8 x"], [2, 3, "a.b_c+d"]], "b": {"x": [None, True, 1, 2.5, "é"]}, "more": []}
    assert parsed(json.dumps(value), check, "FILE") == value
