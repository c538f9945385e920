"""The view of large graphs: node groups as boxes, blocks as bands, layers from top to bottom, wrapped into strips."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch, PathPatch
from matplotlib.path import Path

from ...ir import EdgeBlock, LinkBlock, NodeKind, ParameterGraph
from .layout import Arrangement, arrange, layers
from .parts import (
    DASHES,
    GREY,
    INK,
    LEGEND_ROW,
    Band,
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

__all__ = ["group_picture"]

TITLE, SMALL, LINE = 8.5, 7.0, 10.0
MARGIN, PAD, GAP, BETWEEN, TRACK = 24.0, 6.0, 16.0, 26.0, 5.0
WIDEST, MOST_ROWS = 190.0, 6
SHAPE = 1.1


@dataclass(frozen=True, slots=True)
class _Span:
    """Part of a text line in a box, in one style."""

    text: str
    colour: str = GREY
    size: float = SMALL
    weight: str = "normal"
    space: float = 0.0

    @property
    def width(self) -> float:
        return self.space + text_width(self.text, self.size, self.weight)


Lines = list[list[_Span]]


@dataclass(frozen=True, slots=True)
class _Segment:
    """The part of a band between two neighbouring layers."""

    upper: int
    lower: int
    role: str
    link: bool


def group_picture(graph: ParameterGraph) -> Figure:
    """Draw a large graph: groups and blocks."""
    found = bands(graph)
    colours = role_colours(graph)
    boxes = [i for i, g in enumerate(graph.groups) if g.kind != NodeKind.PARAM and g.size]
    number = {g: i for i, g in enumerate(boxes)}
    inner = [b for b in found if b.src in number and b.dst in number]
    arcs = [(number[b.src], number[b.dst]) for b in inner]
    layer = layers(len(boxes), arcs)
    into: dict[int, list[Band]] = defaultdict(list)
    for band in found:
        into[band.dst].append(band)
    text = [_text(graph, g, into[g], colours) for g in boxes]
    width = [max(sum(r.width for r in line) for line in lines) + 2 * PAD for lines in text]
    roles: dict[int, set[str]] = defaultdict(set)
    for band in inner:
        roles[number[band.src]].add(band.block.role)
    lane = [4.0 * len(roles[i]) for i in range(len(boxes))]
    placed = arrange(layer, width, arcs, GAP, lane)
    segments = _segments(inner, number, layer, placed)
    kinds = [graph.groups[g].kind for g in boxes]
    backward = [(a, b) for a, b in arcs if layer[a] >= layer[b]]
    picture = _Picture(graph, colours, layer, kinds, text, placed, segments, backward)
    return picture.figure(found)


def _text(graph: ParameterGraph, group: int, into: list[Band], colours: dict[str, str]) -> Lines:
    """The text of a box: the group, its weights with shapes and vias, its vectors, its links, its ports."""
    g = graph.groups[group]
    pinned = graph.pinned[g.start : g.stop].all()
    title = _Span(f"{g.kind} ×{g.size}" + (" pinned" if pinned else ""), INK, TITLE, "bold")
    name = fit(short(g.node or g.value), WIDEST - title.width - 8, SMALL)
    lines = [[title, _Span(name, space=6)] if name else [title]]
    wide = [b for b in into if isinstance(b.block, EdgeBlock) and graph.groups[b.src].kind != NodeKind.PARAM]
    thin = Counter(
        b.block.role for b in into if isinstance(b.block, EdgeBlock) and graph.groups[b.src].kind == NodeKind.PARAM
    )
    rows: Lines = []
    for block in dict.fromkeys(id(b.block) for b in wide):
        rows += _block_lines(graph, next(b.block for b in wide if id(b.block) == block), colours)
    rows += _link_lines(graph, [b for b in into if isinstance(b.block, LinkBlock)], colours)
    if len(rows) > MOST_ROWS:
        rows = [*rows[: MOST_ROWS - 1], [_Span(f"… {len(rows) - MOST_ROWS + 1} more lines")]]
    lines += rows + _flow([_Span(r + (f" ×{n}" if n > 1 else ""), colours[r]) for r, n in thin.items()])
    ids = np.arange(g.start, g.stop)
    for way, side in (("input", graph.inputs), ("output", graph.outputs)):
        lines += [[_Span(fit(f"{way} {p.name}", WIDEST, SMALL), INK)] for p in side if np.isin(ids, p.nodes).any()]
    return lines


def _block_lines(graph: ParameterGraph, block: EdgeBlock | LinkBlock, colours: dict[str, str]) -> Lines:
    if isinstance(block, LinkBlock):
        return []
    b, n, k, s = block.shape
    shape = f"{n}×{k}" + (f" · {s} slots" if s > 1 else "") + (f" · {b} times" if b > 1 else "")
    label = _Span(f"{block.role} {shape}" + " tied" * block.tied, colours[block.role])
    lines = [[label]]
    name = fit(short(block.view.name), WIDEST - label.width - 6, SMALL)
    if len(name) > 1:
        lines[0].append(_Span(name, space=6))
    return lines + [[_Span(line)] for v in via_texts(graph, block.via)[:2] for line in wrapped(v, WIDEST, SMALL)]


def _link_lines(graph: ParameterGraph, into: list[Band], colours: dict[str, str]) -> Lines:
    by_role: dict[str, list[Band]] = defaultdict(list)
    for band in into:
        by_role[band.block.role].append(band)
    lines: Lines = []
    for role, found in by_role.items():
        counts = " + ".join(str(b.count) for b in found[:4]) + (" + …" if len(found) > 4 else "")
        vias = dict.fromkeys(v for b in found for v in via_texts(graph, b.block.via))
        label = _Span(f"{role} {counts}", colours[role])
        room = WIDEST - label.width - 6
        via = fit("via " + " | ".join(vias), room, SMALL) if vias and room > 30 else ""
        lines.append([label, _Span(via, space=6)] if via else [label])
    return lines


def _flow(spans: list[_Span]) -> Lines:
    """The spans in lines of at most `WIDEST` points."""
    lines: Lines = []
    at = 0.0
    for span in spans:
        if not lines or at + 6 + span.width > WIDEST:
            lines.append([span])
            at = span.width
        else:
            lines[-1].append(_Span(span.text, span.colour, space=6))
            at += lines[-1][-1].width
    return lines


def _segments(
    inner: list[Band], number: dict[int, int], layer: list[int], placed: Arrangement
) -> dict[_Segment, float]:
    """The segments of all forward bands, with their line widths in points."""
    segments: dict[_Segment, float] = {}
    for band in inner:
        a, b = number[band.src], number[band.dst]
        if layer[a] >= layer[b]:
            continue
        path = placed.path(a, b, layer)
        width = 0.8 + 0.45 * float(np.log10(band.count))
        for upper, lower in pairwise(path):
            segment = _Segment(upper, lower, band.block.role, band.link)
            segments[segment] = max(width, segments.get(segment, 0.0))
    return segments


@dataclass(frozen=True)
class _Picture:
    """A picture with its layout.

    text: the lines of each box. segments: line width by segment. backward: arcs from a layer to itself or upward.
    """

    graph: ParameterGraph
    colours: dict[str, str]
    layer: list[int]
    kinds: list[str]
    text: list[Lines]
    placed: Arrangement
    segments: dict[_Segment, float]
    backward: list[tuple[int, int]]

    def figure(self, found: list[Band]) -> Figure:
        """Lay out the strips, then draw bands, boxes over them, and the legend."""
        level = [at for at, row in enumerate(self.placed.order) for _ in row]
        where = dict(zip((i for row in self.placed.order for i in row), level, strict=True))
        height = np.array(
            [max([2.0, *(self._height(i) for i in row if i < len(self.text))]) for row in self.placed.order]
        )
        strip = self._strips(height, where)
        shift, top, size = self._strip_places(height, strip, where)
        title = (
            f"{self.graph.name or 'parameter graph'}: {self.graph.num_nodes} nodes in {len(self.graph.groups)} groups, "
            f"{self.graph.num_parameter_edges} parameter edges, {self.graph.num_links} links"
        )
        width = max(size[0], 420.0, text_width(title, SMALL) + 2 * MARGIN)
        rows = legend_rows(legend_entries(self.graph, found), width - 2 * MARGIN)
        figure, axes = canvas(width, size[1] + 20 + LINE + LEGEND_ROW * len(rows) + MARGIN / 2)
        shift = shift + (width - size[0]) / 2
        x = self.placed.centre + np.array([shift[strip[where[i]]] for i in range(len(self.placed.centre))])
        self._draw_bands(axes, x, top, height, strip, where)
        for box in range(len(self.text)):
            self._draw_box(axes, box, x[box], top[self.layer[box]])
        write(axes, MARGIN, size[1] + 12, title, size=SMALL, color=GREY, va="center_baseline")
        draw_legend(axes, rows, MARGIN, size[1] + 12 + LINE)
        return figure

    def _height(self, box: int) -> float:
        return 2 * PAD + LINE * len(self.text[box])

    def _strips(self, height: np.ndarray, where: dict[int, int]) -> np.ndarray:
        """The strip of each layer: long networks are cut where few bands cross, to give the page a readable aspect."""
        total = float((height + BETWEEN).sum())
        edges = [
            (self.placed.centre[i] - e / 2, self.placed.centre[i] + e / 2) for i, e in enumerate(self.placed.extent)
        ]
        wide = max(b for _, b in edges) - min(a for a, _ in edges) + 60
        count = max(1, round(float(np.sqrt(SHAPE * total / wide)))) if total > 900 else 1
        crossing = Counter(where[p.upper] for p in self.segments)
        strip = np.zeros(len(height), dtype=int)
        reach = np.cumsum(height + BETWEEN)
        for cut in range(1, count):
            near = [i for i in range(len(height) - 1) if abs(reach[i] - total * cut / count) < total / count / 5]
            if near:
                best = min(near, key=lambda i: (crossing[i], abs(reach[i] - total * cut / count)))
                strip[best + 1 :] += 1
        return strip

    def _strip_places(
        self, height: np.ndarray, strip: np.ndarray, where: dict[int, int]
    ) -> tuple[np.ndarray, np.ndarray, tuple[float, float]]:
        """Horizontal shift of each strip, y of the top of each layer, and the size of the picture, in points."""
        count = int(strip.max()) + 1
        tracks = [sum(strip[where[p.upper]] == s != strip[where[p.lower]] for p in self.segments) for s in range(count)]
        room = TRACK * max(tracks) + 8
        shift, top = np.zeros(count), np.zeros(len(height))
        x = MARGIN
        low = 0.0
        for s in range(count):
            items = [i for i, at in where.items() if strip[at] == s]
            left = min(self.placed.centre[i] - self.placed.extent[i] / 2 for i in items)
            right = max(self.placed.centre[i] + self.placed.extent[i] / 2 for i in items)
            shift[s] = x - left
            x += right - left + TRACK * tracks[s] + 2 * GAP
            y = MARGIN + (room if count > 1 else 0)
            for at in np.flatnonzero(strip == s):
                top[at] = y
                y += height[at] + BETWEEN
            low = max(low, y - BETWEEN + (room if count > 1 else 0))
        return shift, top, (x - 2 * GAP + MARGIN, low + 8)

    def _anchors(self, x: np.ndarray) -> tuple[dict[_Segment, float], dict[_Segment, float]]:
        """X coordinates where each segment leaves its upper and enters its lower item, in the order of the far ends."""
        leave: dict[int, list[_Segment]] = defaultdict(list)
        enter: dict[int, list[_Segment]] = defaultdict(list)
        for segment in self.segments:
            leave[segment.upper].append(segment)
            enter[segment.lower].append(segment)
        starts: dict[_Segment, float] = {}
        ends: dict[_Segment, float] = {}
        for side, far, result in ((leave, "lower", starts), (enter, "upper", ends)):
            for item, group in side.items():
                lane = item >= len(self.text)
                roles = sorted({p.role for p in group})
                ordered = sorted(group, key=lambda p: (x[getattr(p, far)], p.role))
                step = min(14.0, 0.8 * self.placed.extent[item] / max(len(group), 1))
                for place, segment in enumerate(ordered):
                    offset = 4.0 * (roles.index(segment.role) - (len(roles) - 1) / 2)
                    result[segment] = x[item] + (offset if lane else step * (place - (len(group) - 1) / 2))
        return starts, ends

    def _draw_bands(
        self,
        axes: Axes,
        x: np.ndarray,
        top: np.ndarray,
        height: np.ndarray,
        strip: np.ndarray,
        where: dict[int, int],
    ) -> None:
        starts, ends = self._anchors(x)
        tracks: Counter[int] = Counter()
        right = [
            max(x[i] + self.placed.extent[i] / 2 for i, at in where.items() if strip[at] == s)
            for s in range(int(strip.max()) + 1)
        ]
        for segment, width in self.segments.items():
            upper, lower = where[segment.upper], where[segment.lower]
            bottom = top[upper] + (self._height(segment.upper) if segment.upper < len(self.text) else height[upper])
            a, b = (starts[segment], bottom), (ends[segment], top[lower])
            s = int(strip[upper])
            if s == strip[lower]:
                path = _drop(a, b, top[lower] - BETWEEN)
            else:
                tracks[s] += 1
                path = _around(
                    a, b, right[s] + TRACK * tracks[s] + GAP / 2, TRACK * tracks[s] + 4, top[upper] + height[upper]
                )
            self._stroke(axes, path, segment.role, segment.link, width)
            if segment.lower >= len(self.text):
                self._stroke(axes, _line(b, (b[0], b[1] + height[lower])), segment.role, segment.link, width)
        taken: Counter[float] = Counter()
        for a_box, b_box in self.backward:
            a = (x[a_box], top[self.layer[a_box]] + self._height(a_box))
            b = (x[b_box], top[self.layer[b_box]])
            side = self._gutter(x, a_box, b_box)
            taken[side] += 1
            side += 3.0 * (taken[side] - 1)
            axes.add_patch(PathPatch(_around(a, b, side, 6.0, a[1]), fill=False, ec=GREY, lw=1, ls=DASHES, zorder=1))

    def _gutter(self, x: np.ndarray, a_box: int, b_box: int) -> float:
        """The nearest x right of both boxes that is free of boxes in the layers between them."""
        half = self.placed.extent[: len(self.text)] / 2 + GAP / 2
        between = [i for i, at in enumerate(self.layer) if self.layer[b_box] <= at <= self.layer[a_box]]
        side = float(max(x[i] + half[i] for i in (a_box, b_box)))
        for i in sorted(between, key=lambda i: float(x[i] - half[i])):
            if x[i] - half[i] < side < x[i] + half[i]:
                side = float(x[i] + half[i])
        return side

    def _stroke(self, axes: Axes, path: Path, role: str, link: bool, width: float) -> None:
        style = DASHES if link else "-"
        colour = self.colours[role]
        axes.add_patch(
            PathPatch(path, fill=False, ec=colour, lw=width, ls=style, alpha=0.85, zorder=1, capstyle="butt")
        )

    def _draw_box(self, axes: Axes, box: int, x: float, top: float) -> None:
        width, height = self.placed.extent[box], self._height(box)
        kind = self.kinds[box]
        shape = "round,pad=0,rounding_size=4"
        axes.add_patch(
            FancyBboxPatch(
                (x - width / 2, top), width, height, boxstyle=shape, fc=kind_colour(kind), ec=INK, lw=0.8, zorder=3
            )
        )
        for row, spans in enumerate(self.text[box]):
            at = x - sum(s.width for s in spans) / 2
            for span in spans:
                write(
                    axes,
                    at + span.space,
                    top + PAD + LINE * (row + 0.5),
                    span.text,
                    size=span.size,
                    weight=span.weight,
                    color=span.colour,
                    va="center_baseline",
                    zorder=4,
                )
                at += span.width


Point = tuple[float, float]


def _line(a: Point, b: Point) -> Path:
    return Path([a, b])


def _drop(a: Point, b: Point, bend: float) -> Path:
    """A path from a down to b: straight to the gap above b's layer, then an S-curve."""
    start = (a[0], max(a[1], bend))
    middle = (start[1] + b[1]) / 2
    codes = [Path.MOVETO, Path.LINETO, Path.CURVE4, Path.CURVE4, Path.CURVE4]
    return Path([a, start, (a[0], middle), (b[0], middle), b], codes)


def _around(a: Point, b: Point, side: float, away: float, below: float) -> Path:
    """A path from a down below its layer, along the vertical gutter at `side`, and into b from above."""
    under, over = max(a[1], below) + away, b[1] - away
    return Path([a, (a[0], under), (side, under), (side, over), (b[0], over), b])
