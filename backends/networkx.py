"""The parameter graph as a NetworkX multigraph with named attributes, for small networks."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ..ir import EdgeBlock, GmncError, LinkBlock, ParameterGraph
from .edge_types import occurrences

if TYPE_CHECKING:
    import networkx as nx

__all__ = ["MAX_EDGES", "networkx"]

MAX_EDGES = 200_000
"""Edges above which `networkx` needs `force=True`."""


def networkx(graph: ParameterGraph, values: bool = True, *, force: bool = False) -> nx.MultiDiGraph:
    """Convert a graph to an `nx.MultiDiGraph`, which takes about 1 kB of memory per edge.

    Args:
        graph: The graph.
        values: Read the parameters into the edge attribute `value`.
        force: Convert graphs of more than `MAX_EDGES` edges too.

    Returns:
        A multigraph on node ids.

        * Node attributes: `kind`, `group` (index), `index` (within the group), `pinned`, `depth`, `value` and `node`
          (ONNX names), `inputs` and `outputs` (tuples of (port index, index in the port, via text)).
        * Edge attributes: `role`, `link` (whether it is one), `constant`, `tied`, `parameter` and `element` (name and
          flat index; None for links), `value` (float; None for links or with `values=False`), `via` (text), `slot`
          (tuple), `occurrence` (how many earlier sources of its row have the same signal), `operand` (int or None) and
          `block` (index in `graph.edges`, or in `graph.links`).

    Raises:
        GmncError: The graph has more than `MAX_EDGES` edges and `force` is not set.
    """
    import networkx as nx

    edges = sum(b.size for b in graph.edges) + sum(b.size for b in graph.links)
    if edges > MAX_EDGES and not force:
        raise GmncError(
            f"{graph.name!r} has {edges} edges; a NetworkX graph of more than {MAX_EDGES} needs a lot of memory: "
            "use the coo backend, or pass force=True"
        )
    out = nx.MultiDiGraph(name=graph.name)
    out.add_nodes_from(_nodes(graph))
    texts = [graph.via_text(i) for i in range(len(graph.vias))]
    for number, block in enumerate(graph.edges):
        numbers = graph.values(block).astype(np.float64) if values else None
        out.add_edges_from(_block(number, block, numbers, texts))
    for number, link in enumerate(graph.links):
        out.add_edges_from(_links(number, link, texts))
    return out


def _nodes(graph: ParameterGraph) -> Iterator[tuple[int, dict[str, Any]]]:
    inputs, outputs = _ports(graph, graph.inputs), _ports(graph, graph.outputs)
    for number, group in enumerate(graph.groups):
        for node in range(group.start, group.stop):
            yield (
                node,
                {
                    "kind": group.kind,
                    "group": number,
                    "index": node - group.start,
                    "pinned": bool(graph.pinned[node]),
                    "depth": group.depth,
                    "value": group.value,
                    "node": group.node,
                    "inputs": tuple(inputs.get(node, ())),
                    "outputs": tuple(outputs.get(node, ())),
                },
            )


def _ports(graph: ParameterGraph, ports: tuple[Any, ...]) -> dict[int, list[tuple[int, int, str]]]:
    found: dict[int, list[tuple[int, int, str]]] = {}
    for number, port in enumerate(ports):
        for position, (node, via) in enumerate(zip(port.nodes.tolist(), port.via.tolist(), strict=True)):
            found.setdefault(node, []).append((number, position, graph.via_text(via)))
    return found


def _block(
    number: int, block: EdgeBlock, values: np.ndarray | None, texts: list[str]
) -> Iterator[tuple[int, int, dict[str, Any]]]:
    occurrence = np.broadcast_to(occurrences(block), block.src.shape)
    elements = block.view.elements()
    slots = [tuple(row) for row in block.slots.tolist()]
    for b, n, k, s in np.ndindex(*block.shape):
        yield (
            int(block.src[b, k]),
            int(block.dst[b, n]),
            {
                "role": block.role,
                "link": False,
                "constant": block.constant,
                "tied": block.tied,
                "parameter": block.view.name,
                "element": int(elements[b, n, k, s]),
                "value": None if values is None else float(values[b, n, k, s]),
                "via": texts[block.via[b, k]],
                "slot": slots[s],
                "occurrence": int(occurrence[b, k]),
                "operand": None,
                "block": number,
            },
        )


def _links(number: int, link: LinkBlock, texts: list[str]) -> Iterator[tuple[int, int, dict[str, Any]]]:
    for i in range(link.size):
        yield (
            int(link.src[i]),
            int(link.dst[i]),
            {
                "role": link.role,
                "link": True,
                "constant": False,
                "tied": False,
                "parameter": None,
                "element": None,
                "value": None,
                "via": texts[link.via[i]],
                "slot": () if link.slot is None else tuple(link.slot[i].tolist()),
                "occurrence": 0,
                "operand": None if link.operand is None else int(link.operand[i]),
                "block": number,
            },
        )
