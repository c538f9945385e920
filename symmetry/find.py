"""Symmetries of the parameter graph: swaps, generators and orbits.

A symmetry permutes nodes so that every labelled edge and link goes to one with the same label, pinned nodes and ports
stay, and elements that share a weight go to elements that share a weight. Permuting the parameters along with it leaves
the network's function as it was.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from ..ir.arrays import connected, distinct, mix
from ..ir.graph import ParameterGraph
from .automorphism import Automorphism
from .closure import Closure, Contradiction
from .incidence import Incidence, incidence
from .lockstep import Columns, Lockstep

__all__ = ["Rejection", "determined", "generators", "orbits", "product", "sample", "swap"]

_TRIES = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why two nodes cannot be swapped."""

    reason: str

    def __bool__(self) -> bool:
        return False


def swap(graph: ParameterGraph, a: int, b: int) -> Automorphism | Rejection:
    """The smallest symmetry that swaps nodes a and b, as far as closure finds it, or why there is none."""
    try:
        return replace(Closure(incidence(graph)).run(int(a), int(b)), graph=graph)
    except Contradiction as reason:
        return Rejection(str(reason))


def generators(graph: ParameterGraph, limit: int | None = None) -> list[Automorphism]:
    """Generators of the symmetries: swaps of neighbours within each node group, then across groups of equal structure.

    Where a swap of two nodes forces more (a residual stream, a head), the generator is the whole closure.
    """
    search = _Search(incidence(graph), limit)
    for members in _classes(graph, search.index):
        search.join(members)
    return search.found


def orbits(graph: ParameterGraph, automorphisms: Iterable[Automorphism] | None = None) -> list[np.ndarray]:
    """Node orbits of more than one node under the automorphisms (default: the generators), int64 ids, ascending."""
    found = generators(graph) if automorphisms is None else list(automorphisms)
    if not found:
        return []
    moved, leads = connected(np.concatenate([a.src for a in found]), np.concatenate([a.dst for a in found]))
    order = np.argsort(leads, kind="stable")
    cuts = np.flatnonzero(np.diff(leads[order])) + 1
    return sorted((np.sort(o) for o in np.split(moved[order], cuts) if len(o) > 1), key=lambda o: int(o[0]))


def product(graph: ParameterGraph, automorphisms: Iterable[Automorphism]) -> Automorphism:
    """The automorphism that does the last of them first, and after it the others up to the first."""
    index = incidence(graph)
    image = np.arange(index.size)
    for each in automorphisms:
        image[each.src], image[each.row_src] = image[each.dst], image[each.row_dst]
    moved = np.flatnonzero(image != np.arange(index.size))
    pairs = dict(zip(moved.tolist(), image[moved].tolist(), strict=True))
    return replace(Automorphism.of_items(pairs, graph.num_nodes), graph=graph)


def sample(graph: ParameterGraph, automorphisms: Sequence[Automorphism], rng: np.random.Generator) -> Automorphism:
    """The product of a random subset of the automorphisms in random order."""
    order = rng.permutation(len(automorphisms))
    return product(graph, [automorphisms[i] for i in order if rng.random() < 0.5])


@dataclass(slots=True)
class _Chain:
    """Connected members of a class. start: the last one that took a search; least: size of the smallest closure."""

    first: int
    start: int
    last: int
    least: float


