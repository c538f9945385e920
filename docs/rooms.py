"""Draws the rooms of the package from the imports of its files.

python docs/rooms.py > docs/rooms.svg
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx

import gmnc

__all__ = ["imports", "picture"]

ROOT = Path(gmnc.__file__).parent
ROOMS = (
    "cli",
    "tasks",
    "transforms",
    "testing",
    "metanets",
    "backends",
    "symmetry",
    "frontend",
    "files",
    "kernels",
    "ir",
)
_WIDE, _HIGH, _GAP, _RISE, _EDGE = 118, 30, 22, 30, 20
_INK, _GREY, _FILLS = "#1f2933", "#697586", ("#d3e8fb", "#f4f5f7")


@dataclass(frozen=True, slots=True)
class Box:
    """A room or a part of one, and its upper left corner."""

    name: str
    x: float
    y: float


def imports(of: Iterable[Path], depth: int) -> nx.DiGraph:
    """Which part imports which, by the first `depth` names below the package.

    Args:
        of: Files, relative to the package.
        depth: 1 for rooms, 2 for the parts of a room.

    Returns:
        Parts as nodes; an edge from each part to what it imports.
    """
    graph = nx.DiGraph()
    for file in of:
        part = _part((*file.parent.parts, file.stem), depth)
        text = (ROOT / file).read_text(encoding="utf-8")
        graph.add_node(part)
        for other in (_part(names, depth) for names in _imported(file, text)):
            if other != part:
                graph.add_edge(part, other)
    return graph


def picture() -> Iterator[str]:
    """The lines of the picture: the rooms on the left, the floors of the front end on the right."""
    files = [p.relative_to(ROOT) for room in ROOMS for p in sorted((ROOT / room).rglob("*.py"))]
    house = imports(files, 1).subgraph(ROOMS)
    inside = imports([f for f in files if f.parts[0] == "frontend" and f.name != "__init__.py"], 2)
    parts = inside.subgraph(n for n in inside if n.startswith("frontend/") and "__init__" not in n)
    left = _placed(house, 0.0)
    offset = max(b.x for b in left) + _WIDE + 3 * _GAP
    right = _placed(parts, offset)
    width = max(b.x for b in right) + _WIDE + _EDGE
    height = max(b.y for b in (*left, *right)) + _HIGH + _EDGE
    yield f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" font-family="sans-serif">'
    yield '<defs><marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
    yield f'<path d="M0 0 8 4 0 8z" fill="{_GREY}"/></marker></defs>'
    for boxes, graph, title, fill in ((left, house, "rooms", _FILLS[0]), (right, parts, "frontend/", _FILLS[1])):
        x = min(box.x for box in boxes)
        yield f'<text x="{x:g}" y="16" font-size="13" fill="{_GREY}">{title}</text>'
        yield from _arrows(boxes, graph)
        yield from (line for box in boxes for line in _drawn(box, fill))
    yield "</svg>"


def _part(names: tuple[str, ...], depth: int) -> str:
    return "/".join(names[:depth])


def _imported(file: Path, text: str) -> Iterator[tuple[str, ...]]:
    """Names below the package of what a file imports from it."""
    here = file.parent.parts
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = (*here[: len(here) - node.level + 1], *(node.module.split(".") if node.module else ()))
            yield from ((*base, alias.name) for alias in node.names)


def _placed(graph: nx.DiGraph, offset: float) -> list[Box]:
    """Boxes in rows: each part above all that it imports."""
    floor: dict[str, int] = {}
    for part in reversed(list(nx.lexicographical_topological_sort(graph))):
        floor[part] = 1 + max((floor[other] for other in graph[part]), default=-1)
    rows = defaultdict[int, list[str]](list)
    for part in sorted(floor):
        rows[floor[part]].append(part)
    most, top = max(map(len, rows.values())), max(rows)
    at: dict[str, Box] = {}
    for level in range(top + 1):
        # Above what they import, as far as a row allows it.
        names = sorted(rows[level], key=lambda n: (_mean([at[o].x for o in graph[n]], offset), n))
        indent = offset + _EDGE + (most - len(names)) * (_WIDE + _GAP) / 2
        for place, name in enumerate(names):
            at[name] = Box(name, indent + place * (_WIDE + _GAP), 28 + (top - level) * (_HIGH + _RISE))
    return sorted(at.values(), key=lambda box: (box.y, box.x))


def _mean(numbers: list[float], default: float) -> float:
    return sum(numbers) / len(numbers) if numbers else default


def _arrows(boxes: list[Box], graph: nx.DiGraph) -> Iterator[str]:
    """Imports that do not follow from others."""
    at = {box.name: box for box in boxes}
    for upper, lower in sorted(nx.transitive_reduction(graph).edges):
        a, b = at[upper], at[lower]
        ends = (a.x + _WIDE / 2, a.y + _HIGH, b.x + _WIDE / 2, b.y - 1)
        x1, y1, x2, y2 = (f"{v:g}" for v in ends)
        yield f'<line x1="{x1}" y1="{y1}" x2="{x2}" y2="{y2}" stroke="{_GREY}" marker-end="url(#to)"/>'


def _drawn(box: Box, fill: str) -> Iterator[str]:
    label = box.name.removeprefix("frontend/") + ("/" if (ROOT / box.name).is_dir() else ".py")
    size = f'x="{box.x:g}" y="{box.y:g}" width="{_WIDE}" height="{_HIGH}" rx="6"'
    style = f'font-size="14" fill="{_INK}" text-anchor="middle"'
    yield f'<rect {size} fill="{fill}" stroke="{_INK}"/>'
    yield f'<text x="{box.x + _WIDE / 2:g}" y="{box.y + 20:g}" {style}>{label}</text>'


if __name__ == "__main__":
    print("\n".join(picture()))
