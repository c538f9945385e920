"""A zoo: a folder of ONNX files with a table of their properties, made in parallel and resumable.

DIR/zoo.json: kind, size, seed and version. DIR/index.parquet: one row per member. DIR/networks/00042.onnx: a member.
DIR/rows/00042.json: its row, until the index is written.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from .. import __version__
from ..files.fields import FieldError, read_json, valid
from ..files.writing import make_folder, replacing, sweep, write_json
from ..ir import GmncError, LoadError
from . import schemas
from .progress import OnProgress
from .schemas import NETWORKS

if TYPE_CHECKING:
    from multiprocessing.synchronize import Event

    import numpy as np

    from ..ir import ParameterGraph

__all__ = ["ABOUT", "INDEX", "KINDS", "Maker", "Member", "about", "make_zoo", "read_index"]

ABOUT, INDEX = "zoo.json", "index.parquet"
_ROWS = "rows"

KINDS: dict[str, tuple[str, str]] = {
    "classifiers": ("classifiers", "Classifiers"),
    "inr": ("neural_fields", "DigitSirens"),
    "sine": ("neural_fields", "SineSirens"),
}
"""The maker of each kind of zoo: a module of this package, and a class in it."""


@dataclass(frozen=True, slots=True)
class Member:
    """A finished network.

    Attributes:
        architecture: Name of its architecture.
        graph: Parameter graph of the architecture, with the model.
        values: Values of all parameters.
        row: Hyperparameters and results, for the index.
    """

    architecture: str
    graph: ParameterGraph
    values: Mapping[str, np.ndarray]
    row: Mapping[str, int | float | str]


class Maker(Protocol):
    """Makes the members of one kind of zoo; a member depends on the seed and its number only.

    Attributes:
        batch_size: Maximum number of members per call of `members`.
    """

    batch_size: int

    def architecture(self, seed: int, number: int) -> str:
        """Name of a member's architecture; members of one architecture differ in values only."""
        ...

    def members(self, seed: int, numbers: Sequence[int]) -> Iterator[Member]:
        """Members, in the order of `numbers`, all of one architecture; runs in a process with one thread."""
        ...


def make_zoo(
    out: Path, size: int, seed: int = 0, workers: int = 1, kind: str = "classifiers",
    on_progress: OnProgress | None = None,
) -> int:  # fmt: skip
    """Make the missing members of a zoo, and its index.

    Args:
        out: Folder of the zoo; an unfinished or smaller zoo of the same seed is continued.
        size: Number of members.
        seed: Seed of the zoo.
        workers: Number of processes, of one thread each; it does not change the result.
        kind: One of `KINDS`.
        on_progress: Called after each member.

    Returns:
        The number of members that were made.

    Raises:
        GmncError: An argument is out of range, `out` holds something else, or a process was killed; the same call then
            resumes.
    """
    if size < 1 or workers < 1 or seed < 0:
        raise GmncError("a zoo needs a size and a number of workers of at least 1, and a seed of at least 0")
    maker = _maker(kind)
    wanted = {"kind": kind, "size": size, "seed": seed, "gmnc": __version__}
    valid(wanted, schemas.ABOUT, f"the zoo {out}")
    _claim(out, wanted)
    rows = _finished(out)
    missing = [number for number in range(size) if number not in rows]
    report = on_progress or (lambda *_: None)
    report("networks", size - len(missing), size)
    for done in _run_jobs(out, kind, seed, _jobs(maker, seed, missing), workers):
        report("networks", size - len(missing) + done, size)
    if missing or not (out / INDEX).is_file():
        _write_index(out, _finished(out), size)
    return len(missing)


def about(folder: Path) -> dict[str, Any]:
    """The description of a zoo: kind, size, seed, gmnc; raises `GmncError` if the folder is not a zoo."""
    if not (folder / ABOUT).is_file():
        raise GmncError(f"{folder} is not a zoo (no {ABOUT}); make one with `gmnc zoo make --out {folder}`")
    return read_json(folder / ABOUT, schemas.ABOUT)


def read_index(folder: Path) -> dict[str, np.ndarray]:
    """The index of a zoo.

    Args:
        folder: Folder of the zoo.

    Returns:
        Columns by name, in order of `id`.

    Raises:
        GmncError: The folder is not a zoo, or the zoo is unfinished.
        LoadError: The index is damaged.
    """
    parquet = _parquet()
    path, size = folder / INDEX, about(folder)["size"]
    if not path.is_file():
        raise GmncError(f"{folder}: the zoo is not finished; repeat the `gmnc zoo make` that began it to resume")
    try:
        rows = parquet.read_metadata(path).num_rows
        if not 1 <= rows <= size:
            raise FieldError(f"1 to {size} rows", rows)
        table = parquet.read_table(path)
        found = {name: table.column(name).to_numpy() for name in table.column_names}
        for name in {**dict.fromkeys(("id", "file", "architecture")), **found}:
            _checked_column(name, found)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError, MemoryError, FieldError) as error:
        raise LoadError(f"{path}: damaged ({error}); delete it and run `gmnc zoo make` again") from error
    return found


def _checked_column(name: str, found: Mapping[str, np.ndarray]) -> None:
    if name not in found:
        raise FieldError(f"a column {name!r}", list(found))
    try:
        schemas.check_column(name, found[name])
    except FieldError as error:
        raise error.within(f".{name}") from None


