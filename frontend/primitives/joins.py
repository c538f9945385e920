"""Join: where differently labelled values are combined, one new node per distinct tuple of labels."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct_rows
from ..budget import MAX_POSITIONS, check_limit
from .grid import free_axes, moved, placed, spread, stacked, unfold
from .labels import compress, map_via, to_labels, varying
from .moves import Grid
from .state import State

__all__ = [
    "Operand",
    "along",
    "broadcast",
    "gathered",
    "group_by_axes",
    "independent",
    "join",
    "join_before_moves",
    "members",
    "merged_labels",
    "reordered",
    "shared_neuron",
]

Factors = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand of an elementwise op: its label tensors and shape, of the rank of the result."""

    factors: Factors
    shape: tuple[int, ...]


def join(
    state: State, operands: Sequence[np.ndarray], role: str, ranks: Sequence[int] = (), kind: str = "join"
) -> np.ndarray:
    """Create one node per distinct tuple of labels, linked from each label in it.

    Args:
        state: The state of the lowering.
        operands: The labels, which are broadcast against each other.
        role: The role of the links.
        ranks: Operands of equal rank are interchangeable, by default all. Links carry the rank if there are several.
        kind: The kind of the new nodes.

    Returns:
        The labels of the broadcast value.
    """
    ordered = len(set(ranks)) > 1
    if ordered:
        operands = [operands[i] for i in np.argsort(ranks, kind="stable")]
    ranks = sorted(ranks) if ordered else [0] * len(operands)
    shape = np.broadcast_shapes(*(o.shape for o in operands))
    check_limit(math.prod(shape) * len(operands), MAX_POSITIONS, "labels in a join")
    rows = np.stack([np.broadcast_to(o, shape).reshape(-1) for o in operands], axis=1)
    for rank in set(ranks):
        columns = [i for i, r in enumerate(ranks) if r == rank]
        rows[:, columns] = np.sort(rows[:, columns], axis=1)
    first, which = distinct_rows(rows)
    kinds = rows[first]
    nodes = state.nodes(kind, len(kinds), state.depth(kinds))
    operand = np.tile(ranks, len(kinds)) if ordered else None
    state.links(np.repeat(nodes, len(operands)), kinds, role, operand)
    return compress(to_labels(nodes)[which].reshape(shape))


def join_before_moves(
    state: State, operands: Sequence[np.ndarray], role: str, ranks: Sequence[int], grid: Grid | None,
    kind: str = NodeKind.JOIN,
) -> np.ndarray:  # fmt: skip
    """Join labels; where all operands of an entry end in one move, the join comes before it.

    The join of positions of two arrays is that position of their join, so entries that differ in it share a node.

    Args:
        state: The state of the lowering.
        operands: The labels.
        role: The role of the links.
        ranks: The ranks of the operands, see `join`.
        grid: The grid of the labels; None if operands have different ones.
        kind: The kind of the new nodes.

    Returns:
        The labels of the result.
    """
    moves = state.moves
    if grid is None or any(moves.none(f, grid) for f in operands):
        return join(state, operands, role, ranks, kind)
    found = [unfold(moves, f, grid) for f in operands]
    shape = np.broadcast_shapes(*(f.shape for f in operands))
    whole = (*shape, math.prod(grid))
    first, *others = (np.broadcast_to(u.at, whole) for u in found)
    if len({u.bases for u in found}) > 1 or len(found[0].bases) > 1 or any((at != first).any() for at in others):
        return join(state, operands, role, ranks, kind)
    joined = np.broadcast_to(join(state, [u.which for u in found], role, ranks, kind), shape)
    at = found[0].at.reshape(1, -1) if all(u.places is not None for u in found) else first.reshape(joined.size, -1)
    return compress(placed(moves, replace(found[0], which=joined), joined, at, grid))


