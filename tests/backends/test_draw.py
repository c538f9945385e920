"""Pictures: everything is shown, nothing lies on anything else, bad targets are refused."""

from __future__ import annotations

import sys
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from support.parameter_graphs import Net

pytest.importorskip("matplotlib", reason="pictures need the extra draw")

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Circle, FancyBboxPatch, PathPatch
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from support.tiers import first

from gmnc.backends.draw import MAX_NODES, draw, parts
from gmnc.backends.draw.groups import group_picture
from gmnc.backends.draw.layout import arrange, layers
from gmnc.backends.draw.nodes import node_picture
from gmnc.ir import GmncError, GraphBuilder, ParameterGraph


def perceptron(*sizes: int) -> ParameterGraph:
    net = Net()
    at = net.inputs(sizes[0])
    for i, size in enumerate(sizes[1:]):
        at = net.linear(at, size, f"fc{i}.weight", via=net.through("Relu") if i else 0)
        net.attach(at, f"fc{i}.bias")
    return net.finish(at)


def residual(depth: int, width: int) -> ParameterGraph:
    """Blocks of two layers with a shortcut around each, 9 slots per edge."""
    net = Net()
    at = net.linear(net.inputs(3), width, "stem", slots=9)
    for i in range(depth):
        inner = net.linear(at, width, f"block{i}/a", slots=9)
        for role in ("norm.scale", "norm.bias"):
            net.attach(inner, f"block{i}/a.{role}", role)
        outer = net.linear(inner, width, f"block{i}/b", via=net.through("Relu"), slots=9)
        at = net.join(outer, at)
    return net.finish(net.linear(at, 5, "head"))


