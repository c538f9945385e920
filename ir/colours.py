"""Colour refinement of parameter graphs (1-dimensional Weisfeiler-Leman), with parameter values on or off.

Every edge is looked at, a few times: meant for comparing graphs of up to some ten million edges.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np

from .graph import EdgeBlock, ParameterGraph

__all__ = ["colours", "fingerprint", "isomorphic"]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def colours(graph: ParameterGraph, values: bool = True) -> np.ndarray:
    """Stable colours of the nodes, uint64 [num_nodes].

    Nodes start with kind, pinned index and output place; edges carry role, slot, via, operand and, with `values`, the
    bits of the parameter. Equal colours in two graphs mean that refinement cannot tell the nodes apart.
    """
    vias = _via_hashes(graph)
    colour = _initial(graph, vias)
    edges = [(s, d, h) for s, d, h in _edges(graph, vias, values)]
    classes = 0
    while True:
        found = len(np.unique(colour))
        if found == classes:
            return colour
        classes = found
        inward, outward = np.zeros_like(colour), np.zeros_like(colour)
        for src, dst, label in edges:
            np.add.at(inward, dst, _mix(label + _mix(colour[src])))
            np.add.at(outward, src, _mix(label ^ _mix(colour[dst] + _GOLDEN)))
        colour = _mix(colour + _mix(inward + _mix(outward + _GOLDEN)))


def fingerprint(graph: ParameterGraph, values: bool = True) -> str:
    """16 hex digits, equal for graphs that refinement cannot tell apart, whatever the order of nodes and blocks."""
    return f"{int(_mix(np.sort(colours(graph, values)) * _positions(graph.num_nodes)).sum()):016x}"


def isomorphic(a: ParameterGraph, b: ParameterGraph, values: bool = True) -> bool:
    """Whether refinement with these labels finds the two graphs alike: the same colours equally often."""
    if a.num_nodes != b.num_nodes:
        return False
    return bool(np.array_equal(np.sort(colours(a, values)), np.sort(colours(b, values))))


def _positions(n: int) -> np.ndarray:
    return _mix(np.arange(1, n + 1, dtype=np.uint64))


def _mix(x: np.ndarray) -> np.ndarray:
    """The finaliser of splitmix64, elementwise on uint64."""
    x = np.asarray(x, dtype=np.uint64)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _hash(*parts: object) -> np.uint64:
    text = repr(parts).encode()
    return np.uint64(zlib.crc32(text) << 32 | zlib.crc32(text[::-1], 0xA5A5))


def _via_hashes(graph: ParameterGraph) -> np.ndarray:
    hashes: list[int] = []
    for via in graph.vias:
        roles = tuple((graph.edges[b].role, graph.edges[b].shape[3]) for b in via.blocks)
        hashes.append(int(_hash(via.op, via.attributes, tuple(hashes[p] for p in via.parents), roles)))
    return np.array(hashes, dtype=np.uint64)


def _initial(graph: ParameterGraph, vias: np.ndarray) -> np.ndarray:
    colour = np.zeros(graph.num_nodes, dtype=np.uint64)
    for group in graph.groups:
        run = slice(group.start, group.stop)
        place = np.where(graph.pinned[run], np.arange(1, group.size + 1), 0).astype(np.uint64)
        colour[run] = _mix(place + _hash(group.kind))
    for number, port in enumerate(graph.outputs):
        order = np.arange(len(port.nodes), dtype=np.uint64)
        np.add.at(colour, port.nodes, _mix(_mix(vias[port.via] + _hash("output", number)) + order))
    for number, port in enumerate(graph.inputs):
        order = np.arange(len(port.nodes), dtype=np.uint64)
        np.add.at(colour, port.nodes, _mix(_hash("input", number) + order))
    return _mix(colour)


def _edges(
    graph: ParameterGraph, vias: np.ndarray, values: bool
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Flat (src, dst, label) of every block and link block."""
    for block in graph.edges:
        label = _block_labels(block, vias)
        if values:
            label = _mix(label + _bits(graph.values(block)))
        label = np.broadcast_to(label, block.shape)
        src = np.broadcast_to(block.src[:, None, :, None], block.shape)
        dst = np.broadcast_to(block.dst[:, :, None, None], block.shape)
        yield src.reshape(-1), dst.reshape(-1), label.reshape(-1)
    for link in graph.links:
        label = vias[link.via] + _hash("link", link.role)
        if link.operand is not None:
            label = _mix(label) + link.operand.astype(np.uint64) + np.uint64(1)
        if link.slot is not None:
            label = _mix(label) + _rows(link.slot)
        yield link.src, link.dst, _mix(label)


def _block_labels(block: EdgeBlock, vias: np.ndarray) -> np.ndarray:
    """Labels of a block without its values, broadcastable to [B, N, K, S]."""
    source = _mix(vias[block.via] + _occurrence(block.src, block.via))[:, None, :, None]
    return _mix(source + _mix(_rows(block.slots))[None, None, None, :] + _hash("edge", block.role))


def _occurrence(src: np.ndarray, via: np.ndarray) -> np.ndarray:
    """How often the same port came before in its row, uint64 [B, K]."""
    ports = src.astype(np.int64) << 32 | via
    if src.shape[1] == 1:
        return np.zeros(src.shape, dtype=np.uint64)
    order = np.argsort(ports, axis=1, kind="stable")
    ranked = np.take_along_axis(ports, order, axis=1)
    at = np.arange(src.shape[1])
    new = np.ones(src.shape, dtype=bool)
    new[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.maximum.accumulate(np.where(new, at, 0), axis=1)
    count = np.empty(src.shape, dtype=np.uint64)
    np.put_along_axis(count, order, (at - first).astype(np.uint64), axis=1)
    return count


def _rows(coordinates: np.ndarray) -> np.ndarray:
    """One hash per row of small integer coordinates, uint64 [rows]."""
    label = np.zeros(len(coordinates), dtype=np.uint64)
    for column in coordinates.T:
        label = _mix(label + column.astype(np.uint64) + _GOLDEN)
    return label


def _bits(values: np.ndarray) -> np.ndarray:
    return (np.asarray(values, dtype=np.float64) + 0.0).view(np.uint64)
