"""The order of a group that swaps generate: symmetric groups, nested where whole blocks of them trade places."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import lgamma, log

import numpy as np

from ..ir.arrays import connected, distinct
from .automorphism import Automorphism

__all__ = ["Component", "Factor", "components"]


@dataclass(frozen=True, slots=True)
class Factor:
    """One symmetric group. columns: int64 [columns, degree]; it permutes the entries of all columns alike.

    Entries are items (nodes, then rows of blocks). Of a factor that permutes whole blocks, each entry is the first item
    of a part of a block.
    """

    columns: np.ndarray

    @property
    def degree(self) -> int:
        """How many things it permutes."""
        return int(self.columns.shape[1])

    @property
    def log10(self) -> float:
        """log10 of degree!."""
        return lgamma(self.degree + 1) / log(10)


@dataclass(frozen=True, slots=True)
class Component:
    """Generators that move common items, directly or by way of others.

    levels: factors; each of a level permutes blocks of which the largest lie one level below. The order of the group is
    the product of the orders of all factors and of what is left; rest_log10 is a lower bound of that if not exact.
    """

    generators: tuple[int, ...]
    levels: tuple[tuple[Factor, ...], ...]
    rest_log10: float
    exact: bool

    @property
    def log10(self) -> float:
        """log10 of the order of the group that the generators generate (if not exact: at least)."""
        return self.rest_log10 + sum(f.log10 for level in self.levels for f in level)


@dataclass(frozen=True, slots=True)
class _Moves:
    """Permutations as one list of moves: generator gen[i] takes item src[i] to dst[i]. int64 [moves], gen ascending."""

    gen: np.ndarray
    src: np.ndarray
    dst: np.ndarray

    def take(self, keep: np.ndarray) -> _Moves:
        return _Moves(self.gen[keep], self.src[keep], self.dst[keep])

    def of(self, generators: np.ndarray) -> _Moves:
        return self.take(np.isin(self.gen, generators))


def components(automorphisms: Sequence[Automorphism]) -> list[Component]:
    """The independent parts of the group that the automorphisms generate; its order is the product of theirs."""
    parts = [(np.concatenate([a.src, a.row_src]), np.concatenate([a.dst, a.row_dst])) for a in automorphisms]
    if not parts:
        return []
    gen = np.repeat(np.arange(len(parts)), [len(p[0]) for p in parts])
    moves = _Moves(gen, np.concatenate([p[0] for p in parts]), np.concatenate([p[1] for p in parts]))
    return [_component(part) for part in _split(moves)]


def _split(moves: _Moves) -> Iterator[_Moves]:
    """Connected parts: generators that move a common item are in one part."""
    first = np.searchsorted(moves.gen, moves.gen)
    points, roots = connected(moves.src, moves.src[first])
    root = roots[np.searchsorted(points, moves.src)]
    order = np.argsort(root, kind="stable")
    for part in np.split(order, np.flatnonzero(np.diff(root[order])) + 1):
        if len(part):
            yield moves.take(part)


def _component(moves: _Moves) -> Component:
    generators = tuple(distinct(moves.gen).tolist())
    factors: list[list[Factor]] = []
    height: dict[int, int] = {}
    rest, exact = 0.0, True
    queue = [moves]
    while queue:
        outer: list[_Moves] = []
        for part in queue:
            peeled = _peel(part)
            if peeled is None:
                rest, exact = rest + _lower_bound(part), False
                continue
            for factor in peeled[0]:
                level = max((height.get(i, 0) for i in factor.columns.reshape(-1).tolist()), default=0)
                factors += [[] for _ in range(level + 1 - len(factors))]
                factors[level].append(factor)
                height.update(dict.fromkeys(factor.columns.min(axis=1).tolist(), level + 1))
            outer += _split(peeled[1])
        queue = outer
    return Component(generators, tuple(map(tuple, factors)), rest, exact)


def _peel(moves: _Moves) -> tuple[list[Factor], _Moves] | None:
    """The innermost symmetric groups, and the other generators on what is left when their orbits are one item each.

    The inner groups are a normal subgroup if every other generator maps their items to items of one of them, labels to
    labels and columns to columns; the quotient then acts faithfully on the orbits. None if no choice of inner
    generators has this form.
    """
    ids, sizes = np.unique(moves.gen, return_counts=True)
    for size in distinct(sizes)[:8]:
        inner = moves.of(ids[sizes <= size])
        parts = [_tied(part) for part in _split(inner)]
        factors = [f for f in parts if f is not None]
        others = moves.of(ids[sizes > size])
        if len(factors) == len(parts) and _normal(factors, others):
            return factors, _quotient(factors, others)
    return None


def _tied(moves: _Moves) -> Factor | None:
    """The symmetric group that these generators are the transpositions of, in the same way on each of their orbits."""
    points, roots = connected(moves.src, moves.dst)
    orbits, sizes = np.unique(roots, return_counts=True)
    degree = int(sizes[0])
    generators, moved = np.unique(moves.gen, return_counts=True)
    orbit = roots[np.searchsorted(points, moves.src)]
    pairs = np.unique(moves.gen * (int(roots.max()) + 1) + orbit, return_counts=True)[1]
    if (sizes != degree).any() or (moved != 2 * len(orbits)).any() or (pairs != 2).any():
        return None
    if degree == 2:
        columns = points[np.lexsort((points, roots))].reshape(-1, 2)
        return Factor(columns)
    mark = np.zeros(len(points), dtype=np.uint64)
    tags = np.random.default_rng(0).integers(0, 2**63, int(generators.max()) + 1).astype(np.uint64)
    np.add.at(mark, np.searchsorted(points, moves.src), tags[moves.gen])
    order = np.lexsort((mark, roots))
    table = mark[order].reshape(len(orbits), degree)
    if (table != table[0]).any() or (np.diff(table[0]) == 0).any():
        return None
    columns = points[order].reshape(len(orbits), degree)
    return Factor(columns[:, np.argsort(columns[0])])


def _normal(factors: Sequence[Factor], others: _Moves) -> bool:
    """Whether every other generator maps factors to factors, columns to columns and labels to labels."""
    if not len(others.src):
        return True
    items, place = _places(factors)
    inside = [_look(items, x) for x in (others.src, others.dst)]
    if ((inside[0] < 0) != (inside[1] < 0)).any():
        return False
    keep = inside[0] >= 0
    gen = others.gen[keep]
    here, there = (place[i[keep]] for i in inside)
    spans = np.array([f.columns.shape for f in factors])[here[:, 0]]
    for what, span in ((0, spans.prod(axis=1)), (1, spans[:, 1]), (2, spans[:, 0])):
        key, value = here[:, [0, what]], there[:, [0, what]]
        rows, at, count = np.unique(np.stack([gen, *key.T], axis=1), axis=0, return_index=True, return_counts=True)
        if len(np.unique(np.stack([gen, *key.T, *value.T], axis=1), axis=0)) != len(rows):
            return False
        # What a generator leaves where it is goes to itself, and takes its factor, column and label along.
        partly = count < span[at]
        if (key[at][partly] != value[at][partly]).any():
            return False
    return True


def _places(factors: Sequence[Factor]) -> tuple[np.ndarray, np.ndarray]:
    """(items of the factors, ascending; for each its factor, column and label, int64 [items, 3])."""
    items = np.concatenate([f.columns.reshape(-1) for f in factors])
    places = []
    for number, factor in enumerate(factors):
        column, label = np.indices(factor.columns.shape).reshape(2, -1)
        places.append(np.stack([np.full(column.shape, number), column, label], axis=1))
    order = np.argsort(items)
    return items[order], np.concatenate(places)[order]


def _look(items: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """The place of each wanted item, -1 if it is not there."""
    at = np.minimum(np.searchsorted(items, wanted), len(items) - 1)
    return np.where(items[at] == wanted, at, -1)


def _quotient(factors: Sequence[Factor], others: _Moves) -> _Moves:
    """The other generators on orbits, each named by its first item; moves that became nothing are dropped."""
    items, _ = _places(factors)
    lead = np.concatenate([np.broadcast_to(f.columns.min(axis=1)[:, None], f.columns.shape).reshape(-1)
                           for f in factors])  # fmt: skip
    lead = lead[np.argsort(np.concatenate([f.columns.reshape(-1) for f in factors]))]
    ends = []
    for x in (others.src, others.dst):
        at = _look(items, x)
        ends.append(np.where(at >= 0, lead[at], x))
    rows = np.unique(np.stack([others.gen, *ends], axis=1), axis=0)
    rows = rows[rows[:, 1] != rows[:, 2]]
    return _distinct(_Moves(rows[:, 0], rows[:, 1], rows[:, 2]))


def _distinct(moves: _Moves) -> _Moves:
    """One of several equal generators."""
    seen: set[bytes] = set()
    keep = np.zeros(len(moves.gen), dtype=bool)
    starts = np.flatnonzero(np.diff(moves.gen, prepend=-1)).tolist()
    for start, stop in zip(starts, [*starts, len(moves.gen)][1:], strict=True):
        key = moves.src[start:stop].tobytes() + moves.dst[start:stop].tobytes()
        keep[start:stop] = key not in seen
        seen.add(key)
    return moves.take(keep)


def _lower_bound(moves: _Moves) -> float:
    """log10 of a lower bound: the product of orbits in a chain of generators that fix more and more items."""
    total = 0.0
    while len(moves.src):
        points, count = np.unique(moves.src, return_counts=True)
        roots = connected(moves.src, moves.dst)[1]
        base = points[np.lexsort((points, count))[0]]
        total += np.log10((roots == roots[np.searchsorted(points, base)]).sum())
        moves = moves.of(np.setdiff1d(moves.gen, moves.gen[moves.src == base]))
    return float(total)
