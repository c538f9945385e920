"""Shared by both views: bands between groups, colours, text fitting, canvas and legend."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.textpath import TextToPath

from ...ir import EdgeBlock, EdgeRole, LinkBlock, LinkRole, NodeKind, ParameterGraph
from ...ir.arrays import distinct
from ...ir.printable import printable

__all__ = [
    "DASHES",
    "GREY",
    "INK",
    "LEGEND_ROW",
    "Band",
    "LegendEntry",
    "bands",
    "canvas",
    "draw_legend",
    "fit",
    "kind_colour",
    "legend_entries",
    "legend_rows",
    "role_colours",
    "short",
    "text_width",
    "via_texts",
    "wrapped",
    "write",
]

INK, GREY = "#1f2933", "#697586"
DASHES = (0, (4.0, 2.0))
LEGEND_SIZE, LEGEND_ROW = 8.0, 16.0

_KINDS: dict[str, str] = {
    NodeKind.INPUT: "#d3e8fb",
    NodeKind.NEURON: "#f4f5f7",
    NodeKind.PARAM: "#fbe7c6",
    NodeKind.HUB: "#fdf3d0",
    NodeKind.SUM: "#dff3e4",
    NodeKind.PRODUCT: "#e8dff5",
    NodeKind.JOIN: "#d8f0ef",
    NodeKind.REDUCE: "#f9dfe5",
    NodeKind.GATE: "#e9e4d4",
    NodeKind.TOKEN: "#ffe3d1",
    NodeKind.SPLIT: "#e4e9f0",
    NodeKind.OPAQUE: "#c9ced6",
}
_ROLES: dict[str, str] = {
    EdgeRole.WEIGHT: "#2f6db3",
    EdgeRole.BIAS: "#d9822b",
    EdgeRole.NORM_SCALE: "#23976a",
    EdgeRole.NORM_BIAS: "#9aae1d",
    EdgeRole.NORM_MEAN: "#b5567a",
    EdgeRole.NORM_VAR: "#7a4fa3",
    EdgeRole.EMBEDDING: "#0d9aa8",
    EdgeRole.RECURRENT: "#c23b3b",
    EdgeRole.POSITION: "#8a6d3b",
    LinkRole.TOKEN: "#e0569b",
}
_SPARE = ("#4b5563", "#a1662f", "#5b8c2a", "#3f51b5", "#9c3d9e", "#00796b", "#b8860b", "#d1495b", "#607d8b", "#6a5acd")


@dataclass(frozen=True, slots=True)
class Band:
    """The edges of one block between two groups.

    Attributes:
        src: Source group.
        dst: Destination group.
        count: Number of edges.
        block: The block.
    """

    src: int
    dst: int
    count: int
    block: EdgeBlock | LinkBlock

    @property
    def link(self) -> bool:
        """Whether the edges carry no parameter."""
        return isinstance(self.block, LinkBlock) or self.block.constant


def bands(graph: ParameterGraph) -> list[Band]:
    """Split every block by the groups it connects; edge blocks come first."""
    found: list[Band] = []
    for block in graph.edges:
        pairs = _block_pairs(graph.group_of(block.src), graph.group_of(block.dst))
        slots = block.shape[3]
        found += [Band(a, b, n * slots, block) for (a, b), n in sorted(pairs.items())]
    for link in graph.links:
        pairs = Counter(zip(graph.group_of(link.src).tolist(), graph.group_of(link.dst).tolist(), strict=True))
        found += [Band(a, b, n, link) for (a, b), n in sorted(pairs.items())]
    return found


def _block_pairs(src: np.ndarray, dst: np.ndarray) -> Counter[tuple[int, int]]:
    """(source group, destination group) -> number of node pairs, from group ids [B, K] and [B, N]."""
    rows = Counter((a.tobytes(), b.tobytes()) for a, b in zip(src, dst, strict=True))
    pairs: Counter[tuple[int, int]] = Counter()
    for (a, b), times in rows.items():
        left, right = _tally(a, src.dtype), _tally(b, dst.dtype)
        for i, n in left.items():
            for j, m in right.items():
                pairs[i, j] += n * m * times
    return pairs


def _tally(row: bytes, dtype: np.dtype) -> Counter[int]:
    return Counter(np.frombuffer(row, dtype=dtype).tolist())


def kind_colour(kind: str) -> str:
    """The fill colour of a node kind."""
    return _KINDS[kind]


def role_colours(graph: ParameterGraph) -> dict[str, str]:
    """Role -> line colour: common roles have the same colour in every picture, others get spare colours in order."""
    roles = dict.fromkeys([b.role for b in graph.edges] + [b.role for b in graph.links])
    spare = [r for r in roles if r not in _ROLES]
    return {r: _ROLES[r] if r in _ROLES else _SPARE[spare.index(r) % len(_SPARE)] for r in roles}


@lru_cache(maxsize=8192)
def text_width(text: str, size: float, weight: str = "normal") -> float:
    """Width in points of one line of text."""
    font = FontProperties(family="DejaVu Sans", size=size, weight=weight)
    return float(TextToPath().get_text_width_height_descent(printable(text), font, ismath=False)[0])


def fit(text: str, width: float, size: float) -> str:
    """`text`, with its middle elided to at most `width` points."""
    # No glyph is narrower than a tenth of the font size: a long text need not be measured whole.
    most = min(len(text), int(10 * width / size))
    if most == len(text) and text_width(text, size) <= width:
        return text

    def cut(keep: int) -> str:
        return text[: keep // 3] + "…" + text[len(text) - (keep - keep // 3) :]

    keep = bisect_right(range(2, most), width, key=lambda n: text_width(cut(n), size)) + 1
    return cut(keep) if keep > 1 else "…"


def short(name: str) -> str:
    """The last two components of an exporter's slash-separated name."""
    return name.rsplit("/", 2)[-2] + "/" + name.rsplit("/", 1)[-1] if name.count("/") > 1 else name.lstrip("/")


