"""Sparse homogeneous linear systems over the rationals or over GF(2).

Almost all equations of a network say x = y or x = 0. Union-find takes those, and whatever becomes one of them once they
are substituted; Gaussian elimination in exact arithmetic sees only the few that remain.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..ir.arrays import connected, distinct

__all__ = ["Solution", "System"]

Term = tuple[np.ndarray | float, np.ndarray]
"""(coefficients, ids of unknowns), broadcast together."""

Expression = dict[int, Fraction]
"""Unknown to coefficient."""

_DENOMINATORS = 10**6
"""The greatest denominator of a coefficient: they are degrees of homogeneity, simple fractions that floats may blur."""


@dataclass(frozen=True, slots=True)
class Solution:
    """The solution space as a sparse basis of `dimension` vectors.

    root: int64 [unknowns], the representative that each unknown equals. at, free, coefficient: int64, int64,
    float64 [n], the nonzeros of the basis: representative `at[i]` has `coefficient[i]` in basis vector `free[i]`.
    binary: over GF(2).
    """

    root: np.ndarray
    at: np.ndarray
    free: np.ndarray
    coefficient: np.ndarray
    dimension: int
    binary: bool

    def values(self, amounts: np.ndarray) -> np.ndarray:
        """Every unknown, float64 [unknowns], for a combination of the basis vectors, float64 [dimension]."""
        found = np.zeros(len(self.root))
        np.add.at(found, self.at, self.coefficient * amounts[self.free])
        return (found % 2 if self.binary else found)[self.root]

    def kept(self, unknowns: np.ndarray) -> Solution:
        """The basis vectors in which at least one of these unknowns is not zero."""
        mask = np.zeros(len(self.root), dtype=bool)
        mask[self.root[unknowns]] = True
        used = distinct(self.free[mask[self.at]])
        here = np.isin(self.free, used)
        free = np.searchsorted(used, self.free[here])
        return Solution(self.root, self.at[here], free, self.coefficient[here], len(used), self.binary)


class System:
    """Collects equations in the unknowns 0 .. size - 1. binary: over GF(2)."""

    def __init__(self, size: int, binary: bool) -> None:
        self.size, self.binary = size, binary
        self._equal: list[np.ndarray] = []
        self._zero: list[np.ndarray] = []
        self._equations: list[np.ndarray] = []
        self._ids: list[np.ndarray] = []
        self._coefficients: list[np.ndarray] = []
        self._count = 0

    def new(self, count: int) -> np.ndarray:
        """Add unknowns; returns their ids, int64 [count]."""
        self.size += count
        return np.arange(self.size - count, self.size)

    def equal(self, a: np.ndarray, b: np.ndarray) -> None:
        """State a[i] = b[i]; a and b are ids, broadcast together."""
        a, b = np.broadcast_arrays(a, b)
        self._equal.append(np.stack([a.reshape(-1), b.reshape(-1)]).astype(np.int64))

    def zero(self, a: np.ndarray) -> None:
        """State a[i] = 0."""
        self._zero.append(np.asarray(a, dtype=np.int64).reshape(-1))

    def zero_sum(self, *terms: Term) -> None:
        """State that the sum of coefficients * ids over the terms, broadcast together, is 0 in each entry."""
        arrays = np.broadcast_arrays(*(a for term in terms for a in term))
        equations = np.arange(arrays[0].size)
        for coefficients, ids in zip(arrays[::2], arrays[1::2], strict=True):
            self._add(equations, ids, coefficients)
        self._count += len(equations)

    def equal_sum(self, whole: np.ndarray, parts: np.ndarray, coefficients: np.ndarray | float = 1.0) -> None:
        """State that each distinct id in `whole` [n] is the sum of coefficients * parts over its entries i."""
        wholes, equations = np.unique(whole, return_inverse=True)
        self._add(np.arange(len(wholes)), wholes, np.array(-1.0))
        self._add(equations, parts, np.asarray(coefficients))
        self._count += len(wholes)

    def _add(self, equations: np.ndarray, ids: np.ndarray, coefficients: np.ndarray) -> None:
        self._equations.append(self._count + equations.reshape(-1))
        self._ids.append(np.asarray(ids, dtype=np.int64).reshape(-1))
        filled = np.broadcast_to(np.asarray(coefficients, dtype=np.float64), np.shape(ids))
        self._coefficients.append(filled.reshape(-1))

    def solve(self) -> Solution:
        """The solution space."""
        empty = np.zeros(0, dtype=np.int64)
        pairs = np.concatenate([np.zeros((2, 0), dtype=np.int64), *self._equal], axis=1)
        root = _merged(np.arange(self.size), pairs)
        zero = np.zeros(self.size, dtype=bool)
        zero[root[np.concatenate([empty, *self._zero])]] = True
        rows, ids = (np.concatenate([empty, *parts]) for parts in (self._equations, self._ids))
        coefficients = np.concatenate([np.zeros(0), *self._coefficients])
        # Until nothing changes: an equation of one term says x = 0, and c x - c y = 0 says x = y.
        while True:
            rows, ids, coefficients = self._reduced(rows, root[ids], coefficients, zero)
            first, count = np.unique(rows, return_index=True, return_counts=True)[1:]
            lone, two = first[count == 1], first[count == 2]
            two = two if self.binary else two[coefficients[two] == -coefficients[two + 1]]
            if not len(lone) and not len(two):
                break
            zero[ids[lone]] = True
            root = _merged(root, np.stack([ids[two], ids[two + 1]]))
            zero[root[np.flatnonzero(zero)]] = True
        solved = _eliminated(_split(rows, ids, coefficients), self.binary)
        return self._solution(root, zero, solved)

    def _reduced(
        self, rows: np.ndarray, ids: np.ndarray, coefficients: np.ndarray, zero: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The nonzeros (row, column, coefficient) of the matrix in row-major order, duplicates summed."""
        keep = ~zero[ids]
        rows, ids, coefficients = rows[keep], ids[keep], coefficients[keep]
        order = np.lexsort((ids, rows))
        rows, ids, coefficients = rows[order], ids[order], coefficients[order]
        new = np.ones(len(rows), dtype=bool)
        new[1:] = (rows[1:] != rows[:-1]) | (ids[1:] != ids[:-1])
        sums = np.bincount(np.cumsum(new) - 1, weights=coefficients, minlength=int(new.sum()))
        sums = sums % 2 if self.binary else sums
        keep = sums != 0
        return rows[new][keep], ids[new][keep], sums[keep]

    def _solution(self, root: np.ndarray, zero: np.ndarray, solved: dict[int, Expression]) -> Solution:
        bound = zero.copy()
        bound[list(solved)] = True
        free = np.flatnonzero((root == np.arange(self.size)) & ~bound)
        number = {int(r): i for i, r in enumerate(free)} if solved else {}
        terms = [(r, number[v], float(c)) for r, e in solved.items() for v, c in e.items()]
        at, of, coefficients = (np.array([t[i] for t in terms]) for i in range(3))
        return Solution(
            root,
            np.concatenate([free, at]).astype(np.int64),
            np.concatenate([np.arange(len(free)), of]).astype(np.int64),
            np.concatenate([np.ones(len(free)), coefficients]),
            len(free),
            self.binary,
        )


