"""Damaged stores, run folders, zoos and predictors, each tried as a user would; see `hostile` for models.

`PYTHONPATH=tests python -m support.damaged stores 3000` tries that many and prints what went wrong; `--first 137
--count 1` replays one. Case n is the same every time.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from support.hostile import BYTES, MEMORY, Outcome, judged, mutated, resident, supervised
from support.paths import EXAMPLES, MLP

__all__ = ["KINDS", "tried"]

_ODD = (
    None, True, False, 0, 1, -1, 2**31, -(2**31), 2**62, -(2**63), 10**30, 0.5, 1e308, float("nan"), float("inf"),
    float("-inf"), "", "x", "..", "../../escaped", "/tmp/escaped", "a/b", "\0", "\ud800", "é", "$x^$", "x" * 300,
    "networks/../../outside.onnx", "\x1b[31m", "float32", "object", "int", [], {}, [[]], [0, [1], [2**40]],
)  # fmt: skip
SMALL = ["--option", "hidden_channels=4", "--option", "num_layers=1", "--option", "hash_buckets=8"]


@dataclass(frozen=True)
class Kind:
    """What is damaged. files: patterns of a folder's files to change. commands: to run in the folder, by the file."""

    make: Callable[[Path], None]
    files: tuple[str, ...]
    commands: Callable[[Path, str, random.Random], list[list[str]]]


def changed(value: Any, rng: random.Random) -> Any:
    """The same with one value within it changed, dropped, repeated or swapped."""
    places = list(_places(value))
    if not places:
        return rng.choice(_ODD)
    holder, key = rng.choice(places)
    action = rng.random()
    if action < 0.15:
        del holder[key]
    elif action < 0.25 and isinstance(holder, list):
        holder.insert(key, holder[key])
    elif action < 0.4 and isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
        holder[key] += rng.choice((1, -1, 0.5, 100))
    elif action < 0.5:
        holder[key] = json.loads(json.dumps(rng.choice(places)[0], default=str))
    else:
        holder[key] = rng.choice(_ODD)
    return value


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    entries = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, entry in entries:
        yield value, key
        yield from _places(entry)


def _json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(changed(json.loads(data), rng)).encode()


def _safetensors(data: bytes, rng: random.Random) -> bytes:
    """A field of the header, or of the JSON text in it."""
    size = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + size])
    about = header.get("__metadata__", {})
    if about and rng.random() < 0.8:
        name = rng.choice(sorted(about))
        try:
            about[name] = json.dumps(changed(json.loads(about[name]), rng))
        except ValueError:
            about[name] = "x"
    else:
        header = changed(header, rng)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


def _checkpoint(data: bytes, rng: random.Random) -> bytes:
    import torch

    found = torch.load(io.BytesIO(data), weights_only=True)
    places = list(_places(found))
    holder, key = rng.choice(places)
    if isinstance(holder[key], torch.Tensor) and rng.random() < 0.7:
        tensor = holder[key]
        holder[key] = rng.choice((tensor[..., :1], tensor.double(), tensor.long(), tensor * np.nan, tensor[None]))
    elif rng.random() < 0.2:
        del holder[key]
    else:
        holder[key] = rng.choice(_ODD)
    buffer = io.BytesIO()
    torch.save(found, buffer)
    return buffer.getvalue()


def _parquet(data: bytes, rng: random.Random) -> bytes:
    import pyarrow as pa
    from pyarrow import parquet

    rows = parquet.read_table(io.BytesIO(data)).to_pylist()
    name = rng.choice(sorted(rows[0]))
    new = rng.choice(_ODD)
    action = rng.choice(("one", "all", "text", "drop", "short", "long"))
    if action == "short":
        rows = rows[: rng.randrange(len(rows))]
    elif action == "long":
        rows = rows * rng.choice((2, 50))
    for row in rows[:1] if action == "one" else rows:
        if action in ("one", "all"):
            row[name] = new
        elif action == "text":
            row[name] = str(new).encode("utf-8", "replace").decode()
        elif action == "drop":
            del row[name]
    buffer = io.BytesIO()
    parquet.write_table(pa.Table.from_pylist(rows), buffer)
    return buffer.getvalue()


_FORMS = {
    ".json": _json, ".safetensors": _safetensors, ".pt": _checkpoint, ".parquet": _parquet, ".onnx": mutated,
}  # fmt: skip


