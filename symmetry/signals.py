"""Signals as numbers: the value of each node, and what it has become after each step of the vias behind it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph
from ..ir.vocabulary import REPARAMETRIZE, LinkRole, NodeKind

__all__ = ["Signals"]


class Signals:
    """Numbers for all (node, via) pairs of a graph and those on the way to them: the nodes come first, by their ids.

    node: int64 [size], the node of each port. of_via: the nodes that reach a via other than 0, int64, ascending.
    after: which via a step that attaches a block makes of which: (block, via before) to via. hub_block: int64
    [num_nodes], the block whose elements a hub holds, -1 for other nodes. value: int64 [vias], the via of the value
    that an edge multiplies, without the function of the parameter that follows.
    """

    def __init__(self, graph: ParameterGraph) -> None:
        self.num_nodes = graph.num_nodes
        self.after: Mapping[tuple[int, int], int] = {
            (block, via.parents[0]): number
            for number, via in enumerate(graph.vias)
            for block in via.blocks
            if via.op != "Source"  # the elements are the nodes' own values
        }
        self.hub_block = _hub_blocks(graph)
        self.value = np.array([v.parents[0] if v.op == REPARAMETRIZE else i for i, v in enumerate(graph.vias)])
        self.of_via = _closed(graph, self._met(graph))
        keys = [_key(nodes, via) for via, nodes in self.of_via.items()]
        self._keys = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *keys]))
        self.node = np.concatenate([np.arange(graph.num_nodes), self._keys >> 32])

    @property
    def size(self) -> int:
        """Number of ports."""
        return len(self.node)

    def ids(self, nodes: np.ndarray, vias: np.ndarray | int) -> np.ndarray:
        """Numbers of these ports, int64, of the shape that nodes and vias broadcast to."""
        nodes, vias = np.broadcast_arrays(nodes, vias)
        found = self.num_nodes + np.searchsorted(self._keys, _key(nodes, vias))
        return np.where(vias == 0, nodes, found).astype(np.int64)

    def after_hub(self, link: LinkBlock) -> np.ndarray:
        """For links from hubs the vias that the steps which attach them make, 0 where none is known."""
        pairs = zip(self.hub_block[link.src].tolist(), link.via.tolist(), strict=True)
        return np.array([self.after.get(pair, 0) for pair in pairs], dtype=np.int64)

    def _met(self, graph: ParameterGraph) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(nodes, vias) that edges, links and the network's inputs and outputs name."""
        for number, block in enumerate(graph.edges):
            yield block.src, block.via
            yield block.src, self.value[block.via]
            yield from self._attached(number, block)
        for link in graph.links:
            yield link.src, link.via
            if link.role == LinkRole.HUB:
                yield link.dst, link.via
                yield link.dst, self.after_hub(link)
        for port in (*graph.inputs, *graph.outputs):
            yield port.nodes, port.via

    def _attached(self, number: int, block: EdgeBlock) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Before and after the steps in which a block is attached to its targets."""
        values = self.value[block.via]
        for via in distinct(values).tolist():
            if (number, via) in self.after:
                here = block.dst[(values == via).any(axis=1)]
                yield here, np.array(via)
                yield here, np.array(self.after[number, via])


def _hub_blocks(graph: ParameterGraph) -> np.ndarray:
    found = np.full(graph.num_nodes, -1, dtype=np.int64)
    for number in reversed(range(len(graph.edges))):
        found[graph.edges[number].dst] = number
    hubs = np.zeros(graph.num_nodes, dtype=bool)
    for group in graph.groups:
        hubs[group.start : group.stop] = group.kind == NodeKind.HUB
    found[~hubs] = -1
    return found


def _closed(graph: ParameterGraph, met: Iterator[tuple[np.ndarray, np.ndarray]]) -> dict[int, np.ndarray]:
    """The nodes of each via, parents of a via that is reached included."""
    keys = [_key(*np.broadcast_arrays(nodes, vias)).reshape(-1) for nodes, vias in met]
    every = distinct(np.concatenate([np.zeros(0, dtype=np.int64), *(distinct(k) for k in keys)]))
    vias = every & 0xFFFFFFFF
    order = np.argsort(vias, kind="stable")
    parts: dict[int, list[np.ndarray]] = {}
    for part in np.split(order, np.flatnonzero(np.diff(vias[order])) + 1):
        if len(part):
            parts[int(vias[part[0]])] = [every[part] >> 32]
    closed: dict[int, np.ndarray] = {}
    for via in range(len(graph.vias) - 1, 0, -1):
        if via in parts:
            closed[via] = distinct(np.concatenate(parts[via]))
            names = dict(graph.vias[via].attributes)
            if "over" in names and "parts" not in names:
                # Neurons that nothing reads any more still took part.
                groups = [graph.groups[g] for g in distinct(graph.group_of(closed[via])).tolist()]
                closed[via] = np.concatenate([np.arange(g.start, g.stop) for g in groups])
            for parent in graph.vias[via].parents:
                parts.setdefault(parent, []).append(closed[via])
    return closed


def _key(nodes: np.ndarray, vias: np.ndarray | int) -> np.ndarray:
    return np.asarray(nodes, dtype=np.int64) << 32 | vias
