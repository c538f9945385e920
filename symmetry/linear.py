"""Sparse homogeneous linear systems over the rationals or modulo 2, most of whose equations say x = y or x = 0."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..ir.arrays import connected, distinct

__all__ = ["Solution", "System"]

Term = tuple[np.ndarray | float, np.ndarray]
Expression = dict[int, Fraction]
_DENOMINATORS = 10**6


@dataclass(frozen=True, slots=True)
class Solution:
    """All solutions, one number per degree of freedom.

    root: int64 [unknowns], the unknown that each one equals. at, free, times: int64, int64, float64 [n]: root `at[i]`
    holds `times[i]` of freedom `free[i]`; roots that are not named are zero. count: number of freedoms.
    """

    root: np.ndarray
    at: np.ndarray
    free: np.ndarray
    times: np.ndarray
    count: int
    binary: bool

    def values(self, amounts: np.ndarray) -> np.ndarray:
        """Every unknown, float64 [unknowns], for these amounts of the freedoms, float64 [count]."""
        found = np.zeros(len(self.root))
        np.add.at(found, self.at, self.times * amounts[self.free])
        return (found % 2 if self.binary else found)[self.root]

    def kept(self, unknowns: np.ndarray) -> Solution:
        """Only the freedoms on which one of these unknowns depends."""
        mask = np.zeros(len(self.root), dtype=bool)
        mask[self.root[unknowns]] = True
        used = distinct(self.free[mask[self.at]])
        here = np.isin(self.free, used)
        free = np.searchsorted(used, self.free[here])
        return Solution(self.root, self.at[here], free, self.times[here], len(used), self.binary)


class System:
    """Collects equations in unknowns 0 .. size - 1. binary: modulo 2."""

    def __init__(self, size: int, binary: bool) -> None:
        self.size, self.binary = size, binary
        self._equal: list[np.ndarray] = []
        self._zero: list[np.ndarray] = []
        self._rows: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._times: list[np.ndarray] = []
        self._count = 0

    def new(self, count: int) -> np.ndarray:
        """Further unknowns, int64 [count]."""
        self.size += count
        return np.arange(self.size - count, self.size)

    def equal(self, a: np.ndarray, b: np.ndarray) -> None:
        """a[i] = b[i], broadcast together."""
        a, b = np.broadcast_arrays(a, b)
        self._equal.append(np.stack([a.reshape(-1), b.reshape(-1)]).astype(np.int64))

    def zero(self, a: np.ndarray) -> None:
        """a[i] = 0."""
        self._zero.append(np.asarray(a, dtype=np.int64).reshape(-1))

    def total(self, *terms: Term) -> None:
        """Sum of times * ids over the terms (times, ids), all broadcast together, is 0 in each entry."""
        arrays = np.broadcast_arrays(*(a for term in terms for a in term))
        rows = np.arange(arrays[0].size)
        for times, ids in zip(arrays[::2], arrays[1::2], strict=True):
            self._add(rows, ids, times)
        self._count += len(rows)

    def sums(self, whole: np.ndarray, parts: np.ndarray, times: np.ndarray | float = 1.0) -> None:
        """Each distinct whole is the sum of times * parts over the entries that name it."""
        wholes, rows = np.unique(whole, return_inverse=True)
        self._add(np.arange(len(wholes)), wholes, np.array(-1.0))
        self._add(rows, parts, np.asarray(times))
        self._count += len(wholes)

    def _add(self, rows: np.ndarray, ids: np.ndarray, times: np.ndarray) -> None:
        self._rows.append(self._count + rows.reshape(-1))
        self._ids.append(np.asarray(ids, dtype=np.int64).reshape(-1))
        self._times.append(np.broadcast_to(np.asarray(times, dtype=np.float64), np.shape(ids)).reshape(-1))

    def solve(self) -> Solution:
        """All solutions. Equalities and zeros are spread at once; what is left is eliminated row by row."""
        empty = np.zeros(0, dtype=np.int64)
        pairs = np.concatenate([np.zeros((2, 0), dtype=np.int64), *self._equal], axis=1)
        root = _merged(np.arange(self.size), pairs)
        zero = np.zeros(self.size, dtype=bool)
        zero[root[np.concatenate([empty, *self._zero])]] = True
        rows, ids = (np.concatenate([empty, *parts]) for parts in (self._rows, self._ids))
        times = np.concatenate([np.zeros(0), *self._times])
        while True:
            rows, ids, times = self._reduced(rows, root[ids], times, zero)
            first, count = np.unique(rows, return_index=True, return_counts=True)[1:]
            lone, two = first[count == 1], first[count == 2]
            two = two if self.binary else two[times[two] == -times[two + 1]]
            if not len(lone) and not len(two):
                break
            zero[ids[lone]] = True
            root = _merged(root, np.stack([ids[two], ids[two + 1]]))
            zero[root[np.flatnonzero(zero)]] = True
        solved = _eliminated(_split(rows, ids, times), self.binary)
        return self._solution(root, zero, solved)

    def _reduced(
        self, rows: np.ndarray, ids: np.ndarray, times: np.ndarray, zero: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Terms without zeros, each unknown once in its row; rows ascending."""
        keep = ~zero[ids]
        rows, ids, times = rows[keep], ids[keep], times[keep]
        order = np.lexsort((ids, rows))
        rows, ids, times = rows[order], ids[order], times[order]
        new = np.ones(len(rows), dtype=bool)
        new[1:] = (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1])
        sums = np.bincount(np.cumsum(new) - 1, weights=times, minlength=int(new.sum()))
        sums = sums % 2 if self.binary else sums
        keep = sums != 0
        return rows[new][keep], ids[new][keep], sums[keep]

    def _solution(self, root: np.ndarray, zero: np.ndarray, solved: dict[int, Expression]) -> Solution:
        bound = zero.copy()
        bound[list(solved)] = True
        free = np.flatnonzero((root == np.arange(self.size)) & ~bound)
        number = {int(r): i for i, r in enumerate(free)} if solved else {}
        terms = [(r, number[v], float(c)) for r, e in solved.items() for v, c in e.items()]
        at, of, times = (np.array([t[i] for t in terms]) for i in range(3))
        return Solution(
            root,
            np.concatenate([free, at]).astype(np.int64),
            np.concatenate([np.arange(len(free)), of]).astype(np.int64),
            np.concatenate([np.ones(len(free)), times]),
            len(free),
            self.binary,
        )


