"""Symmetries of the parameter graph: swap closure, generators and orbits.

A symmetry permutes nodes so that every labelled edge and link goes to one with the same label, pinned nodes and ports
stay, and elements that share a weight go to elements that share a weight. Permuting the parameters along with it leaves
the network's function as it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf

import numpy as np

from .errors import GraphError
from .factors import connected
from .graph import ParameterGraph
from .incidence import Incidence, incidence, mix
from .lockstep import Columns, Lockstep
from .permute import Automorphism
from .ties import forced_pairs, ties_hold

__all__ = ["Rejection", "decided", "generators", "orbits", "product", "sample", "swap"]

_TRIES = 4


@dataclass(frozen=True, slots=True)
class Rejection:
    """Why two nodes cannot be swapped."""

    reason: str

    def __bool__(self) -> bool:
        return False


class _Contradiction(Exception):
    """The closure forces something impossible; its text is the reason."""


@dataclass(slots=True)
class _Run:
    """Arcs of two items with one label in common, several each: which goes to which is open."""

    index: Incidence
    here: list[int]
    there: list[int]
    common: set[int]
    at: int = 0
    to: int = 0
    places: dict[int, int] = field(default_factory=dict)
    ends: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def next_pair(self, image: dict[int, int]) -> tuple[int, int] | None:
        """The next two ends to pair; None if all are paired or may stay."""
        while self.at < len(self.here) and (self.here[self.at] in image or self.here[self.at] in self.common):
            self.at += 1
        if self.at == len(self.here):
            return None
        item = self.here[self.at]
        left = self._fitting(image, item)
        while self.to < len(self.there) and (self.there[self.to] in image or self.there[self.to] in self.common):
            self.to += 1
        if self.to < len(self.there) and (left is None or self.there[self.to] in left):
            return item, self.there[self.to]
        open_ends = [end for end in left or () if end not in image]
        if not open_ends:
            raise _Contradiction(f"{_name(self.index, item)} is left without a partner")
        return item, min(open_ends, key=self.places.__getitem__)

    def _fitting(self, image: dict[int, int], item: int) -> set[int] | None:
        """Ends over there that have the images of the item's neighbours, as far as these are known; None for all.

        Of those, the ones that let neighbours without an image stay where they are, if there are any.
        """
        if not self.places:
            self.places = {end: i for i, end in enumerate(self.there) if end not in self.common}
            for end in self.places:
                for arc in self.index.arcs(end):
                    self.ends.setdefault(arc, []).append(end)
        left: set[int] | None = None
        arcs = [(other not in image, (label, image.get(other, other))) for label, other in self.index.arcs(item)]
        for stays, arc in sorted(arcs):
            ends = self.ends.get(arc, [])
            if len(ends) == len(self.places):
                continue
            fitting = set(ends) if left is None else left.intersection(ends)
            if fitting or not stays:
                left = fitting
        return left


@dataclass(slots=True)
class _Closure:
    """State of one swap closure. image: an involution of items.

    fits: where items without an image can still go, as their neighbours' images say. most: give up beyond so many.
    """

    index: Incidence
    image: dict[int, int] = field(default_factory=dict)
    fits: dict[int, set[int]] = field(default_factory=dict)
    exact: deque[tuple[int, int]] = field(default_factory=deque)
    open: deque[_Run] = field(default_factory=deque)
    most: float = inf

    def run(self, a: int, b: int) -> Automorphism:
        """Follow the swap of items a and b to its end; raises `_Contradiction`."""
        self.exact.append((a, b))
        while self.exact or self.open or self._tie():
            while self.exact:
                self._map(*self.exact.popleft())
            if self.open:
                pair = self.open[0].next_pair(self.image)
                if pair is None:
                    self.open.popleft()
                else:
                    self.exact.append(pair)
        found = Automorphism.of_items(self.image, self.index.num_nodes)
        self._verify()
        if self.index.shared and not ties_hold(self.index, found):
            raise _Contradiction("shared parameters would be permuted differently at their sites")
        return found

    def _tie(self) -> bool:
        """Queue what weight sharing forces; whether that is anything."""
        if not self.index.shared:
            return False
        found = Automorphism.of_items(self.image, self.index.num_nodes)
        try:
            pairs = forced_pairs(self.index, found)
        except GraphError:
            raise _Contradiction("a batch is left without an image") from None
        if pairs is None:
            raise _Contradiction("a shared parameter has no place to go at another site")
        new = [(x, y) for x, y in pairs if self.image.get(x, x) != y]
        self.exact.extend(new)
        return bool(new)

    def _map(self, x: int, y: int) -> None:
        image, index = self.image, self.index
        if x in image or y in image:
            if image.get(x) != y or image.get(y) != x:
                raise _Contradiction(f"{_name(index, x)} would have to go to two places")
            return
        if x == y:
            image[x] = x
            return
        for item in (x, y):
            if item < index.num_nodes and index.fixed[item]:
                raise _Contradiction(f"it reaches {_name(index, item)}, which is pinned")
        if index.colour[x] != index.colour[y]:
            raise _Contradiction(f"{_name(index, x)} and {_name(index, y)} differ in structure")
        image[x], image[y] = y, x
        if len(image) > self.most:
            raise _Contradiction("it moves more than another swap does")
        here, there = (slice(index.start[i], index.start[i + 1]) for i in (x, y))
        if not np.array_equal(index.label[here], index.label[there]):
            raise _Contradiction(f"{_name(index, x)} and {_name(index, y)} have different edges")
        self._follow(index.other[here].tolist(), index.other[there].tolist(), index.run[here].tolist())

    def _follow(self, here: list[int], there: list[int], runs: list[int]) -> None:
        """Queue the pairs that the arcs of two swapped items force, and keep what is open for later."""
        at = 0
        while at < len(here):
            size = runs[at]
            if size == 1:
                self.exact.append((here[at], there[at]))
            else:
                ours, theirs = here[at : at + size], there[at : at + size]
                common = set(ours).intersection(theirs)
                if len(common) < size:
                    self.open.append(_Run(self.index, ours, theirs, common))
                    self._narrow(ours, set(theirs))
                    self._narrow(theirs, set(ours))
            at += size

    def _narrow(self, items: list[int], ends: set[int]) -> None:
        """Items that have to go to some of these ends: to the one that is left, where two neighbours leave only one."""
        for item in items:
            if item in self.image:
                continue
            known = self.fits.get(item)
            left = ends if known is None else known & ends
            if not left:
                raise _Contradiction(f"{_name(self.index, item)} would have to go to two places")
            self.fits[item] = left
            if len(left) == 1:
                self.exact.append((item, next(iter(left))))

    def _verify(self) -> None:
        """Every arc of every moved item has its image: what makes the closure an automorphism, however it was found."""
        index = self.index
        moved = np.array([x for x, y in self.image.items() if x != y], dtype=np.int64)
        degree = index.start[moved + 1] - index.start[moved]
        skipped = np.repeat(index.start[moved] - np.cumsum(degree) + degree, degree)
        arcs = skipped + np.arange(len(skipped))
        tail, label, head = np.repeat(moved, degree), index.label[arcs], index.other[arcs]
        there = np.lexsort((head, label, tail))
        image = self._images(tail), self._images(head)
        here = np.lexsort((image[1], label, image[0]))
        for ours, theirs in ((image[0], tail), (label, label), (image[1], head)):
            differ = ours[here] != theirs[there]
            if differ.any():
                item = int(tail[here][differ.argmax()])
                raise _Contradiction(f"an edge of {_name(index, item)} has no image")
        pairs = np.stack([index.via[arcs][here], index.via[arcs][there]], axis=1)
        vias = {(v, w) for v, w in np.unique(pairs, axis=0).tolist()}
        self._verify_vias(self._crossing(moved[moved >= index.num_nodes]), vias)

    def _images(self, items: np.ndarray) -> np.ndarray:
        distinct, at = np.unique(items, return_inverse=True)
        return np.array([self.image.get(i, i) for i in distinct.tolist()], dtype=np.int64)[at]

    def _crossing(self, rows: np.ndarray) -> dict[int, int]:
        """Blocks of which rows go to rows of another one, and that one."""
        index, crossing = self.index, dict[int, int]()
        for x in rows.tolist():
            source, target = index.block_of(x), index.block_of(self.image[x])
            if crossing.setdefault(source, target) != target:
                raise _Contradiction("the batches of one block would go to several blocks")
        return {s: t for s, t in crossing.items() if s != t}

    def _verify_vias(self, crossing: dict[int, int], vias: set[tuple[int, int]]) -> None:
        """Blocks named in vias: each goes to itself, or as a whole to the block that the image's via names."""
        index = self.index
        if not crossing and all(v == w for v, w in vias):
            return
        pairs = index.via_block_pairs({(v, w) for v, w in vias if v >= 0})
        if any(crossing.get(a, a) != b for a, b in pairs):
            raise _Contradiction("a path goes through a block that does not move along")
        for source, _ in pairs:
            target = index.rows_of(crossing.get(source, source))
            if any(self.image.get(r, r) not in target for r in index.rows_of(source)):
                raise _Contradiction("only part of a block that paths go through would move")
        touching = np.array([v for v, blocks in enumerate(index.via_blocks) if blocks & crossing.keys()])
        arcs = np.flatnonzero(np.isin(index.via, touching))
        tails = np.searchsorted(index.start, arcs, side="right") - 1
        ends = zip(tails.tolist(), index.other[arcs].tolist(), strict=True)
        ports = [p.via for p in (*index.graph.inputs, *index.graph.outputs)]
        if any(np.isin(p, touching).any() for p in ports) or any(
            self.image.get(x, x) == x and self.image.get(y, y) == y for x, y in ends
        ):
            raise _Contradiction("a path that stays goes through a block that would move")


