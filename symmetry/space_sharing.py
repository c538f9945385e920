"""Shared parameters: a tensor that is used at several sites must be mixed alike at all of them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable

from ..ir.graph import EdgeBlock, ParameterGraph
from .spaces import Action, Ones, Space

__all__ = ["changed_alike"]


def changed_alike(graph: ParameterGraph, space: Space) -> bool:
    """Whether all sites of each parameter that a space changes agree on how it changes.

    Sites must view the same elements along the same axes; whatever else is shared is not mixed.

    Args:
        graph: The graph.
        space: A space.

    Returns:
        True if they agree.
    """
    names = {graph.edges[part.block].view.name for part in space.parts}
    shared = {b.view.name for b in graph.edges if b.tied and not b.constant} & names
    if not shared:
        return True
    changes: dict[int, set[Hashable]] = defaultdict(set)
    for part in space.parts:
        changes[part.block].add(_change(graph.edges[part.block], part))
    sites: dict[str, set[Hashable]] = defaultdict(set)
    for number, block in enumerate(graph.edges):
        if block.view.name in shared and not block.constant and block.size:
            view = block.view
            axes = frozenset(_axis(block, a) for a in range(4) if view.shape[a] > 1) if view.index is None else number
            sites[view.name].add((view.offset, axes, frozenset(changes[number])))
    return all(len(found) == 1 for found in sites.values())


def _axis(block: EdgeBlock, axis: int) -> tuple[int, int]:
    """Length and stride of an axis, which tell it from the others."""
    return block.view.shape[axis], block.view.strides[axis]


def _change(block: EdgeBlock, part: Action | Ones) -> Hashable:
    where = (_axis(block, part.axis), part.batch, part.places.tobytes())
    return (*where, part.dual, part.ones, part.power if part.ones else 1) if isinstance(part, Action) else where
