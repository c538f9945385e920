"""The view of small graphs: every node and every edge, layers from left to right."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Patch, Polygon, Rectangle
from matplotlib.patheffects import withStroke

from ...ir import EdgeBlock, NodeKind, ParameterGraph
from .layout import Arrangement, arrange, layers
from .parts import (
    DASHES,
    GREY,
    INK,
    LEGEND_ROW,
    Band,
    LegendEntry,
    bands,
    canvas,
    draw_legend,
    fit,
    kind_colour,
    legend_entries,
    legend_rows,
    role_colours,
    short,
    text_width,
    via_texts,
    wrapped,
    write,
)

__all__ = ["node_picture"]

TITLE, SMALL, LINE = 9.0, 7.0, 10.0
MARGIN, GAP, PARAM_STEP = 24.0, 22.0, 18.0
LONGEST = 150.0
DOTS = (0, (1.0, 1.4))
RASTER_FROM = 20000
HALO = [withStroke(linewidth=2.5, foreground="white")]

_GLYPHS: dict[str, str] = {
    NodeKind.SUM: "Σ",
    NodeKind.PRODUCT: "×",
    NodeKind.JOIN: "⋈",
    NodeKind.REDUCE: "∘",
    NodeKind.HUB: "•",
    NodeKind.GATE: "σ",
    NodeKind.OPAQUE: "?",
}


@dataclass(frozen=True, slots=True)
class _Edges:
    """All edges, each array [edges]: node ids, value (NaN for a link), role, index and count among parallel edges."""

    src: np.ndarray
    dst: np.ndarray
    value: np.ndarray
    role: np.ndarray
    index: np.ndarray
    parallel: np.ndarray


def node_picture(graph: ParameterGraph) -> Figure:
    """Draw a small graph: nodes and edges."""
    found = bands(graph)
    params = {i for i, g in enumerate(graph.groups) if g.kind == NodeKind.PARAM}
    boxes = [i for i in range(len(graph.groups)) if i not in params]
    number = {g: i for i, g in enumerate(boxes)}
    arcs = [(number[b.src], number[b.dst]) for b in found if b.src in number and b.dst in number]
    layer = layers(len(boxes), arcs)
    headings = [_heading(graph, g, found) for g in boxes]
    pitch = _pitch(graph, boxes, layer)
    lane = [8 + 1.5 * min(graph.groups[g].size, 20) for g in boxes]
    rough = arrange(layer, [1.0] * len(boxes), arcs, GAP, lane)
    first = {next((i for i in row if i < len(boxes)), -1) for row in rough.order}
    inner = [0.0 if i in first else len(h) * LINE + 4 for i, h in enumerate(headings)]
    extent = [room + graph.groups[g].size * pitch for g, room in zip(boxes, inner, strict=True)]
    placed = arrange(layer, extent, arcs, GAP, lane)
    picture = _Picture(graph, found, boxes, layer, headings, inner, placed, pitch, params)
    return picture.figure()


def _pitch(graph: ParameterGraph, boxes: list[int], layer: list[int]) -> float:
    """Distance from node to node in points, shorter for long columns."""
    column: dict[int, int] = defaultdict(int)
    for group, at in zip(boxes, layer, strict=True):
        column[at] += graph.groups[group].size
    return float(np.clip(24 * 26 / max(column.values(), default=1), 9, 26))


def _heading(graph: ParameterGraph, group: int, found: list[Band]) -> list[str]:
    """The heading of a group: kind and size, ONNX name, ports, and the vias of what enters it."""
    g = graph.groups[group]
    ids = np.arange(g.start, g.stop)
    lines = [f"{g.kind} ×{g.size}"]
    ports = [f"{way} {p.name}" for way, side in (("input", graph.inputs), ("output", graph.outputs)) for p in side
             if np.isin(p.nodes, ids).any()]  # fmt: skip
    if g.kind != NodeKind.INPUT and (g.node or g.value):
        lines.append(short(g.node or g.value))
    lines += ports
    vias: list[str] = []
    for band in found:
        if band.dst == group and graph.groups[band.src].kind != NodeKind.PARAM:
            vias += via_texts(graph, band.block.via)
    lines = [fit(line, LONGEST, TITLE if i == 0 else SMALL) for i, line in enumerate(lines)]
    return lines + [line for v in dict.fromkeys(vias) for line in wrapped(v, LONGEST, SMALL)][:6]


def _edges(graph: ParameterGraph, roles: list[str]) -> _Edges:
    """Every edge of every block, with parallel edges numbered."""
    columns: list[list[np.ndarray]] = [[], [], [], []]
    for block in graph.edges:
        shape = block.shape
        value = graph.values(block).astype(np.float64)
        parts = (block.src[:, None, :, None], block.dst[:, :, None, None], value, np.array(roles.index(block.role)))
        for column, part in zip(columns, parts, strict=True):
            column.append(np.broadcast_to(part, shape).reshape(-1))
    for link in graph.links:
        parts = (link.src, link.dst, np.full(link.size, np.nan), np.full(link.size, roles.index(link.role)))
        for column, part in zip(columns, parts, strict=True):
            column.append(part)
    src, dst, value, role = (np.concatenate([np.zeros(0, dtype=np.int64), *c]) for c in columns)
    pair = src.astype(np.int64) * graph.num_nodes + dst
    _, inverse, count = np.unique(pair, return_inverse=True, return_counts=True)
    sorting = np.argsort(inverse, kind="stable")
    first = np.cumsum(count) - count
    index = np.empty(len(pair), dtype=np.int64)
    index[sorting] = np.arange(len(pair)) - np.repeat(first, count)
    return _Edges(src, dst, value, role, index, count[inverse])


@dataclass(frozen=True)
class _Picture:
    """A picture with its layout.

    boxes: groups that get a column of nodes. headings: heading of each. inner: space for the heading within the column;
    0 if it is at the top of the page. pitch: points from node to node. params: parameter groups.
    """

    graph: ParameterGraph
    found: list[Band]
    boxes: list[int]
    layer: list[int]
    headings: list[list[str]]
    inner: list[float]
    placed: Arrangement
    pitch: float
    params: set[int]

    def figure(self) -> Figure:
        """Lay out columns, parameters and legend, then draw edges, nodes over them, and text on top."""
        at = dict(zip(self.boxes, self.layer, strict=True))
        homes = self._homes(at)
        column_x, width = self._columns(homes)
        over = max(len(h) for h, room in zip(self.headings, self.inner, strict=True) if not room) * LINE + 10
        top = (self.placed.centre - self.placed.extent / 2).min()
        down = MARGIN + over - top
        bottom = (self.placed.centre + self.placed.extent / 2).max() + down
        spots = self._param_spots(homes, column_x, bottom)
        low = max([bottom, *(y for _, y in spots.values())])
        extra = [LegendEntry("negative value", GREY, DOTS)]
        if self.graph.pinned.any():
            extra.append(LegendEntry("pinned", "white", rim=1.8))
        title = (
            f"{self.graph.name or 'parameter graph'}: {self.graph.num_nodes} nodes, "
            f"{self.graph.num_parameter_edges} parameter edges, {self.graph.num_links} links"
        )
        page = max(width, 2 * MARGIN + text_width(title, SMALL), 320.0)
        column_x += (page - width) / 2
        spots = {key: (x + (page - width) / 2, y) for key, (x, y) in spots.items()}
        rows = legend_rows(legend_entries(self.graph, self.found, extra), page - 2 * MARGIN)
        height = low + 30 + LINE + LEGEND_ROW * len(rows) + MARGIN / 2
        figure, axes = canvas(page, height)
        position = self._positions(column_x, down)
        self._draw_edges(axes, position, spots, at, column_x, down)
        self._draw_nodes(axes, position)
        self._draw_params(axes, spots)
        self._draw_headings(axes, column_x, down)
        write(axes, MARGIN, low + 26, title, size=SMALL, color=GREY, va="center_baseline")
        draw_legend(axes, rows, MARGIN, low + 26 + LINE)
        return figure

    def _homes(self, at: dict[int, int]) -> dict[int, dict[int, list[int]]]:
        """Column -> parameter group -> groups of that column that it feeds."""
        homes: dict[int, dict[int, list[int]]] = defaultdict(lambda: defaultdict(list))
        for band in self.found:
            if band.src in self.params and band.dst in at:
                homes[at[band.dst]][band.src].append(band.dst)
        return homes

    def _columns(self, homes: dict[int, dict[int, list[int]]]) -> tuple[np.ndarray, float]:
        """Horizontal centre of each column, and the width of the picture, in points."""
        count = max(self.layer) + 1
        wide = np.full(count, self.pitch)
        for box, lines in enumerate(self.headings):
            longest = max(text_width(t, TITLE if i == 0 else SMALL) for i, t in enumerate(lines))
            wide[self.layer[box]] = max(wide[self.layer[box]], longest)
        lanes_high = max((len(row) for row in self.placed.order), default=1)
        apart = 70 + 2.0 * min(lanes_high, 20) + 0.6 * max(self.graph.groups[g].size for g in self.boxes)
        before = np.array([self._param_room(homes.get(c, {})) for c in range(count)])
        x = np.zeros(count)
        x[0] = MARGIN + max(wide[0] / 2, before[0])
        for c in range(1, count):
            x[c] = x[c - 1] + max((wide[c - 1] + wide[c]) / 2 + GAP, apart, before[c] + self.pitch / 2)
        return x, float(x[-1] + wide[-1] / 2 + MARGIN)

    def _param_room(self, home: dict[int, list[int]]) -> float:
        """Space for the parameters left of a column, in points."""
        if not home:
            return 0.0
        return 34 + 8 * len(home) + max(text_width(self._param_label(p), SMALL) for p in home) + 12

    def _param_label(self, group: int) -> str:
        """The tensors whose edges start at a parameter node."""
        own = (b.block.view.name for b in self.found if b.src == group and isinstance(b.block, EdgeBlock))
        return fit(", ".join(short(name) for name in dict.fromkeys(own)), LONGEST, SMALL)

    def _param_spots(
        self, homes: dict[int, dict[int, list[int]]], column_x: np.ndarray, bottom: float
    ) -> dict[tuple[int, int], tuple[float, float]]:
        """(parameter group, column) -> x, y: a staircase below the nodes, left of the column that the group feeds."""
        return {
            (group, column): (column_x[column] - 30 - 8 * (len(home) - 1 - row), bottom + 16 + PARAM_STEP * row)
            for column, home in homes.items()
            for row, group in enumerate(home)
        }

    def _positions(self, column_x: np.ndarray, down: float) -> np.ndarray:
        """x, y of every node, float64 [nodes, 2]; NaN for parameter nodes."""
        position = np.full((self.graph.num_nodes, 2), np.nan)
        for box, group in enumerate(self.boxes):
            g = self.graph.groups[group]
            top = self.placed.centre[box] - self.placed.extent[box] / 2 + down + self.inner[box]
            position[g.start : g.stop, 0] = column_x[self.layer[box]]
            position[g.start : g.stop, 1] = top + self.pitch * (np.arange(g.size) + 0.5)
        return position

    def _draw_edges(
        self,
        axes: Axes,
        position: np.ndarray,
        spots: dict[tuple[int, int], tuple[float, float]],
        at: dict[int, int],
        column_x: np.ndarray,
        down: float,
    ) -> None:
        colours = role_colours(self.graph)
        roles = list(colours)
        edges = _edges(self.graph, roles)
        scale = _scales(edges)
        thin = np.minimum(1.0, (500 / np.maximum(np.bincount(edges.role, minlength=len(roles)), 1)) ** 0.4)
        group = self.graph.group_of(np.arange(self.graph.num_nodes))
        number = {g: i for i, g in enumerate(self.boxes)}
        styles: dict[tuple[int, str], list[tuple[np.ndarray, float, float]]] = defaultdict(list)
        for i in range(len(edges.src)):
            a, b = int(edges.src[i]), int(edges.dst[i])
            ga, gb = int(group[a]), int(group[b])
            end = position[b]
            if ga in self.params:
                line = _rise(np.array(spots[ga, at[gb]]), end)
            else:
                path = self.placed.path(number[ga], number[gb], self.layer)
                points = [position[a], *self._waypoints(path, a - self.graph.groups[ga].start, column_x, down), end]
                line = _curve(points, int(edges.index[i]), int(edges.parallel[i]))
            value = edges.value[i]
            strength = 0.35 if np.isnan(value) else abs(value) * scale[edges.role[i]]
            style = "link" if np.isnan(value) else "minus" if value < 0 else "plus"
            faint = thin[edges.role[i]]
            look = (line, faint * (0.5 + 2.2 * strength), faint * (0.3 + 0.65 * strength))
            styles[int(edges.role[i]), style].append(look)
        dashes = {"link": DASHES, "minus": DOTS, "plus": "-"}
        for (role, style), lines in sorted(styles.items(), key=lambda entry: -len(entry[1])):
            lines.sort(key=lambda entry: entry[1])
            axes.add_collection(
                LineCollection(
                    [line for line, _, _ in lines],
                    linewidths=[w for _, w, _ in lines],
                    alpha=[a for _, _, a in lines],
                    colors=colours[roles[role]],
                    linestyles=[dashes[style]],
                    rasterized=len(edges.src) > RASTER_FROM,
                    zorder=1,
                )
            )

    def _waypoints(self, path: list[int], row: int, column_x: np.ndarray, down: float) -> list[np.ndarray]:
        """Points at which an edge from the `row`-th node of its group crosses the columns in between."""
        points = []
        for column, lane in enumerate(path[1:-1], self.layer[path[0]] + 1):
            shift = (row % 20) * 1.5 - self.placed.extent[lane] / 2 + 4
            points.append(np.array([column_x[column], self.placed.centre[lane] + down + shift]))
        return points

    def _draw_nodes(self, axes: Axes, position: np.ndarray) -> None:
        radius = self.pitch * 0.36
        for group in self.boxes:
            g = self.graph.groups[group]
            size = min(8.0, 1.35 * radius * 10 / text_width(str(g.size - 1), 10))
            for i in range(g.size):
                x, y = position[g.start + i]
                rim = min(1.8, 0.25 * radius) if self.graph.pinned[g.start + i] else min(0.8, 0.12 * radius)
                axes.add_patch(_mark(g.kind, x, y, radius, rim))
                glyph = _GLYPHS.get(g.kind, str(i))
                if size >= 3.0:
                    write(axes, x, y, glyph, size=size, ha="center", va="center_baseline", color=INK, zorder=4)

    def _draw_params(self, axes: Axes, spots: dict[tuple[int, int], tuple[float, float]]) -> None:
        for (group, _), (x, y) in spots.items():
            axes.add_patch(_mark(NodeKind.PARAM, x, y, 5.0, 0.8))
            write(axes, x - 9, y, self._param_label(group), size=SMALL, ha="right", va="center_baseline", color=INK)

    def _draw_headings(self, axes: Axes, column_x: np.ndarray, down: float) -> None:
        for box, lines in enumerate(self.headings):
            top = self.placed.centre[box] - self.placed.extent[box] / 2 + down if self.inner[box] else MARGIN
            for i, line in enumerate(lines):
                style: dict[str, Any] = {"size": SMALL, "color": GREY}
                if i == 0:
                    style = {"size": TITLE, "weight": "bold", "color": INK}
                y = top + LINE * (i + 0.5)
                write(
                    axes,
                    column_x[self.layer[box]],
                    y,
                    line,
                    ha="center",
                    va="center_baseline",
                    zorder=5,
                    path_effects=HALO,
                    **style,
                )


def _scales(edges: _Edges) -> np.ndarray:
    """The reciprocal of each role's largest magnitude, 0 where that is 0."""
    scale = np.zeros(int(edges.role.max(initial=0)) + 1)
    np.maximum.at(scale, edges.role, np.nan_to_num(np.abs(edges.value), nan=0.0, posinf=0.0))
    return np.divide(1.0, scale, out=np.zeros_like(scale), where=scale > 0)


