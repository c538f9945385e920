"""Join: values of differently labelled neurons meet; one new node per distinct tuple of labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct_rows
from ..budget import PLACES, bear
from .grid import Grid, free_axes, moved, spread, stacked
from .labels import compress, map_via, nodes_of, port, varying, vias_of
from .state import State

__all__ = [
    "Operand",
    "along",
    "broadcast",
    "combine",
    "gathered",
    "independent",
    "join",
    "meeting",
    "members",
    "pin_against_free",
    "reordered",
    "shared_neuron",
]

Factors = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """One operand of an elementwise op: label tensors and shape, both of the rank of the result."""

    factors: Factors
    shape: tuple[int, ...]


def join(
    state: State, operands: Sequence[np.ndarray], role: str, ranks: Sequence[int] = (), kind: str = "join"
) -> np.ndarray:
    """One new node per distinct tuple of ports, linked from each; labels of the broadcast shape.

    ranks: operands of one rank may trade places, by default all. Links carry the rank where there are several.
    """
    ordered = len(set(ranks)) > 1
    if ordered:
        operands = [operands[i] for i in np.argsort(ranks, kind="stable")]
    ranks = sorted(ranks) if ordered else [0] * len(operands)
    shape = np.broadcast_shapes(*(o.shape for o in operands))
    bear(math.prod(shape) * len(operands), PLACES, "labels that meet")
    rows = np.stack([np.broadcast_to(o, shape).reshape(-1) for o in operands], axis=1)
    for rank in set(ranks):
        columns = [i for i, r in enumerate(ranks) if r == rank]
        rows[:, columns] = np.sort(rows[:, columns], axis=1)
    first, which = distinct_rows(rows)
    kinds = rows[first]
    nodes = state.nodes(kind, len(kinds), state.depth(kinds))
    operand = np.tile(ranks, len(kinds)) if ordered else None
    state.links(np.repeat(nodes, len(operands)), kinds, role, operand)
    return compress(port(nodes)[which].reshape(shape))


def shared_neuron(
    state: State, labels: np.ndarray, axes: tuple[int, ...], role: str = LinkRole.SHARED, beside: Sequence[int] = ()
) -> np.ndarray:
    """Join the labels over `axes`, on which a weight is shared: one node per distinct tuple of places.

    Each link's slot is its place in the tuple. beside: the other axes of the grid. The result has size 1 along `axes`.
    """
    rest = [a for a in range(labels.ndim) if a not in axes]
    outer = tuple(labels.shape[a] for a in rest)
    rows = labels.transpose(rest + list(axes)).reshape(math.prod(outer), -1)
    first, which = distinct_rows(rows)
    kinds = rows[first]
    places = kinds.shape[1]
    nodes = state.nodes(NodeKind.JOIN, len(kinds), state.depth(kinds))
    state.links(np.repeat(nodes, places), kinds, role, slot=np.tile(np.arange(places), len(kinds))[:, None])
    joined = compress(port(nodes)[which].reshape(*outer, *[1] * len(axes)).transpose(np.argsort(rest + list(axes))))
    if not beside:
        return joined
    along = (("along", tuple(sorted([*axes, *beside]).index(a) for a in axes)),)
    return map_via(joined, lambda v: state.builder.via("Tuple", along, (v,)))


def gathered(
    state: State, labels: np.ndarray, axes: Sequence[int], kind: str, role: str, grid: Grid, whole: bool = False
) -> np.ndarray:
    """One node per distinct multiset of labels along `axes`, linked from its members; labels of size 1 there.

    grid: what the labels' arrays run over; whole: all of it comes together too.
    """
    rows = members(state, labels, axes, grid, whole)
    first, which = distinct_rows(rows)
    kinds = rows[first]
    nodes = state.nodes(kind, len(kinds), state.depth(kinds))
    state.links(np.repeat(nodes, kinds.shape[1]), kinds, role)
    return along(port(nodes)[which], labels, axes)


def members(state: State, labels: np.ndarray, axes: Sequence[int], grid: Grid, whole: bool = False) -> np.ndarray:
    """What comes together along `axes`: sorted rows of ports, one row for each entry along the other axes.

    Places of one array that all take part are one member.
    """
    rest = [a for a in range(labels.ndim) if a not in axes]
    rows = labels.transpose([*rest, *axes]).reshape(math.prod(labels.shape[a] for a in rest), -1)
    return np.sort(stacked(state.moves, rows, grid, whole), axis=1)


def along(rows: np.ndarray, labels: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """What belongs to each row of `members`, one number each, as a tensor of size 1 along `axes`."""
    rest = [a for a in range(labels.ndim) if a not in axes]
    shape = [*(labels.shape[a] for a in rest), *[1] * len(axes)]
    return compress(rows.reshape(shape).transpose(np.argsort([*rest, *axes])))


def reordered(state: State, factors: Factors, shape: tuple[int, ...], letters: str, target: str) -> Factors:
    """Factors over `letters` of a value as those over `target`, its axes in another order; shape: over `target`."""
    if letters == target:
        return factors
    order = [letters.index(t) for t in target]
    old = tuple(shape[target.index(t)] for t in letters)

    def pair(operands: Factors) -> np.ndarray:
        return _tuple(state, operands)

    return independent(state, moved(state.moves, factors, old, lambda a: a.transpose(order), shape, pair))


def independent(state: State, factors: Sequence[np.ndarray]) -> Factors:
    """Factors such that no two vary along one axis and none is a single label beside others: join those that do."""
    groups = _components([set(varying(f)) for f in factors])
    merged = [_tuple(state, [factors[i] for i in group]) for group in groups]
    state.pair(merged)
    return tuple(merged)


def combine(
    state: State,
    operands: Sequence[Operand],
    shape: tuple[int, ...],
    role: str,
    ranks: Sequence[int],
    step: Callable[[tuple[int, ...]], int],
    touch: Callable[[int, int], int],
    joined: Callable[[int], int] | None = None,
) -> Factors:
    """Factors of an elementwise op of several activations.

    Where all operands name the same node the labels pass and `step(vias)` is the composite's via; a factor that only
    one operand has passes with `touch(operand, via)`; everything else joins, and `joined(via)` follows.
    ranks: of the operands, see `join`.
    """
    out: list[np.ndarray] = []
    for members in meeting(state, operands, shape):
        if len(members) == 1:
            operand, labels = members[0]
            out.append(map_via(labels, lambda v, operand=operand: touch(operand, v)))  # type: ignore[misc]
            continue
        same = _same_nodes(members, len(operands))
        if same is not None:
            out.append(_composite(same, step))
        else:
            new = join(state, [f for _, f in members], role, [ranks[i] for i, _ in members])
            out.append(new if joined is None else map_via(new, joined))
    return independent(state, out)


def meeting(
    state: State, operands: Sequence[Operand], shape: tuple[int, ...], apart: bool = True
) -> list[list[tuple[int, np.ndarray]]]:
    """Labels that meet where operands are broadcast to `shape`: groups of (operand, its labels), operands ascending.

    Groups vary along different axes. Labels are those of the broadcast value: at each place along the axes of their
    group, over the grid of what is left. apart: whether operands may be in groups of their own.
    """
    operands = pin_against_free(state, operands)
    items = [(i, f) for i, operand in enumerate(operands) for f in operand.factors]
    groups = _components([set(varying(f)) for _, f in items], [i for i, _ in items])
    if all(len({items[j][0] for j in group}) == 1 for group in groups) and not apart:
        groups = _meet(items, groups)
    out = []
    for group in groups:
        keep = {a for j in group for a in varying(items[j][1])}
        present = sorted({items[j][0] for j in group})
        labels = [_tuple(state, [items[j][1] for j in group if items[j][0] == i]) for i in present]
        out.append([(i, _spread(state, operands[i], f, keep, shape)) for i, f in zip(present, labels, strict=True)])
    return out


def broadcast(state: State, operand: Operand, shape: tuple[int, ...]) -> Factors:
    """Factors of an operand that is broadcast to `shape`."""
    return tuple(_spread(state, operand, f, set(varying(f)), shape) for f in operand.factors)


def _spread(state: State, operand: Operand, labels: np.ndarray, keep: set[int], shape: tuple[int, ...]) -> np.ndarray:
    """Labels of an operand, which vary along some of the axes `keep`, as those of the broadcast value."""
    elsewhere = {a for f in operand.factors for a in varying(f)} - set(varying(labels))
    axes = free_axes(operand.factors, operand.shape)
    grid = [a for a, n in enumerate(shape) if n > 1 and a not in keep and a not in elsewhere]
    return spread(state.moves, labels, operand.shape, axes, shape, sorted(keep), grid)


def _meet(items: list[tuple[int, np.ndarray]], groups: list[list[int]]) -> list[list[int]]:
    """Make the first group of each operand one."""
    first = [next((g for g in groups if items[g[0]][0] == i), None) for i in sorted({i for i, _ in items})]
    met = [g for g in first if g is not None]
    return [sorted(j for g in met for j in g), *(g for g in groups if not any(g is m for m in met))]


def _tuple(state: State, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Several label tensors of one value as one: itself, or a join node per distinct pair."""
    if len(labels) == 1:
        return labels[0]
    return join(state, labels, LinkRole.PAIR)


