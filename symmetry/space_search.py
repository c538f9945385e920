"""Finding spaces: sets of neurons whose values can be mixed by matrices without a change of the outputs.

A matrix that mixes neurons may be a permutation, so candidates are the symmetric groups that permutations form: d
columns of nodes that can be exchanged. A *row* has the nodes of all columns that correspond to each other: a head's
values, their products with an attention weight, the sums of these. If the values x of one row become M x, everything
that meets them must carry the matrix on or absorb it. Each via, edge and link at a row is checked for that:

* A step that commutes with the matrices carries them on; normalisations restrict them.
* A weight absorbs them, as do a bias and a position table.
* A vector that multiplies the values is taken into the weights behind it.
* A parameter that all neurons have in common, and numbers of the program, that multiply the values or the weight,
  carry them on.
* Sums and concatenations of rows carry them on, as do products of a row with a value that all neurons have in common.
* Products of two rows, neuron by neuron, that are only summed, absorb M in one row and its transposed inverse in the
  other.

Whatever else a row meets excludes the candidate. Other spaces count as fixed: every space is a symmetry by itself.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, ParameterGraph, Via
from ..ir.vocabulary import REPARAMETRIZE, EdgeRole, LinkRole, Matrices, NodeKind
from .homogeneity import additive, commuting, scales, shifts
from .rows import Rows
from .signals import Signals
from .space_links import Meetings, meetings
from .space_sharing import changed_alike
from .spaces import Action, Ones, Space

__all__ = ["FLOATS", "find_spaces"]

FLOATS = ("float16", "bfloat16", "float32", "float64")
_KINDS = (NodeKind.NEURON, NodeKind.SUM, NodeKind.PRODUCT, NodeKind.JOIN)
_WEIGHTS = (EdgeRole.WEIGHT, EdgeRole.EMBEDDING)
_TERMS = (EdgeRole.BIAS, EdgeRole.POSITION, EdgeRole.SOURCE)
_ORDER = list(Matrices)


def find_spaces(graph: ParameterGraph, candidates: Sequence[np.ndarray]) -> tuple[Space, ...]:
    """The spaces among candidates.

    Args:
        graph: The graph.
        candidates: int64 [rows, d] each: nodes of which column i can be exchanged with column j.

    Returns:
        The spaces, with the largest of the three groups of matrices that every check allows.
    """
    if not candidates or graph.paired is None:
        return ()
    signals = Signals(graph)
    return tuple(
        space for some in _disjoint(graph, candidates) for space in _Search(graph, Rows(graph, some), signals).found()
    )


def _disjoint(graph: ParameterGraph, candidates: Sequence[np.ndarray]) -> Iterator[list[np.ndarray]]:
    """The candidates in parts without common nodes; products of two values move with either of them."""
    left = list(candidates)
    while left:
        taken = np.zeros(graph.num_nodes, dtype=bool)
        part: list[np.ndarray] = []
        rest: list[np.ndarray] = []
        for nodes in left:
            (rest if taken[nodes].any() else part).append(nodes)
            taken[part[-1]] = True
        yield part
        left = rest


class _Search:
    """The checks, all candidates at once.

    limit: int64 [candidates], the allowed matrices as an index into `Matrices`. vectors: (row, via) to the vectors that
    multiply this signal, as edge blocks; only signals with vectors are listed. special: rows that are normalised, or
    to which parameters are attached. entered: rows into which parameters lead directly. actions, ones: what is done to
    edge blocks, each with its row.
    """

    def __init__(self, graph: ParameterGraph, rows: Rows, signals: Signals) -> None:
        self.graph, self.rows, self.signals = graph, rows, signals
        self.limit = np.zeros(rows.candidates, dtype=np.int64)
        self.vectors: dict[tuple[int, int], tuple[int, ...]] = {}
        self.special: set[int] = set()
        self.entered: set[int] = set()
        self.actions: list[tuple[int, Action, tuple[int, ...]]] = []
        self.ones: list[tuple[int, Ones]] = []

    def found(self) -> tuple[Space, ...]:
        """Run the checks."""
        graph, rows = self.graph, self.rows
        allowed = np.zeros(graph.num_nodes, dtype=bool)
        for group in graph.groups:
            allowed[group.start : group.stop] = group.kind in _KINDS
        paired = np.zeros(graph.num_nodes, dtype=bool) if graph.paired is None else graph.paired
        rows.reject(np.flatnonzero(~allowed | graph.pinned | paired))
        for port in (*graph.inputs, *graph.outputs):
            rows.reject(port.nodes)
        # Branches of one form can be exchanged too, but what is done to one of them has nothing to do with the other.
        for nodes in rows.nodes:
            groups = graph.group_of(nodes)
            rows.reject(nodes[(groups != groups[:, :1]).any(axis=1)])
        for via in sorted(self.signals.nodes_by_via):
            self._via(via)
        sources = np.zeros(graph.num_nodes, dtype=bool)
        for group in graph.groups:
            sources[group.start : group.stop] = group.kind == NodeKind.PARAM
        for number, block in enumerate(graph.edges):
            self._block(number, block, sources)
        for link in graph.links:
            if link.role == LinkRole.HUB:  # A parameter that the step of no via attaches is part of the value.
                rows.reject(link.dst[self.signals.after_hub(link) == 0])
        met = meetings(graph, rows, self.signals, {signal for signal, by in self.vectors.items() if by})
        weighted = {row for row, *_ in self.actions} | self.special
        wrong = (met.contracted & weighted) | (met.products & self.entered)
        rows.reject_rows(np.array(sorted(wrong), dtype=np.int64))
        return tuple(self._spaces(met))

    def _via(self, via: int) -> None:
        entry, rows = self.graph.vias[via], self.rows
        for row in rows.complete(self.signals.nodes_by_via[via]).tolist():
            before = {self.vectors.get((row, parent), ()) for parent in entry.parents}
            if len(before) != 1 or not self._carried(row, via, entry, *before):
                rows.reject_rows(row)

    def _carried(self, row: int, via: int, entry: Via, vectors: tuple[int, ...]) -> bool:
        """Whether a step carries matrices from the signal of a row before it to the one after it."""
        if entry.blocks and all((self.signals.hub_block[self.graph.edges[b].dst] >= 0).all() for b in entry.blocks):
            # `meetings` checks that it is one number for all neurons.
            if len(entry.parents) > 1 or not scales(entry):
                return False
        elif entry.blocks:
            self.special.add(row)
            if len(entry.blocks) > 1 or len(entry.parents) > 1:
                return False
            if scales(entry):
                vectors = (*vectors, *entry.blocks)
            elif not shifts(entry):
                return False
        elif len(entry.parents) == 1:
            matrices = Matrices.ALL if entry.op == REPARAMETRIZE and _multiple(entry) else commuting(entry)
            if matrices is None:
                return False
            if matrices is not Matrices.ALL:
                self.special.add(row)
                self._restrict(row, matrices)
                if vectors:
                    return False
        elif not additive(entry):
            return False
        if vectors:
            self.vectors[row, via] = vectors
        return True

    def _takes(self, row: int, via: int) -> bool:
        """Whether a node of a row reaches a via."""
        return bool((self.rows.row[self.signals.nodes_by_via.get(via, np.zeros(0, dtype=np.int64))] == row).any())

    def _restrict(self, row: int, matrices: Matrices) -> None:
        candidate = self.rows.candidate[row]
        self.limit[candidate] = max(self.limit[candidate], _ORDER.index(matrices))

    def _block(self, number: int, block: EdgeBlock, sources: np.ndarray) -> None:
        rows = self.rows
        if not (rows.met(block.src) or rows.met(block.dst)) or not block.size:
            return
        vias = (self.graph.vias[v] for v in distinct(block.via).tolist())
        parameter = None if block.constant else self.graph.parameters[block.view.name]
        plain = parameter is not None and parameter.dtype in FLOATS and parameter.storage is None
        if not plain or any(v.op == REPARAMETRIZE and not _multiple(v) for v in vias):
            rows.reject(block.src)
            rows.reject(block.dst)
        elif sources[block.src].all() and block.src.shape[1] == 1:
            self._vector(number, block)
        elif block.role in _WEIGHTS:
            for row, _, batch, places in rows.places(block.dst, None):
                self.entered.add(row)
                self.actions.append((row, Action(number, 1, batch, places, False), ()))
            for row, via, batch, places in rows.places(block.src, block.via):
                vectors = self.vectors.get((row, via), ())
                self.actions.append((row, Action(number, 2, batch, places, True), vectors))
        else:
            rows.reject(block.src)
            rows.reject(block.dst)

    def _vector(self, number: int, block: EdgeBlock) -> None:
        """Parameters attached to their targets: terms follow the values, factors become 1."""
        axis, dst = (0, block.dst.T) if block.shape[1] == 1 else (1, block.dst)
        vias = np.broadcast_to(block.via.T if axis == 0 else block.via, dst.shape)
        for row, via, batch, places in self.rows.places(dst, vias):
            after = self.signals.after.get((number, via))
            entry = None if after is None else self.graph.vias[after]
            others = (v for (b, v) in self.signals.after if b == number and v != via)
            if any(self._takes(row, self.signals.after[number, v]) for v in others):
                self.rows.reject_rows(row)
            if entry is None:
                self.entered.add(row)
            if len(places) == 1 and entry is not None and scales(entry) and block.shape[3] == 1:
                self.ones.append((row, Ones(number, axis, batch, places[0])))
            elif shifts(entry) if entry is not None else block.role in _TERMS:
                vectors = self.vectors.get((row, via), ())
                self.actions.append((row, Action(number, axis, batch, places, False, power=-1), vectors))
            else:
                self.rows.reject_rows(row)

    def _spaces(self, met: Meetings) -> Iterator[Space]:
        """The spaces that are left, if shared parameters change alike at all of their sites."""
        dual, twisted = _coloured(met, self.rows)
        actions: dict[int, list[tuple[int, Action, tuple[int, ...]]]] = defaultdict(list)
        ones: dict[int, list[Ones]] = defaultdict(list)
        for row, action, vectors in self.actions:
            actions[int(self.rows.candidate[row])].append((row, action, vectors))
        for row, one in self.ones:
            ones[int(self.rows.candidate[row])].append(one)
        for candidate in np.flatnonzero(self.rows.alive).tolist():
            at = {one.block: i for i, one in enumerate(ones[candidate])}
            named = all(v in at for _, _, vectors in actions[candidate] for v in vectors)
            if not named or not actions[candidate] or len(at) != len(ones[candidate]):
                continue
            # What is tied to its own transpose can still be changed by orthogonal matrices.
            for matrices in _ORDER[max(self.limit[candidate], int(candidate in twisted)) :][:2]:
                some = []
                for row, action, vectors in actions[candidate]:
                    flipped = matrices is Matrices.ALL and action.dual != dual.get(row, False)
                    some.append(replace(action, dual=flipped, ones=tuple(at[v] for v in vectors)))
                space = Space(self.rows.nodes[candidate], matrices, tuple(some), tuple(ones[candidate]))
                if changed_alike(self.graph, space):
                    yield from [space] if space.dimension else []
                    break


def _multiple(via: Via) -> bool:
    """Whether an edge of this via carries its element times one number of the program."""
    steps = str(dict(via.attributes)["function"]).split(" > ")
    return not via.blocks and all(step == "Neg" or step.startswith("Scale[factor=") for step in steps)


def _coloured(met: Meetings, rows: Rows) -> tuple[dict[int, bool], set[int]]:
    """Which rows are changed by the transposed inverse, and candidates in which a row would be changed by both."""
    near: dict[int, list[tuple[int, bool]]] = defaultdict(list)
    for a, b, different in met.relations:
        near[a].append((b, different))
        near[b].append((a, different))
    dual: dict[int, bool] = {}
    twisted: set[int] = set()
    for start in near:
        queue = [] if start in dual else [start]
        dual.setdefault(start, False)
        while queue:
            row = queue.pop()
            for other, different in near[row]:
                if other not in dual:
                    dual[other] = dual[row] != different
                    queue.append(other)
                elif dual[other] == (dual[row] == different):
                    twisted.add(int(rows.candidate[row]))
    return dual, twisted
