"""`gmnc prune`: whole channels, neurons, heads, groups or experts leave a model."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from .options import Arrays, Dims, Inputs, Json, Model, Quiet, Seed, parse_dims, parse_inputs
from .session import (
    CHECK_FAILED,
    cell,
    errors_to_exit_codes,
    first_rows,
    is_store,
    note,
    output,
    print_json,
    progress_bar,
    short,
)

if TYPE_CHECKING:
    import numpy as np

    from ..transforms import Pruned

__all__ = ["Level", "prune_model"]


class Level(StrEnum):
    """Which of nested groups are pruned."""

    inner = "inner"
    outer = "outer"


Ratio = Annotated[
    float, typer.Option(metavar="R", help="Share of the positions of each family to remove, between 0 and 1.")
]
Importance = Annotated[
    str,
    typer.Option(
        metavar="l2|l1|activations|random|FILE",
        help="Positions of least importance are removed: by the norm of their parameters, their mean absolute value on "
        "--inputs, at random, or by scores by family name in an .npz or .json file.",
    ),
]
Only = Annotated[str, typer.Option(metavar="REGEX", help="Prune only families whose names contain this.")]
RoundTo = Annotated[
    int, typer.Option(min=1, metavar="N", help="Keep multiples of N positions, in families that have so many.")
]
Levels = Annotated[
    Level, typer.Option(help="Of nested families, prune the features of every head (inner) or whole heads (outer).")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", "-o", metavar="FILE", help="Write the pruned model to this file.", show_default=False),
]
AllowUnchecked = Annotated[
    bool, typer.Option("--allow-unchecked", help="Exit with 0, not 1, if ONNX Runtime does not run the model.")
]


def prune_model(
    model: Model,
    ratio: Ratio = 0.5,
    importance: Importance = "l2",
    only: Only = "",
    round_to: RoundTo = 1,
    level: Levels = Level.inner,
    out: Output = None,
    inputs: Arrays = None,
    seed: Seed = 0,
    allow_unchecked: AllowUnchecked = False,
    dim: Dims = None,
    input: Inputs = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Remove whole channels, neurons, heads, groups or experts from MODEL, and compare with the masked original.

    Exit code 1 if ONNX Runtime does not run the model, so that nothing could be compared.

    Example: gmnc prune model.onnx --ratio 0.5 --round-to 8 -o small.onnx
    """
    with errors_to_exit_codes():
        from ..files.npz import read_arrays
        from ..files.writing import target
        from ..ir import LoadError

        dims, shapes = parse_dims(dim), parse_inputs(input)
        if is_store(model):
            raise LoadError(f"{model}: a store holds no network to prune; give the ONNX file")
        if out is not None:
            target(out, [model])
        given = None if inputs is None else read_arrays(inputs)
        scores = _scores(importance)
        from ..transforms import prune

        with progress_bar(quiet, after=0.5) as on_progress:
            pruned = prune(
                model, ratio, importance=scores, only=only, round_to=round_to, level=level.value, path=out,
                inputs=given, seed=seed, dims=dims, shapes=shapes, timeout="auto", on_progress=on_progress,
            )  # fmt: skip
    if json:
        print_json({"model": str(model), "output": None if out is None else str(out), **pruned.to_json()})
    else:
        _print(pruned)
    if out is not None:
        note(f"wrote {out}", quiet)
    if not pruned.proof.holds and not allow_unchecked:
        raise typer.Exit(CHECK_FAILED)


def _scores(importance: str) -> str | dict[str, np.ndarray]:
    """A criterion, or scores by family from a file."""
    path = Path(importance)
    if path.suffix.lower() not in (".npz", ".json"):
        return importance
    from ..files.npz import read_arrays

    if path.suffix.lower() == ".npz":
        return read_arrays(path)
    import json

    import numpy as np

    from ..ir import LoadError

    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        found = {str(n): np.asarray(v, np.float64) for n, v in data.items()}
    except (ValueError, TypeError, AttributeError) as error:
        raise LoadError(f"{path}: not scores by family; write an object of lists of numbers") from error
    return found


def _print(pruned: Pruned) -> None:
    from rich import box
    from rich.table import Table

    console = output()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("family", overflow="fold")
    table.add_column("removed", justify="right")
    table.add_column("of what", overflow="fold")
    for family in first_rows(pruned.families, "families"):
        count = f"{family.removed:,} of {family.positions:,}" if family.removed else ""
        table.add_row(short(family.name), count, cell(family.what if family.removed else family.reason))
    console.print(table)
    console.print(pruned.summary, soft_wrap=True)
    console.print(cell(pruned.proof.summary), soft_wrap=True)
