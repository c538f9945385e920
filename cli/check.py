"""`gmnc check`: everything in a model that cannot be lowered, at once."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from .options import Dims, Inputs, Json, Model, Quiet, parse_dims, parse_inputs
from .session import BAD_INPUT, cell, errors_to_exit_codes, is_store, output, print_json, progress_bar, short

if TYPE_CHECKING:
    from ..frontend.check import Finding

__all__ = ["check_model", "listing"]

_SHOWN = 4


def check_model(model: Model, dim: Dims = None, input: Inputs = None, json: Json = False, quiet: Quiet = False) -> None:
    """List everything in MODEL that cannot be lowered, with reasons and hints.

    These are operators without a rule, forms that a rule refuses, and inconsistencies. Exit code 2 if there are any.

    Example: gmnc check model.onnx --dim batch=4
    """
    with errors_to_exit_codes():
        from ..frontend.check import check
        from ..ir import LoadError

        dims, inputs = parse_dims(dim), parse_inputs(input)
        with progress_bar(quiet, after=1.0) as on_progress:
            if is_store(model):
                raise LoadError(
                    f"{model}: this is a store, which is already lowered; give the ONNX file that it was compiled from"
                )
            found = check(model, dims=dims, inputs=inputs, on_progress=on_progress)
        if json:
            print_json(listing(model, found))
        else:
            _print_table(model, found)
        if found:
            raise typer.Exit(BAD_INPUT)


def listing(model: Path, found: list[Finding]) -> dict[str, Any]:
    """What `gmnc check --json` prints."""
    return {"model": str(model), "problems": [_entry(f) for f in found]}


def _entry(finding: Finding) -> dict[str, Any]:
    near = finding.nearest
    return {
        "kind": finding.kind,
        "domain": finding.domain,
        "op": finding.op,
        "opset": finding.opset,
        "nodes": list(finding.nodes),
        "reason": finding.reason,
        "hint": finding.hint,
        "rule": finding.rule,
        "nearest": near and {"domain": near.domain, "op": near.op, "since": near.since},
    }


def _print_table(model: Path, found: list[Finding]) -> None:
    from rich import box
    from rich.table import Table

    from ..ir.printable import counted

    console = output()
    if not found:
        console.print(cell(f"{model}: every operator is lowered"), soft_wrap=True)
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("problem", "operator", "opset", "nodes", "reason", "hint"):
        table.add_column(name, overflow="fold")
    for f in found:
        left = len(f.nodes) - _SHOWN
        names = [*map(short, f.nodes[:_SHOWN]), *([f"and {left} more"] if left > 0 else [])]
        hint = [*([f"nearest rule: {f.nearest}"] if f.nearest else []), f.hint]
        operator = f"{f.domain or 'ai.onnx'}::{f.op}" if f.op else ""
        table.add_row(
            f.kind, short(operator), str(f.opset or ""), "\n".join(names), cell(f.reason), "\n".join(map(cell, hint))
        )
    console.print(table)
    operators = len({(f.domain, f.op, f.opset) for f in found if f.op})
    nodes = sum(len(f.nodes) for f in found)
    if not nodes:
        console.print("lowering stops at an error")
        return
    be = "is" if operators == nodes == 1 else "are"
    console.print(f"{counted(operators, 'operator')}, {counted(nodes, 'node')} {be} not lowered")
