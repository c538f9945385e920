"""The equations of shared parameters: an element must change by the same factor at all of its sites."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, ParameterGraph
from .linear import System, Term

__all__ = ["share"]

Gains = list[list[tuple[Term, int]]]
_MAX_EDGES = 1 << 16
"""Largest number of edges of a parameter whose sites are compared element by element."""


def share(graph: ParameterGraph, system: System, gains: Gains) -> None:
    """Add the equations between the sites of every shared parameter.

    Sites that view the same elements along the same axes are compared axis by axis, others element by element; large
    parameters that allow neither are fixed, as is everything they depend on.

    Args:
        graph: The graph.
        system: Receives the equations.
        gains: By edge block, see `scaling_equations.Gain`; those of fixed blocks are emptied.
    """
    names = {b.view.name for b in graph.edges if b.tied and not b.constant}
    sites: dict[str, list[int]] = defaultdict(list)
    for number, block in enumerate(graph.edges):
        if block.view.name in names and not block.constant and block.size:
            sites[block.view.name].append(number)
    for numbers in sites.values():
        blocks = [graph.edges[n] for n in numbers]
        terms = [gains[n] for n in numbers]
        if not all(terms):
            _freeze(system, gains, numbers)
        elif len({_axes(b) for b in blocks}) == 1 and all(_axes(b) for b in blocks):
            for block, other in zip(blocks[1:], terms[1:], strict=True):
                _by_axis(system, (blocks[0], block), (terms[0], other))
        elif sum(b.size for b in blocks) <= _MAX_EDGES:
            _by_element(system, blocks, terms)
        else:
            _freeze(system, gains, numbers)


def _axes(block: EdgeBlock) -> frozenset[tuple[int, ...]]:
    """Offset and (length, stride) of each axis of a strided view with B = 1; empty for any other view."""
    view = block.view
    if view.index is not None or view.shape[0] != 1:
        return frozenset()
    return frozenset({(view.offset,), *(_key(block, a) for a in (1, 2, 3) if view.shape[a] > 1)})


def _key(block: EdgeBlock, axis: int) -> tuple[int, ...]:
    return block.view.shape[axis], block.view.strides[axis]


def _by_axis(
    system: System, blocks: tuple[EdgeBlock, EdgeBlock], terms: tuple[Sequence[tuple[Term, int]], ...]
) -> None:
    """Equate two sites axis by axis.

    Their difference is a sum of functions of one axis each. It vanishes everywhere if and only if each of them is a
    constant and the constants add up to zero.
    """
    along: dict[tuple[int, ...], list[Term]] = defaultdict(list)
    constant: list[Term] = []
    for block, side_terms, factor in zip(blocks, terms, (1.0, -1.0), strict=True):
        for (times, ids), axis in side_terms:
            term = factor * np.broadcast_to(times, ids.shape)[0], ids[0]
            if block.shape[axis] > 1:
                along[_key(block, axis)].append(term)
            else:
                constant.append(term)
    for parts in along.values():
        level = system.new(1)
        system.zero_sum(*parts, (-1.0, level))
        constant.append((1.0, level))
    if constant:
        system.zero_sum(*constant)


def _by_element(system: System, blocks: Sequence[EdgeBlock], terms: Sequence[Sequence[tuple[Term, int]]]) -> None:
    """Equate sites through one unknown per element."""
    elements = [b.view.elements() for b in blocks]
    every = distinct(np.concatenate([e.reshape(-1) for e in elements]))
    unknown = system.new(len(every))
    for places, parts in zip(elements, terms, strict=True):
        slots = unknown[np.searchsorted(every, places)]
        here = slots[..., 0]
        system.equal(slots, slots[..., :1])
        system.zero_sum((-1.0, here), *(_spread(term, axis) for term, axis in parts))


def _spread(term: Term, axis: int) -> Term:
    """The term, broadcastable to [B, N, K]."""
    where = (slice(None), slice(None), None) if axis == 1 else (slice(None), None, slice(None))
    times, ids = term
    return np.broadcast_to(times, ids.shape)[where], ids[where]


def _freeze(system: System, gains: Gains, numbers: Sequence[int]) -> None:
    """Fix these edge blocks and every unknown that they depend on."""
    for number in numbers:
        for (times, ids), _ in gains[number]:
            system.zero(ids[np.broadcast_to(times, ids.shape) != 0])
        gains[number] = []
