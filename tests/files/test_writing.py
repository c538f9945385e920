"""What is written: whole or not at all, to the right file, with the right mode; and what is read stays what it was."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from safetensors.numpy import load_file, save_file
from support.backend_graphs import every_kind_of_edge
from support.commands import run
from support.external import external
from support.paths import MLP
from support.training_toy import Nothing

import gmnc
from gmnc.backends import store
from gmnc.backends.draw import draw
from gmnc.backends.onnx import write
from gmnc.files.writing import make_folder, replacing, write_bytes, write_json
from gmnc.ir import GmncError, LoadError
from gmnc.metanets import GMN
from gmnc.metanets import save as save_net
from gmnc.tasks.training import Options, fit


def names(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


OUTPUTS = {
    "out.safetensors": lambda path: store.save(every_kind_of_edge(), path),
    "out.onnx": lambda path: write(gmnc.compile(MLP), None, path),
    "out.svg": lambda path: draw(every_kind_of_edge(), path),
    "net.safetensors": lambda path: save_net(GMN(hidden_channels=4, num_layers=1, hash_buckets=4), path),
    "bytes": lambda path: write_bytes(path, b"bytes"),
    "out.json": lambda path: write_json(path, {"a": 1}),
}
"""By the name of the file: how it is written."""


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
@pytest.mark.parametrize("name", OUTPUTS)
def test_new_files_obey_the_umask_and_old_ones_keep_their_mode(name: str, umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        OUTPUTS[name](tmp_path / name)
        assert mode(tmp_path / name) == 0o666 & ~umask
        (tmp_path / name).chmod(0o640)
        OUTPUTS[name](tmp_path / name)
        assert mode(tmp_path / name) == 0o640
        assert names(tmp_path) == [name]
    finally:
        os.umask(before)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_the_file_that_it_names_is_written(there: bool, tmp_path: Path) -> None:
    (tmp_path / "links").mkdir()
    (tmp_path / "real").mkdir()
    real, link = tmp_path / "real" / "g.safetensors", tmp_path / "links" / "g.safetensors"
    if there:
        real.write_bytes(b"old")
    link.symlink_to(real)
    store.save(every_kind_of_edge(), link)
    assert link.is_symlink()
    assert store.is_store(real)
    assert names(tmp_path / "links") == names(tmp_path / "real") == ["g.safetensors"]


def test_data_files_lie_beside_the_file_that_a_link_names(tmp_path: Path) -> None:
    source = external(tmp_path / "source")
    (tmp_path / "real").mkdir()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "real" / "m.onnx")
    write(gmnc.compile(source), {"w": np.ones((2, 3), np.float32)}, tmp_path / "link.onnx")
    assert names(tmp_path / "real") == ["m.onnx", "w.bin"]
    assert np.array_equal(gmnc.compile(tmp_path / "real" / "m.onnx").parameters["w"].load(), np.ones((2, 3)))


@pytest.mark.parametrize("name", OUTPUTS)
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to itself"])
def test_what_is_no_regular_file_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    path = tmp_path / name
    {"pipe": os.mkfifo, "folder": os.mkdir, "link to itself": lambda p: os.symlink(p, p)}[kind](path)
    before = path.lstat()
    with pytest.raises(GmncError, match=f"cannot write .*{name}"):
        OUTPUTS[name](path)
    assert path.lstat() == before
    assert names(tmp_path) == [name]


@pytest.mark.parametrize("name", ["", "/", ".", "no folder/out", "file/out", "a\0b"])
def test_impossible_names_are_errors(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine")
    for save in (store.save, lambda _, path: write_bytes(path, b"")):
        with pytest.raises(GmncError, match="cannot write"):
            save(every_kind_of_edge(), name)
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize("name", ["", "/", "."])
@pytest.mark.parametrize("command", ["compile", "embed"])
def test_impossible_names_are_usage_errors_of_commands(command: str, name: str) -> None:
    done = run(command, MLP, "-o", name)
    assert done.exit_code == 2
    assert done.stderr.startswith("gmnc: cannot write")


@pytest.mark.parametrize("size", [244, 250, 255])
def test_long_names_are_written(size: int, tmp_path: Path) -> None:
    for ending in (".safetensors", "é.onnx"):
        name = "n" * (size - len(ending.encode())) + ending
        write_bytes(tmp_path / name, b"x")
        assert (tmp_path / name).read_bytes() == b"x"
    source = external(tmp_path / "source")
    (tmp_path / "w.bin").write_bytes(b"taken")
    write(gmnc.compile(source), {"w": np.ones((2, 3), np.float32)}, tmp_path / name)
    assert np.array_equal(gmnc.compile(tmp_path / name).parameters["w"].load(), np.ones((2, 3)))
    with pytest.raises(GmncError, match="too long"):
        write_bytes(tmp_path / ("n" * 256), b"x")


@pytest.mark.parametrize("way", ["itself", "another path", "link", "hard link", "data"])
def test_a_store_never_takes_the_place_of_what_it_is_made_of(way: str, tmp_path: Path) -> None:
    source = external(tmp_path / "d")
    (tmp_path / "link").symlink_to(source)
    shutil.copy(MLP, tmp_path / "mlp.onnx")
    os.link(tmp_path / "mlp.onnx", tmp_path / "hard")
    out = {"itself": source, "another path": tmp_path / "d" / ".." / "d" / "m.onnx", "link": tmp_path / "link",
           "hard link": tmp_path / "hard", "data": tmp_path / "d" / "w.bin"}[way]  # fmt: skip
    model = tmp_path / "mlp.onnx" if way == "hard link" else source
    before = out.read_bytes()
    done = run("compile", model, "-o", out)
    assert done.exit_code == 2
    assert ("must end in .safetensors" if way == "data" else "is read by the same command") in done.stderr
    with pytest.raises(GmncError, match="is read by the same command"):
        store.save(gmnc.compile(model), out)
    assert out.read_bytes() == before


def test_embeddings_and_pictures_do_not_take_the_place_of_inputs(tmp_path: Path) -> None:
    graph, weights = tmp_path / "g.safetensors", tmp_path / "net.safetensors"
    store.save(gmnc.compile(MLP), graph)
    save_net(GMN(out_channels=2, hidden_channels=4, num_layers=1, hash_buckets=4), weights)
    shutil.copy(MLP, tmp_path / "m.svg")
    data = external(tmp_path / "d", "w.npy")
    (tmp_path / "d" / "w.bin").rename(tmp_path / "d" / "w.npy")
    for arguments in (
        ["embed", graph, "-o", graph],
        ["embed", MLP, "-w", weights, "-o", weights],
        ["embed", data, "-o", tmp_path / "d" / "w.npy"],
        ["draw", tmp_path / "m.svg", "-o", tmp_path / "m.svg"],
    ):
        before = Path(arguments[-1]).read_bytes()
        done = run(*arguments)
        assert (done.exit_code, "is read by the same command" in done.stderr) == (2, True), done.stderr
        assert Path(arguments[-1]).read_bytes() == before


def test_the_first_error_is_the_one_that_is_raised(tmp_path: Path) -> None:
    def fail(prepare: Callable[[Path], object]) -> None:
        with replacing(tmp_path / "out") as temporary:
            prepare(temporary)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail(Path.mkdir)
    assert names(tmp_path) == []
    with pytest.raises(ZeroDivisionError):
        fail(lambda _: shutil.rmtree(tmp_path))


WRITER = """
import sys, time
from gmnc.files.writing import replacing
with replacing(sys.argv[1]) as path:
    path.write_bytes(b"x" * 100000)
    print(flush=True)
    time.sleep(60)
