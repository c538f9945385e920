"""A picture of distances between two networks by layer, before and after an alignment, and of the loss between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ...ir.printable import shortened

__all__ = ["Curves", "distance_picture"]

_MOST = 60
"""The most layers that are drawn."""
_LONGEST = 40
_BEFORE, _AFTER = "#b0b0b0", "#1f77b4"


@dataclass(frozen=True, slots=True)
class Curves:
    """A quantity along the line between two networks.

    Attributes:
        label: What it is, with its unit.
        points: Shares of the second network.
        before: The quantity at each point before the alignment.
        after: The same after it.
    """

    label: str
    points: Sequence[float]
    before: Sequence[float]
    after: Sequence[float]


def distance_picture(
    rows: Sequence[tuple[str, float, float]], title: str = "", curves: Sequence[Curves] = ()
) -> Figure:
    """Draw distances by layer, and curves along the line between two networks.

    Args:
        rows: Name, distance before and distance after, of every layer in the order in which they are drawn.
        title: The title.
        curves: What else is drawn, each beside the distances.

    Returns:
        The picture.
    """
    shown = rows[:_MOST]
    height = max(3.0, 1.4 + 0.22 * len(shown))
    figure = Figure(figsize=(6.5 + 4 * len(curves), height), layout="constrained")
    widths = [1.3, *[1.0] * len(curves)]
    first, *others = figure.subplots(1, 1 + len(curves), squeeze=False, width_ratios=widths)[0]
    _draw_rows(first, shown)
    if len(rows) > _MOST:
        first.set_title(f"the {_MOST} farthest of {len(rows):,} layers", fontsize="small", loc="left")
    for axes, each in zip(others, curves, strict=True):
        axes.plot(each.points, each.before, "o-", color=_BEFORE, markersize=4, label="before")
        axes.plot(each.points, each.after, "o-", color=_AFTER, markersize=4, label="after")
        axes.set(xlabel="share of the second network", ylabel=each.label)
        axes.grid(alpha=0.3)
    figure.suptitle(_plain(title), fontsize="medium")
    return figure


def _draw_rows(axes: Axes, rows: Sequence[tuple[str, float, float]]) -> None:
    places = range(len(rows))
    before, after = [r[1] for r in rows], [r[2] for r in rows]
    axes.hlines(places, before, after, color="#d8d8d8", linewidth=2, zorder=1)
    axes.scatter(before, places, color=_BEFORE, s=28, zorder=2, label="before")
    axes.scatter(after, places, color=_AFTER, s=28, zorder=3, label="after")
    axes.set_yticks(places, [_plain(shortened(r[0], _LONGEST)) for r in rows], fontsize="small")
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(left=0)
    axes.set(xlabel="distance, relative to the first network", ylabel="layer")
    axes.grid(axis="x", alpha=0.3)
    axes.legend(fontsize="small")


def _plain(text: str) -> str:
    """Text in which nothing is a formula."""
    return text.replace("$", r"\$")