def texts(figure: Figure) -> list[tuple[str, Bbox]]:
    """Every text of a figure with its box in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    found = figure.findobj(Text)
    return [(t.get_text(), t.get_window_extent(canvas.get_renderer())) for t in found if t.get_text().strip()]


def overlap(a: Bbox, b: Bbox) -> float:
    """Area that two boxes share, after a pixel of grace on each side."""
    width = min(a.x1, b.x1) - max(a.x0, b.x0) - 2
    height = min(a.y1, b.y1) - max(a.y0, b.y0) - 2
    return width * height if width > 0 and height > 0 else 0.0


PICTURES = {
    "perceptron": lambda: node_picture(perceptron(2, 3, 1)),
    "wide": lambda: node_picture(perceptron(8, 60, 60, 3)),
    "residual": lambda: node_picture(residual(2, 4)),
    "groups": lambda: group_picture(residual(3, 64)),
    "deep": lambda: group_picture(residual(40, 16)),
}


@pytest.mark.parametrize("name", first(2, PICTURES))
def test_no_text_lies_on_text_or_leaves_the_page(name: str) -> None:
    figure = PICTURES[name]()
    found = texts(figure)
    assert len(found) > 8
    for (a, box_a), (b, box_b) in combinations(found, 2):
        assert overlap(box_a, box_b) == 0, (a, b)
    for text, box in found:
        assert box.x0 >= 0, text
        assert box.y0 >= 0, text
        assert box.x1 <= figure.bbox.x1, text
        assert box.y1 <= figure.bbox.y1, text


@pytest.mark.parametrize("depth", [3, 40])
def test_boxes_do_not_overlap(depth: int) -> None:
    figure = group_picture(residual(depth, 16))
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = [p.get_window_extent(canvas.get_renderer()) for p in figure.findobj(FancyBboxPatch)]
    assert len(boxes) == 3 + 3 * depth
    assert all(overlap(a, b) == 0 for a, b in combinations(boxes, 2))


def test_lines_back_to_earlier_layers_pass_beside_the_boxes() -> None:
    net = Net()
    start = net.linear(net.inputs(3), 4, "first")
    wide = net.linear(start, 5, "a/layer/with/a/rather/long/name", via=net.through("Relu"))
    back = net.linear(wide, 4, "back")
    net.builder.add_links(start, back, "carry")
    figure = group_picture(net.finish(net.linear(back, 2, "head")))
    boxes = [b.get_window_extent() for b in figure.findobj(FancyBboxPatch)]
    lines = [p.get_path().vertices for p in figure.findobj(PathPatch) if len(p.get_path().vertices) == 6]
    assert lines
    for line in lines:
        side = figure.axes[0].transData.transform([line[2], line[3]])
        assert not any(b.x0 < side[0, 0] < b.x1 and b.y0 < side[:, 1].max() and side[:, 1].min() < b.y1 for b in boxes)


def test_long_text_is_cut_with_few_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    """The vias into one group can be a hundred thousand letters together."""
    measured: list[int] = []
    width = parts.text_width

    def counted(text: str, size: float, weight: str = "normal") -> float:
        measured.append(len(text))
        return width(text, size, weight)

    monkeypatch.setattr(parts, "text_width", counted)
    cut = parts.fit("via Relu | " * 10_000, 120, 7)
    assert width(cut, 7) <= 120 < width(cut.replace("…", "…ab"), 7)
    assert len(measured) < 20
    assert max(measured) < 500
    assert parts.fit("short", 120, 7) == "short"
    assert parts.fit("WWWW", 1, 7) == "…"


def test_every_node_and_edge_of_a_small_graph_is_there() -> None:
    graph = perceptron(2, 3, 1)
    figure = node_picture(graph)
    lines = [line for c in figure.findobj(LineCollection) for line in c.get_segments()]
    assert len(lines) == 13
    assert len(figure.findobj(Circle)) == 6
    centres = {tuple(c.center) for c in figure.findobj(Circle)}
    assert len(centres) == 6
    layered = sorted({round(x) for x, _ in centres})
    assert [sum(round(x) == column for x, _ in centres) for column in layered] == [2, 3, 1]


def test_parallel_edges_are_told_apart() -> None:
    net = Net()
    graph = net.finish(net.linear(net.inputs(1), 1, "conv", slots=9))
    (lines,) = [c.get_segments() for c in node_picture(graph).findobj(LineCollection) if len(c.get_segments()) > 1]
    middles = {tuple(np.round(line[len(line) // 2], 1)) for line in lines}
    assert len(middles) == len(lines)


def test_width_follows_magnitude_and_style_follows_sign() -> None:
    net = Net()
    graph = net.finish(net.linear(net.inputs(2), 2, "w"))
    data = graph.parameters["w"].load()
    data[...] = np.array([[1.0, -4.0], [2.0, 3.0]])[:, :, None]
    drawn = node_picture(graph).findobj(LineCollection)
    assert len(drawn) == 2
    styles = {len(c.get_segments()): c for c in drawn}
    assert sorted(styles) == [1, 3]
    assert styles[1].get_linestyle() != styles[3].get_linestyle()
    assert list(styles[3].get_linewidths()) == sorted(styles[3].get_linewidths())
    assert min(styles[1].get_linewidths()) > max(styles[3].get_linewidths())


def test_auto_turns_to_groups_above_the_limit(tmp_path: Path) -> None:
    small, large = perceptron(MAX_NODES - 4, 1, 1), perceptron(MAX_NODES - 3, 1, 1)
    assert (small.num_nodes, large.num_nodes) == (MAX_NODES, MAX_NODES + 1)
    assert draw(small, tmp_path / "a.svg").read_bytes() == draw(small, tmp_path / "b.svg", "nodes").read_bytes()
    assert draw(large, tmp_path / "a.svg").read_bytes() == draw(large, tmp_path / "b.svg", "groups").read_bytes()


def test_names_are_shown(tmp_path: Path) -> None:
    for figure in (node_picture(perceptron(2, 3, 1)), group_picture(perceptron(2, 3, 1))):
        words = " ".join(text for text, _ in texts(figure))
        for word in ("weight", "bias", "neuron ×3", "input ×2", "via Relu", "8 nodes", "13 parameter edges"):
            assert word in words


@pytest.mark.parametrize("name", ["graph.gif", "graph", "graph.onnx"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(GmncError, match=r"\.svg or \.png"):
        draw(perceptron(2, 1), tmp_path / name)


def test_an_empty_graph_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GmncError, match="no nodes"):
        draw(GraphBuilder().finish("empty", (), (), ()), tmp_path / "empty.svg")


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(GmncError, match="nowhere"):
        draw(perceptron(2, 1), tmp_path / "nowhere" / "graph.svg")


def test_without_matplotlib_the_message_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(GmncError, match=r"gmnc\[draw\]"):
        draw(perceptron(2, 1), tmp_path / "graph.svg")


def test_layers_are_longest_paths_and_survive_cycles() -> None:
    assert layers(4, [(0, 1), (1, 2), (0, 2), (2, 3)]) == [0, 1, 2, 3]
    assert layers(3, [(0, 1), (1, 2), (2, 1)]) == [0, 1, 2]
    assert layers(4, [(0, 1), (1, 2), (3, 2)]) == [0, 1, 2, 1], "a source stands right before its use"


def test_arrange_keeps_gaps_and_gives_long_arcs_a_lane() -> None:
    arcs = [(0, 1), (1, 2), (2, 3), (0, 3), (0, 4), (4, 3)]
    layer = layers(5, arcs)
    placed = arrange(layer, [10.0] * 5, arcs, 3.0, [2.0] * 5)
    assert {(box, at) for box, at in placed.lanes} == {(0, 1), (0, 2), (4, 2)}
    for row in placed.order:
        for a, b in pairwise(row):
            room = placed.centre[b] - placed.centre[a] - (placed.extent[a] + placed.extent[b]) / 2
            assert room >= 3.0 - 1e-9
