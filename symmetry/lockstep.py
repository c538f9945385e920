"""Whole symmetric groups at once: all nodes of a class are followed in lockstep, instead of swap by swap.

The arcs of all members are compared one by one. Where the k-th arc of every member has one label and leads to ends of
its own, those ends form a further column that must be permuted along; where it leads to one end for all, that end
stays. If no column conflicts with another, permuting the n entries of all columns alike is an automorphism for all n!
permutations: one pass over the arcs in place of n - 1 closures. Anything less clear is left to swap closure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from ..ir.arrays import distinct
from .automorphism import Automorphism
from .incidence import Incidence
from .ties import ties_hold

__all__ = ["Columns", "Lockstep"]


@dataclass(frozen=True, slots=True)
class Columns:
    """The symmetric group S_n acting alike on several columns of n items, every element of it an automorphism.

    items: int64 [columns, n]. tight: swapping two entries of any column forces the same swap in all others.
    """

    items: np.ndarray
    tight: bool

    def key(self) -> bytes:
        """Bytes that are equal for the same columns in any order, their entries permuted alike."""
        lowest = self.items[self.items.min(axis=1).argmin()]
        items = self.items[:, np.argsort(lowest)]
        return items[np.argsort(items[:, 0])].tobytes()

    def swaps(self, num_nodes: int) -> Iterator[Automorphism]:
        """The n - 1 adjacent transpositions, which generate the group."""
        n = self.items.shape[1]
        src = np.concatenate([self.items[:, :-1], self.items[:, 1:]]).T
        dst = np.concatenate([self.items[:, 1:], self.items[:, :-1]]).T
        order = np.argsort(src, axis=1)
        src, dst = (np.take_along_axis(x, order, axis=1) for x in (src, dst))
        split = int((self.items[:, 0] < num_nodes).sum()) * 2
        for i in range(n - 1):
            yield Automorphism(src[i, :split], dst[i, :split], src[i, split:], dst[i, split:])

    def permuted(self, order: np.ndarray, num_nodes: int) -> Automorphism:
        """The automorphism that takes entry i to entry order[i]."""
        pairs = zip(self.items.reshape(-1).tolist(), self.items[:, order].reshape(-1).tolist(), strict=True)
        return Automorphism.of_items(dict(pairs), num_nodes)


class _Apart(Exception):
    """The members' arcs differ. parts: int64 [members], equal for members that may still be interchangeable."""

    def __init__(self, parts: np.ndarray) -> None:
        self.parts = parts


class _Open(Exception):
    """Labels alone do not decide what goes where: left to swap closure."""


@dataclass(slots=True)
class Lockstep:
    """The search for symmetric groups among nodes of one colour: partition refinement, all members in parallel.

    column, position: int64 [items], where the running walk has put each item; -1 between calls.
    """

    index: Incidence
    column: np.ndarray = field(init=False)
    position: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.column = np.full(self.index.size, -1)
        self.position = np.full(self.index.size, -1)

    def parts(self, members: np.ndarray) -> Iterator[Columns | np.ndarray]:
        """Split members of one colour into symmetric groups and int64 arrays of members left to swap closure."""
        stack = [members]
        while stack:
            part = stack.pop()
            if len(part) == 1:
                yield part
                continue
            try:
                yield self._follow(part)
            except _Open:
                yield part
            except _Apart as apart:
                order = np.argsort(apart.parts, kind="stable")
                cuts = np.flatnonzero(np.diff(apart.parts[order])) + 1
                stack += [part[p] for p in np.split(order, cuts)]

    def _follow(self, members: np.ndarray) -> Columns:
        walk = _Walk(self.index, self.column, self.position, len(members))
        try:
            walk.enter(members)
            for items in walk.columns:
                walk.follow(items)
            walk.close()
            # Rows go where their ends go, and are no part of an automorphism.
            columns = [items for items in walk.columns if items[0] < self.index.row_start]
            found = Columns(np.array(columns), walk.tight)
            if walk.shared:
                self._check_ties(found)
            return found
        finally:
            for items in walk.columns:
                self.column[items] = -1

    def _check_ties(self, found: Columns) -> None:
        """Raise `_Open` unless a transposition and an n-cycle, which generate S_n, respect weight sharing."""
        n = found.items.shape[1]
        for order in (np.array([1, 0, *range(2, n)]), np.roll(np.arange(n), -1)):
            if not ties_hold(self.index, found.permuted(order, self.index.num_nodes)):
                raise _Open


