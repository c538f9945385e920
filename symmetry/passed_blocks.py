"""The edge blocks that vias pass: what mapping one via to another implies for them, and which vias a block is in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Hashable
from functools import cached_property

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import ParameterGraph

__all__ = ["PassedBlocks"]


class PassedBlocks:
    """The vias of a graph and the edge blocks that are attached in them.

    Attributes:
        classes: int64 [vias], equal for vias that differ only in which edge blocks they name. Of a block its role and
            number of slots count. That the blocks correspond is checked later, by `Closure`.
    """

    def __init__(self, graph: ParameterGraph) -> None:
        self.graph = graph
        self.classes = _classes(graph)

    @cached_property
    def at_ports(self) -> frozenset[int]:
        """The vias of the network's inputs and outputs."""
        ports = (*self.graph.inputs, *self.graph.outputs)
        return frozenset(v for p in ports for v in distinct(np.asarray(p.via).reshape(-1)).tolist())

    def through(self, blocks: Collection[int]) -> set[int]:
        """The vias in which one of these edge blocks is attached, or in an ancestor of which it is."""
        named, children = self._users
        queue = [v for b in blocks for v in named.get(b, ())]
        found = set(queue)
        while queue:
            new = [c for c in children.get(queue.pop(), ()) if c not in found]
            found.update(new)
            queue += new
        return found

    def pairs(self, vias: set[tuple[int, int]]) -> set[tuple[int, int]]:
        """The pairs of edge blocks (from, to) that mapping each first via to the second one implies.

        vias: pairs of one via class, so that their ancestors correspond one to one.
        """
        seen, queue = set(vias), list(vias)
        pairs: set[tuple[int, int]] = set()
        while queue:
            v, w = (self.graph.vias[i] for i in queue.pop())
            pairs.update(zip(v.blocks, w.blocks, strict=True))
            parents = set(zip(v.parents, w.parents, strict=True)) - seen
            seen |= parents
            queue += parents
        return pairs

    @cached_property
    def _users(self) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
        """For each edge block the vias that name it, and for each via those that continue it."""
        named: dict[int, list[int]] = defaultdict(list)
        children: dict[int, list[int]] = defaultdict(list)
        for number, via in enumerate(self.graph.vias):
            for block in via.blocks:
                named[block].append(number)
            for parent in via.parents:
                children[parent].append(number)
        return named, children


def _classes(graph: ParameterGraph) -> np.ndarray:
    known: dict[Hashable, int] = {}
    classes: list[int] = []
    for via in graph.vias:
        blocks = tuple((graph.edges[b].role, graph.edges[b].shape[3]) for b in via.blocks)
        key = (via.op, via.attributes, via.sizes, tuple(classes[p] for p in via.parents), blocks)
        classes.append(known.setdefault(key, len(known)))
    return np.array(classes, dtype=np.int64)
