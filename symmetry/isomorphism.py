"""Colour refinement of parameter graphs (1-dimensional Weisfeiler-Leman), with or without parameter values.

Expands every edge, so it is meant for graphs of up to some ten million edges. Colours are 64-bit hashes that do not
depend on the order of nodes and blocks, hence comparable between graphs.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..ir.arrays import distinct, mix64, occurrence_in_rows
from ..ir.graph import EdgeBlock, ParameterGraph, Via
from ..ir.vocabulary import declared_step
from .refinement import GOLDEN, refined

__all__ = [
    "colours",
    "fingerprint",
    "hash64",
    "initial_colours",
    "isomorphic",
    "marked_role",
    "met",
    "port_colours",
    "row_hashes",
]

_NONE = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, slots=True)
class _Edges:
    """Flat edges: src, dst, label [n]. name, elements [n]: tensor and element numbers, of a shared parameter only."""

    src: np.ndarray
    dst: np.ndarray
    label: np.ndarray
    name: str = ""
    elements: np.ndarray = field(default_factory=lambda: _NONE)


def colours(graph: ParameterGraph, values: bool = True) -> np.ndarray:
    """Stable colours of the nodes under colour refinement.

    Nodes start from their kind, index if pinned, whether they are paired, and place in inputs and outputs. Edges are
    labelled with role, slot, via, operand, whether they are parameters, weight sharing and, with `values`, their value.

    Args:
        graph: The graph.
        values: Whether parameter values count.

    Returns:
        uint64 [num_nodes]; nodes of equal colour, in one graph or in two, cannot be told apart by refinement.
    """
    colour, vias, classes = initial_colours(graph), _via_hashes(graph), 0
    while True:
        edges = list(_edges(graph, vias, values))
        colour = refined(mix64(colour + port_colours(graph, vias)), partial(_message, graph, edges))
        found = len(distinct(colour))
        if found == classes or not any(via.blocks for via in graph.vias):
            return colour
        classes = found
        # Blocks that vias name are told apart by the colours of the nodes that they come from.
        vias = _via_hashes(graph, colour)


def fingerprint(graph: ParameterGraph, values: bool = True) -> str:
    """A hash of the graph up to the order of its nodes and blocks.

    Args:
        graph: The graph.
        values: Whether parameter values count.

    Returns:
        16 hex digits, equal for graphs that colour refinement cannot tell apart.
    """
    return f"{int(mix64(np.sort(colours(graph, values)) * _positions(graph.num_nodes)).sum()):016x}"


def isomorphic(a: ParameterGraph, b: ParameterGraph, values: bool = True) -> bool:
    """Whether two graphs have the same multiset of colours.

    Necessary for isomorphism and, as for all of colour refinement, not sufficient in contrived cases.

    Args:
        a: A graph.
        b: Another graph.
        values: Whether parameter values count.

    Returns:
        False if the graphs are certainly not isomorphic.
    """
    if a.num_nodes != b.num_nodes:
        return False
    return bool(np.array_equal(np.sort(colours(a, values)), np.sort(colours(b, values))))


def _positions(n: int) -> np.ndarray:
    return mix64(np.arange(1, n + 1, dtype=np.uint64))


def hash64(*parts: object) -> np.uint64:
    """A hash of plain values, the same in every process.

    Args:
        parts: Values whose `repr` says what they are.

    Returns:
        64 bits.
    """
    text = repr(parts).encode()
    return np.uint64(zlib.crc32(text) << 32 | zlib.crc32(text[::-1], 0xA5A5))


def _message(graph: ParameterGraph, edges: list[_Edges], colour: np.ndarray) -> np.ndarray:
    """One round of refinement: each node's colour with the multiset of its neighbours' along all edges."""
    inward, outward = np.zeros_like(colour), np.zeros_like(colour)
    shared = _shared(graph, colour, edges)
    for edge in edges:
        label = edge.label
        if edge.name in shared:
            label = label + shared[edge.name][edge.elements]
        np.add.at(inward, edge.dst, mix64(label + mix64(colour[edge.src])))
        np.add.at(outward, edge.src, mix64(label ^ mix64(colour[edge.dst] + GOLDEN)))
    return mix64(colour + mix64(inward + mix64(outward + GOLDEN)))


def _shared(graph: ParameterGraph, colour: np.ndarray, edges: list[_Edges]) -> dict[str, np.ndarray]:
    """A hash of the edges that each element of a shared tensor is on: name to uint64 [elements], 0 where it is one."""
    found: dict[str, np.ndarray] = {}
    sites: dict[str, np.ndarray] = {}
    for edge in edges:
        if edge.name:
            size = graph.parameters[edge.name].size
            ends = mix64(colour[edge.src] + mix64(colour[edge.dst] + GOLDEN))
            np.add.at(found.setdefault(edge.name, np.zeros(size, np.uint64)), edge.elements, mix64(edge.label + ends))
            np.add.at(sites.setdefault(edge.name, np.zeros(size, np.uint8)), edge.elements, 1)
    return {name: np.where(sites[name] > 1, total, 0) for name, total in found.items()}


def _via_hashes(graph: ParameterGraph, colour: np.ndarray | None = None) -> np.ndarray:
    """One hash per via, uint64 [vias].

    Edge blocks in it count by role and number of slots and, if colours are given, by those of their sources.
    """
    hashes: list[int] = []
    for via in graph.vias:
        blocks = []
        for number in via.blocks:
            block = graph.edges[number]
            sources = 0 if colour is None else int(mix64(colour[distinct(block.src)]).sum())
            blocks.append((marked_role(block), block.shape[3], sources))
        hashes.append(int(hash64(via.op, via.attributes, met(via, hashes), tuple(blocks))))
    return np.array(hashes, dtype=np.uint64)


def met(via: Via, keys: Sequence[int]) -> tuple[int, ...]:
    """The keys of what a step was applied to, in an order that counts.

    Args:
        via: The step.
        keys: A key for each via.

    Returns:
        Those of its parents; sorted if the step does not tell them apart.
    """
    found = tuple(keys[p] for p in via.parents)
    step = declared_step(via.op) if len(found) > 1 else None
    return tuple(sorted(found)) if step is not None and step.commutative else found


def initial_colours(graph: ParameterGraph) -> np.ndarray:
    """Colours of nodes by their kind, and their index if they are pinned.

    Args:
        graph: The graph.

    Returns:
        uint64 [num_nodes].
    """
    colour = np.zeros(graph.num_nodes, dtype=np.uint64)
    for group in graph.groups:
        run = slice(group.start, group.stop)
        place = np.where(graph.pinned[run], np.arange(1, group.size + 1), 0).astype(np.uint64)
        if graph.paired is not None:
            place += np.where(graph.paired[run], GOLDEN, np.uint64(0))
        colour[run] = mix64(place + hash64(group.kind))
    return colour


def port_colours(graph: ParameterGraph, vias: np.ndarray) -> np.ndarray:
    """What the network's inputs and outputs add to the initial colours.

    Args:
        graph: The graph.
        vias: uint64 [vias], a hash of each via.

    Returns:
        uint64 [num_nodes].
    """
    colour = np.zeros(graph.num_nodes, dtype=np.uint64)
    for number, port in enumerate(graph.outputs):
        order = np.arange(len(port.nodes), dtype=np.uint64)
        np.add.at(colour, port.nodes, mix64(mix64(vias[port.via] + hash64("output", number)) + order))
    for number, port in enumerate(graph.inputs):
        order = np.arange(len(port.nodes), dtype=np.uint64)
        np.add.at(colour, port.nodes, mix64(hash64("input", number) + order))
    return colour


def _edges(graph: ParameterGraph, vias: np.ndarray, values: bool) -> Iterator[_Edges]:
    """Every edge block and link block, expanded."""
    shared = {b.view.name for b in graph.edges if b.tied}
    for block in graph.edges:
        label = _block_labels(block, vias)
        if values:
            label = mix64(label + _bits(graph.values(block)))
        label = np.broadcast_to(label, block.shape)
        src = np.broadcast_to(block.src[:, None, :, None], block.shape)
        dst = np.broadcast_to(block.dst[:, :, None, None], block.shape)
        name = block.view.name if block.view.name in shared and not block.constant else ""
        elements = block.view.elements().reshape(-1) if name else _NONE
        yield _Edges(src.reshape(-1), dst.reshape(-1), label.reshape(-1), name, elements)
    for link in graph.links:
        label = vias[link.via] + hash64("link", link.role)
        if link.operand is not None:
            label = mix64(label) + link.operand.astype(np.uint64) + np.uint64(1)
        if link.slot is not None:
            label = mix64(label) + row_hashes(link.slot)
        yield _Edges(link.src, link.dst, mix64(label))


def _block_labels(block: EdgeBlock, vias: np.ndarray) -> np.ndarray:
    """Labels of an edge block without its values, broadcastable to [B, N, K, S]."""
    place = occurrence_in_rows(block.src.astype(np.int64) << 32 | block.via).astype(np.uint64)
    source = mix64(vias[block.via] + place)[:, None, :, None]
    return mix64(source + mix64(row_hashes(block.slots))[None, None, None, :] + hash64("edge", marked_role(block)))


def marked_role(block: EdgeBlock) -> str:
    """The role of a block, marked if its numbers are constants and not parameters.

    Args:
        block: The block.

    Returns:
        The text.
    """
    return f"constant {block.role}" if block.constant else block.role


def row_hashes(coordinates: np.ndarray) -> np.ndarray:
    """One hash per row of integer coordinates.

    Args:
        coordinates: [n, m].

    Returns:
        uint64 [n].
    """
    label = np.zeros(len(coordinates), dtype=np.uint64)
    for column in coordinates.T:
        label = mix64(label + column.astype(np.uint64) + GOLDEN)
    return label


def _bits(values: np.ndarray) -> np.ndarray:
    """The bits of the values as float64; adding 0.0 makes -0.0 equal to 0.0."""
    return (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)
