"""Signals, the (node, via) pairs of a graph, as consecutive numbers: a node's value after each step that it takes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph
from ..ir.vocabulary import DEQUANTIZE, REPARAMETRIZE, LinkRole, NodeKind

__all__ = ["Signals"]


class Signals:
    """Numbers for every signal that an edge, link, input or output names, and for those on the way to it.

    The signal of a node without a via has the node's id; the others follow.

    Attributes:
        node: int64 [size], the node of each signal.
        nodes_by_via: Via other than 0 to the nodes that reach it, int64, ascending.
        after: Maps (edge block, incoming via) to the outgoing via of the step that attaches the block.
        hub_block: int64 [num_nodes], the edge block that enters a hub; -1 for other nodes.
        value: int64 [vias], the via of the value that an edge multiplies: without a trailing `Reparametrize`, which is
            a function of the parameter.
        target: int64 [vias], the via of the target to which a block of one source per target is attached: without
            trailing `Reparametrize` and `Dequantize` either.
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
        self.target = np.array([v.parents[0] if v.op == DEQUANTIZE else i for i, v in enumerate(graph.vias)])[
            self.value
        ]
        self.nodes_by_via = _closed(graph, self._met(graph))
        keys = [_key(nodes, via) for via, nodes in self.nodes_by_via.items()]
        self._keys = np.sort(np.concatenate([np.zeros(0, dtype=np.int64), *keys]))
        self.node = np.concatenate([np.arange(graph.num_nodes), self._keys >> 32])

    @property
    def size(self) -> int:
        """Number of signals."""
        return len(self.node)

    def ids(self, nodes: np.ndarray, vias: np.ndarray | int) -> np.ndarray:
        """The numbers of the signals (nodes, vias), int64, of the shape that the two broadcast to."""
        nodes, vias = np.broadcast_arrays(nodes, vias)
        found = self.num_nodes + np.searchsorted(self._keys, _key(nodes, vias))
        return np.where(vias == 0, nodes, found).astype(np.int64)

    def after_hub(self, link: LinkBlock) -> np.ndarray:
        """For links from hubs the outgoing vias of the steps that attach them, int64 [n], 0 where none is known."""
        pairs = zip(self.hub_block[link.src].tolist(), link.via.tolist(), strict=True)
        return np.array([self.after.get(pair, 0) for pair in pairs], dtype=np.int64)

    def _met(self, graph: ParameterGraph) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The (nodes, vias) that edges, links, inputs and outputs name."""
        for number, block in enumerate(graph.edges):
            yield block.src, block.via
            yield block.src, self.value[block.via]
            yield from self._attached(number, block)
        for link in graph.links:
            if link.role == LinkRole.HUB:
                # The via is that of the neuron, to which the hub's parameter is attached.
                yield link.dst, link.via
                yield link.dst, self.after_hub(link)
            else:
                yield link.src, link.via
        for port in (*graph.inputs, *graph.outputs):
            yield port.nodes, port.via

    def _attached(self, number: int, block: EdgeBlock) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """The signals of a block's targets before and after the steps that attach it to them."""
        values = self.target[block.via]
        for via in distinct(values).tolist():
            if (number, via) in self.after:
                here = block.dst[(values == via).any(axis=1)]
                yield here, np.array(via)
                yield here, np.array(self.after[number, via])


def _hub_blocks(graph: ParameterGraph) -> np.ndarray:
    """The first edge block into each hub, int64 [num_nodes]; -1 for other nodes."""
    found = np.full(graph.num_nodes, -1, dtype=np.int64)
    for number in reversed(range(len(graph.edges))):
        found[graph.edges[number].dst] = number
    hubs = np.zeros(graph.num_nodes, dtype=bool)
    for group in graph.groups:
        hubs[group.start : group.stop] = group.kind == NodeKind.HUB
    found[~hubs] = -1
    return found


def _closed(graph: ParameterGraph, met: Iterator[tuple[np.ndarray, np.ndarray]]) -> dict[int, np.ndarray]:
    """The nodes that reach each via, closed under going back to the parents of a via."""
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
                # A normalisation over neurons reads all of them, even those that nothing reads afterwards.
                groups = [graph.groups[g] for g in distinct(graph.group_of(closed[via])).tolist()]
                closed[via] = np.concatenate([np.arange(g.start, g.stop) for g in groups])
            for parent in graph.vias[via].parents:
                parts.setdefault(parent, []).append(closed[via])
    return closed


def _key(nodes: np.ndarray, vias: np.ndarray | int) -> np.ndarray:
    return np.asarray(nodes, dtype=np.int64) << 32 | vias
