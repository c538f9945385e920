"""Interchangeable positions: the symmetric groups of a graph with all items that their permutations move.

`group` finds how symmetric groups nest from a few items of each. Here every group gets all of its columns, nodes and
edge blocks alike, so that any order of its positions is a symmetry by itself: the features of a head, the heads of an
attention with all their features, the channels of a residual stream in every layer. Groups that no generators permute
one at a time, column by column, are left out (often query heads that share a key); `Component.positions` has all.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from networkx.utils import UnionFind

from ..ir.graph import ParameterGraph, ParameterView
from .automorphism import Automorphism
from .group import Component, SymmetricGroup, symmetric_group

__all__ = ["Interchangeable", "interchangeable"]

Moves = tuple[np.ndarray, np.ndarray]
"""Moved items, ascending, and their images."""


@dataclass(frozen=True, eq=False)
class Interchangeable:
    """Positions that may be put in any order.

    Attributes:
        graph: The graph.
        items: int64 [columns, degree], nodes and then bicliques (see `Incidence`); an order of the positions moves the
            entries of every column alike.
        inside: The interchangeable positions within each position, one tuple per position; none at the innermost level.
    """

    graph: ParameterGraph
    items: np.ndarray
    inside: tuple[tuple[Interchangeable, ...], ...] = ()

    @property
    def degree(self) -> int:
        """The number of positions."""
        return int(self.items.shape[1])

    @property
    def nodes(self) -> np.ndarray:
        """The columns of nodes, int64 [columns, degree]."""
        return self.items[self.items[:, 0] < self.graph.num_nodes]

    @property
    def axes(self) -> tuple[tuple[str, int], ...]:
        """The stored tensors that an order moves, and the axis of each along which it does.

        Several axes of one tensor are several entries. Positions that fill only a part of an axis, such as heads, count
        with the axis.
        """
        found: dict[tuple[str, int], None] = {}
        nodes = self.nodes
        place = np.full(self.graph.num_nodes, -1)
        place[nodes] = np.arange(self.degree)
        column = np.full(self.graph.num_nodes, -1)
        column[nodes] = np.arange(len(nodes))[:, None]
        for block in self.graph.edges:
            if block.constant or not block.size:
                continue
            shape = self.graph.parameters[block.view.name].shape
            for ends, forward in ((block.dst, True), (block.src, False)):
                batch, row = np.nonzero(place[ends] >= 0)
                for pair in _apart(ends[batch, row], place, column):
                    at = [(int(batch[i]), int(row[i])) for i in pair]
                    entries = [(b, r, 0, 0) if forward else (b, 0, r, 0) for b, r in at]
                    numbers = [_element(block.view, entry) for entry in entries]
                    coordinates = np.array(np.unravel_index(numbers, shape))
                    found.update({(block.view.name, int(a)): None for a in np.flatnonzero(np.ptp(coordinates, axis=1))})
        return tuple(found)

    def permutation(self, order: Sequence[int] | np.ndarray) -> Automorphism:
        """The symmetry that puts the positions in another order.

        Args:
            order: Position i gets what was at position order[i], int64 [degree].

        Returns:
            The symmetry; what is inside a position moves along as it is.

        Raises:
            ValueError: `order` is not a permutation of the positions.
        """
        order = np.asarray(order)
        if not np.array_equal(np.sort(order), np.arange(self.degree)):
            raise ValueError(f"the order is no permutation of {self.degree} positions")
        moved = np.flatnonzero(order != np.arange(self.degree))
        image = zip(*(self.items[:, x].reshape(-1).tolist() for x in (order[moved], moved)), strict=True)
        return replace(Automorphism.of_items(dict(image), self.graph.num_nodes), graph=self.graph)

    def everything(self) -> Iterator[Interchangeable]:
        """These positions, and all that are inside them."""
        yield self
        for position in self.inside:
            for inner in position:
                yield from inner.everything()


def interchangeable(
    graph: ParameterGraph, components: Sequence[Component], generators: Sequence[Automorphism]
) -> list[Interchangeable]:
    """The outermost interchangeable positions of a group of permutations.

    Args:
        graph: The graph.
        components: The direct factors of the group.
        generators: Its generators, to which the components refer.

    Returns:
        Positions in the order of the components. Parts of the group of unknown form are left out.
    """
    found: list[Interchangeable] = []
    for component in components:
        found += _of_component(graph, component, generators)
    return found


def _of_component(
    graph: ParameterGraph, component: Component, generators: Sequence[Automorphism]
) -> list[Interchangeable]:
    moves = {i: _moves(generators[i]) for i in component.generators}
    done: list[Interchangeable] = []
    for level in component.levels:
        own = _generators_of(level, moves, done)
        new = []
        for group, numbers in zip(level, own, strict=True):
            made = _positions(graph, group, [moves[n] for n in numbers], done)
            if made is not None:
                new.append(made)
            for n in numbers:
                moves.pop(n, None)
        inner = {id(i) for outer in new for position in outer.inside for i in position}
        done = [d for d in done if id(d) not in inner] + new
    return done


def _moves(automorphism: Automorphism) -> Moves:
    """All moved items of an automorphism, and their images."""
    parts = ((automorphism.src, automorphism.biclique_src), (automorphism.dst, automorphism.biclique_dst))
    src, dst = (np.concatenate(p) for p in parts)
    order = np.argsort(src)
    return src[order], dst[order]


def _generators_of(
    level: Sequence[SymmetricGroup], moves: dict[int, Moves], done: Sequence[Interchangeable]
) -> list[list[int]]:
    """The generators of each group of a level: those that move its items, and those of no other group of the level."""
    owner: dict[int, int] = {}
    for number, group in enumerate(level):
        owner.update(dict.fromkeys(group.columns.reshape(-1).tolist(), number))
    leads = _leads(done)
    found: list[list[int]] = [[] for _ in level]
    for number, (src, dst) in moves.items():
        outer = src[_lead(leads, src) != _lead(leads, dst)] if done else src
        groups = {owner[i] for i in _lead(leads, outer).tolist() if i in owner}
        if len(groups) == 1:
            found[groups.pop()].append(number)
    return found


def _leads(done: Sequence[Interchangeable]) -> tuple[np.ndarray, np.ndarray]:
    """Items inside interchangeable positions, ascending, and the first item of the orbit of each."""
    pairs = [np.stack([i.items, np.broadcast_to(i.items.min(axis=1)[:, None], i.items.shape)]).reshape(2, -1)
             for d in done for i in d.everything()]  # fmt: skip
    if not pairs:
        return np.zeros(0, np.int64), np.zeros(0, np.int64)
    items, leads = np.concatenate(pairs, axis=1)
    # The outermost orbit of an item is the largest, so its first item is the smallest.
    order = np.lexsort((leads, items))
    items, leads = items[order], leads[order]
    first = np.concatenate([[True], items[1:] != items[:-1]])
    return items[first], leads[first]


def _lead(leads: tuple[np.ndarray, np.ndarray], items: np.ndarray) -> np.ndarray:
    """The first item of each item's orbit, or the item itself."""
    known, first = leads
    if not len(known):
        return items
    at = np.minimum(np.searchsorted(known, items), len(known) - 1)
    return np.where(known[at] == items, first[at], items)


