"""Splits arrays and parameter views into boxes on which a key is constant."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np

from ...ir import GraphBuilder, ParameterView
from ...ir.arrays import occurrence
from ..budget import MAX_BLOCKS, MAX_INDEXED_ELEMENTS, check_limit

__all__ = ["Region", "affine_view", "regions", "single_uses"]

Region = tuple[slice, ...]


def regions(keys: np.ndarray) -> Iterator[Region]:
    """Split an array into boxes on which `keys` is constant, cutting along the first axis on which it changes."""
    whole = tuple(slice(0, n) for n in keys.shape)
    yield from _cut(keys, whole)


def affine_view(name: str, numbers: np.ndarray) -> ParameterView:
    """The view of elements `numbers` [B, N, K, S] of a tensor: by strides if they are affine, else by index."""
    shape = numbers.shape
    if numbers.size == 0:
        return ParameterView(name, 0, shape, (0,) * 4)
    first = int(numbers[(0,) * numbers.ndim])
    strides = []
    for axis, n in enumerate(shape):
        at = tuple(1 if a == axis else 0 for a in range(len(shape)))
        strides.append(int(numbers[at]) - first if n > 1 else 0)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    if (numbers == first + sum(a * s for a, s in zip(axes, strides, strict=True))).all():
        return ParameterView(name, first, shape, tuple(strides))  # type: ignore[arg-type]
    return ParameterView(name, 0, shape, (0,) * 4, numbers)


def single_uses(builder: GraphBuilder, view: ParameterView) -> Iterator[tuple[Region, ParameterView]]:
    """Split a view into parts without repeated elements, each of which is entirely new or entirely used before.

    Args:
        builder: The graph, with the earlier blocks of the parameter.
        view: The view.

    Yields:
        (region, view of the region).

    Raises:
        TooLarge: Elements, copies or parts exceed the budget.
    """
    shape = builder.parameters[view.name].shape
    box = view.box(shape)
    if box is not None and all(b is not None and (b == box or not _meet(b, box)) for b in builder.boxes(view.name)):
        yield (slice(None),) * 4, view
        return
    check_limit(view.size, MAX_INDEXED_ELEMENTS, "elements of a weight that is read again")
    numbers = view.elements()
    uses = occurrence(numbers)
    taken = np.zeros(builder.parameters[view.name].size, dtype=bool)
    for other in builder.views(view.name):
        taken[other.elements().reshape(-1)] = True
    uses += taken[numbers]
    if not np.ptp(uses):
        yield (slice(None),) * 4, view
        return
    check_limit(int(uses.max()), MAX_BLOCKS, "copies of one element of a weight")
    found = list(islice(regions(uses), MAX_BLOCKS + 1))
    check_limit(len(found), MAX_BLOCKS, "blocks of edges")
    for region in found:
        yield region, affine_view(view.name, numbers[region])


def _meet(a: tuple[tuple[int, int], ...], b: tuple[tuple[int, int], ...]) -> bool:
    return all(lo < other_hi and other_lo < hi for (lo, hi), (other_lo, other_hi) in zip(a, b, strict=True))


def _cut(keys: np.ndarray, region: Region) -> Iterator[Region]:
    part = keys[region]
    if part.size == 0 or (part == part.reshape(-1)[0]).all():
        yield region
        return
    for axis in range(part.ndim):
        other = tuple(a for a in range(part.ndim) if a != axis)
        edge = np.flatnonzero((np.diff(part, axis=axis) != 0).any(axis=other))
        if edge.size == 0:
            continue
        start = region[axis].start
        cuts = [start, *(start + int(e) + 1 for e in edge), region[axis].stop]
        for lo, hi in pairwise(cuts):
            yield from _cut(keys, (*region[:axis], slice(lo, hi), *region[axis + 1 :]))
        return
