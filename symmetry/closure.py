"""Swap closure: everything that swapping two items forces, through arcs, bicliques and weight sharing.

This is one branch of the search that partition-backtracking tools (nauty, saucy: McKay 1981; Darga, Sakallah, Markov
2008) make for graph automorphisms: individualise one pair, propagate what follows. It is fast because the image is an
involution, labels decide almost every pair, and nothing backtracks. What labels leave open is decided greedily, so a
symmetry can be missed; none is wrong, since `_verify` checks the result arc by arc.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from math import inf

import numpy as np

from ..ir.arrays import distinct
from ..ir.errors import GraphError
from .automorphism import Automorphism, mapped
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
    move. followed, tied: number of items in `image` whose vias have been followed to the blocks that they name, and
    whose shared parameters to sites of another form.
    """

    index: Incidence
    image: dict[int, int] = field(default_factory=dict)
    fits: dict[int, set[int]] = field(default_factory=dict)
    exact: deque[tuple[int, int]] = field(default_factory=deque)
    open: deque[_OpenArcs] = field(default_factory=deque)
    most: float = inf
    followed: int = 0
    tied: int = 0

    def swap(self, a: int, b: int) -> Automorphism:
        """The automorphism that swaps items a and b; raises `Contradiction` if propagation finds none."""
        self.exact.append((a, b))
        while self.exact or self.open or self._queue_blocks() or self._queue_ties():
            self._propagate()
            if self.open:
                pair = self.open[0].next_pair(self.image)
                if pair is None:
                    self.open.popleft()
                else:
                    self.exact.append(pair)
        self._verify()
        found = self._found()
        if self.index.shared and not ties_hold(self.index, found):
            raise Contradiction("shared parameters would be permuted differently at their sites")
        return found

    def _queue_blocks(self) -> bool:
        """Queue the edge blocks that must move because vias that name them are mapped; True if there are new ones."""
        index, items = self.index, list(islice(self.image, self.followed, None))
        self.followed = len(self.image)
        if not index.ambiguous.any():
            return False
        moved = np.array([x for x in items if self.image[x] != x], dtype=np.int64)
        arcs = _MappedArcs.of(index, moved, self._images, index.ambiguous)
        vias = {(v, w) for v, w in arcs.vias(arcs.agree()) if v != w and min(v, w) >= 0}
        found = False
        for a, b in index.passed.pairs(vias):
            ours, theirs = index.bicliques_of(a), index.bicliques_of(b)
            if len(ours) == len(theirs) == 1 and self.image.get(ours[0], ours[0]) != theirs[0]:
                self.exact.append((ours[0], theirs[0]))
                found = True
        return found

    def _moved_items(self) -> tuple[np.ndarray, np.ndarray]:
        """(moved items, ascending; their images), int64 [n] each."""
        src, dst = (np.fromiter(x, dtype=np.int64, count=len(self.image)) for x in (self.image, self.image.values()))
        moved = np.flatnonzero(src != dst)
        order = moved[np.argsort(src[moved])]
        return src[order], dst[order]

    def _found(self) -> Automorphism:
        """The image so far as an automorphism, without rows, which go where their ends go."""
        src, dst = self._moved_items()
        nodes, rows = np.searchsorted(src, [self.index.num_nodes, self.index.row_start])
        return Automorphism(src[:nodes], dst[:nodes], src[nodes:rows], dst[nodes:rows])

    def _queue_ties(self) -> bool:
        """Queue the pairs that weight sharing forces; True if there are new ones."""
        if not self.index.has_other_sites:
            return False
        items = [x for x in islice(self.image, self.tied, None) if self.image[x] != x]
        self.tied = len(self.image)
        try:
            pairs = forced_pairs(self.index, self._found(), items)
        except GraphError:
            raise Contradiction("a batch of edges has no image") from None
        if pairs is None:
            raise Contradiction("an element of a shared parameter has no image at another site")
        new = [(x, y) for x, y in pairs if self.image.get(x, x) != y]
        self.exact.extend(new)
        return bool(new)

    def _propagate(self) -> None:
        """Empty the queue of forced pairs: set the image of either item, and queue what their arcs force."""
        index, image, exact = self.index, self.image, self.exact
        start, other, colour, form, alone = index.quick
        while exact:
            x, y = exact.popleft()
            if x in image or y in image:
                if image.get(x) != y or image.get(y) != x:
                    raise Contradiction(f"{_name(index, x)} would need two images")
                continue
            if x == y:
                image[x] = x
                continue
            for item in (x, y):
                if item < index.num_nodes and index.fixed[item]:
                    raise Contradiction(f"it reaches {_name(index, item)}, which is pinned")
            if colour[x] != colour[y]:
                raise Contradiction(f"{_name(index, x)} and {_name(index, y)} differ in structure")
            image[x], image[y] = y, x
            if len(image) > self.most:
                raise Contradiction("it moves more than a swap that is already known")
            if form[x] != form[y]:
                raise Contradiction(f"{_name(index, x)} and {_name(index, y)} have different edges")
            here = other[start[x] : start[x + 1]].tolist()
            there = other[start[y] : start[y + 1]].tolist()
            if alone[x]:
                exact.extend(zip(here, there, strict=True))
            else:
                self._follow(here, there, index.multiplicity[start[x] : start[x + 1]].tolist())

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
        moved, images = self._moved_items()
        arcs = _MappedArcs.of(index, moved, lambda items: mapped(moved, images, items))
        agree = arcs.agree()
        if not agree.all():
            item = int(arcs.tail[arcs.here][agree.argmin()])
            raise Contradiction(f"an edge of {_name(index, item)} has no image")
        self._verify_vias(self._crossing(moved[(moved >= index.num_nodes) & (moved < index.row_start)]), arcs.vias())

    def _images(self, items: np.ndarray) -> np.ndarray:
        """The image of each item so far, same shape."""
        get = self.image.get
        return np.fromiter((get(x, x) for x in items.tolist()), dtype=np.int64, count=len(items))

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
        pairs = index.passed.pairs({(v, w) for v, w in vias if v >= 0})
        if any(crossing.get(a, a) != b for a, b in pairs):
            raise Contradiction("a signal passes an edge block that does not move with it")
        for source, _ in pairs:
            target = index.bicliques_of(crossing.get(source, source))
            if any(self.image.get(r, r) not in target for r in index.bicliques_of(source)):
                raise Contradiction("only part of an edge block that signals pass would move")
        touching = index.passed.through(crossing)
        arcs = index.arcs_with(touching)
        tails = np.searchsorted(index.start, arcs, side="right") - 1
        ends = zip(tails.tolist(), index.other[arcs].tolist(), strict=True)
        if not touching.isdisjoint(index.passed.at_ports) or any(
            self.image.get(x, x) == x and self.image.get(y, y) == y for x, y in ends
        ):
            raise Contradiction("a signal that stays passes an edge block that would move")


