"""Swap closure: everything that swapping two items forces, through arcs, bicliques and weight sharing.

This is one branch of the search that partition-backtracking tools (nauty, saucy: McKay 1981; Darga, Sakallah, Markov
2008) make for graph automorphisms: individualise one pair, propagate what follows. It is fast because the image is an
involution, labels decide almost every pair, and nothing backtracks. What labels leave open is decided greedily, so a
symmetry can be missed; none is wrong, since `_verify` checks the result arc by arc.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from math import inf

import numpy as np

from ..ir.errors import GraphError
from .automorphism import Automorphism
from .incidence import Incidence
from .ties import forced_pairs, ties_hold

__all__ = ["Closure", "Contradiction"]


class Contradiction(Exception):
    """The swap forces something impossible; the text is the reason."""


@dataclass(slots=True)
class _OpenArcs:
    """Several arcs of one label at each of two swapped items: their ends map onto each other, in an order left open.

    here, there: the arcs' ends at either item. common: ends of both, which may stay. at, to: how far `here` and `there`
    have been scanned. places: position of each end in `there`. ends: arc to the ends in `there` that have it.
    """

    index: Incidence
    here: list[int]
    there: list[int]
    common: set[int]
    at: int = 0
    to: int = 0
    places: dict[int, int] = field(default_factory=dict)
    ends: dict[tuple[int, int], list[int]] = field(default_factory=dict)

    def next_pair(self, image: dict[int, int]) -> tuple[int, int] | None:
        """The next two ends to pair; None if all are paired or may stay.

        Raises `Contradiction` if an end has no partner left.
        """
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
            raise Contradiction(f"{_name(self.index, item)} is left without a partner")
        return item, min(open_ends, key=self.places.__getitem__)

    def _fitting(self, image: dict[int, int], item: int) -> set[int] | None:
        """Candidates in `there` whose arcs are the images of the item's arcs, as far as known; None for no restriction.

        Candidates that leave neighbours without an image in place are preferred.
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
class Closure:
    """The search for the smallest automorphism that swaps two items, by propagation without backtracking.

    image: the involution so far, item to item. fits: candidate images of items that have none yet, as their neighbours'
    images allow. exact: queue of forced pairs. open: arcs whose order is still free. most: largest number of items to
    move. followed: number of items in `image` whose vias have been followed to the blocks that they name.
    """

    index: Incidence
    image: dict[int, int] = field(default_factory=dict)
    fits: dict[int, set[int]] = field(default_factory=dict)
    exact: deque[tuple[int, int]] = field(default_factory=deque)
    open: deque[_OpenArcs] = field(default_factory=deque)
    most: float = inf
    followed: int = 0

    def swap(self, a: int, b: int) -> Automorphism:
        """The automorphism that swaps items a and b; raises `Contradiction` if propagation finds none."""
        self.exact.append((a, b))
        while self.exact or self.open or self._queue_blocks() or self._queue_ties():
            while self.exact:
                self._map(*self.exact.popleft())
            if self.open:
                pair = self.open[0].next_pair(self.image)
                if pair is None:
                    self.open.popleft()
                else:
                    self.exact.append(pair)
        found = self._found()
        self._verify()
        if self.index.shared and not ties_hold(self.index, found):
            raise Contradiction("shared parameters would be permuted differently at their sites")
        return found

    def _queue_blocks(self) -> bool:
        """Queue the edge blocks that must move because vias that name them are mapped; True if there are new ones."""
        index, items = self.index, list(self.image)[self.followed :]
        self.followed = len(self.image)
        moved = np.array([x for x in items if self.image[x] != x], dtype=np.int64)
        if not index.has_via_blocks or not len(moved):
            return False
        tails, arcs, here, there = self._mapped_arcs(moved)
        same = (self._images(index.other[arcs])[here] == index.other[arcs][there]) & (
            self._images(tails)[here] == tails[there]
        )
        pairs = np.stack([index.via[arcs][here], index.via[arcs][there]], axis=1)[same]
        pairs = np.unique(pairs[pairs[:, 0] != pairs[:, 1]], axis=0)
        found = False
        for a, b in index.via_block_pairs({(v, w) for v, w in pairs.tolist() if min(v, w) >= 0}):
            ours, theirs = index.bicliques_of(a), index.bicliques_of(b)
            if len(ours) == len(theirs) == 1 and self.image.get(ours[0], ours[0]) != theirs[0]:
                self.exact.append((ours[0], theirs[0]))
                found = True
        return found

    def _mapped_arcs(self, moved: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The arcs of moved items, with their tails; and the orders in which images correspond to arcs of the items."""
        index = self.index
        degree = index.start[moved + 1] - index.start[moved]
        skipped = np.repeat(index.start[moved] - np.cumsum(degree) + degree, degree)
        arcs = skipped + np.arange(len(skipped))
        tail, label, head = np.repeat(moved, degree), index.label[arcs], index.other[arcs]
        here = np.lexsort((self._images(head), label, self._images(tail)))
        return tail, arcs, here, np.lexsort((head, label, tail))

    def _found(self) -> Automorphism:
        """The image so far, without rows, which go where their ends go."""
        image = {x: y for x, y in self.image.items() if x < self.index.row_start}
        return Automorphism.of_items(image, self.index.num_nodes)

    def _queue_ties(self) -> bool:
        """Queue the pairs that weight sharing forces; True if there are new ones."""
        if not self.index.shared:
            return False
        try:
            pairs = forced_pairs(self.index, self._found())
        except GraphError:
            raise Contradiction("a batch of edges has no image") from None
        if pairs is None:
            raise Contradiction("an element of a shared parameter has no image at another site")
        new = [(x, y) for x, y in pairs if self.image.get(x, x) != y]
        self.exact.extend(new)
        return bool(new)

    def _map(self, x: int, y: int) -> None:
        """Set image[x] = y and image[y] = x, and queue what their arcs force."""
        image, index = self.image, self.index
        if x in image or y in image:
            if image.get(x) != y or image.get(y) != x:
                raise Contradiction(f"{_name(index, x)} would need two images")
            return
        if x == y:
            image[x] = x
            return
        for item in (x, y):
            if item < index.num_nodes and index.fixed[item]:
                raise Contradiction(f"it reaches {_name(index, item)}, which is pinned")
        if index.colour[x] != index.colour[y]:
            raise Contradiction(f"{_name(index, x)} and {_name(index, y)} differ in structure")
        image[x], image[y] = y, x
        if len(image) > self.most:
            raise Contradiction("it moves more than a swap that is already known")
        here, there = (slice(index.start[i], index.start[i + 1]) for i in (x, y))
        if not np.array_equal(index.label[here], index.label[there]):
            raise Contradiction(f"{_name(index, x)} and {_name(index, y)} have different edges")
        self._follow(index.other[here].tolist(), index.other[there].tolist(), index.multiplicity[here].tolist())

    def _follow(self, here: list[int], there: list[int], runs: list[int]) -> None:
        """Queue the pairs that the arcs of two swapped items force; arcs whose order is open wait."""
        at = 0
        while at < len(here):
            size = runs[at]
            if size == 1:
                self.exact.append((here[at], there[at]))
            else:
                ours, theirs = here[at : at + size], there[at : at + size]
                common = set(ours).intersection(theirs)
                if len(common) < size:
                    self.open.append(_OpenArcs(self.index, ours, theirs, common))
                    self._narrow(ours, set(theirs))
                    self._narrow(theirs, set(ours))
            at += size

    def _narrow(self, items: list[int], ends: set[int]) -> None:
        """Intersect the candidate images of these items with `ends`; a single candidate is forced."""
        for item in items:
            if item in self.image:
                continue
            known = self.fits.get(item)
            left = ends if known is None else known & ends
            if not left:
                raise Contradiction(f"{_name(self.index, item)} would need two images")
            self.fits[item] = left
            if len(left) == 1:
                self.exact.append((item, next(iter(left))))

    def _verify(self) -> None:
        """Check that every arc of every moved item has its image: proof that the result is an automorphism.

        The check does not depend on how the image was found, so greedy choices above cannot make a false claim.
        """
        index = self.index
        moved = np.array([x for x, y in self.image.items() if x != y], dtype=np.int64)
        tail, arcs, here, there = self._mapped_arcs(moved)
        label, head = index.label[arcs], index.other[arcs]
        image = self._images(tail), self._images(head)
        for ours, theirs in ((image[0], tail), (label, label), (image[1], head)):
            differ = ours[here] != theirs[there]
            if differ.any():
                item = int(tail[here][differ.argmax()])
                raise Contradiction(f"an edge of {_name(index, item)} has no image")
        pairs = np.stack([index.via[arcs][here], index.via[arcs][there]], axis=1)
        vias = {(v, w) for v, w in np.unique(pairs, axis=0).tolist()}
        self._verify_vias(self._crossing(moved[(moved >= index.num_nodes) & (moved < index.row_start)]), vias)

    def _images(self, items: np.ndarray) -> np.ndarray:
        """The image of each item, same shape."""
        distinct, at = np.unique(items, return_inverse=True)
        return np.array([self.image.get(i, i) for i in distinct.tolist()], dtype=np.int64)[at]

    def _crossing(self, bicliques: np.ndarray) -> dict[int, int]:
        """Edge blocks whose bicliques move to another block: block index to block index."""
        index, crossing = self.index, dict[int, int]()
        for x in bicliques.tolist():
            source, target = index.block_of(x), index.block_of(self.image[x])
            if crossing.setdefault(source, target) != target:
                raise Contradiction("the batches of one edge block would go to several blocks")
        return {s: t for s, t in crossing.items() if s != t}

    def _verify_vias(self, crossing: dict[int, int], vias: set[tuple[int, int]]) -> None:
        """Check that edge blocks named in vias go to themselves, or as a whole to the block that the image's via names.

        crossing: see `_crossing`. vias: the pairs (via, via of the image) of all arcs that were mapped.
        """
        index = self.index
        if not crossing and all(v == w for v, w in vias):
            return
        pairs = index.via_block_pairs({(v, w) for v, w in vias if v >= 0})
        if any(crossing.get(a, a) != b for a, b in pairs):
            raise Contradiction("a signal passes an edge block that does not move with it")
        for source, _ in pairs:
            target = index.bicliques_of(crossing.get(source, source))
            if any(self.image.get(r, r) not in target for r in index.bicliques_of(source)):
                raise Contradiction("only part of an edge block that signals pass would move")
        touching = np.array([v for v, blocks in enumerate(index.via_blocks) if blocks & crossing.keys()])
        arcs = np.flatnonzero(np.isin(index.via, touching))
        tails = np.searchsorted(index.start, arcs, side="right") - 1
        ends = zip(tails.tolist(), index.other[arcs].tolist(), strict=True)
        ports = [p.via for p in (*index.graph.inputs, *index.graph.outputs)]
        if any(np.isin(p, touching).any() for p in ports) or any(
            self.image.get(x, x) == x and self.image.get(y, y) == y for x, y in ends
        ):
            raise Contradiction("a signal that stays passes an edge block that would move")


def _name(index: Incidence, item: int) -> str:
    graph = index.graph
    if item >= index.row_start:
        return "a row of a shared parameter"
    if item >= index.num_nodes:
        block = graph.edges[index.block_of(item)]
        return f"a batch of {block.role} {block.view.name!r}"
    group = graph.groups[int(graph.group_of(np.array(item)))]
    return f"{group.kind} {item - group.start} of {group.value or group.node!r}"
