"""The distances between two networks as a table and as a picture: by layer, the farthest first."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .session import cell, output, say

if TYPE_CHECKING:
    from ..transforms import Alignment, LayerDistance, TensorDistance

__all__ = ["check_picture", "draw_alignment", "print_layers"]

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


def check_picture(picture: Path | None, read: Sequence[Path | None]) -> None:
    """Refuse a picture that cannot be drawn before anything that takes time.

    Args:
        picture: The file, if there is to be one.
        read: What the command reads or writes otherwise.

    Raises:
        GmncError: It cannot be drawn there.
    """
    if picture is not None:
        from ..backends.draw import checked

        checked(picture, [path for path in read if path is not None])


def draw_alignment(made: Alignment | None, picture: Path | None, names: tuple[Path, Path]) -> None:
    """Draw the distances of an alignment by layer, and the loss along the line if it is known.

    Args:
        made: The alignment; None if the architectures differ, and nothing is drawn.
        picture: The file, if there is to be one.
        names: The files of both networks.
    """
    if picture is None:
        return
    if made is None:
        say(f"gmnc: warning: {picture} is not drawn: the architectures differ", err=True)
        return
    from ..backends.draw import draw_distances
    from ..backends.draw.distances import Curves

    curves, line = [], made.line
    if line is not None:
        unit = ", nats" if line.loss == "cross-entropy" else ""
        curves = [Curves(f"{line.loss}{unit}", line.points, line.before, line.after)]
        if line.accuracy_before is not None and line.accuracy_after is not None:
            shares = [[100 * share for share in each] for each in (line.accuracy_before, line.accuracy_after)]
            curves.append(Curves("accuracy, %", line.points, *shares))
    rows = [(layer.name, layer.before, layer.after) for layer in made.layers]
    title = f"{names[0].name} and {names[1].name}: distance {made.before:.4g} before alignment, {made.after:.4g} after"
    draw_distances(rows, picture, title, curves, names)
