"""The permutation symmetries of a parameter graph: swaps, generators and orbits.

A symmetry is a permutation of the nodes that maps every labelled edge and link to one with the same label, fixes pinned
nodes, inputs and outputs, and preserves weight sharing. Permuting the parameters along with it leaves the network's
function unchanged.

Candidates are nodes of one stable colour. `Lockstep` takes a whole class at once where labels alone decide; the rest is
connected by swap closures, each node with one of the chains of its class, so a class of n nodes costs about n closures
and not n^2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from ..ir.arrays import connected, distinct, mix64
from ..ir.graph import ParameterGraph
from .automorphism import Automorphism, compose_all
from .closure import Closure, Contradiction
from .incidence import Incidence, incidence
from .lockstep import Columns, Lockstep

__all__ = ["Rejection", "determined", "generators", "orbits", "sample", "swap"]

_TRIES = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """The result of a `swap` that swap closure rejects; false in a condition.

    Attributes:
        reason: The contradiction that swapping the two nodes leads to.
    """

    reason: str

    def __bool__(self) -> bool:
        return False


def swap(graph: ParameterGraph, a: int, b: int) -> Automorphism | Rejection:
    """The symmetry that swap closure finds from swapping two nodes.

    Args:
        graph: The graph.
        a: A node id.
        b: The node id to swap it with.

    Returns:
        An automorphism that swaps a and b and moves what else that forces; a `Rejection` with the reason if propagation
        ends in a contradiction.
    """
    try:
        return replace(Closure(incidence(graph)).swap(int(a), int(b)), graph=graph)
    except Contradiction as reason:
        return Rejection(str(reason))


def generators(graph: ParameterGraph, limit: int | None = None) -> list[Automorphism]:
    """Generators of the permutation symmetries.

    They are swaps of neighbours within each node group, then across groups of equal structure. Where a swap forces more
    to move (a residual stream, a head), the generator is the whole closure.

    Args:
        graph: The graph.
        limit: Stop after so many generators; None for all.

    Returns:
        The generators. Their `graph` is not set; `symmetries` sets it.
    """
    search = _Search(incidence(graph), limit)
    for members in _classes(graph, search.index):
        search.join(members)
    return search.found


def orbits(graph: ParameterGraph, automorphisms: Iterable[Automorphism] | None = None) -> list[np.ndarray]:
    """The orbits of more than one node under the group that automorphisms generate.

    Args:
        graph: The graph.
        automorphisms: Generators of the group; by default those of `generators`.

    Returns:
        One int64 array of ascending node ids per orbit, ordered by first node.
    """
    found = generators(graph) if automorphisms is None else list(automorphisms)
    if not found:
        return []
    moved, leads = connected(np.concatenate([a.src for a in found]), np.concatenate([a.dst for a in found]))
    order = np.argsort(leads, kind="stable")
    cuts = np.flatnonzero(np.diff(leads[order])) + 1
    return sorted((np.sort(o) for o in np.split(moved[order], cuts) if len(o) > 1), key=lambda o: int(o[0]))


def sample(graph: ParameterGraph, automorphisms: Sequence[Automorphism], rng: np.random.Generator) -> Automorphism:
    """A random group element: the product of a random subset of the generators in random order (not uniform).

    Args:
        graph: Their graph.
        automorphisms: The generators.
        rng: Source of randomness.

    Returns:
        The product.
    """
    order = rng.permutation(len(automorphisms))
    return compose_all(graph, [automorphisms[i] for i in order if rng.random() < 0.5])


@dataclass(slots=True)
class _Chain:
    """Members of a class that generators connect, in the order found.

    start: the last one that needed a search. least: number of items that the smallest closure between members moves.
    """

    first: int
    start: int
    last: int
    least: float


@dataclass(slots=True)
class _Search:
    """The generators so far, and what need not be searched any more.

    column: int64 [items], for items of a symmetric group that is already known the number of their column, else -1;
    entries of a column are known to be interchangeable. met: pairs of places that some closure has swapped, where a
    place is a column number, or ~item for an item in no column. known: closures found, to drop repeated ones.
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
        """Connect the members of a class: in lockstep if possible, else each with one of the last `_TRIES` chains."""
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
        """One member of each symmetric group among them, and every member that is in none."""
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
        key = group.key()
        if key not in self.known:
            self.known.add(key)
            self.found.extend(group.swaps(self.index.num_nodes))
        marked = group.items if group.tight else group.items[:1]
        self.column[marked] = self.columns + np.arange(len(marked))[:, None]
        self.columns += len(marked)

    def _connect(self, chain: _Chain, node: int) -> bool:
        """Find a swap of the node and a member of the chain: of a few candidates the one that moves least.

        The smallest closure is the generator that is not a product of others: a head's feature swaps with its
        neighbour in the head (`last`), a head with the first feature of the last head (`start`) or of the first one.
        """
        if (self._place(chain.last), self._place(node)) in self.met:
            chain.last = node
            return True
        best, most = None, inf
        for end in dict.fromkeys((chain.last, chain.start, chain.first)):
            closure = Closure(self.index, most=most)
            with suppress(Contradiction):
                best, most = closure.swap(end, node), len(closure.image) - 1
            if most < chain.least < inf:
                break
        if best is None:
            return False
        self._note(best)
        chain.start, chain.last, chain.least = node, node, min(chain.least, most + 1)
        return True

    def _note(self, found: Automorphism) -> None:
        pairs = (np.concatenate(x) for x in ((found.src, found.biclique_src), (found.dst, found.biclique_dst)))
        places = (np.where(self.column[x] >= 0, self.column[x], ~x).tolist() for x in pairs)
        self.met.update(zip(*places, strict=True))
        key = found.src.tobytes() + found.dst.tobytes()
        if key not in self.known:
            self.known.add(key)
            self.found.append(found)

    def _place(self, item: int) -> int:
        column = int(self.column[item])
        return column if column >= 0 else ~item


def _classes(graph: ParameterGraph, index: Incidence) -> Iterator[list[int]]:
    """Classes of nodes to connect: those of one colour within a node group, then one of each group with that colour.

    Nodes that others determine are left out: what a symmetry does to those others decides where they go.
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
    """Boolean [num_nodes]: nodes whose image is decided by the images of nodes with smaller ids.

    Such a node has arcs to smaller ids, and no other node has the same ones; hashes compare them.
    """
    tail = np.repeat(np.arange(index.num_nodes), np.diff(index.start[: index.num_nodes + 1]))
    arcs = np.flatnonzero(index.other[: len(tail)] < tail)
    key = np.zeros(index.num_nodes, dtype=np.uint64)
    ends = mix64(index.other[arcs].astype(np.uint64) + mix64(index.label[arcs].astype(np.uint64)))
    np.add.at(key, tail[arcs], ends)
    _, same, count = np.unique(key, return_inverse=True, return_counts=True)
    linked = np.zeros(index.num_nodes, dtype=bool)
    linked[tail[arcs]] = True
    return linked & (count[same] == 1)
