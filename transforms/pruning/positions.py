"""The units of pruning: positions of symmetric groups, as sets of nodes.

A position of an innermost group is one channel, neuron or feature wherever it occurs; one of an outer group is a whole
head, group of channels or expert. They are those of `Component.positions`, not of `Interchangeable`, which lacks groups
that can be pruned, and whose positions have nodes that follow from others, such as the sum over the features of a head:
these leave when `closures` says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import NodeKind, ParameterGraph
from ...ir.arrays import distinct
from ...symmetry import Automorphism, Symmetries, SymmetryFamily
from ...symmetry.group import Component

__all__ = ["PositionGroup", "position_groups"]


@dataclass(frozen=True, slots=True, eq=False)
class PositionGroup:
    """One symmetric group whose positions can be removed.

    Attributes:
        family: The index of its family in `Symmetries.families`.
        name: The name of the family.
        level: 0 for the innermost groups of a family.
        outer: Whether it is one of the outermost groups of the family.
        positions: The nodes of every position, int64 each, without those that follow from others (see `closures`).
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
