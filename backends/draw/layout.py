"""Layered (Sugiyama-style) layout: layers by longest path, lanes for long arcs, barycentre ordering, no overlap.

The cross axis runs within a layer, the along axis from layer to layer; the caller maps them to x and y.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

__all__ = ["Arrangement", "arrange", "layers"]

Arc = tuple[int, int]
SWEEPS = 40


@dataclass(frozen=True, slots=True)
class Arrangement:
    """Cross coordinates of the items of each layer; an item is a box or a lane.

    Attributes:
        order: Items of each layer, in cross order; the boxes come first in the numbering, then the lanes.
        centre: Cross coordinate of each item's centre, float64 [items].
        extent: Size of each item along the cross axis, float64 [items].
        lanes: (box, layer) -> the lane through this layer for the box's arcs to later layers.
    """

    order: tuple[tuple[int, ...], ...]
    centre: np.ndarray
    extent: np.ndarray
    lanes: dict[Arc, int]

    def path(self, source: int, target: int, layer: Sequence[int]) -> list[int]:
        """The items that an arc passes, its ends included; only the ends of an arc that does not run forward."""
        between = range(layer[source] + 1, layer[target])
        return [source, *(self.lanes[source, at] for at in between), target]


def layers(count: int, arcs: Iterable[Arc]) -> list[int]:
    """The layer of each of `count` boxes, by longest path.

    Arcs that close a cycle are ignored. A box without predecessors is moved next to its first successor.
    """
    out: dict[int, set[int]] = defaultdict(set)
    into: dict[int, set[int]] = defaultdict(set)
    for a, b in arcs:
        if a != b:
            out[a].add(b)
            into[b].add(a)
    layer = [0] * count
    waiting = {i: set(into[i]) for i in range(count)}
    ready = [i for i in range(count) if not waiting[i]]
    done: list[int] = []
    while waiting:
        if not ready:
            ready = [min(waiting, key=lambda i: (len(waiting[i]), i))]
        item = ready.pop()
        del waiting[item]
        done.append(item)
        for after in out[item] & waiting.keys():
            layer[after] = max(layer[after], layer[item] + 1)
            waiting[after].discard(item)
            if not waiting[after]:
                ready.append(after)
    for item in reversed(done):
        later = [layer[b] for b in out[item] if layer[b] > layer[item]]
        if not into[item] and later:
            layer[item] = min(later) - 1
    return layer


def arrange(
    layer: Sequence[int], extent: Sequence[float], arcs: Iterable[Arc], gap: float, lane_extent: Sequence[float]
) -> Arrangement:
    """Order the boxes of each layer and place them along the cross axis, with lanes for arcs that skip layers.

    Args:
        layer: Layer of each box.
        extent: Size of each box along the cross axis.
        arcs: (source box, target box).
        gap: Space between neighbours.
        lane_extent: Size of a lane of each box along the cross axis.

    Returns:
        The arrangement.
    """
    forward = sorted({(a, b) for a, b in arcs if layer[a] < layer[b]})
    extents = list(extent)
    rows: list[list[int]] = [[] for _ in range(max(layer, default=-1) + 1)]
    for item, at in enumerate(layer):
        rows[at].append(item)
    lanes: dict[Arc, int] = {}
    for a, b in forward:
        for at in range(layer[a] + 1, layer[b]):
            if (a, at) not in lanes:
                lanes[a, at] = len(extents)
                rows[at].append(len(extents))
                extents.append(lane_extent[a])
    found = Arrangement(tuple(map(tuple, rows)), np.zeros(len(extents)), np.array(extents), lanes)
    above, below = _neighbours(found, forward, layer)
    order = _uncross([list(r) for r in rows], above, below)
    centre = _place(order, found.extent, above, below, gap, len(layer))
    return Arrangement(tuple(map(tuple, order)), centre, found.extent, lanes)


def _neighbours(found: Arrangement, arcs: Sequence[Arc], layer: Sequence[int]) -> tuple[list[list[int]], ...]:
    above: list[set[int]] = [set() for _ in found.extent]
    below: list[set[int]] = [set() for _ in found.extent]
    for a, b in arcs:
        path = found.path(a, b, layer)
        for upper, lower in pairwise(path):
            above[lower].add(upper)
            below[upper].add(lower)
    return [sorted(s) for s in above], [sorted(s) for s in below]


def _uncross(rows: list[list[int]], above: list[list[int]], below: list[list[int]]) -> list[list[int]]:
    """Reorder each layer by the barycentres of its neighbours, sweeping down and up in turn."""
    rank = np.zeros(len(above))
    for row in rows:
        rank[row] = np.arange(len(row)) - (len(row) - 1) / 2
    for sweep in range(8):
        near = above if sweep % 2 == 0 else below
        for row in rows if sweep % 2 == 0 else rows[::-1]:
            wish = {i: float(np.mean(rank[near[i]])) if near[i] else float(rank[i]) for i in row}
            row.sort(key=lambda i: (wish[i], i))
            rank[row] = np.arange(len(row)) - (len(row) - 1) / 2
    return rows


def _place(
    order: list[list[int]],
    extent: np.ndarray,
    above: list[list[int]],
    below: list[list[int]],
    gap: float,
    boxes: int,
) -> np.ndarray:
    """Cross coordinates: pull every item towards its neighbours, keeping order and gaps; lanes pull hardest."""
    centre = np.zeros(len(extent))
    for row in order:
        centre[row] = _spread(np.zeros(len(row)), np.ones(len(row)), extent[row], gap)
    for sweep in range(SWEEPS):
        for row in order if sweep % 2 == 0 else order[::-1]:
            wish, weight = np.empty(len(row)), np.empty(len(row))
            for i, item in enumerate(row):
                near = above[item] + below[item]
                pull = [0.2 if (n < boxes) != (item < boxes) else 4.0 if item < boxes else 8.0 for n in near]
                wish[i] = np.average(centre[near], weights=pull) if near else 0.0
                weight[i] = sum(pull) or 0.1
            centre[row] = _spread(wish, weight, extent[row], gap)
    return centre


def _spread(wish: np.ndarray, weight: np.ndarray, extent: np.ndarray, gap: float) -> np.ndarray:
    """The positions nearest to `wish` (weighted least squares) that keep order and gaps.

    Subtracting the least offsets turns this into isotonic regression, solved by pooling adjacent violators.
    """
    if not len(wish):
        return wish
    apart = (extent[1:] + extent[:-1]) / 2 + gap
    offset = np.concatenate([[0.0], np.cumsum(apart)])
    pools: list[list[float]] = []
    for value, w in zip(wish - offset, weight, strict=True):
        pools.append([float(value), float(w), 1])
        while len(pools) > 1 and pools[-2][0] > pools[-1][0]:
            v, u, n = pools.pop()
            pools[-1][0] = (pools[-1][0] * pools[-1][1] + v * u) / (pools[-1][1] + u)
            pools[-1][1] += u
            pools[-1][2] += n
    return np.concatenate([np.full(int(n), v) for v, _, n in pools]) + offset