@dataclass(slots=True)
class _Search:
    """Generators so far.

    column: of each item, the number of the column of a
    symmetric group whose swaps are what its own would be, or -1. met: pairs of places that a closure has swapped; a
    place is a column's number, or ~item where the item is in none.
    """

    index: Incidence
    limit: int | None
    found: list[Automorphism] = field(default_factory=list)
    met: set[tuple[int, int]] = field(default_factory=set)
    known: set[bytes] = field(default_factory=set)
    column: np.ndarray = field(init=False)
    columns: int = 0
    lockstep: Lockstep = field(init=False)

    def __post_init__(self) -> None:
        self.column = np.full(self.index.size, -1)
        self.lockstep = Lockstep(self.index)

    def join(self, members: list[int]) -> None:
        """Try to connect the members: at once where that is possible, else each with one of the last chains."""
        chains: list[_Chain] = []
        for node in sorted(self._leaders(np.array(members))):
            if self.limit is not None and len(self.found) >= self.limit:
                del self.found[self.limit :]
                return
            chain = next((c for c in reversed(chains[-_TRIES:]) if self._connect(c, node)), None)
            if chain is None:
                chain = _Chain(node, node, node, inf)
            else:
                chains.remove(chain)
            chains.append(chain)

    def _leaders(self, members: np.ndarray) -> Iterator[int]:
        """One member of each symmetric group among them, and those that are in none."""
        columns = self.column[members]
        for column in distinct(columns[columns >= 0]).tolist():
            yield int(members[columns == column][0])
        new = members[columns < 0]
        for part in self.lockstep.parts(new) if len(new) else ():
            if isinstance(part, Columns):
                yield int(part.items[0, 0])
                self._keep(part)
            else:
                yield from part.tolist()

    def _keep(self, group: Columns) -> None:
        self.found.extend(group.swaps(self.index.num_nodes))
        marked = group.items if group.tight else group.items[:1]
        self.column[marked] = self.columns + np.arange(len(marked))[:, None]
        self.columns += len(marked)

    def _connect(self, chain: _Chain, node: int) -> bool:
        """Find a swap of the node and one of the chain: of a few the one that moves least, no product of others.

        Nearest is the last member, or the first one of the last head, or that of the first head.
        """
        if (self._place(chain.last), self._place(node)) in self.met:
            chain.last = node
            return True
        best, most = None, inf
        for end in dict.fromkeys((chain.last, chain.start, chain.first)):
            closure = Closure(self.index, most=most)
            with suppress(Contradiction):
                best, most = (closure, closure.run(end, node)), len(closure.image) - 1
            if most < chain.least < inf:
                break
        if best is None:
            return False
        self._note(*best)
        chain.start, chain.last, chain.least = node, node, min(chain.least, most + 1)
        return True

    def _note(self, closure: Closure, found: Automorphism) -> None:
        self.met.update((self._place(x), self._place(y)) for x, y in closure.image.items() if x != y)
        key = found.src.tobytes() + found.dst.tobytes()
        if key not in self.known:
            self.known.add(key)
            self.found.append(found)

    def _place(self, item: int) -> int:
        column = int(self.column[item])
        return column if column >= 0 else ~item


def _classes(graph: ParameterGraph, index: Incidence) -> Iterator[list[int]]:
    """Nodes to be connected: those of one colour within a group, then one of each group that has the colour.

    Nodes that others decide are left out: a symmetry that moves them is known by what it does to those others.
    """
    colour = index.colour[: index.num_nodes]
    free = np.flatnonzero(~(index.fixed[: index.num_nodes] | determined(index)))
    order = free[np.lexsort((free, colour[free]))]
    cuts = np.flatnonzero(np.diff(colour[order])) + 1
    across: list[list[int]] = []
    within: list[list[int]] = []
    for members in np.split(order, cuts):
        groups = graph.group_of(members)
        parts = np.split(members, np.flatnonzero(np.diff(groups)) + 1)
        within += [p.tolist() for p in parts if len(p) > 1]
        if len(parts) > 1:
            across.append([int(p[0]) for p in parts])
    yield from sorted(within)
    yield from across


def determined(index: Incidence) -> np.ndarray:
    """bool [nodes]: nodes that no other one resembles in its links with nodes before it."""
    tail = np.repeat(np.arange(index.num_nodes), np.diff(index.start[: index.num_nodes + 1]))
    arcs = np.flatnonzero(index.other[: len(tail)] < tail)
    key = np.zeros(index.num_nodes, dtype=np.uint64)
    ends = mix(index.other[arcs].astype(np.uint64) + mix(index.label[arcs].astype(np.uint64)))
    np.add.at(key, tail[arcs], ends)
    _, same, count = np.unique(key, return_inverse=True, return_counts=True)
    linked = np.zeros(index.num_nodes, dtype=bool)
    linked[tail[arcs]] = True
    return linked & (count[same] == 1)