@dataclass(frozen=True, slots=True)
class _MappedArcs:
    """The arcs of some items and those of their images, ordered so that they correspond if the images are right.

    tail, label, head, via: int64 [arcs]. image_tail, image_head: the images of the ends. here: an order of the arcs by
    the images of their ends. there: an order by the ends themselves, of the same arcs if their images are among them.
    """

    tail: np.ndarray
    label: np.ndarray
    head: np.ndarray
    via: np.ndarray
    image_tail: np.ndarray
    image_head: np.ndarray
    here: np.ndarray
    there: np.ndarray

    @classmethod
    def of(
        cls,
        index: Incidence,
        items: np.ndarray,
        images: Callable[[np.ndarray], np.ndarray],
        some: np.ndarray | None = None,
    ) -> _MappedArcs:
        """The arcs of items [n], which are a union of orbits.

        images: maps items [n] to their images. some: bool [arcs], which arcs to take, alike for those of one label.
        """
        degree = index.start[items + 1] - index.start[items]
        skipped = np.repeat(index.start[items] - np.cumsum(degree) + degree, degree)
        arcs, of_item = skipped + np.arange(len(skipped)), np.repeat(np.arange(len(items)), degree)
        if some is not None:
            arcs, of_item = arcs[some[arcs]], of_item[some[arcs]]
        tail, label, head = items[of_item], index.label[arcs], index.other[arcs]
        image_tail, image_head = images(items)[of_item], images(head)
        here, there = np.lexsort((image_head, label, image_tail)), np.lexsort((head, label, tail))
        return cls(tail, label, head, index.via[arcs], image_tail, image_head, here, there)

    def agree(self) -> np.ndarray:
        """Whether each arc, in the order `here`, goes to one that exists, bool [arcs]."""
        sides = ((self.image_tail, self.tail), (self.label, self.label), (self.image_head, self.head))
        return np.logical_and.reduce([ours[self.here] == theirs[self.there] for ours, theirs in sides])

    def vias(self, which: np.ndarray | slice = slice(None)) -> set[tuple[int, int]]:
        """The distinct pairs (via, via of the image) of these arcs, which are numbered in the order `here`."""
        here, there = self.via[self.here][which] + 1, self.via[self.there][which] + 1
        most = int(there.max(initial=0)) + 1
        return {(key // most - 1, key % most - 1) for key in distinct(here * most + there).tolist()}


def _name(index: Incidence, item: int) -> str:
    graph = index.graph
    if item >= index.row_start:
        return "a row of a shared parameter"
    if item >= index.num_nodes:
        block = graph.edges[index.block_of(item)]
        return f"a batch of {block.role} {block.view.name!r}"
    group = graph.groups[int(graph.group_of(np.array(item)))]
    return f"{group.kind} {item - group.start} of {group.value or group.node!r}"