def _merged(root: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Union-find: the roots after uniting the two ids of each pair [2, n]."""
    if not pairs.shape[1]:
        return root
    points, leads = connected(root[pairs[0]], root[pairs[1]])
    new = np.arange(len(root))
    new[points] = leads
    return new[root]


def _split(rows: np.ndarray, ids: np.ndarray, coefficients: np.ndarray) -> Iterable[Expression]:
    """The rows of the matrix, each as unknown to coefficient."""
    start = np.flatnonzero(np.concatenate([[True], np.diff(rows) != 0])) if len(rows) else np.zeros(0, np.int64)
    for here in np.split(np.arange(len(rows)), start[1:]) if len(rows) else ():
        numbers = (Fraction(t).limit_denominator(_DENOMINATORS) for t in coefficients[here].tolist())
        yield dict(zip(ids[here].tolist(), numbers, strict=True))


def _eliminated(rows: Iterable[Expression], binary: bool) -> dict[int, Expression]:
    """Gauss-Jordan elimination: each pivot in terms of free unknowns. The pivot of a row is its greatest unknown."""
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
    """The row with every pivot replaced by its expression, recursively."""
    found: Expression = {}
    waiting = list(row.items())
    while waiting:
        unknown, coefficient = waiting.pop()
        if unknown in solved:
            waiting += [(v, c * coefficient) for v, c in solved[unknown].items()]
            continue
        new = found.get(unknown, Fraction(0)) + coefficient
        found[unknown] = new % 2 if binary else new
    return {v: c for v, c in found.items() if c}