def _positions(
    graph: ParameterGraph, group: SymmetricGroup, moves: Sequence[Moves], done: Sequence[Interchangeable]
) -> Interchangeable | None:
    """All columns of a group from the generators that swap its positions; None if they have another form."""
    found = symmetric_group(_spanning(group, moves, done))
    if found is None or found.degree != group.degree:
        return None
    items = _oriented(found.columns, done) if found.degree == 2 else found.columns
    position = {item: p for p, column in enumerate(items.T.tolist()) for item in column}
    inside: list[list[Interchangeable]] = [[] for _ in range(items.shape[1])]
    for inner in done:
        places = {position.get(i, -1) for i in inner.items.reshape(-1).tolist()}
        if len(places) == 1 and -1 not in places:
            inside[places.pop()].append(inner)
    return Interchangeable(graph, items, tuple(map(tuple, inside)) if any(inside) else ())


def _spanning(group: SymmetricGroup, moves: Sequence[Moves], done: Sequence[Interchangeable]) -> list[Moves]:
    """Swaps that join all positions of a group, without those that close a cycle."""
    leads = _leads(done)
    place = {int(i): p for p, i in enumerate(group.columns[0].tolist())}
    joined = UnionFind(range(group.degree))
    kept = []
    for src, dst in moves:
        pairs = zip(_lead(leads, src).tolist(), _lead(leads, dst).tolist(), strict=True)
        ends = {(place[a], place[b]) for a, b in pairs if a in place and b in place and a != b}
        roots = {joined[x] for pair in ends for x in pair}
        if len(roots) == 2:
            joined.union(*roots)
            kept.append((src, dst))
    return kept


def _oriented(columns: np.ndarray, done: Sequence[Interchangeable]) -> np.ndarray:
    """Columns of two positions such that all of what is inside one of them is on one side."""
    columns = columns.copy()
    column = {item: c for c, pair in enumerate(columns.tolist()) for item in pair}
    seen: set[int] = set()
    for inner in done:
        mine = [i for i in inner.items.reshape(-1).tolist() if i in column]
        if not seen.isdisjoint(column[i] for i in mine):
            continue
        for item in mine:
            seen.add(column[item])
            if columns[column[item], 0] != item:
                columns[column[item]] = columns[column[item], ::-1]
    return columns


def _apart(nodes: np.ndarray, place: np.ndarray, column: np.ndarray) -> Iterator[tuple[int, int]]:
    """For each column the indices of two of its nodes at different positions, if both are there."""
    order = np.lexsort((place[nodes], column[nodes]))
    for run in np.split(order, np.flatnonzero(np.diff(column[nodes[order]])) + 1):
        if len(run) > 1:
            yield int(run[0]), int(run[-1])


def _element(view: ParameterView, at: tuple[int, int, int, int]) -> int:
    """The number of an element of a view in its tensor."""
    if view.index is not None:
        return int(view.index[at])
    return view.offset + sum(i * s for i, s in zip(at, view.strides, strict=True))
