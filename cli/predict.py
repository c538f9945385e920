"""`gmnc predict`: predict the accuracy of a network from its parameters alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Dims, Inputs, Json, OnUnsupported, Policy, Quiet, parse_dims, parse_inputs
from .session import cell, check_files, errors_to_exit_codes, open_graph, output, print_json, progress_bar, say

if TYPE_CHECKING:
    from ..tasks import Predictor

__all__ = ["predict_accuracy"]


def predict_accuracy(
    models: Annotated[
        list[Path],
        typer.Argument(
            metavar="MODEL|STORE...", help="ONNX files, or stores written by gmnc compile.", show_default=False
        ),
    ],
    predictor: Annotated[
        Path | None,
        typer.Option(
            "--predictor",
            "-p",
            metavar="FILE",
            show_default="the one shipped with gmnc",
            help="Predictor (.safetensors), as written by gmnc train accuracy --predictor.",
        ),
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict the test accuracy (0 to 1) of each MODEL or STORE from its parameters.

    Warns of networks that are unlike those on which the predictor was trained.

    Example: gmnc predict model.onnx
    """
    with errors_to_exit_codes():
        check_files([*models, *([predictor] if predictor else [])])
        from ..tasks import SHIPPED, Predictor

        dims, inputs = parse_dims(dim), parse_inputs(input)
        origin = predictor or SHIPPED
        found = Predictor.open(origin)
        rows = []
        with progress_bar(quiet) as on_progress:
            for number, path in enumerate(models):
                on_progress(f"predicting {path.name}", number, len(models))
                rows.append(_row(found, path, dims, inputs, on_unsupported))
    if json:
        print_json({"predictor": found.about, "models": rows})
        return
    _print(rows)
    for row in rows:
        if row["far"] and not quiet:
            reasons = "; ".join(row["far"])
            say(f"gmnc: warning: {row['model']}: unlike the networks that trained the predictor: {reasons}", err=True)


def _row(
    predictor: Predictor, path: Path, dims: dict[str, int], inputs: dict[str, tuple[int, ...]], policy: OnUnsupported
) -> dict[str, Any]:
    """The result for one network; errors name its file."""
    from ..backends.blocks import blocks
    from ..ir import GmncError

    try:
        graph = open_graph(path, dims, inputs, policy)
        found = predictor(blocks(graph))
    except GmncError as error:
        if str(path) not in str(error):
            error.args = (f"{path}: {error}",)
        raise
    edges = graph.num_parameter_edges
    return {"model": str(path), "parameter_edges": edges, "accuracy": found.accuracy, "far": list(found.out_of_range)}


def _print(rows: list[dict[str, Any]]) -> None:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("model", overflow="fold")
    table.add_column("parameter edges", justify="right")
    table.add_column("accuracy", justify="right")
    for row in rows:
        mark = " ?" if row["far"] else ""
        table.add_row(cell(row["model"]), f"{row['parameter_edges']:,}", f"{row['accuracy']:.3f}{mark}")
    output().print(table)
