"""The units of pruning: positions of symmetric groups, as sets of nodes.

A position of an innermost group is one channel, neuron or feature wherever it occurs; one of an outer group is a whole
head, group of channels or expert. They are those of `Component.positions`, not of `Interchangeable`, which lacks groups
that can be pruned, and whose positions have nodes that follow from others, such as the sum over the features of a head:
these leave when `closure` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import LinkRole, NodeKind, ParameterGraph
from ...ir.arrays import distinct
from ...symmetry import Automorphism, Symmetries, SymmetryFamily
from ...symmetry.group import Component

__all__ = ["PositionGroup", "closure", "position_groups"]


@dataclass(frozen=True, slots=True, eq=False)
class PositionGroup:
    """One symmetric group whose positions can be removed.

    Attributes:
        family: The index of its family in `Symmetries.families`.
        name: The name of the family.
        level: 0 for the innermost groups of a family.
        outer: Whether it is one of the outermost groups of the family.
        positions: The nodes of every position, int64 each, without those that follow from others (see `closure`).
        moved: The nodes that swaps of positions move, int64, ascending.
    """

    family: int
    name: str
    level: int
    outer: bool
    positions: tuple[np.ndarray, ...]
    moved: np.ndarray

    @property
    def degree(self) -> int:
        """The number of positions."""
        return len(self.positions)


def position_groups(found: Symmetries) -> list[PositionGroup]:
    """The symmetric groups of all families, family by family, from the inside out."""
    by_generators = {f.generators: (i, f) for i, f in enumerate(found.families) if f.generators}
    groups: list[PositionGroup] = []
    for component in found.components:
        number, family = by_generators[component.generators]
        groups += _groups(component, number, family, found)
    return sorted(groups, key=lambda g: (g.family, g.level))


def _groups(component: Component, number: int, family: SymmetryFamily, found: Symmetries) -> Iterator[PositionGroup]:
    nodes = found.graph.num_nodes
    automorphisms = [found.generators[i] for i in component.generators]
    for level, positions in component.positions():
        outer = level == len(component.levels) - 1
        parts = tuple(distinct(np.sort(p[p < nodes])) for p in positions)
        if not _vectors(found.graph, parts):
            yield PositionGroup(number, family.name, level, outer, parts, _moved(parts, automorphisms, nodes))


def _vectors(graph: ParameterGraph, positions: Sequence[np.ndarray]) -> bool:
    """Whether the positions are no neurons but vectors: two biases of one cell can be swapped, but none can go."""
    groups = distinct(np.sort(graph.group_of(np.concatenate(positions))))
    return all(graph.groups[g].kind == NodeKind.PARAM for g in groups.tolist())


def _moved(positions: Sequence[np.ndarray], automorphisms: Sequence[Automorphism], nodes: int) -> np.ndarray:
    """The nodes that the automorphisms move which take a position to another one."""
    place = np.full(nodes, -1)
    for number, some in enumerate(positions):
        place[some] = number
    moving = []
    for each in automorphisms:
        here, there = place[each.src], place[each.dst]
        if ((here >= 0) & (there >= 0) & (here != there)).any():
            moving.append(each.src)
    return distinct(np.sort(np.concatenate(moving))) if moving else np.zeros(0, np.int64)


def closure(graph: ParameterGraph, removed: np.ndarray, moved: np.ndarray) -> np.ndarray:
    """What leaves the graph with some nodes: what is made of them alone, and what swaps move together with them.

    A product of two features leaves with either; a sum over the features of a head leaves with the head, not with a
    feature; an element that several neurons share leaves with the last of them.

    Args:
        graph: The graph.
        removed: bool [num_nodes], the nodes that are removed.
        moved: int64, nodes that swaps of the removed positions with others move.

    Returns:
        bool [num_nodes].
    """
    removed, size = removed.copy(), graph.num_nodes
    links = [b for b in graph.links if b.role != LinkRole.CARRY]
    if not links:
        return removed
    src, dst = (np.concatenate([x(b) for b in links]).astype(np.int64) for x in (lambda b: b.src, lambda b: b.dst))
    hub = np.zeros(size, bool)
    for group in graph.groups:
        hub[group.start : group.stop] = group.kind == NodeKind.HUB
    fan_in, fan_out = np.bincount(dst, minlength=size), np.bincount(src, minlength=size)
    weighted = _weighted(graph)
    can_move = np.zeros(size, bool)
    can_move[moved] = True
    while True:
        gone_in = np.bincount(dst[removed[src]], minlength=size)
        gone_out = np.where(hub, np.bincount(src[removed[dst]], minlength=size), 0)
        more = ((gone_in > 0) | (gone_out > 0)) & can_move
        more |= (gone_in > 0) & (gone_in == fan_in) & ~weighted
        more |= (gone_out > 0) & (gone_out == fan_out)
        more &= ~removed & ~graph.pinned
        if not more.any():
            return removed
        removed |= more


def _weighted(graph: ParameterGraph) -> np.ndarray:
    """Bool [num_nodes]: nodes into which a weight leads, not only vectors that are added to them."""
    found = np.zeros(graph.num_nodes, bool)
    for block in graph.edges:
        sources = {graph.groups[g].kind for g in distinct(graph.group_of(block.src[:, :1]).reshape(-1)).tolist()}
        if sources - {NodeKind.PARAM}:
            found[block.dst] = True
    return found