def _same_nodes(members: list[tuple[int, np.ndarray]], operands: int) -> list[np.ndarray] | None:
    """The operands' labels, broadcast together, if they name the same node everywhere; else None."""
    if len(members) != operands or len({i for i, _ in members}) != operands:
        return None
    labels = np.broadcast_arrays(*(f for _, f in members))
    first = nodes_of(labels[0])
    if all((nodes_of(other) == first).all() for other in labels[1:]):
        return list(labels)
    return None


def _composite(labels: list[np.ndarray], step: Callable[[tuple[int, ...]], int]) -> np.ndarray:
    vias = np.stack([vias_of(f).reshape(-1) for f in labels], axis=1)
    first, which = distinct_rows(vias)
    new = np.array([step(tuple(int(v) for v in row)) for row in vias[first]], dtype=np.int64)
    return compress(port(nodes_of(labels[0]), new[which].reshape(labels[0].shape)))


def pin_against_free(state: State, operands: Sequence[Operand]) -> list[Operand]:
    """Free axes are ordered: a labelled axis that meets an unlabelled one of size > 1 is pinned, its places marked."""
    labelled = [{a for f in operand.factors for a in varying(f)} for operand in operands]
    out = []
    for i, operand in enumerate(operands):
        factors = []
        for factor in operand.factors:
            free = [
                any(j != i and other.shape[a] > 1 and a not in labelled[j] for j, other in enumerate(operands))
                for a in varying(factor)
            ]
            factors.append(state.ordered(factor) if any(free) else factor)
        out.append(Operand(tuple(factors), operand.shape))
    return out


def _components(axes: list[set[int]], owners: list[int] | None = None) -> list[list[int]]:
    """Group items that share an axis; items without one join the first group (of another owner, if there is one)."""
    groups: list[tuple[set[int], list[int]]] = []
    for i, own in enumerate(axes):
        if not own:
            continue
        touching = [g for g in groups if g[0] & own]
        groups = [g for g in groups if not g[0] & own]
        merged = set(own).union(*(g[0] for g in touching))
        groups.append((merged, sorted([i, *(j for g in touching for j in g[1])])))
    groups.sort(key=lambda g: g[1][0])
    plain = [members for _, members in groups]
    for i, own in enumerate(axes):
        if own:
            continue
        if not plain:
            plain.append([])
        other = [g for g in plain if owners is not None and any(owners[j] != owners[i] for j in g)]
        (other or plain)[0].append(i)
    return [sorted(g) for g in plain]
