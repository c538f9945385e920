"""`gmnc evaluate`: runs of `gmnc train` side by side."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Quiet
from .session import errors_to_exit_codes, note, print_json, say

__all__ = ["Part", "evaluate_runs"]


class Part(StrEnum):
    """Which members metrics are of; see `gmnc.tasks.report.PARTS`."""

    test = "test"
    valid = "valid"


def evaluate_runs(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of finished runs.", show_default=False)],
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Draw learning curves, and predicted against true values, as PNG.", show_default=False
        ),
    ] = None,
    of: Annotated[
        Part, typer.Option("--of", help="Members that metrics are of; valid, at the best epoch, to choose settings by.")
    ] = Part.test,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs: mean and standard deviation of each metric over seeds, as a Markdown table or as JSON.

    Runs with the same settings but for their seeds are one row.
    """
    with errors_to_exit_codes():
        from ..tasks import load_result, report

        results = [load_result(run) for run in runs]
        rows = report.summary(results, of.value)
        made = report.pictures(results, plots) if plots is not None else []
    if json:
        print_json({"rows": report.to_json(rows), "pictures": [str(p) for p in made]})
    else:
        say(report.markdown(rows), end="")
    for path in made:
        note(f"wrote {path}", quiet)
