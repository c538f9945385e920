"""What leaves a graph with some nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csc_array

from ...ir import LinkRole, NodeKind, ParameterGraph
from ...ir.arrays import distinct

__all__ = ["Links", "closures"]


@dataclass(frozen=True, slots=True, eq=False)
class Links:
    """The links of a graph, except those that carry a value to the next step, and what decides which nodes follow.

    Attributes:
        into: int64 [num_nodes, num_nodes], the number of links from the node of a column to that of a row.
        fan_in: int64 [num_nodes], links into a node.
        fan_out: int64 [num_nodes], links out of it.
        hub: bool [num_nodes], elements that several neurons share.
        weighted: bool [num_nodes], nodes into which a weight leads, not only vectors that are added to them.
        pinned: bool [num_nodes].
    """

    into: csc_array
    fan_in: np.ndarray
    fan_out: np.ndarray
    hub: np.ndarray
    weighted: np.ndarray
    pinned: np.ndarray

    @classmethod
    def of(cls, graph: ParameterGraph) -> Links:
        """The links of a graph."""
        size, none = graph.num_nodes, [np.zeros(0, np.int64)]
        links = [b for b in graph.links if b.role != LinkRole.CARRY]
        src, dst = np.concatenate([b.src for b in links] or none), np.concatenate([b.dst for b in links] or none)
        hub = np.zeros(size, bool)
        for group in graph.groups:
            hub[group.start : group.stop] = group.kind == NodeKind.HUB
        into = csc_array((np.ones(len(src), np.int64), (dst, src)), shape=(size, size))
        fan_in, fan_out = (np.bincount(nodes, minlength=size) for nodes in (dst, src))
        return cls(into, fan_in, fan_out, hub, _weighted(graph), graph.pinned)


def closures(links: Links, sets: Sequence[np.ndarray], moved: np.ndarray) -> csc_array:
    """What leaves a graph with each of some sets of nodes: what is made of them alone, and what swaps move with them.

    A product of two features leaves with either; a sum over the features of a head leaves with the head, not with a
    feature; an element that several neurons share leaves with the last of them.

    Args:
        links: The links of the graph.
        sets: The nodes of each set, int64.
        moved: int64, nodes that swaps of these nodes with others move.

    Returns:
        bool [num_nodes, number of sets].
    """
    shape = links.into.shape[0], len(sets)
    starts = np.cumsum([0, *map(len, sets)])
    found = csc_array((np.ones(starts[-1], np.int64), np.concatenate(sets, dtype=np.int64), starts), shape=shape)
    can_move = np.zeros(shape[0], bool)
    can_move[moved] = True
    while True:
        gone_in, gone_out = (links.into @ found).tocoo(), (links.into.T @ found).tocoo()
        node = gone_in.row
        follows = can_move[node] | ((gone_in.data == links.fan_in[node]) & ~links.weighted[node])
        more_in = follows & ~links.pinned[node]
        node = gone_out.row
        follows = (can_move[node] & links.hub[node]) | (gone_out.data == links.fan_out[node])
        more_out = follows & ~links.pinned[node]
        before = found.tocoo()
        row, col = (
            np.concatenate([old, a[more_in], b[more_out]])
            for old, a, b in ((before.row, gone_in.row, gone_out.row), (before.col, gone_in.col, gone_out.col))
        )
        found = csc_array((np.ones(len(row), np.int64), (row, col)), shape=shape)
        found.data[:] = 1
        if found.nnz == before.nnz:
            return found.astype(bool)


def _weighted(graph: ParameterGraph) -> np.ndarray:
    """Bool [num_nodes]: nodes into which a weight leads, not only vectors that are added to them."""
    found = np.zeros(graph.num_nodes, bool)
    for block in graph.edges:
        sources = {graph.groups[g].kind for g in distinct(graph.group_of(block.src[:, :1]).reshape(-1)).tolist()}
        if sources - {NodeKind.PARAM}:
            found[block.dst] = True
    return found
