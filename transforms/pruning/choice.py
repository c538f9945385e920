"""Which positions of which groups leave the network."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import ceil

import numpy as np

from ...ir import GmncError, ParameterGraph
from .closure import Links, closures
from .positions import PositionGroup

__all__ = ["Choice", "choose", "group_of_nodes", "kept_count", "removed_nodes"]


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """The positions of a group that are removed.

    Attributes:
        group: The group.
        positions: Their numbers, int64, ascending.
    """

    group: PositionGroup
    positions: np.ndarray

    @property
    def nodes(self) -> np.ndarray:
        """The nodes of these positions, int64, without those that follow from others."""
        return np.concatenate([self.group.positions[i] for i in self.positions.tolist()])


def choose(
    groups: Sequence[PositionGroup],
    scores: Sequence[np.ndarray],
    ratio: float,
    level: str,
    only: str,
    round_to: int,
    alike: Collection[int] = (),
) -> list[Choice]:
    """Choose the positions of least score in every group.

    Args:
        groups: The groups, see `position_groups`.
        scores: float64 [degree] each.
        ratio: The share of positions to remove.
        level: "inner" for features, neurons and channels, "outer" for heads, groups and experts where there are any.
        only: A regular expression that the names of families must contain; "" for all.
        round_to: The number of positions that are left is a multiple of this, as far as there are so many.
        alike: The families all groups of which, as far as they are equally large, lose the same positions
            (dimensions of all heads, say).

    Returns:
        One choice per group in which a position is removed.

    Raises:
        GmncError: `only` is no regular expression, or no family has such a name.
    """
    try:
        pattern = re.compile(only)
    except re.error as error:
        raise GmncError(f"{only!r} is no regular expression: {error}") from error
    some = [(g, s) for g, s in zip(groups, scores, strict=True) if pattern.search(g.name)]
    if only and not some:
        names = ", ".join(dict.fromkeys(g.name for g in groups))
        raise GmncError(f"no family has a name that matches {only!r}; the families are: {names}")
    found = []
    for group, score in _with_common_scores(some, alike):
        if group.outer if level == "outer" else group.level == 0:
            count = group.degree - kept_count(group.degree, ratio, round_to)
            if count:
                found.append(Choice(group, np.sort(np.argsort(score, kind="stable")[:count])))
    return found


def _with_common_scores(
    some: Sequence[tuple[PositionGroup, np.ndarray]], alike: Collection[int]
) -> list[tuple[PositionGroup, np.ndarray]]:
    """The groups with their scores; groups that are to lose the same positions have their sums."""
    sums: dict[tuple[int, int, int], np.ndarray] = {}
    for group, score in some:
        key = (group.family, group.level, group.degree)
        sums[key] = sums.get(key, 0) + score
    return [(g, sums[g.family, g.level, g.degree] if g.family in alike else s) for g, s in some]


def kept_count(degree: int, ratio: float, round_to: int) -> int:
    """How many of `degree` positions are kept: at least 1, and a multiple of `round_to` unless there are fewer."""
    kept = max(1, ceil(degree * (1 - ratio) - 1e-9))
    if round_to > 1:
        kept = max(round_to, round(kept / round_to) * round_to)
    return min(kept, degree)


def removed_nodes(graph: ParameterGraph, choices: Sequence[Choice]) -> np.ndarray:
    """The nodes that leave the graph with the chosen positions, bool [num_nodes]."""
    links, removed = Links.of(graph), np.zeros(graph.num_nodes, bool)
    for choice in choices:
        removed[closures(links, [choice.nodes], choice.group.moved).indices] = True
    removed[closures(links, [np.flatnonzero(removed)], np.zeros(0, np.int64)).indices] = True
    return removed


def group_of_nodes(graph: ParameterGraph, groups: Sequence[PositionGroup]) -> np.ndarray:
    """The number of the innermost group that each node belongs to, int64 [num_nodes]; -1 for none."""
    found = np.full(graph.num_nodes, -1)
    for number, group in enumerate(groups):
        if group.level == 0:
            found[np.concatenate(group.positions)] = number
    return found