def shared_neuron(
    state: State, labels: np.ndarray, axes: tuple[int, ...], role: str = LinkRole.SHARED, beside: Sequence[int] = ()
) -> np.ndarray:
    """Join labels along axes over which a weight is shared: one node per distinct tuple of labels.

    Args:
        state: The state of the lowering.
        labels: The labels.
        axes: The axes; the slot of a link is its index in the tuple.
        role: The role of the links.
        beside: The other axes of the grid.

    Returns:
        Labels of size 1 along `axes`.
    """
    rest = [a for a in range(labels.ndim) if a not in axes]
    outer = tuple(labels.shape[a] for a in rest)
    rows = labels.transpose(rest + list(axes)).reshape(math.prod(outer), -1)
    first, which = distinct_rows(rows)
    kinds = rows[first]
    places = kinds.shape[1]
    nodes = state.nodes(NodeKind.JOIN, len(kinds), state.depth(kinds))
    state.links(np.repeat(nodes, places), kinds, role, slot=np.tile(np.arange(places), len(kinds))[:, None])
    joined = compress(
        to_labels(nodes)[which].reshape(*outer, *[1] * len(axes)).transpose(np.argsort(rest + list(axes)))
    )
    if not beside:
        return joined
    along = (("along", tuple(sorted([*axes, *beside]).index(a) for a in axes)),)
    return map_via(joined, lambda v: state.builder.via("Tuple", along, (v,)))


def gathered(
    state: State, labels: np.ndarray, axes: Sequence[int], kind: str, role: str, grid: Grid, whole: bool = False
) -> np.ndarray:
    """Create one node per distinct multiset of labels along `axes`, linked from its members.

    Args:
        state: The state of the lowering.
        labels: The labels.
        axes: The axes.
        kind: The kind of the new nodes.
        role: The role of the links.
        grid: The grid of the labels.
        whole: Whether the op also covers the whole grid.

    Returns:
        Labels of size 1 along `axes`.
    """
    rows = members(state, labels, axes, grid, whole)
    first, which = distinct_rows(rows)
    kinds = rows[first]
    nodes = state.nodes(kind, len(kinds), state.depth(kinds))
    state.links(np.repeat(nodes, kinds.shape[1]), kinds, role)
    return along(to_labels(nodes)[which], labels, axes)


def members(state: State, labels: np.ndarray, axes: Sequence[int], grid: Grid, whole: bool = False) -> np.ndarray:
    """The multisets of labels along `axes`: sorted rows of labels, one row per entry of the other axes.

    Positions of one array that all take part are one member.
    """
    rest = [a for a in range(labels.ndim) if a not in axes]
    rows = labels.transpose([*rest, *axes]).reshape(math.prod(labels.shape[a] for a in rest), -1)
    return np.sort(stacked(state.moves, rows, grid, whole), axis=1)


def along(rows: np.ndarray, labels: np.ndarray, axes: Sequence[int]) -> np.ndarray:
    """Reshape one number per row of `members` to a tensor of size 1 along `axes`."""
    rest = [a for a in range(labels.ndim) if a not in axes]
    shape = [*(labels.shape[a] for a in rest), *[1] * len(axes)]
    return compress(rows.reshape(shape).transpose(np.argsort([*rest, *axes])))


def reordered(state: State, factors: Factors, shape: tuple[int, ...], letters: str, target: str) -> Factors:
    """Transpose factors from the axis order `letters` to `target`; `shape` is in the order `target`."""
    if letters == target:
        return factors
    order = [letters.index(t) for t in target]
    old = tuple(shape[target.index(t)] for t in letters)

    def pair(operands: Factors) -> np.ndarray:
        return merged_labels(state, operands)

    return independent(state, moved(state.moves, factors, old, lambda a: a.transpose(order), shape, pair))


def independent(state: State, factors: Sequence[np.ndarray]) -> Factors:
    """Join factors that vary along a common axis, and single labels with others, so that factors are independent."""
    groups = _components([set(varying(f)) for f in factors])
    merged = [merged_labels(state, [factors[i] for i in group]) for group in groups]
    state.pair(merged)
    return tuple(merged)


def group_by_axes(
    state: State, operands: Sequence[Operand], shape: tuple[int, ...], apart: bool = True
) -> list[list[tuple[int, np.ndarray]]]:
    """Group the labels of operands that vary along common axes when broadcast to `shape`.

    Args:
        state: The state of the lowering.
        operands: The operands.
        shape: The shape to broadcast to.
        apart: Whether each operand may be in a group of its own; else the first groups of all operands are merged.

    Returns:
        Groups of (operand index, its labels), ascending. Groups vary along disjoint axes; labels are those of the
        broadcast value, one per position along the axes of the group.
    """
    items = [(i, f) for i, operand in enumerate(operands) for f in operand.factors]
    groups = _components([set(varying(f)) for _, f in items], [i for i, _ in items])
    if all(len({items[j][0] for j in group}) == 1 for group in groups) and not apart:
        groups = _merge_first(items, groups)
    items = _marked_against_free(state, operands, items, groups)
    out = []
    for group in groups:
        keep = {a for j in group for a in varying(items[j][1])}
        own: dict[int, list[np.ndarray]] = {}
        for j in group:
            own.setdefault(items[j][0], []).append(items[j][1])
        out.append([(i, _spread(state, operands[i], merged_labels(state, own[i]), keep, shape)) for i in sorted(own)])
    return out