def _maker(kind: str) -> Maker:
    if kind not in KINDS:
        raise GmncError(f"unknown kind of zoo {kind!r}: choose from {', '.join(KINDS)}")
    module, name = KINDS[kind]
    maker: Maker = getattr(importlib.import_module(f".{module}", __package__), name)()
    return maker


def _claim(out: Path, wanted: dict[str, Any]) -> None:
    """Make the folder, or check that it holds a part of the requested zoo."""
    _parquet()
    if out.exists() and not out.is_dir():
        raise GmncError(f"{out} is a file: name a folder for the zoo")
    if (out / ABOUT).exists():
        found = about(out)
        different = [f"{k} {found.get(k)}" for k in ("kind", "seed", "gmnc") if found.get(k) != wanted[k]]
        if different or found["size"] > wanted["size"]:
            raise GmncError(
                f"{out} holds another zoo ({', '.join(different) or 'size ' + str(found['size'])}): "
                f"choose another folder, or delete it"
            )
    elif out.is_dir():
        sweep(out)
        if any(out.iterdir()):
            raise GmncError(f"{out} is not empty and not a zoo: choose a new or an empty folder")
    for folder in (out, out / NETWORKS, out / _ROWS):
        sweep(make_folder(folder))
    write_json(out / ABOUT, wanted)


def _file(number: int) -> str:
    return f"{NETWORKS}/{number:05}.onnx"


def _finished(out: Path) -> dict[int, dict[str, Any]]:
    """Rows of the members that have both a row and a file, by number."""
    rows: dict[int, dict[str, Any]] = {}
    if (out / INDEX).is_file():
        columns = {name: column.tolist() for name, column in read_index(out).items()}
        rows = {i: {name: column[at] for name, column in columns.items()} for at, i in enumerate(columns["id"])}
    for path in (out / _ROWS).glob("*.json"):
        row = read_json(path, schemas.index_row)
        rows[row["id"]] = row
    there = {path.name for path in (out / NETWORKS).iterdir()}
    return {i: row for i, row in rows.items() if Path(row["file"]).name in there}


def _write_index(out: Path, rows: Mapping[int, dict[str, Any]], size: int) -> None:
    """Write all rows in order to one file, and delete the single ones."""
    import pyarrow as pa

    ordered = [rows[number] for number in range(size)]
    try:
        table = pa.Table.from_pylist(ordered)
    except pa.ArrowException as error:
        raise GmncError(f"{out / INDEX}: rows do not fit together ({error}); delete {out / _ROWS}") from error
    with replacing(out / INDEX) as temporary:
        _parquet().write_table(table, temporary)
    for path in (out / _ROWS).glob("*.json"):
        path.unlink()


def _parquet() -> Any:
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise GmncError("a zoo's index needs pyarrow, which is not installed: pip install 'gmnc[tasks]'") from error
    return parquet


def _jobs(maker: Maker, seed: int, numbers: Sequence[int]) -> list[list[int]]:
    """The numbers in groups of one architecture, so that each is exported about once."""
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(maker.architecture(seed, number), []).append(number)
    return [g[at : at + maker.batch_size] for g in groups.values() for at in range(0, len(g), maker.batch_size)]


def _run_jobs(out: Path, kind: str, seed: int, jobs: Sequence[list[int]], workers: int) -> Iterator[int]:
    """Run the jobs; yields the number of finished members after each."""
    if not jobs:
        return
    context = multiprocessing.get_context("spawn")
    stop = context.Event()
    pool = ProcessPoolExecutor(min(workers, len(jobs)), context, _prepare, (stop,))
    try:
        done = 0
        with _deferred_interrupt(stop.set):
            for future in as_completed([pool.submit(_work, out, kind, seed, job) for job in jobs]):
                done += future.result()
                yield done
    except BrokenProcessPool as error:
        raise GmncError("a process of the zoo was killed (out of memory?): repeat the command to resume") from error
    finally:
        stop.set()
        pool.shutdown(cancel_futures=True)


@contextmanager
def _deferred_interrupt(act: Callable[[], None]) -> Iterator[None]:
    """Call `act` on the first Ctrl-C and raise it at the end; a second one is raised at once.

    Raised at once, it could be lost in a destructor or leave a lock of the executor taken, and the zoo would run on.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(before):
        # Not the main thread, or interrupts are ignored, as in a background job.
        yield
        return
    interrupted = False

    def first(*_: object) -> None:
        nonlocal interrupted
        interrupted = True
        signal.signal(signal.SIGINT, before)
        act()

    signal.signal(signal.SIGINT, first)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupted:
        raise KeyboardInterrupt


_stop: Event | None = None


def _prepare(stop: Event) -> None:
    """Set up a worker: one thread, no interrupts of its own, exit with the parent."""
    import torch

    global _stop
    _stop = stop
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """Exit when the parent is killed, instead of waiting for work forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(out: Path, kind: str, seed: int, numbers: list[int]) -> int:
    """Make members and write each file before its row; returns their number, fewer after an interrupt."""
    from ..backends.onnx import write

    done = 0
    if _stop is not None and _stop.is_set():
        return done
    members = _maker(kind).members(seed, numbers)
    for number, member in zip(numbers, members, strict=False):
        write(member.graph, member.values, out / _file(number))
        row = {"id": number, "file": _file(number), "architecture": member.architecture, **member.row}
        write_json(out / _ROWS / f"{number:05}.json", row)
        done += 1
        if _stop is not None and _stop.is_set():
            break
    return done