def _mark(kind: str, x: float, y: float, radius: float, rim: float) -> Patch:
    style: dict[str, Any] = {"facecolor": kind_colour(kind), "edgecolor": INK, "lw": rim, "zorder": 3}
    if kind == NodeKind.PARAM:
        return Rectangle((x - radius, y - radius), 2 * radius, 2 * radius, **style)
    if kind == NodeKind.HUB:
        corners = [(x - radius, y), (x, y - radius), (x + radius, y), (x, y + radius)]
        return Polygon(corners, closed=True, **style)
    return Circle((x, y), radius, **style)


def _rise(start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """A Bezier curve from a parameter up beside its column and horizontally into a node."""
    t = np.linspace(0, 1, 18)[:, None]
    a, b = np.array([start[0], end[1] + 0.25 * (start[1] - end[1])]), np.array([start[0] + 4, end[1]])
    return (1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * a + 3 * t**2 * (1 - t) * b + t**3 * end


def _curve(points: list[np.ndarray], index: int, parallel: int) -> np.ndarray:
    """A curve through the points, horizontal at waypoints; parallel edges are bowed apart, backward edges arched."""
    if len(points) == 2:
        start, end = points
        bow = (index - (parallel - 1) / 2) * min(6.0, 24.0 / parallel)
        if end[0] <= start[0]:
            bow += 40.0
        if bow == 0:
            return np.array(points)
        along = end - start
        length = float(np.hypot(*along)) or 1.0
        middle = (start + end) / 2 + np.array([-along[1], along[0]]) / length * bow * 1.6
        t = np.linspace(0, 1, 14)[:, None]
        return (1 - t) ** 2 * start + 2 * t * (1 - t) * middle + t**2 * end
    pieces = []
    t = np.linspace(0, 1, 14)[:, None]
    for start, end in pairwise(points):
        bend = (end[0] - start[0]) / 2
        a, b = start + np.array([bend, 0]), end - np.array([bend, 0])
        pieces.append((1 - t) ** 3 * start + 3 * t * (1 - t) ** 2 * a + 3 * t**2 * (1 - t) * b + t**3 * end)
    return np.concatenate(pieces)