"""


def left_by_a_kill(folder: Path) -> None:
    writer = subprocess.Popen([sys.executable, "-c", WRITER, folder / "out"], stdout=subprocess.PIPE)
    assert writer.stdout is not None
    writer.stdout.readline()
    assert len(names(folder)) == 1
    write_bytes(folder / "beside", b"x")
    assert len(names(folder)) == 2, "what a living process writes stays"
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    (folder / "beside").unlink()


def test_what_a_killed_process_left_goes_with_the_next_writing(tmp_path: Path) -> None:
    left_by_a_kill(tmp_path)
    assert len(names(tmp_path)) == 1
    write_bytes(tmp_path / "next", b"x")
    assert names(tmp_path) == ["next"]


def test_threads_may_write_one_file(tmp_path: Path) -> None:
    graphs = [every_kind_of_edge(dtype) for dtype in (np.float32, np.float64)]
    with ThreadPoolExecutor(4) as pool:
        done = [pool.submit(store.save, graphs[n % 2], tmp_path / "g.safetensors") for n in range(80)]
        assert [d.result() for d in done] == [None] * 80
    assert store.load(tmp_path / "g.safetensors").parameters["w"].dtype in ("float32", "float64")
    assert names(tmp_path) == ["g.safetensors"]


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB."""
    folder = tmp_path / "full"
    folder.mkdir()
    done = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", folder], capture_output=True)
    if done.returncode:
        pytest.skip("mounting a small disk is not permitted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


BIG = {
    "store": lambda path: store.save(
        gmnc.compile(helper_model(np.zeros((300, 300), np.float32))), path
    ),
    "onnx": lambda path: write(gmnc.compile(helper_model(np.zeros((300, 300), np.float32))), None, path),
    "metanetwork": lambda path: save_net(GMN(out_channels=1, hidden_channels=64, num_layers=2), path),
    "checkpoint": lambda path: trained(path.parent),
    "bytes": lambda path: write_bytes(path, bytes(100_000)),
}  # fmt: skip


def helper_model(weight: np.ndarray) -> onnx.ModelProto:
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    ports = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 300])] for n in "xy"]
    graph = helper.make_graph([node], "net", *ports, initializer=[onnx.numpy_helper.from_array(weight, "w")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)


def trained(out: Path) -> None:
    fit(Nothing(), torch.nn.Linear(200, 200), Options(epochs=1), out)


@pytest.mark.parametrize("what", BIG)
def test_a_full_disk_is_an_error_that_names_the_file(what: str, full: Path) -> None:
    with pytest.raises(GmncError, match=r"cannot write .*full.*No space left on device"):
        BIG[what](full / "out")
    assert names(full) == []


def test_a_full_disk_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "write_bytes", refuse)
    with pytest.raises(GmncError, match=r"cannot write .*checkpoint\.pt: No space left on device"):
        trained(tmp_path)
    assert names(tmp_path) == []


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    for path in (tmp_path / "file", tmp_path / "file" / "deep", "a\0b"):
        with pytest.raises(GmncError, match="cannot create the folder"):
            make_folder(path)


