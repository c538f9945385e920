"""Pictures of parameter graphs: every node and edge of a small graph, groups and blocks of a large one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...files.writing import replacing, target
from ...ir import GmncError, ParameterGraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MAX_EDGES", "MAX_NODES", "View", "draw"]

MAX_NODES = 300
"""Nodes up to which `view="auto"` draws every node."""
MAX_EDGES = 50_000
"""Edges and links up to which `view="auto"` draws every edge."""

# A fixed salt makes the SVG's ids, and so its bytes, reproducible; without hinting text is as wide as measured.
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "gmnc", "font.family": "DejaVu Sans", "text.hinting": "none"}

View = Literal["auto", "nodes", "groups"]
"""What a picture shows, see `draw`."""


def draw(graph: ParameterGraph, path: str | Path, view: View = "auto") -> Path:
    """Draw a graph to a file.

    Args:
        graph: The graph.
        path: File to write, .svg or .png.
        view: "nodes" draws every node and edge (colour by role, width by magnitude, dotted if negative), "groups" draws
            node groups as boxes and blocks as bands; "auto" chooses "nodes" up to `MAX_NODES` nodes and `MAX_EDGES`
            edges and links.

    Returns:
        `path`.

    Raises:
        GmncError: The format is not supported, the graph is empty, matplotlib (extra `draw`) is not installed, or the
            file cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise GmncError(f"cannot draw to {path.name!r}: the name must end in .svg or .png")
    target(path, graph.files)
    if not graph.num_nodes:
        raise GmncError(f"graph {graph.name!r} has no nodes to draw")
    try:
        import matplotlib.figure
    except ImportError as error:
        raise GmncError("drawing needs matplotlib: pip install 'gmnc[draw]'") from error
    from .groups import group_picture
    from .nodes import node_picture

    edges = sum(block.size for block in graph.edges) + graph.num_links
    small = graph.num_nodes <= MAX_NODES and edges <= MAX_EDGES
    picture = node_picture if view == "nodes" or (view == "auto" and small) else group_picture
    with matplotlib.rc_context(_SETTINGS):
        figure = picture(graph)
        kind = path.suffix.lower()[1:]
        with replacing(path, graph.files) as temporary:
            figure.savefig(temporary, format=kind, dpi=_dpi(figure), metadata={"Date": None} if kind == "svg" else {})
    return path


def _dpi(figure: Figure) -> float:
    """150 dots per inch, fewer for pictures that would exceed 30,000 pixels, near the limit of PNG writers."""
    longest = max(figure.get_size_inches())
    return float(min(150.0, 30000.0 / longest))
