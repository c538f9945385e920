"""Measures what is found in networks of public packages, and writes the table of docs/networks.md.

    PYTHONPATH=tests python -m support.architectures [NAME ...] [--write] [--folder DIR] [--limit SECONDS]

Each network is exported (once; the file is kept), lowered and checked in a process of its own. Prints one row each:
parameters, those on edges, log10 of the number of permutations found and, derived by hand, known, the
error of `verify`, and seconds of CPU time of lowering and of finding symmetries. Those that cannot be measured are
listed with the reason. `--write` puts the rows of this run into docs/networks.md, in place of the earlier rows of the
same networks; the rest stays.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import multiprocessing
import re
import resource
import signal
import time
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path

import gmnc
from gmnc.testing import verify

from . import ARCHITECTURES, FOLDER, KNOWN, exported, why_not
from .page import COLUMNS, RULE, write

NAMES = {"torch_geometric": "torch-geometric"}
LIMIT = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help="the architectures; all, if none is given")
    parser.add_argument("--write", action="store_true", help="put the rows into docs/networks.md")
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where exported files are kept")
    parser.add_argument("--limit", type=float, default=LIMIT, help="seconds of CPU time for each network")
    options = parser.parse_args()
    unknown = [n for n in options.names if n not in ARCHITECTURES]
    if unknown:
        parser.error(f"no architectures are called {', '.join(unknown)}")
    print(f"{COLUMNS}\n{RULE}", flush=True)
    for name in options.names or ARCHITECTURES:
        row = row_of(name, options.folder, options.limit)
        measured_at_all = row.startswith("|")
        print(row if measured_at_all else f"{name}: {row}", flush=True)
        if options.write:
            write(*({name: row}, {}) if measured_at_all else ({}, {name: row}))


def row_of(name: str, folder: Path, limit: float) -> str:
    """The row of an architecture, measured in a process of its own; or why there is none."""
    missing = why_not(name)
    if missing:
        return missing
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    process = context.Process(target=_send_row, args=(sending, name, folder, limit))
    process.start()
    sending.close()
    try:
        row = str(receiving.recv())
    except EOFError:
        row = ""
    process.join()
    if process.exitcode == -signal.SIGXCPU:
        return f"not done within {limit:g} s"
    return row or f"the process ended with {process.exitcode}"


def _send_row(sending: Connection, name: str, folder: Path, limit: float) -> None:
    """Send the row, or the reason why there is none."""
    resource.setrlimit(resource.RLIMIT_CPU, (int(limit), resource.RLIM_INFINITY))
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        try:
            row = measured(name, folder)
        except Exception as error:
            row = _reason(error)
    sending.send(row)


def measured(name: str, folder: Path) -> str:
    """The row, measured in this process."""
    path = exported(name, folder)
    start = time.process_time()
    graph = gmnc.compile(path)
    found = gmnc.symmetries(graph)
    seconds = time.process_time() - start
    report = verify(path, trials=3)
    package = ARCHITECTURES[name].package
    error = f"{report.max_error:.0e}" if report.sound else "unsound" if report.sound is False else "cannot tell"
    if not report.generators:
        error = ""
    known = f"{KNOWN[name]:.2f}"
    size = f"{'' if found.exact else '≥ '}{found.log10_size:.2f}"
    return (
        f"| {name} | {package} {version(NAMES.get(package, package))} | {graph.num_parameters:,} "
        f"| {graph.num_parameter_edges:,} | {len(graph.opaque) or ''} | {size} | {known} | {error} | {seconds:.1f} |"
    )


def _reason(error: BaseException) -> str:
    """What went wrong at first, on one line without the colours of a terminal."""
    while error.__cause__ is not None:
        error = error.__cause__
    text = re.sub(r"\x1b\[\d*m", "", f"{type(error).__name__}: {error}")
    return " ".join(text.split()).replace("|", "/")[:160]


if __name__ == "__main__":
    main()