def changed(path: Path, how: str) -> None:
    data = path.read_bytes()
    if how == "truncated":
        os.truncate(path, 1)
    elif how == "written over":
        with path.open("r+b") as file:
            file.write(bytes(len(data)))
    else:
        path.with_name("other").write_bytes(bytes(len(data)))
        path.with_name("other").rename(path)
    # Clocks of file systems may be slower than two writings.
    os.utime(path, ns=(time.time_ns(), time.time_ns() + 10**9))


@pytest.mark.parametrize("how", ["truncated", "written over", "replaced"])
@pytest.mark.parametrize("read", [False, True], ids=["not read before", "read before"])
@pytest.mark.parametrize("kind", ["external", "model", "store"])
def test_a_file_that_changed_under_a_graph_is_an_error(kind: str, read: bool, how: str, tmp_path: Path) -> None:
    if kind == "external":
        graph, path = gmnc.compile(external(tmp_path / "d")), tmp_path / "d" / "w.bin"
    else:
        path = tmp_path / "m.onnx"
        onnx.save(helper_model(np.ones((300, 300), np.float32)), path)
        graph = gmnc.compile(path)
    if kind == "store":
        path = tmp_path / "g.safetensors"
        store.save(graph, path)
        graph = store.load(path)
    values = {name: p.load().tobytes() for name, p in graph.parameters.items()} if read else {}
    changed(path, how)
    # What is mapped already is not touched by another file in its place.
    if how == "replaced" and (read or kind != "external"):
        found = {name: p.load().tobytes() for name, p in graph.parameters.items()}
        assert values in ({}, found)
        assert any(map(any, found.values()))
        return
    for parameter in graph.parameters.values():
        with pytest.raises(LoadError, match=rf"{path.name}: the file changed since it was read"):
            parameter.load()
    if kind == "model":
        with pytest.raises(LoadError, match="the file changed since it was read"):
            write(graph)


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (gmnc.compile, store.load):
        with pytest.raises(LoadError, match="a device or a pipe, not a file"):
            read(tmp_path / "pipe")


def test_values_are_still_read_by_others(tmp_path: Path) -> None:
    """The file is one of safetensors, whoever wrote it."""
    save_file({"a": np.zeros(3)}, tmp_path / "a")
    with replacing(tmp_path / "b") as temporary:
        save_file({"a": np.zeros(3)}, temporary)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert load_file(tmp_path / "b").keys() == {"a"}