def damage(path: Path, rng: random.Random) -> None:
    """Change bytes of a file, or what it says."""
    data = path.read_bytes()
    form = _FORMS.get(path.suffix)
    if form is not None and rng.random() < 0.75:
        try:
            path.write_bytes(form(data, rng))
            return
        except Exception:  # what this file format cannot say
            pass
    path.write_bytes(rng.choice(BYTES)(bytearray(data), rng))


def _network(width: int, seed: int) -> Any:
    from gmnc.testing import build

    text = "(float[1, 3] x) => (float[1, 2] y) { a = MatMul(x, w) b = Add(a, c) r = Relu(b) y = MatMul(r, v) }"
    return build(text, {"w": (3, width), "c": (width,), "v": (width, 2)}, seed=seed)


def make_stores(folder: Path) -> None:
    from support.backend_graphs import every_kind_of_edge

    import gmnc
    from gmnc.backends import store

    graphs = {p.stem: gmnc.compile(p) for p in sorted(EXAMPLES.glob("*.onnx"))}
    for name, graph in (graphs | {"every": every_kind_of_edge(), "plain": gmnc.compile(_network(4, 0))}).items():
        store.save(graph, folder / f"{name}.safetensors")
    store.save(graphs["mlp"], folder / "structure.safetensors", values=False)


def store_commands(folder: Path, file: str, rng: random.Random) -> list[list[str]]:
    out = str(folder / "out")
    return [
        ["inspect", file, "--json"], ["inspect", file], ["embed", file, "--json"], ["symmetries", file, "--json"],
        ["predict", file, "--json"], ["draw", file, "-o", out + ".svg"], ["compile", file],
    ]  # fmt: skip


def make_zoo(folder: Path, size: int = 16) -> None:
    """A zoo without training, with its cache."""
    import onnx
    import pyarrow as pa
    from pyarrow import parquet

    import gmnc
    from gmnc.tasks.members import Zoo

    (folder / "networks").mkdir(parents=True)
    (folder / "rows").mkdir()
    rows = []
    for number in range(size):
        width = 4 + number % 2
        file = f"networks/{number:05}.onnx"
        onnx.save(_network(width, number), folder / file)
        rows.append({"id": number, "file": file, "architecture": f"mlp-w{width}", "family": "mlp", "width": width,
                     "accuracy": (number % 7) / 7, "loss": 0.5})  # fmt: skip
    parquet.write_table(pa.Table.from_pylist(rows), folder / "index.parquet")
    about = {"kind": "classifiers", "size": size, "seed": 0, "gmnc": gmnc.__version__}
    (folder / "zoo.json").write_text(json.dumps(about))
    (folder / "rows" / "00003.json").write_text(json.dumps(rows[3]))
    Zoo.open(folder)


def zoo_commands(folder: Path, file: str, rng: random.Random) -> list[list[str]]:
    train = ["train", "accuracy", "--zoo", str(folder), "--out", str(folder.with_name("run")), "--epochs", "1", *SMALL]
    make = ["zoo", "make", "--out", str(folder), "--size", "16"]
    return [make, train] if file.endswith((".json", ".parquet")) and "cache" not in file else [train]


def make_run(folder: Path) -> None:
    import torch

    zoo = folder.with_name("zoo-of-run")
    if not zoo.exists():
        make_zoo(zoo)
    result = _run(run_commands(folder, "run.json", random.Random(0))[0])
    assert result.exit_code == 0, result.output
    state = torch.load(folder / "checkpoint.pt", weights_only=True)
    state["history"] = {"rows": state["history"]["rows"][:1], "best": 0}
    torch.save(state, folder / "checkpoint.pt")


def run_commands(folder: Path, file: str, rng: random.Random) -> list[list[str]]:
    if file.endswith("result.json"):
        return [["evaluate", str(folder), "--plots", str(folder / "plots")], ["evaluate", str(folder), "--json"]]
    zoo = str(folder.with_name("zoo-of-run"))
    return [["train", "accuracy", "--zoo", zoo, "--out", str(folder), "--epochs", "2", *SMALL]]


def make_predictor(folder: Path) -> None:
    from gmnc.backends.blocks import blocks
    from gmnc.frontend import compile
    from gmnc.metanets import GMN
    from gmnc.tasks.predictor import fit_predictor

    members = [blocks(compile(_network(width, 0))) for width in (3, 4, 5)]
    model = GMN(hidden_channels=4, num_layers=2, hash_buckets=8)
    fit_predictor(model, members, {"zoo": "none"}).save(folder / "p.safetensors")


