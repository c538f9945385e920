"""How rows of nodes meet along links: sums, products with a common value, and products that are summed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import ParameterGraph
from ..ir.vocabulary import Combine, LinkRole
from .homogeneity import links, sums
from .rows import Rows
from .signals import Signals

__all__ = ["Meetings", "meetings"]

_SUM, _PRODUCT, _QUOTIENT, _COMMON, _OTHER = range(5)
"""How links act: sums, products, quotients, a parameter that all neurons have in common, anything else."""
_SUMMING = frozenset({"ReduceMean", "ReduceSum"})


@dataclass(frozen=True, slots=True)
class Meetings:
    """How rows depend on each other.

    Attributes:
        relations: (row, other row, whether one is changed by the transposed inverse of what changes the other).
        products: Rows of products with a value that all columns have in common.
        contracted: Rows of products of two rows that are summed over all columns.
    """

    relations: list[tuple[int, int, bool]]
    products: set[int]
    contracted: set[int]


@dataclass(frozen=True, slots=True)
class _Links:
    """The links at rows, int64 [n] each but `slot`, [n, 3]. row, source: rows of the ends; -1 outside of candidates."""

    dst: np.ndarray
    src: np.ndarray
    via: np.ndarray
    role: np.ndarray
    law: np.ndarray
    operand: np.ndarray
    slot: np.ndarray
    row: np.ndarray
    source: np.ndarray

    def keys(self, here: np.ndarray, ends: tuple[np.ndarray, ...]) -> np.ndarray:
        """What must be the same for corresponding links, int64 [n, columns], the ends first."""
        rest = np.stack([self.role[here], self.via[here], self.operand[here]], axis=1)
        return np.concatenate([np.stack(ends, axis=1), rest, self.slot[here]], axis=1)


def meetings(graph: ParameterGraph, rows: Rows, signals: Signals, impure: set[tuple[int, int]]) -> Meetings:
    """Check all links at rows, and reject candidates whose links do not carry matrices on.

    Args:
        graph: The graph.
        rows: The rows.
        signals: The signals of the graph.
        impure: Signals (row, via) that are multiplied by a vector; no link may read them.

    Returns:
        How the rows that are left depend on each other.
    """
    found = _collected(graph, rows)
    same = rows.candidate[found.row] == rows.candidate[found.source]
    inside = (found.row >= 0) & (found.source >= 0) & same
    entering, leaving = found.row >= 0, (found.source >= 0) & ~inside
    summed, factor = inside & (found.law == _SUM), inside & np.isin(found.law, (_PRODUCT, _QUOTIENT))
    bad = entering & (found.law == _OTHER)
    bad |= entering & (found.law == _SUM) & ~inside
    bad |= inside & (rows.place[found.dst] != rows.place[found.src])
    bad |= factor & (found.law == _QUOTIENT) & (found.operand != 0)
    reads = np.array([(r, v) in impure for r, v in zip(found.source.tolist(), found.via.tolist(), strict=True)], bool)
    outward = leaving & (reads | ((found.role != _role(graph, LinkRole.SUM)) & ~_reduced(graph, signals, found)))
    ends = np.where(inside, found.source, -2 - found.src)
    rejected = {*found.row[bad | (inside & reads)].tolist(), *found.source[outward].tolist()}
    rejected |= _uneven(rows, found.keys(entering, (found.row[entering], ends[entering])), found.dst[entering])
    rejected |= _uneven(rows, found.keys(leaving, (found.source[leaving], found.dst[leaving])), found.src[leaving])
    joining = entering & (found.law != _COMMON)
    rejected |= _repeated(np.unique(np.stack([found.row[joining], found.law[joining]]), axis=1)[0])
    pairs = np.unique(np.stack([found.row[summed], found.source[summed]]), axis=1).T.tolist()
    relations = [(a, b, False) for a, b in pairs]
    factors: dict[int, list[int]] = {int(r): [] for r in found.row[joining & (found.law != _SUM)]}
    first = factor & (rows.place[found.dst] == 0)
    for row, source in zip(found.row[first].tolist(), found.source[first].tolist(), strict=True):
        factors[row].append(source)
    quotients = set(found.row[entering & (found.law == _QUOTIENT)].tolist())
    contracted = {row for row, by in factors.items() if len(by) == 2 and row not in quotients}
    rejected |= {row for row, by in factors.items() if len(by) != 1} - contracted
    relations += [(row, by[0], False) for row, by in factors.items() if len(by) == 1]
    relations += [(factors[row][0], factors[row][1], True) for row in contracted]
    # Products of two rows can only be summed.
    rejected |= contracted & {*found.source[inside].tolist()}
    rejected |= {*found.source[leaving].tolist()} - contracted
    rows.reject_rows(np.array(sorted(rejected), dtype=np.int64))
    return Meetings([r for r in relations if rows.alive[rows.candidate[r[0]]]], set(factors) - contracted, contracted)


def _collected(graph: ParameterGraph, rows: Rows) -> _Links:
    roles = {role: i for i, role in enumerate(dict.fromkeys(link.role for link in graph.links))}
    laws = np.array([_law(role) for role in roles], dtype=np.int64)
    parts: list[list[np.ndarray]] = [[np.zeros(0, dtype=np.int64)] for _ in range(5)]
    slots = [np.zeros((0, 3), dtype=np.int64)]
    for link in graph.links:
        here = np.flatnonzero((rows.row[link.src] >= 0) | (rows.row[link.dst] >= 0))
        operand = np.full(len(here), -1) if link.operand is None else link.operand[here]
        columns = (link.dst[here], link.src[here], link.via[here], np.full(len(here), roles[link.role]), operand)
        for part, column in zip(parts, columns, strict=True):
            part.append(column.astype(np.int64))
        slot = np.full((len(here), 3), -1)
        if link.slot is not None:
            slot[:, : link.slot.shape[1]] = link.slot[here]
        slots.append(slot)
    dst, src, via, role, operand = (np.concatenate(part) for part in parts)
    law = laws[role] if len(role) else role
    return _Links(dst, src, via, role, law, operand, np.concatenate(slots), rows.row[dst], rows.row[src])


def _law(role: str) -> int:
    if sums(role):
        return _SUM
    if role == LinkRole.HUB:
        return _COMMON
    combine = Combine.PRODUCT if role == LinkRole.PRODUCT else links(role, sign=False)
    return {Combine.PRODUCT: _PRODUCT, Combine.QUOTIENT: _QUOTIENT}.get(combine, _OTHER) if combine else _OTHER


def _role(graph: ParameterGraph, role: str) -> int:
    """The number of a role of links, -1 if there are none."""
    names = list(dict.fromkeys(link.role for link in graph.links))
    return names.index(role) if role in names else -1


def _reduced(graph: ParameterGraph, signals: Signals, found: _Links) -> np.ndarray:
    """Which links lead to sums or means over neurons, bool [n]."""
    here = found.role == _role(graph, LinkRole.REDUCE)
    if not here.any():
        return here
    firsts: tuple[list[np.ndarray], list[np.ndarray]] = ([np.zeros(0, np.int64)], [np.zeros(0, np.int64)])
    for number, nodes in signals.nodes_by_via.items():
        entry = graph.vias[number]
        if 0 in entry.parents:
            firsts[entry.op in _SUMMING and not entry.blocks].append(nodes)
    others, summed = map(np.concatenate, firsts)
    return here & np.isin(found.dst, np.setdiff1d(summed, others))


def _uneven(rows: Rows, keys: np.ndarray, nodes: np.ndarray) -> set[int]:
    """Rows (the first column of the keys) with a link that not all of their nodes have, equally often."""
    if not len(keys):
        return set()
    every, times = np.unique(np.concatenate([keys, rows.place[nodes][:, None]], axis=1), axis=0, return_counts=True)
    row = every[:, 0]
    new = np.concatenate([[True], (np.diff(every[:, :-1], axis=0) != 0).any(axis=1)])
    which = np.cumsum(new) - 1
    wrong = (np.bincount(which)[which] != rows.width[row]) | (times != times[np.flatnonzero(new)][which])
    return set(distinct(row[wrong]).tolist())


def _repeated(numbers: np.ndarray) -> set[int]:
    found, counts = np.unique(numbers, return_counts=True)
    return set(found[counts > 1].tolist())
