"""The parameter graph as text: one line per node group, edge block and link block."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from .arrays import distinct
from .printable import counted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Protocol

    from .graph import EdgeBlock, LinkBlock, ParameterGraph, Via

    class HasVias(Protocol):
        """A `ParameterGraph` or a `GraphBuilder`."""

        @property
        def vias(self) -> Sequence[Via]:
            """The via table."""
            ...


__all__ = ["block_line", "headline", "link_line", "summary", "via_text"]

_LONGEST = 4000
"""Characters of a via's text; without a limit, branches that meet again and again would double it each time."""


def via_text(graph: HasVias, via: int) -> str:
    """Spell out a via: its steps, oldest first, with branches that meet in parentheses.

    Args:
        graph: A graph, or the builder of one.
        via: A via id.

    Returns:
        The text, e.g. ``Add(Relu, Tanh) > Softmax``; of more than 4,000 characters only the end.
    """
    texts, stack = {0: ""}, [via]
    while stack:
        steps, at = list[str](), stack[-1]
        while at not in texts and len(graph.vias[at].parents) == 1:
            steps.append(_step(graph.vias[at]))
            at = graph.vias[at].parents[0]
        if at not in texts and (missing := [p for p in graph.vias[at].parents if p not in texts]):
            stack += missing
            continue
        if at not in texts:
            met = ", ".join(texts[p] or "x" for p in graph.vias[at].parents)
            texts[at] = _ended(f"{_step(graph.vias[at])}({met})" if met else _step(graph.vias[at]))
        texts[stack.pop()] = _ended(" > ".join([texts[at]] * bool(texts[at]) + steps[::-1]))
    return texts[via]


def _step(entry: Via) -> str:
    attributes = ", ".join(f"{k}={_short(v)}" for k, v in entry.attributes)
    return f"{entry.op}[{attributes}]" if attributes else entry.op


def _ended(text: str) -> str:
    return text if len(text) <= _LONGEST else f"…{text[-_LONGEST:]}"


def block_line(graph: ParameterGraph, block: EdgeBlock) -> str:
    """An edge block in one line.

    Args:
        graph: The graph.
        block: One of its edge blocks.

    Returns:
        Source and target groups, role, parameter, shape and vias.
    """
    b, n, k, s = block.shape
    marks = " tied" * block.tied + " constant" * block.constant
    return (
        f"{_ends(graph, block.src, block.dst)}  {block.role}{marks}  {block.view.name}"
        f"  [B={b} N={n} K={k} S={s}]{_vias(graph, block.via)}"
    )


def link_line(graph: ParameterGraph, link: LinkBlock) -> str:
    """A link block in one line.

    Args:
        graph: The graph.
        link: One of its link blocks.

    Returns:
        Source and target groups, role, number of links and vias.
    """
    return f"{_ends(graph, link.src, link.dst)}  {link.role}  {counted(link.size, 'link')}{_vias(graph, link.via)}"


def headline(graph: ParameterGraph) -> str:
    """The graph in one line.

    Args:
        graph: The graph.

    Returns:
        Its name and its numbers of nodes, edges and links.
    """
    return (
        f"parameter graph {graph.name!r}: {counted(graph.num_nodes, 'node')}, "
        f"{counted(graph.num_parameter_edges, 'parameter edge')}, {graph.num_tied_edges:,} tied, "
        f"{counted(graph.num_links, 'link')}"
    )


def summary(graph: ParameterGraph) -> str:
    """The whole graph as text.

    Args:
        graph: The graph.

    Returns:
        Lines for node groups, edge blocks, link blocks, the account and opaque operators.
    """
    lines = [headline(graph)]
    for i, group in enumerate(graph.groups):
        pins = int(graph.pinned[group.start : group.stop].sum())
        pin = "" if not pins else " pinned" if pins == group.size else f" {pins} pinned"
        lines.append(f"  g{i}: {group.size} {group.kind}{pin}, depth {group.depth}, {group.value!r}")
    lines += ["  " + block_line(graph, block) for block in graph.edges]
    lines += ["  " + link_line(graph, link) for link in graph.links]
    lines += [f"  {reason}: {counted(count, 'element')}" for reason, count in graph.not_parameters().items()]
    lines += [f"  opaque {o.op} {o.node!r}: {o.reason}" for o in graph.opaque]
    return "\n".join(lines)


def _ends(graph: ParameterGraph, src: np.ndarray, dst: np.ndarray) -> str:
    def names(ids: np.ndarray) -> str:
        groups = distinct(graph.group_of(_compact(ids)))
        text = ",".join(f"g{g}" for g in groups[:4])
        return text + ("..." if len(groups) > 4 else "")

    return f"{names(src)} -> {names(dst)}"


def _vias(graph: ParameterGraph, vias: np.ndarray) -> str:
    texts = [t for t in (via_text(graph, int(v)) for v in distinct(_compact(vias))[:3]) if t]
    return "  via " + " | ".join(texts) if texts else ""


def _compact(array: np.ndarray) -> np.ndarray:
    """Drop repetitions along broadcast axes."""
    return array[tuple(slice(0, 1) if s == 0 else slice(None) for s in array.strides)]


def _short(value: object) -> str:
    if isinstance(value, tuple):
        return "x".join(_short(v) for v in value)
    if isinstance(value, float):
        return f"{value:.6g}"
    return str(value)
