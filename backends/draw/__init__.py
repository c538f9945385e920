"""Pictures: every node and edge of a small graph, groups and blocks of a large one, distances between two networks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from ...files.writing import replacing, target
from ...ir import GmncError, ParameterGraph

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .distances import Curves

__all__ = ["MAX_EDGES", "MAX_NODES", "View", "checked", "draw", "draw_distances"]

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
    path = checked(path, graph.files)
    if not graph.num_nodes:
        raise GmncError(f"graph {graph.name!r} has no nodes to draw")

    def picture() -> Figure:
        from .groups import group_picture
        from .nodes import node_picture

        edges = sum(block.size for block in graph.edges) + graph.num_links
        small = graph.num_nodes <= MAX_NODES and edges <= MAX_EDGES
        return (node_picture if view == "nodes" or (view == "auto" and small) else group_picture)(graph)

    return _saved(path, graph.files, picture)


def draw_distances(
    rows: Sequence[tuple[str, float, float]],
    path: str | Path,
    title: str = "",
    curves: Sequence[Curves] = (),
    read: Sequence[str | Path] = (),
) -> Path:
    """Draw distances between two networks by layer, before and after an alignment.

    Args:
        rows: Name, distance before and distance after of each layer, in the order in which they are drawn.
        path: File to write, .svg or .png.
        title: The title.
        curves: Quantities along the line between the networks, drawn beside the distances.
        read: Files that were read, which are not replaced.

    Returns:
        `path`.

    Raises:
        GmncError: The format is not supported, matplotlib (extra `draw`) is not installed, or the file cannot be
            written.
    """

    def picture() -> Figure:
        from .distances import distance_picture

        return distance_picture(rows, title, curves)

    return _saved(checked(path, read), read, picture)


def checked(path: str | Path, read: Sequence[str | Path] = ()) -> Path:
    """Check that a picture can be written, before anything that takes time.

    Args:
        path: The file.
        read: Files that are not replaced.

    Returns:
        `path`.

    Raises:
        GmncError: The format is not supported, matplotlib (extra `draw`) is not installed, or the file cannot be
            written.
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise GmncError(f"cannot draw to {path.name!r}: the name must end in .svg or .png")
    target(path, read)
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError as error:
        raise GmncError("drawing needs matplotlib: pip install 'gmnc[draw]'") from error
    return path


def _saved(path: Path, read: Sequence[str | Path], picture: Callable[[], Figure]) -> Path:
    """Make a picture and write it, always as the same bytes."""
    import matplotlib.figure

    with matplotlib.rc_context(_SETTINGS):
        figure = picture()
        kind = path.suffix.lower()[1:]
        with replacing(path, read) as temporary:
            figure.savefig(temporary, format=kind, dpi=_dpi(figure), metadata={"Date": None} if kind == "svg" else {})
    return path


def _dpi(figure: Figure) -> float:
    """150 dots per inch, fewer for pictures that would exceed 30,000 pixels, near the limit of PNG writers."""
    longest = max(figure.get_size_inches())
    return float(min(150.0, 30000.0 / longest))
