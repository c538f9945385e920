"""`gmnc symmetries`: list the symmetries of a graph and the size of their group."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .inspect import Source
from .options import Dims, FoldWeights, Inputs, Json, Kinds, OnUnsupported, Policy, Quiet, parse_dims, parse_inputs
from .session import cell, errors_to_exit_codes, first_rows, open_graph, output, print_json, progress, short

if TYPE_CHECKING:
    from ..symmetry import Symmetries

__all__ = ["list_symmetries"]


def list_symmetries(
    model: Source,
    kinds: Kinds = "permutation",
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    fold_weights: FoldWeights = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """List the symmetries of a MODEL or a STORE: families of neurons, generators, and the size of the group.

    Example: gmnc symmetries model.onnx --kinds permutation,sign,scale,orthogonal,linear
    """
    with errors_to_exit_codes():
        dims, inputs = parse_dims(dim), parse_inputs(input)
        from ..symmetry import symmetries

        with progress(f"finding the symmetries of {model.name}", quiet):
            found = symmetries(open_graph(model, dims, inputs, on_unsupported, fold_weights), kinds.split(","))
            data = found.to_json()
        if json:
            print_json({"model": str(model), **data})
        else:
            _print_table(found)


def _print_table(found: Symmetries) -> None:
    from rich import box
    from rich.table import Table

    from ..symmetry import plural

    console = output()
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layers", overflow="fold")
    table.add_column("symmetries", overflow="fold")
    table.add_column("generators", justify="right")
    table.add_column("log10 of size", justify="right")
    for each in found.others:
        table.add_column(plural(each.kind), justify="right")
    for family in first_rows(found.families, "families"):
        size = f"{'' if family.exact else 'at least '}{family.log10_size:,.2f}" if family.generators else ""
        more = [f"{n:,}" if n else "" for n in family.dimensions.values()]
        table.add_row(short(family.name), cell(family.what), str(len(family.generators) or ""), size, *more)
    console.print(table)
    console.print(found.summary)
    for each in found.others:
        console.print(each.summary)