def predictor_commands(folder: Path, file: str, rng: random.Random) -> list[list[str]]:

    model = str(MLP)
    return [
        ["predict", model, "-p", file, "--json"],
        ["embed", model, "-w", file, "--json"],
        ["predict", model, "-p", file],
    ]


KINDS = {
    "stores": Kind(make_stores, ("*.safetensors",), store_commands),
    "runs": Kind(make_run, ("run.json", "checkpoint.pt", "result.json"), run_commands),
    "zoos": Kind(make_zoo, ("zoo.json", "index.parquet", "networks/0000*.onnx", "rows/*", "cache/*"), zoo_commands),
    "predictors": Kind(make_predictor, ("p.safetensors",), predictor_commands),
}


def _run(command: list[str]) -> Any:
    from typer.testing import CliRunner

    from gmnc.cli import app

    return CliRunner(env={"GMNC_DEBUG": ""}).invoke(app, command)


def serve(name: str, pipe: Connection, numbers: range) -> None:
    """Try each case in one process."""
    import torch

    from gmnc.tasks import zoo as zoos

    torch.set_num_threads(1)
    # A member that was lost would be trained.
    zoos._run_jobs = _lost_members
    kind = KINDS[name]
    with tempfile.TemporaryDirectory() as top:
        whole = Path(top) / "whole"
        whole.mkdir()
        kind.make(whole) if name != "zoos" else kind.make(whole / "zoo")
        source = whole / "zoo" if name == "zoos" else whole
        _warm(kind, Path(top), source)
        before = resident()
        resource.setrlimit(resource.RLIMIT_DATA, (before + 4 * MEMORY, before + 4 * MEMORY))
        for number in numbers:
            rng = random.Random(number)
            folder = Path(top) / "case"
            for left in (folder, Path(top) / "run"):
                shutil.rmtree(left, ignore_errors=True)
            shutil.copytree(source, folder)
            patterns = [sorted(folder.glob(pattern)) for pattern in kind.files]
            chosen = rng.choice(rng.choice([files for files in patterns if files]))
            damage(chosen, rng)
            command = rng.choice(kind.commands(folder, str(chosen), rng))
            pipe.send((number, None))
            start = time.process_time()
            result = _run(command)
            said = judged(result, before, time.process_time() - start, (0, 1, 2))
            escaped = sorted({p.name for p in Path(top).iterdir()} - {"whole", "case", "run", "zoo-of-run"})
            said = said or f"wrote {escaped}" * bool(escaped)
            pipe.send((number, f"{chosen.name}, {' '.join(command[:2])}: {said}" if said else ""))


def _warm(kind: Kind, top: Path, source: Path) -> None:
    """Run what is tried on files that are whole, so that imports count for none."""
    shutil.copytree(source, top / "case")
    for pattern in kind.files:
        file = next((top / "case").glob(pattern))
        for command in kind.commands(top / "case", str(file), random.Random(0)):
            result = _run(command)
            assert result.exit_code in (0, 2), result.output


def _lost_members(out: Path, kind: str, seed: int, jobs: list[list[int]], workers: int) -> Iterator[int]:
    rows = {"architecture": "mlp-w4", "family": "mlp", "width": 4, "accuracy": 0.5, "loss": 0.5}
    for done, number in enumerate((n for job in jobs for n in job), 1):
        file = f"networks/{number:05}.onnx"
        shutil.copy(next((out / "networks").glob("*")), out / file)
        (out / "rows" / f"{number:05}.json").write_text(json.dumps({"id": number, "file": file, **rows}))
        yield done


def tried(name: str, first: int, count: int) -> Iterator[Outcome]:
    """Try the cases of a kind from `first` on."""
    return supervised(partial(serve, name), first, count)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("count", type=int)
    parser.add_argument("--first", type=int, default=0)
    options = parser.parse_args()
    failed = 0
    for outcome in tried(options.kind, options.first, options.count):
        if outcome.problem:
            failed += 1
            print(f"{outcome.number}: {outcome.problem}", flush=True)
    print(f"{options.count} {options.kind}, {failed} problems")


if __name__ == "__main__":
    main()
