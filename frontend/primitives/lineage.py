"""Which nodes were made alike: of alike nodes, in the same way, as far as the graph is built.

A guess, by hashes, that says where it pays to look for symmetries. No claim depends on it.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable

import numpy as np

from ...ir import EdgeBlock, GraphBuilder, LinkBlock, NodeKind

__all__ = ["Lineage"]

_ALONE = {NodeKind.INPUT, NodeKind.TOKEN, NodeKind.SPLIT, NodeKind.OPAQUE}
"""Kinds of nodes that are told apart."""

_GOLDEN, _MIX = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9)


class Lineage:
    """A colour for each node, equal for nodes that were made alike.

    What reaches a node after another one was made of it (the hub of a scale, a loop) does not count.
    """

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._colours = np.zeros(0, np.uint64)
        self._groups = self._edges = self._links = 0

    def colours(self, nodes: np.ndarray) -> np.ndarray:
        """The colours of nodes, uint64 of the same shape."""
        self._update()
        return self._colours[nodes]

    def _update(self) -> None:
        builder, known = self._builder, len(self._colours)
        self._colours = np.concatenate([self._colours, np.zeros(builder.size - known, np.uint64)])
        for group in builder.groups[self._groups :]:
            ids = np.arange(group.start, group.stop, dtype=np.uint64)
            start = np.full(len(ids), zlib.crc32(group.kind.encode()), np.uint64)
            self._colours[group.start : group.stop] = _mixed(start + ids if group.kind in _ALONE else start)
        blocks: Iterable[EdgeBlock | LinkBlock] = [*builder.edges[self._edges :], *builder.links[self._links :]]
        for block in sorted((b for b in blocks if b.dst.size), key=lambda b: int(b.dst.min())):
            if isinstance(block, EdgeBlock):
                self._read_edges(block, known)
            else:
                self._read_links(block, known)
        self._groups, self._edges, self._links = len(builder.groups), len(builder.edges), len(builder.links)

    def _read_edges(self, block: EdgeBlock, known: int) -> None:
        if block.dst.min() < known or block.src.size == 0 or block.src.max() > block.dst.min():
            return
        each = self._sent(block.src, block.via, block.role).sum(axis=1, dtype=np.uint64)
        np.add.at(self._colours, block.dst, _mixed(each)[:, None])

    def _read_links(self, block: LinkBlock, known: int) -> None:
        new = (block.dst >= known) & (block.src < block.dst)
        each = self._sent(block.src, block.via, block.role)
        for more in (block.operand, *(() if block.slot is None else block.slot.T)):
            if more is not None:
                each = _mixed(each + more.astype(np.uint64))
        np.add.at(self._colours, block.dst[new], each[new])

    def _sent(self, src: np.ndarray, via: np.ndarray, role: str) -> np.ndarray:
        named = np.uint64(zlib.crc32(role.encode()))
        return _mixed(self._colours[src] + _mixed(via.astype(np.uint64) + named))


def _mixed(numbers: np.ndarray) -> np.ndarray:
    """Numbers that depend on all bits of these."""
    with np.errstate(over="ignore"):
        out = (numbers + _GOLDEN) * _MIX
        return np.asarray(out ^ (out >> np.uint64(29)))
