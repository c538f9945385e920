"""`gmnc zoo make`: a population of trained networks as ONNX files, with a table of what is known of them."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import LARGEST_SEED, Json, Quiet
from .session import errors_to_exit_codes, note, print_json, say, steps

__all__ = ["Kind", "make_zoo", "zoo"]

_FIRST_NOTE = 50

zoo = typer.Typer(no_args_is_help=True, context_settings={"help_option_names": ["-h", "--help"]})


class Kind(StrEnum):
    """What a zoo is made of."""

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
    size: Annotated[int, typer.Option(min=1, help="Number of networks.")] = 3000,
    seed: Annotated[int, typer.Option(min=0, max=LARGEST_SEED, help="The same seed makes the same zoo.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = 1,
    kind: Annotated[
        Kind,
        typer.Option(
            help="classifiers: of the digits of MNIST, in five families. inr: SIRENs that hold a digit each. "
            "sine: SIRENs that hold a function a sin(b x) each."
        ),
    ] = Kind.classifiers,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a zoo of small networks and write each as an ONNX file.

    A run that was interrupted goes on where it was when it is started again, and a zoo grows with a greater size.
    """
    with errors_to_exit_codes():
        from ..tasks import make_zoo as make

        start = time.perf_counter()
        try:
            with steps(quiet) as step:
                made = make(out, size, seed, workers, kind.value, _estimating(step, quiet))
        except KeyboardInterrupt:
            note(f"{out}: interrupted; the same command goes on from here", quiet)
            raise
        seconds = time.perf_counter() - start
    if json:
        print_json({"zoo": str(out), "kind": kind.value, "size": size, "seed": seed, "made": made, "seconds": seconds})
    else:
        from ..ir.printable import counted

        say(f"{out}: {counted(size, 'network')}, {made:,} of them new, in {seconds / 60:.1f} minutes")


def _estimating(step: Callable[[str, int, int], None], quiet: bool) -> Callable[[str, int, int], None]:
    """`step`, and now and then a note of how long the rest will take, each time after twice as many networks."""
    start, before, next_note = time.perf_counter(), -1, _FIRST_NOTE

    def watch(what: str, done: int, total: int) -> None:
        nonlocal before, next_note, start
        step(what, done, total)
        if before < 0:
            before = done
        made = done - before
        if made >= next_note and done < total:
            minutes = (time.perf_counter() - start) / made * (total - done) / 60
            note(f"{done:,} of {total:,} {what}; about {minutes:.0f} minutes left", quiet)
            next_note = 2 * made

    return watch
