"""Axes of stored tensors, taken as so many equal slices that may trade places."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from .stored import StoredTensor

__all__ = ["Slot", "axes", "connected", "pairs", "slots"]

_ALL_PAIRS = 6
_MOST_SLOTS = 12


@dataclass(frozen=True, slots=True)
class Slot:
    """Part of an axis as [outer, n, inner]: n slices of `inner` entries in a row, again `outer` times.

    first: the entry with which the part begins; it is the whole axis unless `part`.
    places: int64 [n, elements of a slice], where the elements are in the flat vector of all tensors.
    """

    name: str
    axis: int
    outer: int
    n: int
    inner: int
    places: np.ndarray = field(repr=False, compare=False)
    first: int = 0
    part: bool = False

    @property
    def rank(self) -> int:
        """How far this is from a plain axis."""
        return self.part + (self.outer > 1) + (self.inner > 1)

    def entries(self, i: int) -> np.ndarray:
        """Flat places of slice i."""
        return np.asarray(self.places[i])

    def __str__(self) -> str:
        part = f" from {self.first}" if self.part else ""
        form = "" if self.outer == self.inner == 1 else f" as {self.outer} x {self.n} x {self.inner}"
        return f"{self.name} axis {self.axis}{part}{form}" if self.axis >= 0 else f"tensors {self.name}{form}"


def slots(tensors: Sequence[StoredTensor]) -> dict[int, list[Slot]]:
    """The slots of every number of slices, plain axes first; at most a dozen of each."""
    found: defaultdict[int, list[Slot]] = defaultdict(list)
    every = list(_axes(tensors))
    sizes = {len(places) for _, _, places in every}
    for name, axis, places in every:
        for outer, n, inner in _forms(len(places)):
            split = places.reshape(outer, n, inner, -1).transpose(1, 0, 2, 3).reshape(n, -1)
            found[n].append(Slot(name, axis, outer, n, inner, split))
        for n in sizes if axis >= 0 else ():
            # What was concatenated, or was sliced.
            for first in {0, len(places) - n} if n < len(places) else ():
                found[n].append(Slot(name, axis, 1, n, 1, places[first : first + n], first, part=True))
    return {n: sorted(some, key=lambda s: s.rank)[:_MOST_SLOTS] for n, some in found.items()}


def pairs(n: int) -> list[tuple[int, int]]:
    """Pairs of slices that are swapped: all of few, neighbours of many."""
    return list(combinations(range(n), 2)) if n <= _ALL_PAIRS else [(i, i + 1) for i in range(n - 1)]


def axes(some: Sequence[Slot]) -> frozenset[tuple[str, int]]:
    """Which axes of which tensors these slots are of."""
    return frozenset((slot.name, slot.axis) for slot in some)


def connected(n: int, swaps: Sequence[tuple[int, int]]) -> bool:
    """Whether these swaps generate every permutation of n."""
    group = list(range(n))
    for i, j in swaps:
        group = [group[i] if g == group[j] else g for g in group]
    return len(set(group)) == 1


def _axes(tensors: Sequence[StoredTensor]) -> Iterator[tuple[str, int, np.ndarray]]:
    """(name, axis, places [size, elements]) of every axis; axis -1 of all tensors of one shape, in the file's order."""
    alike: defaultdict[tuple[int, ...], list[StoredTensor]] = defaultdict(list)
    for tensor in tensors:
        alike[tensor.shape].append(tensor)
        for axis, size in enumerate(tensor.shape):
            if size > 1:
                yield tensor.name, axis, np.moveaxis(tensor.places, axis, 0).reshape(size, -1)
    for same in alike.values():
        if len(same) > 1:
            yield ", ".join(t.name for t in same), -1, np.stack([t.places.reshape(-1) for t in same])


def _forms(size: int) -> Iterator[tuple[int, int, int]]:
    """(outer, n, inner) with this product and n > 1."""
    for n in range(2, size + 1):
        if size % n == 0:
            rest = size // n
            for outer in (o for o in range(1, rest + 1) if rest % o == 0):
                yield outer, n, rest // outer