def broadcast(state: State, operand: Operand, shape: tuple[int, ...]) -> Factors:
    """The labels of an operand that is broadcast to `shape`."""
    if operand.shape == shape:
        return tuple(operand.factors)
    return tuple(_spread(state, operand, f, set(varying(f)), shape) for f in operand.factors)


def _spread(state: State, operand: Operand, labels: np.ndarray, keep: set[int], shape: tuple[int, ...]) -> np.ndarray:
    """Broadcast labels of an operand that vary along some of the axes `keep`."""
    elsewhere = {a for f in operand.factors for a in varying(f)} - set(varying(labels))
    axes = free_axes(operand.factors, operand.shape)
    grid = [a for a, n in enumerate(shape) if n > 1 and a not in keep and a not in elsewhere]
    return spread(state.moves, labels, operand.shape, axes, shape, sorted(keep), grid)


def _merge_first(items: list[tuple[int, np.ndarray]], groups: list[list[int]]) -> list[list[int]]:
    """Merge the first groups of all operands."""
    first = [next((g for g in groups if items[g[0]][0] == i), None) for i in sorted({i for i, _ in items})]
    met = [g for g in first if g is not None]
    return [sorted(j for g in met for j in g), *(g for g in groups if not any(g is m for m in met))]


def merged_labels(state: State, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Merge several label tensors of one value into one: a join node per distinct tuple of several."""
    if len(labels) == 1:
        return labels[0]
    return join(state, labels, LinkRole.PAIR)


def _marked_against_free(
    state: State, operands: Sequence[Operand], items: Sequence[tuple[int, np.ndarray]], groups: Sequence[Sequence[int]]
) -> list[tuple[int, np.ndarray]]:
    """Mark the position of each entry along axes that are free in an operand which is in no common group.

    There the entry at each index meets another position of that operand, so it cannot be exchanged with others. Within
    a group, the labels of the free operand say which position is met.
    """
    free: dict[int, set[int]] = defaultdict(set)
    for i, operand in enumerate(operands):
        labelled = {a for f in operand.factors for a in varying(f)}
        for axis, size in enumerate(operand.shape):
            if size > 1 and axis not in labelled:
                free[axis].add(i)
    out = list(items)
    for group in groups:
        present = {items[k][0] for k in group}
        outside = {axis for axis, owners in free.items() if not owners <= present}
        for k in group:
            i, factor = items[k]
            if not outside.isdisjoint(varying(factor)):
                sizes = [n if a in outside else 1 for a, n in enumerate(factor.shape)]
                numbers = np.broadcast_to(np.arange(math.prod(sizes)).reshape(sizes), factor.shape)
                out[k] = i, state.marked(factor, "Place", numbers)
    return out


def _components(axes: list[set[int]], owners: list[int] | None = None) -> list[list[int]]:
    """Group items that share an axis; items without axes go to the first group, of another owner if possible."""
    groups: list[tuple[set[int], list[int]]] = []
    for i, own in enumerate(axes):
        if not own:
            continue
        touching = [g for g in groups if g[0] & own]
        if len(touching) == 1:
            touching[0][0].update(own)
            touching[0][1].append(i)
            continue
        groups = [g for g in groups if not g[0] & own]
        merged = set(own).union(*(g[0] for g in touching))
        groups.append((merged, [i, *(j for g in touching for j in g[1])]))
    plain = sorted((sorted(members) for _, members in groups), key=lambda g: g[0])
    # Items of one owner may be few, so that the first two owners of a group tell whether it has another.
    known = [list(dict.fromkeys(owners[j] for j in g))[:2] if owners is not None else [] for g in plain]
    for i, own in enumerate(axes):
        if own:
            continue
        if not plain:
            plain.append([])
            known.append([])
        other = [at for at, g in enumerate(known) if owners is not None and any(o != owners[i] for o in g)]
        at = other[0] if other else 0
        plain[at].append(i)
        if owners is not None and len(known[at]) < 2 and owners[i] not in known[at]:
            known[at].append(owners[i])
    return [sorted(g) for g in plain]