def swap(graph: ParameterGraph, a: int, b: int) -> Automorphism | Rejection:
    """The smallest symmetry that swaps nodes a and b, as far as closure finds it, or why there is none."""
    try:
        return _Closure(incidence(graph)).run(int(a), int(b))
    except _Contradiction as reason:
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
    roots = np.arange(graph.num_nodes)
    if found:
        moved, leads = connected(np.concatenate([a.src for a in found]), np.concatenate([a.dst for a in found]))
        roots[moved] = leads
    order = np.argsort(roots, kind="stable")
    cuts = np.flatnonzero(np.diff(roots[order])) + 1
    return sorted((np.sort(o) for o in np.split(order, cuts) if len(o) > 1), key=lambda o: int(o[0]))


def product(graph: ParameterGraph, automorphisms: Iterable[Automorphism]) -> Automorphism:
    """The automorphism that does the last of them first, and after it the others up to the first."""
    index = incidence(graph)
    image = np.arange(index.size)
    for each in automorphisms:
        image[each.src], image[each.row_src] = image[each.dst], image[each.row_dst]
    moved = np.flatnonzero(image != np.arange(index.size))
    return Automorphism.of_items(dict(zip(moved.tolist(), image[moved].tolist(), strict=True)), graph.num_nodes)


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
        for column in np.unique(columns[columns >= 0]).tolist():
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
            closure = _Closure(self.index, most=most)
            with suppress(_Contradiction):
                best, most = (closure, closure.run(end, node)), len(closure.image) - 1
            if most < chain.least < inf:
                break
        if best is None:
            return False
        self._note(*best)
        chain.start, chain.last, chain.least = node, node, min(chain.least, most + 1)
        return True

    def _note(self, closure: _Closure, found: Automorphism) -> None:
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
    free = np.flatnonzero(~(index.fixed[: index.num_nodes] | decided(index)))
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


def decided(index: Incidence) -> np.ndarray:
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


def _name(index: Incidence, item: int) -> str:
    graph = index.graph
    if item >= index.num_nodes:
        block = graph.edges[index.block_of(item)]
        return f"a batch of {block.role} {block.view.name!r}"
    group = graph.groups[int(graph.group_of(np.array(item)))]
    return f"{group.kind} {item - group.start} of {group.value or group.node!r}"
