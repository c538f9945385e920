"""Which node groups are indivisible: a symmetry that maps one node into another group maps the whole group there."""

from __future__ import annotations

from collections import defaultdict

from ...ir import EdgeBlock, GraphBuilder, NodeKind
from ...ir.arrays import distinct
from .labels import unrepeated

__all__ = ["IndivisibleGroups"]

_DERIVED = ("join", "product", "sum", "reduce", "gate")


class IndivisibleGroups:
    """The indivisible node groups of a graph under construction; new edges and links are indexed incrementally."""

    def __init__(self, builder: GraphBuilder) -> None:
        self._builder = builder
        self._edges: dict[int, list[EdgeBlock]] = defaultdict(list)
        self._sources: dict[int, set[int]] = defaultdict(set)
        self._seen = [0, 0]
        self._known: list[bool] = []

    def contains(self, group: int) -> bool:
        """Whether a group is indivisible.

        It is if one dense weight or one parameter vector reaches all its nodes, or if its nodes are derived from nodes
        of indivisible groups. The channels of a depthwise convolution are not.
        """
        self._index()
        while len(self._known) <= group:
            self._known.append(self._contains(len(self._known)))
        return self._known[group]

    def _contains(self, group: int) -> bool:
        """The same, once it is known for all earlier groups."""
        entry = self._builder.groups[group]
        if entry.kind == NodeKind.INPUT or any(self._reaches_all(block, entry.size) for block in self._edges[group]):
            return True
        # Groups with greater ids only feed parameters that are added later.
        sources = [source for source in self._sources[group] if source < group]
        return entry.kind in _DERIVED and bool(sources) and all(self._known[source] for source in sources)

    def _reaches_all(self, block: EdgeBlock, size: int) -> bool:
        """Whether one row of sources, or one node, has edges to all nodes of the group."""
        one = block.shape[0] == 1 or bool((block.src == block.src[0, 0]).all())
        return one and (unrepeated(block.dst) if block.dst.size == size else len(distinct(block.dst)) == size)

    def _index(self) -> None:
        builder = self._builder
        for block in builder.edges[self._seen[0] :]:
            groups = builder.groups_among(block.dst)
            if len(groups) == 1:
                self._edges[int(groups[0])].append(block)
        for link in builder.links[self._seen[1] :]:
            to, of = builder.groups_among(link.dst), builder.groups_among(link.src)
            if len(to) == 1:
                self._sources[int(to[0])].update(of.tolist())
                continue
            pairs = distinct(builder.group_of(link.dst) << 32 | builder.group_of(link.src))
            for group, source in zip((pairs >> 32).tolist(), (pairs & 0xFFFFFFFF).tolist(), strict=True):
                self._sources[group].add(source)
        self._seen = [len(builder.edges), len(builder.links)]
