"""Shared by all commands: errors become exit codes, progress goes to stderr, results to stdout."""

from __future__ import annotations

import io
import json
import logging
import math
import os
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import typer

from .options import OnUnsupported

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from ..ir import ParameterGraph

__all__ = [
    "BAD_INPUT",
    "CHECK_FAILED",
    "cell",
    "check_files",
    "errors_to_exit_codes",
    "first_rows",
    "is_store",
    "lower",
    "note",
    "open_graph",
    "output",
    "prepare_streams",
    "print_json",
    "progress",
    "progress_bar",
    "say",
    "short",
]

_Row = TypeVar("_Row")
CHECK_FAILED, BAD_INPUT = 1, 2
_PLAIN_WIDTH = 160
_ROWS = 1000
_LONGEST = 80
"""Largest number of characters of a name in a table."""
_PIPE_CLOSED = 141
"""Exit code after a closed pipe: what a shell reports for a process ended by SIGPIPE."""


def prepare_streams() -> None:
    """Make stdout and stderr usable: escape characters that they cannot encode, and replace them if they are closed."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, io.StringIO())
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextmanager
def errors_to_exit_codes() -> Iterator[None]:
    """Turn errors into one message on stderr and an exit code, and warnings into one line each.

    With GMNC_DEBUG=1 the traceback is printed too.
    """
    from ..ir import GmncError, GraphError

    try:
        with warnings.catch_warnings(), _logged():
            warnings.showwarning = lambda message, *_: say(f"gmnc: warning: {message}", err=True)
            yield
    except (typer.Exit, typer.Abort, typer.BadParameter):
        raise
    except BrokenPipeError:
        # Redirect stdout, or flushing it at exit would fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        raise typer.Exit(_PIPE_CLOSED) from None
    except GraphError as error:
        _fail(f"a check failed: {error}", CHECK_FAILED)
    except GmncError as error:
        _fail(str(error), BAD_INPUT)
    except (MemoryError, RecursionError) as error:
        what = "memory" if isinstance(error, MemoryError) else "stack"
        _fail(f"the command needs more {what} than is available: {error}", BAD_INPUT)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}", BAD_INPUT)
    except Exception as error:
        _fail(
            f"internal error, a bug in gmnc: {type(error).__name__}: {error}\n"
            "Please report it with the model; GMNC_DEBUG=1 shows the traceback.",
            CHECK_FAILED,
        )


def _fail(message: str, code: int) -> None:
    if os.environ.get("GMNC_DEBUG", "") not in ("", "0"):
        say(traceback.format_exc(), err=True)
    say(f"gmnc: {message}", err=True)
    raise typer.Exit(code)


@contextmanager
def _logged() -> Iterator[None]:
    """Print what libraries log as warnings."""
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: say(f"gmnc: warning: {record.getMessage()}", err=True)  # type: ignore[method-assign]
    logging.getLogger().addHandler(handler)
    try:
        yield
    finally:
        logging.getLogger().removeHandler(handler)


def say(text: str, err: bool = False, end: str = "\n") -> None:
    """Print text that may contain names from a model, with control characters escaped; on stderr if `err`."""
    from ..ir.printable import printable

    typer.echo(printable(text, lines=True) + end, err=err, nl=False)


def cell(text: str) -> str:
    """Escape text that may contain names from a model for a table cell, on one line."""
    from rich.markup import escape

    from ..ir.printable import printable

    return escape(printable(text))


def short(name: str) -> str:
    """A name from a model as a table cell, shortened; `--json` has it in full."""
    from ..ir.printable import shortened

    return cell(shortened(name, _LONGEST))


@contextmanager
def progress(text: str, quiet: bool) -> Iterator[None]:
    """Show a spinner with `text` on stderr while the body runs; nothing if `quiet` or without a terminal."""
    if quiet or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(cell(text)):
        yield


@contextmanager
def progress_bar(quiet: bool, after: float = 0.0) -> Iterator[Callable[[str, int, int], None]]:
    """Show a progress bar on stderr; nothing if `quiet` or without a terminal.

    Args:
        quiet: Show nothing.
        after: Delay before it appears, in seconds.

    Yields:
        A function to call with (activity, steps done, steps in total).
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
        yield lambda what, done, total: bar.update(task, description=cell(what), completed=done, total=total or None)
    finally:
        timer.cancel()
        timer.join()
        bar.stop()


