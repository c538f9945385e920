"""`gmnc predict`: the accuracy that a network is expected to have, from its parameters alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Dims, Inputs, Json, OnUnsupported, Policy, Quiet, parse_dims, parse_inputs
from .session import cell, errors_to_exit_codes, open_graph, output, print_json, say, steps

if TYPE_CHECKING:
    from ..tasks import Predictor

__all__ = ["predict_accuracy"]


def predict_accuracy(
    models: Annotated[
        list[Path],
        typer.Argument(metavar="MODEL|STORE...", help="ONNX files, or stores that compile wrote.", show_default=False),
    ],
    predictor: Annotated[
        Path | None,
        typer.Option(
            "--predictor",
            "-p",
            metavar="FILE",
            show_default="the one that comes with gmnc",
            help="What gmnc train accuracy --predictor wrote.",
        ),
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Predict the test accuracy of each MODEL, and say where it is unlike the networks that the predictor knows."""
    with errors_to_exit_codes():
        from ..tasks import SHIPPED, Predictor

        dims, inputs = parse_dims(dim), parse_inputs(input)
        origin = predictor or SHIPPED
        found = Predictor.open(origin)
        rows = []
        with steps(quiet) as watch:
            for number, path in enumerate(models):
                watch(f"predicting {path.name}", number, len(models))
                rows.append(_row(found, path, dims, inputs, on_unsupported))
    if json:
        print_json({"predictor": found.about, "models": rows})
        return
    _print(rows)
    for row in rows:
        if row["far"] and not quiet:
            reasons = "; ".join(row["far"])
            say(f"gmnc: warning: {row['model']}: far from the networks that the predictor knows: {reasons}", err=True)


def _row(
    predictor: Predictor, path: Path, dims: dict[str, int], inputs: dict[str, tuple[int, ...]], policy: OnUnsupported
) -> dict[str, Any]:
    """What is said of one network; an error names its file."""
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
    return {"model": str(path), "parameter_edges": edges, "accuracy": found.accuracy, "far": list(found.far)}


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
