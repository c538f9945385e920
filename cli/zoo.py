"""`gmnc zoo make`: train a population of networks, written as ONNX files with an index."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import LARGEST_SEED, Json, Quiet
from .session import errors_to_exit_codes, note, print_json, progress_bar, say

__all__ = ["Kind", "make_zoo", "zoo"]

_FIRST_NOTE = 50

zoo = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})


class Kind(StrEnum):
    """The kind of networks in a zoo."""

    classifiers = "classifiers"
    inr = "inr"
    sine = "sine"


@zoo.callback()
def _zoo() -> None:
    """Populations of networks to train metanetworks on."""


@zoo.command("make")
@errors_to_exit_codes()
def make_zoo(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the zoo.", show_default=False)],
    size: Annotated[
        int, typer.Option(min=1, help="Number of networks; more than an existing zoo has makes it grow.")
    ] = 3000,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, max=LARGEST_SEED, help="Seed; the same seed gives the same zoo.")
    ] = 0,
    workers: Annotated[int, typer.Option(metavar="W", min=1, help="Number of processes, with one thread each.")] = 1,
    kind: Annotated[
        Kind,
        typer.Option(
            help="classifiers: of MNIST digits, in five families. inr: SIRENs that each represent a digit. "
            "sine: SIRENs that each represent a function a sin(b x)."
        ),
    ] = Kind.classifiers,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a zoo of small networks and write each as an ONNX file.

    An interrupted run resumes when it is started again.

    Example: gmnc zoo make --out zoo --size 3000 --workers 4
    """
    with errors_to_exit_codes():
        from ..tasks import make_zoo as make

        start = time.perf_counter()
        try:
            with progress_bar(quiet) as on_progress:
                made = make(out, size, seed, workers, kind.value, _with_estimates(on_progress, quiet))
        except KeyboardInterrupt:
            note(f"{out}: interrupted; the same command resumes", quiet)
            raise
        seconds = time.perf_counter() - start
    if json:
        print_json({"zoo": str(out), "kind": kind.value, "size": size, "seed": seed, "made": made, "seconds": seconds})
    else:
        from ..ir.printable import counted

        say(f"{out}: {counted(size, 'network')}, {made:,} of them new, in {seconds / 60:.1f} minutes")


def _with_estimates(on_progress: Callable[[str, int, int], None], quiet: bool) -> Callable[[str, int, int], None]:
    """`on_progress`, with a note of the remaining time after 50 networks, then 100, 200, and so on."""
    start, before, next_note = time.perf_counter(), -1, _FIRST_NOTE

    def report(what: str, done: int, total: int) -> None:
        nonlocal before, next_note, start
        on_progress(what, done, total)
        if before < 0:
            before = done
        made = done - before
        if made >= next_note and done < total:
            minutes = (time.perf_counter() - start) / made * (total - done) / 60
            note(f"{done:,} of {total:,} {what}; about {minutes:.0f} minutes left", quiet)
            next_note = 2 * made

    return report
