"""What every command does alike: errors to exit codes, progress on stderr, results on stdout."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from .options import OnUnsupported

if TYPE_CHECKING:
    from rich.console import Console

    from ..ir import ParameterGraph

__all__ = [
    "BAD_INPUT",
    "CHECK_FAILED",
    "errors_to_exit_codes",
    "is_store",
    "lower",
    "note",
    "open_graph",
    "output",
    "print_json",
    "progress",
    "steps",
]

CHECK_FAILED, BAD_INPUT = 1, 2
_PLAIN_WIDTH = 160


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn errors into one message on stderr and an exit code; GMNC_DEBUG=1 adds the traceback. Warnings are lines."""
    from ..ir import GmncError, GraphError

    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_: typer.echo(f"gmnc: warning: {message}", err=True)
            yield
    except (typer.Exit, typer.Abort, typer.BadParameter, BrokenPipeError):
        raise
    except GraphError as error:
        _fail(f"a check failed: {error}", CHECK_FAILED)
    except GmncError as error:
        _fail(str(error), BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", BAD_INPUT)
    except Exception as error:
        _fail(
            f"internal error, a bug in gmnc: {type(error).__name__}: {error}\n"
            "Please report it with the model; GMNC_DEBUG=1 shows where it happened.",
            CHECK_FAILED,
        )


def _fail(message: str, code: int) -> None:
    if os.environ.get("GMNC_DEBUG", "") not in ("", "0"):
        traceback.print_exc()
    typer.echo(f"gmnc: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def progress(text: str, quiet: bool) -> Iterator[None]:
    """A spinner with `text` on stderr while the body runs; nothing without a terminal or when `quiet`."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.markup import escape

    with Console(stderr=True).status(escape(text)):
        yield


@contextmanager
def steps(quiet: bool, after: float = 0.0) -> Iterator[Callable[[str, int, int], None]]:
    """A progress bar on stderr, moved by calls with (what is done, steps done, steps in all); as `progress`.

    after: seconds before it shows.
    """
    if quiet or not sys.stderr.isatty():
        yield lambda what, done, total: None
        return
    from rich.console import Console
    from rich.progress import Progress

    bar = Progress(console=Console(stderr=True), transient=True)
    timer = threading.Timer(after, bar.start)
    timer.start()
    try:
        task = bar.add_task("", total=None)
        yield lambda what, done, total: bar.update(task, description=what, completed=done, total=total or None)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def note(text: str, quiet: bool) -> None:
    """One line on stderr, unless `quiet`."""
    if not quiet:
        typer.echo(text, err=True)


def output() -> Console:
    """The console for tables on stdout: as wide as the terminal, or wide enough for a log."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def print_json(value: object) -> None:
    """`value` as JSON on stdout."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def lower(
    path: Path, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], on_unsupported: OnUnsupported
) -> tuple[ParameterGraph, float]:
    """The parameter graph of an ONNX file, and the seconds that it took to load and lower it."""
    from ..frontend import compile

    start = time.perf_counter()
    graph = compile(path, dims=dims, inputs=inputs, on_unsupported=on_unsupported.value)
    return graph, time.perf_counter() - start


def is_store(path: Path) -> bool:
    """Whether the file is a store; raises `LoadError` if there is no file."""
    from ..backends import store
    from ..ir import LoadError

    if not path.is_file():
        raise LoadError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")
    return store.is_store(path)


def open_graph(
    path: Path, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], on_unsupported: OnUnsupported
) -> ParameterGraph:
    """The parameter graph of an ONNX file, lowered, or of a store, loaded."""
    if is_store(path):
        from ..backends import store

        return store.load(path)
    return lower(path, dims, inputs, on_unsupported)[0]
