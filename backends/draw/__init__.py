"""Pictures of parameter graphs: every node and edge of a small one, groups and blocks of a large one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...ir import GmncError, ParameterGraph
from ..files import replacing, sources, target

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["MAX_EDGES", "MAX_NODES", "View", "draw"]

MAX_NODES = 300
MAX_EDGES = 50_000

# Fixed ids: the same graph gives the same bytes. No hinting: text is as wide as it was measured.
_SETTINGS: dict[Any, Any] = {"svg.hashsalt": "gmnc", "font.family": "DejaVu Sans", "text.hinting": "none"}

View = Literal["auto", "nodes", "groups"]


def draw(graph: ParameterGraph, path: str | Path, view: View = "auto") -> Path:
    """Write a picture of `graph` to `path` (.svg or .png) and return the path.

    view: "nodes" shows every node and edge (colour by role, width by value, dots for negative values), "groups" shows
    node groups as boxes and blocks as bands; "auto" takes "nodes" for graphs of up to `MAX_NODES` nodes and
    `MAX_EDGES` edges and links.
    Raises `GmncError` if the format is another one, the graph is empty, or matplotlib (extra ``draw``) is missing.
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise GmncError(f"cannot draw to {path.name!r}: give a name that ends in .svg or .png")
    target(path, sources(graph))
    if not graph.num_nodes:
        raise GmncError(f"graph {graph.name!r} has no nodes to draw")
    try:
        import matplotlib.figure
    except ImportError as error:
        raise GmncError("drawing needs matplotlib: install it with pip install 'gmnc[draw]'") from error
    from .groups import group_picture
    from .nodes import node_picture

    edges = sum(block.size for block in graph.edges) + graph.num_links
    small = graph.num_nodes <= MAX_NODES and edges <= MAX_EDGES
    picture = node_picture if view == "nodes" or (view == "auto" and small) else group_picture
    with matplotlib.rc_context(_SETTINGS):
        figure = picture(graph)
        kind = path.suffix.lower()[1:]
        with replacing(path, sources(graph)) as temporary:
            figure.savefig(temporary, format=kind, dpi=_dpi(figure), metadata={"Date": None} if kind == "svg" else {})
    return path


def _dpi(figure: Figure) -> float:
    """150 dots per inch, less where the picture would pass what PNG writers take."""
    longest = max(figure.get_size_inches())
    return float(min(150.0, 30000.0 / longest))