@dataclass(slots=True)
class _Walk:
    """The columns so far; entry i of each belongs to member i.

    stay: ends that all members share, which must stay. whole: sets of ends that must map onto themselves. n: number of
    members. tight: see `Columns`. shared: a column touches a shared parameter.
    """

    index: Incidence
    column: np.ndarray
    position: np.ndarray
    n: int
    columns: list[np.ndarray] = field(default_factory=list)
    stay: list[np.ndarray] = field(default_factory=list)
    whole: list[np.ndarray] = field(default_factory=list)
    tight: bool = True
    shared: bool = False

    def enter(self, items: np.ndarray) -> None:
        """Append a column, int64 [n]."""
        self.column[items] = len(self.columns)
        self.position[items] = np.arange(self.n)
        self.columns.append(items)

    def follow(self, items: np.ndarray) -> None:
        """Follow the arcs of one column to further columns; raises `_Apart` or `_Open`."""
        index = self.index
        self._check(items)
        arcs = index.start[items][:, None] + np.arange(index.start[items[0] + 1] - index.start[items[0]])
        labels = index.label[arcs]
        if (labels != labels[0]).any():
            raise _Apart(np.unique(labels, axis=0, return_inverse=True)[1].reshape(-1))
        via, ends, runs = index.via[arcs], index.other[arcs], index.multiplicity[arcs[0]]
        if (via != via[0]).any():
            raise _Open
        if index.shared:
            self.shared = self.shared or bool(index.shared_bicliques[items].any() or index.shared_bicliques[ends].any())
        same = (ends == ends[0]).all(axis=0)
        self.stay.append(ends[0, same & (runs == 1)])
        at = 0
        while at < len(runs):
            size = int(runs[at])
            if size > 1:
                self._parallel(ends[:, at : at + size], arcs[:, at : at + size])
            elif not same[at]:
                self._single(ends[:, at], arcs[:, at])
            at += size

    def _check(self, items: np.ndarray) -> None:
        """Raise `_Apart` or `_Open` unless all items may move and have equal colours and numbers of arcs."""
        index = self.index
        fixed = index.fixed[items]
        if fixed.any():
            raise _Apart(np.where(fixed, np.arange(self.n) + 1, 0))
        degree = index.start[items + 1] - index.start[items]
        if (degree != degree[0]).any():
            raise _Apart(degree)
        if (index.colour[items] != index.colour[items[0]]).any():
            raise _Apart(index.colour[items])
        if items[0] >= index.num_nodes and index.block_of(int(items.min())) != index.block_of(int(items.max())):
            raise _Open

    def _single(self, ends: np.ndarray, arcs: np.ndarray) -> None:
        """One arc of each member, the only one with its label, leading to different ends."""
        every, parts = np.unique(ends, return_inverse=True)
        if len(every) < self.n:
            raise _Apart(parts)
        column = self.column[ends]
        if (column < 0).all():
            self.enter(ends)
            self.tight = self.tight and bool((self.index.multiplicity[self.index.twin[arcs]] == 1).all())
        elif (column != column[0]).any() or (self.position[ends] != np.arange(self.n)).any():
            raise _Open

    def _parallel(self, ends: np.ndarray, arcs: np.ndarray) -> None:
        """Several arcs of one label per member: to the same set of ends for all, or to sets of their own.

        ends: items [n, arcs]. arcs: their arcs, same shape.
        """
        ranked = np.sort(ends, axis=1)
        if (ranked == ranked[0]).all():
            self.whole.append(ranked[0])
            return
        if len(distinct(ends)) < ends.size or (self.index.colour[ends] != self.index.colour[ends[0, 0]]).any():
            raise _Open
        order = np.argsort(self._marks(ends), axis=1, kind="stable")
        ends, arcs = (np.take_along_axis(x, order, axis=1) for x in (ends, arcs))
        for place in range(ends.shape[1]):
            self._single(ends[:, place], arcs[:, place])

    def _marks(self, ends: np.ndarray) -> np.ndarray:
        """Numbers [n, ends] that say which ends of the members correspond, distinct within a row.

        They are columns, if the ends are in any, else the items that they meet by arcs of one label, if these are the
        same for all members. Raises `_Apart` for the members that meet the same items, if no label has them all.
        """
        columns = self.column[ends]
        if (columns >= 0).all():
            if (np.diff(np.sort(columns, axis=1), axis=1) == 0).any():
                raise _Open
            return columns
        index = self.index
        degree = index.start[ends + 1] - index.start[ends]
        if (columns >= 0).any() or (degree != degree[0, 0]).any():
            raise _Open
        apart: np.ndarray | None = None
        for at in range(int(degree[0, 0])):
            arcs = index.start[ends] + at
            if index.multiplicity[arcs[0, 0]] > 1:
                continue
            met = index.other[arcs]
            ranked = np.sort(met, axis=1)
            if (np.diff(ranked, axis=1) == 0).any():
                continue
            if (ranked == ranked[0]).all():
                return met
            every, parts = np.unique(ranked, axis=0, return_inverse=True)
            if len(every) < self.n and (apart is None or len(every) <= apart.max()):
                apart = parts.reshape(-1)
        if apart is None:
            raise _Open
        raise _Apart(apart)

    def close(self) -> None:
        """Raise `_Open` if an end that must stay is in a column, or a set that must map onto itself cuts one.

        A set may hold a column as a whole, each entry equally often.
        """
        if any((self.column[ends] >= 0).any() for ends in self.stay):
            raise _Open
        for ends in self.whole:
            column = self.column[ends]
            for c in distinct(column[column >= 0]).tolist():
                times = np.bincount(self.position[ends[column == c]], minlength=self.n)
                if (times != times[0]).any():
                    raise _Open
