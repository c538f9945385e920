"""Axes of stored tensors, cut into equal slices that a symmetry may permute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from .stored import StoredTensor

__all__ = ["SlicedAxis", "connected", "keys", "pairs", "sliced_axes"]

_ALL_PAIRS = 6
_MOST_AXES = 12


@dataclass(frozen=True, slots=True)
class SlicedAxis:
    """An axis, or part of one, reshaped to [outer, n, inner], of which the n slices are permuted.

    Attributes:
        name: The tensor, or several stacked ones.
        axis: Its axis; -1 for stacked tensors.
        outer: Size in front of the slices.
        n: Number of slices.
        inner: Size behind the slices.
        indices: Indices of each slice's elements in the flat vector of all tensors, int64 [n, elements].
        first: First entry of the part.
        part: Whether this is only part of the axis.
    """

    name: str
    axis: int
    outer: int
    n: int
    inner: int
    indices: np.ndarray = field(repr=False, compare=False)
    first: int = 0
    part: bool = False

    @property
    def rank(self) -> int:
        """How many ways this differs from a plain axis, 0 to 3."""
        return self.part + (self.outer > 1) + (self.inner > 1)

    def entries(self, i: int) -> np.ndarray:
        """Indices of the elements of slice i in the flat vector."""
        return np.asarray(self.indices[i])

    def __str__(self) -> str:
        part = f" from {self.first}" if self.part else ""
        form = "" if self.outer == self.inner == 1 else f" as {self.outer} x {self.n} x {self.inner}"
        return f"{self.name} axis {self.axis}{part}{form}" if self.axis >= 0 else f"tensors {self.name}{form}"


def sliced_axes(tensors: Sequence[StoredTensor]) -> dict[int, list[SlicedAxis]]:
    """The sliced axes by number of slices, plain ones first, at most a dozen per number."""
    found: defaultdict[int, list[SlicedAxis]] = defaultdict(list)
    every = list(_axes(tensors))
    sizes = {len(indices) for _, _, indices in every}
    for name, axis, indices in every:
        for outer, n, inner in _forms(len(indices)):
            split = indices.reshape(outer, n, inner, -1).transpose(1, 0, 2, 3).reshape(n, -1)
            found[n].append(SlicedAxis(name, axis, outer, n, inner, split))
        for n in sizes if axis >= 0 else ():
            # Leading or trailing part, for tensors that the model concatenates or slices.
            for first in {0, len(indices) - n} if n < len(indices) else ():
                found[n].append(SlicedAxis(name, axis, 1, n, 1, indices[first : first + n], first, part=True))
    return {n: sorted(some, key=lambda s: s.rank)[:_MOST_AXES] for n, some in found.items()}


def pairs(n: int) -> list[tuple[int, int]]:
    """The pairs of slices to swap: all pairs of up to 6 slices, else neighbours."""
    return list(combinations(range(n), 2)) if n <= _ALL_PAIRS else [(i, i + 1) for i in range(n - 1)]


def keys(some: Sequence[SlicedAxis]) -> frozenset[tuple[str, int]]:
    """(tensor, axis) of each."""
    return frozenset((sliced.name, sliced.axis) for sliced in some)


def connected(n: int, swaps: Sequence[tuple[int, int]]) -> bool:
    """Whether these transpositions generate every permutation of n slices."""
    group = list(range(n))
    for i, j in swaps:
        group = [group[i] if g == group[j] else g for g in group]
    return len(set(group)) == 1


def _axes(tensors: Sequence[StoredTensor]) -> Iterator[tuple[str, int, np.ndarray]]:
    """(name, axis, indices [size, elements]) of every axis; axis -1 stacks all tensors of one shape, in file order."""
    alike: defaultdict[tuple[int, ...], list[StoredTensor]] = defaultdict(list)
    for tensor in tensors:
        alike[tensor.shape].append(tensor)
        for axis, size in enumerate(tensor.shape):
            if size > 1:
                yield tensor.name, axis, np.moveaxis(tensor.indices, axis, 0).reshape(size, -1)
    for same in alike.values():
        if len(same) > 1:
            yield ", ".join(t.name for t in same), -1, np.stack([t.indices.reshape(-1) for t in same])


def _forms(size: int) -> Iterator[tuple[int, int, int]]:
    """All (outer, n, inner) with this product and n > 1."""
    for n in range(2, size + 1):
        if size % n == 0:
            rest = size // n
            for outer in (o for o in range(1, rest + 1) if rest % o == 0):
                yield outer, n, rest // outer
