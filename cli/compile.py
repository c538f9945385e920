"""`gmnc compile`: lower a model, account for every parameter, write a store."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Dims, FoldWeights, Inputs, Json, Model, OnUnsupported, Policy, Quiet, parse_dims, parse_inputs
from .session import (
    cell,
    errors_to_exit_codes,
    first_rows,
    is_store,
    lower,
    note,
    output,
    print_json,
    progress,
    short,
)

if TYPE_CHECKING:
    from ..ir import OpaqueOp, ParameterGraph, Problem

__all__ = ["compile_model", "report"]


def compile_model(
    model: Model,
    out: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", metavar="STORE", help="Write the graph to this file (.safetensors).", show_default=False
        ),
    ] = None,
    dim: Dims = None,
    input: Inputs = None,
    on_unsupported: Policy = OnUnsupported.opaque,
    fold_weights: FoldWeights = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Lower MODEL to a parameter graph, account for every parameter, and write the graph to a store.

    Example: gmnc compile model.onnx -o graph.safetensors --dim batch=4
    """
    with errors_to_exit_codes():
        from ..ir import GmncError, LoadError

        dims, inputs = parse_dims(dim), parse_inputs(input)
        if out is not None:
            from ..backends.store import SUFFIX
            from ..files.writing import target

            target(out, [model])
            if out.suffix.lower() != SUFFIX:
                raise GmncError(f"cannot write {out}: the name of a store must end in {SUFFIX}")
        with progress(f"lowering {model.name}", quiet):
            if is_store(model):
                raise LoadError(f"{model}: this is already a gmnc store; list it with `gmnc inspect {model}`")
            graph, seconds = lower(model, dims, inputs, on_unsupported, fold_weights)
        if out is not None:
            from ..backends import store

            with progress(f"writing {out}", quiet):
                store.save(graph, out)
        if json:
            print_json(report(graph, model, seconds))
            return
        _print_tables(graph, seconds)
        if out is not None:
            note(f"wrote {out}", quiet)


def report(graph: ParameterGraph, model: Path, seconds: float) -> dict[str, Any]:
    """The JSON of `gmnc compile`; `total` is the sum of `on_edges`, all `not_parameters` and `opaque`."""
    return {
        "model": str(model),
        "seconds": round(seconds, 6),
        "nodes": graph.num_nodes,
        "groups": len(graph.groups),
        "blocks": len(graph.edges) + len(graph.links),
        "edges": {"parameter": graph.num_parameter_edges, "link": graph.num_links},
        "parameters": {
            "total": graph.num_parameters,
            "on_edges": graph.num_parameter_edges,
            "tied_edges": graph.num_tied_edges,
            "not_parameters": graph.not_parameters(),
            "opaque": graph.num_opaque_parameters,
        },
        "opaque": [asdict(op) for op in graph.opaque],
        "unsupported": [asdict(problem) for problem in graph.unsupported],
    }


def _print_tables(graph: ParameterGraph, seconds: float) -> None:
    from rich.columns import Columns

    from ..ir.printable import counted

    nodes: Counter[str] = Counter()
    for group in graph.groups:
        nodes[group.kind] += group.size
    roles: Counter[str] = Counter()
    for block in graph.edges:
        roles[block.role + " (tied)" * block.tied + " (constant)" * block.constant] += block.size
    for link in graph.links:
        roles[f"{link.role} (link)"] += link.size
    account = {"on edges": graph.num_parameter_edges, **graph.not_parameters(), "opaque": graph.num_opaque_parameters}
    console = output()
    tables = (
        _table("nodes", nodes, graph.num_nodes),
        _table("edges", roles, sum(roles.values())),
        _table("parameters", account, graph.num_parameters),
    )
    console.print(Columns(tables, padding=(0, 4)))
    for line in first_rows(_opaque(graph), "opaque operators"):
        console.print(cell(line), soft_wrap=True)
    groups, blocks = counted(len(graph.groups), "group"), counted(len(graph.edges) + len(graph.links), "block")
    console.print(f"{groups}, {blocks}, lowered in {seconds:.3f} s")


def _opaque(graph: ParameterGraph) -> list[str]:
    """One line per opaque node, with opset, reason and hint."""
    opsets = {p.node: f" (opset {p.opset})" for p in graph.unsupported}
    hints = {p.node: f" ({p.hint})" for p in graph.unsupported if p.hint}
    every: list[OpaqueOp | Problem] = [*graph.unsupported, *graph.opaque]
    return [
        f"opaque: {f'{op.domain}::' * bool(op.domain)}{op.op}{opsets.get(node, '')} at {node!r}: "
        f"{op.reason}{hints.get(node, '')}"
        for node, op in {op.node: op for op in every}.items()
    ]


def _table(title: str, counts: Any, total: int) -> Any:
    """A two-column table of counts with a total below."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_footer=True, pad_edge=False)
    table.add_column(title, footer="total", overflow="fold")
    table.add_column("", footer=f"{total:,}", justify="right")
    for name, count in counts.items():
        table.add_row(short(name), f"{count:,}")
    return table