def _merged(root: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Roots after the roots of each pair [2, n] have become one."""
    if not pairs.shape[1]:
        return root
    points, leads = connected(root[pairs[0]], root[pairs[1]])
    new = np.arange(len(root))
    new[points] = leads
    return new[root]


def _split(rows: np.ndarray, ids: np.ndarray, times: np.ndarray) -> Iterable[Expression]:
    start = np.flatnonzero(np.concatenate([[True], np.diff(rows) != 0])) if len(rows) else np.zeros(0, np.int64)
    for here in np.split(np.arange(len(rows)), start[1:]) if len(rows) else ():
        numbers = (Fraction(t).limit_denominator(_DENOMINATORS) for t in times[here].tolist())
        yield dict(zip(ids[here].tolist(), numbers, strict=True))


def _eliminated(rows: Iterable[Expression], binary: bool) -> dict[int, Expression]:
    """Each solved unknown by those that are left free; of each row the last unknown is solved for."""
    solved: dict[int, Expression] = {}
    for row in rows:
        left = _substituted(row, solved, binary)
        if left:
            pivot = max(left)
            by = -left.pop(pivot)
            solved[pivot] = {v: c / by for v, c in left.items()}
    for pivot in reversed(list(solved)):
        solved[pivot] = _substituted(solved[pivot], solved, binary)
    return solved


def _substituted(row: Expression, solved: dict[int, Expression], binary: bool) -> Expression:
    """A row without solved unknowns."""
    found: Expression = {}
    waiting = list(row.items())
    while waiting:
        unknown, times = waiting.pop()
        if unknown in solved:
            waiting += [(v, c * times) for v, c in solved[unknown].items()]
            continue
        new = found.get(unknown, Fraction(0)) + times
        found[unknown] = new % 2 if binary else new
    return {v: c for v, c in found.items() if c}