def note(text: str, quiet: bool) -> None:
    """Print a line on stderr, unless `quiet`."""
    if not quiet:
        say(text, err=True)


def output() -> Console:
    """The console for tables on stdout: as wide as the terminal, or 160 columns without one."""
    from rich.console import Console

    from ..ir.printable import printable

    class Printing(Console):
        """A console that escapes control characters."""

        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(printable(text, lines=True), **options)

    return Printing(width=None if sys.stdout.isatty() else _PLAIN_WIDTH, highlight=False)


def first_rows(rows: Sequence[_Row], what: str) -> Iterator[_Row]:
    """The first 1,000 rows of a table; a note on stderr says if there are more."""
    yield from rows[:_ROWS]
    if len(rows) > _ROWS:
        say(f"gmnc: {len(rows) - _ROWS:,} more {what} are not shown; --json lists all", err=True)


def print_json(value: object) -> None:
    """Print JSON on stdout, with control characters escaped.

    What JSON lacks becomes text: bytes `{"bytes": "fffe"}`, and numbers that are not finite "nan", "inf" and "-inf".
    """
    text = json.dumps(_in_json(value), indent=2, ensure_ascii=False, allow_nan=False)
    typer.echo("".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text))


def _in_json(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _in_json(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_in_json(entry) for entry in value]
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def check_files(paths: Iterable[Path]) -> None:
    """Raise `LoadError` for the first path that is not a file; before what is slow to import or to read."""
    from ..ir import LoadError

    for path in paths:
        if not path.is_file():
            raise LoadError(f"{path}: {'is a folder, not a file' if path.is_dir() else 'no such file'}")


def lower(
    path: Path,
    dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
    on_unsupported: OnUnsupported,
    fold_weights: bool = False,
) -> tuple[ParameterGraph, float]:
    """The parameter graph of an ONNX file, and the time to load and lower it in seconds."""
    from ..frontend import compile

    start = time.perf_counter()
    policy: Literal["opaque", "error"] = "opaque" if on_unsupported is OnUnsupported.opaque else "error"
    graph = compile(path, dims=dims, inputs=inputs, on_unsupported=policy, fold_weights=fold_weights)
    seconds = time.perf_counter() - start
    if not graph.num_parameters:
        warnings.warn(
            f"{path}: the file stores no parameters; if its weights are graph inputs, export them as initializers",
            stacklevel=2,
        )
    return graph, seconds


def is_store(path: Path) -> bool:
    """Whether the file is a store; raises `LoadError` if it does not exist, or is a damaged store."""
    check_files([path])
    from ..backends import store
    from ..ir import LoadError

    found = store.is_store(path)
    if not found and path.suffix.lower() == store.SUFFIX:
        raise LoadError(f"{path}: not a gmnc store, or a truncated one; write it again with `gmnc compile`")
    return found


def open_graph(
    path: Path,
    dims: Mapping[str, int],
    inputs: Mapping[str, tuple[int, ...]],
    on_unsupported: OnUnsupported,
    fold_weights: bool = False,
) -> ParameterGraph:
    """Lower an ONNX file or load a store; raises `LoadError` if lowering options are given for a store."""
    if is_store(path):
        from ..backends import store
        from ..ir import LoadError

        options = {"--dim": dims, "--input": inputs, "--fold-weights": fold_weights}
        if given := [name for name, value in options.items() if value]:
            raise LoadError(
                f"{path}: {given[0]} has no effect on a store, which is already lowered; give the ONNX file that it "
                "was compiled from"
            )
        return store.load(path)
    return lower(path, dims, inputs, on_unsupported, fold_weights)[0]
