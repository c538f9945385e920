"""Rows of nodes that correspond to each other under exchanges, and where they lie in edge blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import ParameterGraph

__all__ = ["Rows"]


class Rows:
    """The rows of all candidates for spaces; those of rejected candidates are forgotten.

    Args:
        graph: The graph.
        candidates: int64 [rows, d] each, disjoint.

    Attributes:
        nodes: The candidates; columns of pairs are aligned along links.
        alive: bool [candidates], those that are not rejected.
        candidate: int64 [rows], the candidate of each row, counted over all of them.
        width: int64 [rows], the number of its nodes.
        row: int64 [num_nodes], the row of each node; -1 if it is in none.
        place: int64 [num_nodes], its column.
    """

    def __init__(self, graph: ParameterGraph, candidates: Sequence[np.ndarray]) -> None:
        self.nodes = list(candidates)
        self.alive = np.ones(len(candidates), dtype=bool)
        lengths = [len(c) for c in candidates]
        self.candidate = np.repeat(np.arange(len(candidates)), lengths)
        self.width = np.repeat([c.shape[1] for c in candidates], lengths)
        self.row = np.full(graph.num_nodes, -1)
        self.place = np.zeros(graph.num_nodes, dtype=np.int64)
        first = np.cumsum([0, *lengths])
        for number, nodes in enumerate(candidates):
            self.row[nodes] = first[number] + np.arange(len(nodes))[:, None]
            self.place[nodes] = np.arange(nodes.shape[1])
        self._align(graph)

    @property
    def candidates(self) -> int:
        """The number of candidates."""
        return len(self.nodes)

    def reject(self, nodes: np.ndarray) -> None:
        """Reject the candidates that have one of these nodes."""
        rows = distinct(self.row[nodes].reshape(-1))
        self.reject_rows(rows[rows >= 0])

    def reject_rows(self, rows: np.ndarray | int) -> None:
        """Reject the candidates of these rows."""
        for candidate in distinct(np.atleast_1d(self.candidate[rows])).tolist():
            self.alive[candidate] = False
            self.row[self.nodes[candidate]] = -1

    def met(self, nodes: np.ndarray) -> bool:
        """Whether one of these nodes is in a row."""
        return bool((self.row[nodes] >= 0).any())

    def complete(self, nodes: np.ndarray) -> np.ndarray:
        """The rows among distinct nodes; candidates of which a row is there in part are rejected."""
        rows = self.row[nodes]
        found, counts = np.unique(rows[rows >= 0], return_counts=True)
        self.reject_rows(found[counts != self.width[found]])
        whole = found[counts == self.width[found]]
        return whole[self.alive[self.candidate[whole]]]

    def places(self, ends: np.ndarray, vias: np.ndarray | None) -> Iterator[tuple[int, int, int, np.ndarray]]:
        """Where rows lie in the ends [batch, n] of an edge block.

        Candidates whose rows do not lie within one batch with all of their columns equally often are rejected.

        Args:
            ends: Node ids.
            vias: The via of each; None for 0.

        Yields:
            (row, via, batch, places): places is int64 [occurrences, d], indices along n, in the order of occurrence.
        """
        batch, at = np.nonzero(self.row[ends] >= 0)
        nodes = ends[batch, at]
        via = np.zeros(len(nodes), dtype=np.int64) if vias is None else vias[batch, at].astype(np.int64)
        order = np.lexsort((at, self.place[nodes], batch, via, self.row[nodes]))
        batch, at, nodes, via = batch[order], at[order], nodes[order], via[order]
        row = self.row[nodes]
        keys = np.stack([row, via, batch])
        cuts = np.flatnonzero((np.diff(keys, axis=1) != 0).any(axis=0)) + 1
        for part in np.split(np.arange(len(nodes)), cuts) if len(nodes) else ():
            number, width = int(row[part[0]]), int(self.width[row[part[0]]])
            times = len(part) // width
            if times * width != len(part) or (self.place[nodes[part]] != np.repeat(np.arange(width), times)).any():
                self.reject_rows(number)
            elif self.alive[self.candidate[number]]:
                yield number, int(via[part[0]]), int(batch[part[0]]), at[part].reshape(width, times).T

    def _align(self, graph: ParameterGraph) -> None:
        """Align the columns of pairs: of two nodes that are exchanged, exchanges do not tell which is the first."""
        if not (self.width == 2).any():
            return
        near: dict[int, list[tuple[int, bool]]] = {}
        for link in graph.links:
            a, b = self.row[link.src], self.row[link.dst]
            here = (a >= 0) & (b >= 0) & (self.width[a] == 2) & (self.candidate[a] == self.candidate[b])
            crossed = self.place[link.src[here]] != self.place[link.dst[here]]
            for x, y, turn in zip(a[here].tolist(), b[here].tolist(), crossed.tolist(), strict=True):
                near.setdefault(x, []).append((y, turn))
                near.setdefault(y, []).append((x, turn))
        turned: dict[int, bool] = {}
        for start in near:
            queue = [start] if start not in turned else []
            turned.setdefault(start, False)
            while queue:
                row = queue.pop()
                for other, turn in near[row]:
                    if other not in turned:
                        turned[other] = turned[row] != turn
                        queue.append(other)
        first = np.searchsorted(self.candidate, np.arange(self.candidates))
        for row in (r for r, turn in turned.items() if turn):
            candidate = int(self.candidate[row])
            nodes = self.nodes[candidate].copy()
            nodes[row - first[candidate]] = nodes[row - first[candidate], ::-1]
            self.nodes[candidate] = nodes
            self.place[nodes] = np.arange(2)
