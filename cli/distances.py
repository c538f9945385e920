"""The distances between two networks as a table: by layer, the farthest first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from .session import cell, output

if TYPE_CHECKING:
    from ..transforms import LayerDistance, TensorDistance

__all__ = ["print_layers"]

_LISTED = 20
"""The most layers that are printed unless all are wanted."""


def print_layers(layers: Sequence[LayerDistance], verbose: bool = False) -> None:
    """Print the distance of each layer before and after an alignment.

    Args:
        layers: The layers, the farthest first.
        verbose: Whether to print all of them, and the tensors of each.
    """
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("layer", overflow="fold")
    table.add_column("distance before", justify="right")
    table.add_column("after", justify="right")
    for layer in layers if verbose else layers[:_LISTED]:
        rows: list[tuple[str, LayerDistance | TensorDistance]] = [("", layer)]
        rows += [("  ", tensor) for tensor in layer.tensors] if verbose else []
        for indent, row in rows:
            table.add_row(indent + cell(row.name), f"{row.before:.4g}", f"{row.after:.4g}")
    output().print(table)
    if not verbose and len(layers) > _LISTED:
        output().print(f"and {len(layers) - _LISTED:,} nearer ones; --verbose prints all, with their tensors")
