"""`gmnc evaluate`: compare runs of `gmnc train`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from .options import Json, Quiet
from .session import errors_to_exit_codes, note, print_json, say

__all__ = ["Part", "evaluate_runs"]


class Part(StrEnum):
    """The members on which metrics are computed; see `gmnc.tasks.report.PARTS`."""

    test = "test"
    valid = "valid"


def evaluate_runs(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN...", help="Folders of finished runs, as written by gmnc train.", show_default=False
        ),
    ],
    plots: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write plots of learning curves and of predicted against true values here (PNG).",
            show_default=False,
        ),
    ] = None,
    of: Annotated[
        Part,
        typer.Option(
            "--of", help="Members for the metrics: test, or valid (at the best epoch), for choosing settings."
        ),
    ] = Part.test,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Compare runs: mean and standard deviation of each metric over seeds, as a Markdown table or JSON.

    Runs that differ only in their seed form one row.

    Example: gmnc evaluate runs/* --plots plots
    """
    with errors_to_exit_codes():
        from ..tasks import load_result, report

        results = [load_result(run) for run in runs]
        rows = report.summary(results, of.value)
        made = report.plots(results, plots) if plots is not None else []
    if json:
        print_json({"rows": report.to_json(rows), "pictures": [str(p) for p in made]})
    else:
        say(report.markdown(rows), end="")
    for path in made:
        note(f"wrote {path}", quiet)
