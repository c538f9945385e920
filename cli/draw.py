"""`gmnc draw`: draw a graph to a file."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from .inspect import Source
from .options import Dims, FoldWeights, Inputs, OnUnsupported, Policy, Quiet, parse_dims, parse_inputs
from .session import errors_to_exit_codes, note, open_graph, progress

__all__ = ["ViewName", "draw_model"]


class ViewName(StrEnum):
    """What a picture shows; see `gmnc.backends.draw.draw`."""

    auto = "auto"
    nodes = "nodes"
    groups = "groups"


def draw_model(
    model: Source,
    out: Annotated[
        Path, typer.Option("--output", "-o", metavar="PICTURE", help="Write the picture to this file (.svg, .png).")
    ],
    view: Annotated[
        ViewName,
        typer.Option(help="nodes: every node and edge. groups: groups and blocks. auto: nodes up to 300 nodes."),
    ] = ViewName.auto,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    fold_weights: FoldWeights = False,
    quiet: Quiet = False,
) -> None:
    """Draw the parameter graph of a MODEL or a STORE.

    Example: gmnc draw model.onnx -o graph.svg --view groups
    """
    with errors_to_exit_codes():
        from ..backends.draw import draw
        from ..files.writing import target

        dims, inputs = parse_dims(dim), parse_inputs(input)
        target(out, [model])
        with progress(f"drawing {model.name}", quiet):
            name: Any = view.value
            draw(open_graph(model, dims, inputs, on_unsupported, fold_weights), out, name)
        note(f"wrote {out}", quiet)