def wrapped(chain: str, width: float, size: float) -> list[str]:
    """A via chain wrapped to lines of at most `width` points, between its steps."""
    lines: list[str] = []
    for step in f"via {chain}".split(" > "):
        longer = f"{lines[-1]} > {step}" if lines else step
        if lines and text_width(longer, size) <= width:
            lines[-1] = longer
        else:
            lines = [*lines[:-1], lines[-1] + " >", step] if lines else [step]
    return [fit(line, width, size) for line in lines]


def via_texts(graph: ParameterGraph, vias: np.ndarray) -> list[str]:
    """The distinct, non-empty via chains among the ids."""
    return [t for t in (graph.via_text(int(v)) for v in distinct(vias)) if t]


def write(axes: Axes, x: float, y: float, text: str, **style: Any) -> None:
    """Write text literally: no mathtext, and no characters that XML forbids."""
    axes.text(x, y, printable(text), parse_math=False, **style)


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """A figure whose data units are points, x to the right and y downward."""
    figure = Figure(figsize=(width / 72, height / 72), facecolor="white")
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_xlim(0, width)
    axes.set_ylim(height, 0)
    axes.axis("off")
    return figure, axes


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """A legend entry: a line if it has a style, else a filled box with a rim."""

    label: str
    colour: str
    style: str | tuple[int, tuple[float, ...]] = ""
    rim: float = 0.7


def legend_entries(
    graph: ParameterGraph, found: Iterable[Band], extra: Sequence[LegendEntry] = ()
) -> list[LegendEntry]:
    """The legend entries: roles (links dashed), then `extra`, then node kinds."""
    colours = role_colours(graph)
    links: dict[str, bool] = {}
    for band in found:
        links[band.block.role] = links.get(band.block.role, True) and band.link
    lines = [
        LegendEntry(f"{r} (link)" if link else r, colours[r], DASHES if link else "-") for r, link in links.items()
    ]
    kinds = [LegendEntry(k, kind_colour(k)) for k in dict.fromkeys(g.kind for g in graph.groups)]
    return [*lines, *extra, *kinds]


def legend_rows(entries: Sequence[LegendEntry], width: float) -> list[list[tuple[float, LegendEntry]]]:
    """The entries with their x offsets, wrapped into rows of at most `width` points."""
    rows: list[list[tuple[float, LegendEntry]]] = [[]]
    x = 0.0
    for entry in entries:
        size = 26 + text_width(entry.label, LEGEND_SIZE) + 16
        if rows[-1] and x + size > width:
            rows.append([])
            x = 0.0
        rows[-1].append((x, entry))
        x += size
    return rows


def draw_legend(axes: Axes, rows: list[list[tuple[float, LegendEntry]]], left: float, top: float) -> None:
    """Draw the rows of `legend_rows`, the first one `top` points down."""
    for row, entries in enumerate(rows):
        y = top + LEGEND_ROW * (row + 0.5)
        for x, entry in entries:
            at = left + x
            if entry.style:
                axes.add_line(Line2D([at, at + 20], [y, y], color=entry.colour, lw=2, ls=entry.style))
            else:
                box = Rectangle((at + 4, y - 4.5), 12, 9, facecolor=entry.colour, edgecolor=INK, lw=entry.rim)
                axes.add_patch(box)
            write(axes, at + 26, y, entry.label, size=LEGEND_SIZE, va="center_baseline", color=INK)
