"""Join: values of differently labelled neurons meet; one new node per distinct tuple of labels."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from .labels import compress, distinct_rows, map_via, nodes_of, occurrence, port, varying, vias_of
from .state import State

__all__ = ["Operand", "combine", "gathered", "independent", "join", "pin_against_free", "shared_neuron"]

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
    rows = np.stack([np.broadcast_to(o, shape).reshape(-1) for o in operands], axis=1)
    for rank in set(ranks):
        columns = [i for i, r in enumerate(ranks) if r == rank]
        rows[:, columns] = np.sort(rows[:, columns], axis=1)
    first, which = distinct_rows(rows)
    merged = [o for o in operands if state.is_merged(o)]
    slot = None
    # Where the places of a neuron meet different partners, the links say which place it is.
    apart = [occurrence(o) for o in merged if len(np.unique(o)) < len(first)]
    if apart:
        places = np.ravel_multi_index(np.broadcast_arrays(*apart), [int(o.max()) + 1 for o in apart])
        places = np.broadcast_to(places, shape).reshape(-1, 1)
        first, which = distinct_rows(np.concatenate([rows, places], axis=1))
        slot = np.repeat(places[first], len(operands), axis=0)
    kinds = rows[first]
    nodes = state.nodes(kind, len(kinds), state.depth(kinds))
    if merged and not apart:
        state.merged.add(len(state.builder.groups) - 1)
    operand = np.tile(ranks, len(kinds)) if ordered else None
    state.links(np.repeat(nodes, len(operands)), kinds, role, operand, slot)
    return compress(port(nodes)[which].reshape(shape))


def shared_neuron(state: State, labels: np.ndarray, axes: tuple[int, ...], role: str = "shared") -> np.ndarray:
    """Join the labels over `axes`, on which a weight is shared: one node per distinct tuple of places.

    Each link's slot is its place in the tuple. Returns labels of size 1 along `axes`.
    """
    rest = [a for a in range(labels.ndim) if a not in axes]
    outer = tuple(labels.shape[a] for a in rest)
    rows, turns = (a.transpose(rest + list(axes)).reshape(math.prod(outer), -1) for a in (labels, occurrence(labels)))
    first, which = distinct_rows(rows)
    merged = state.is_merged(labels)
    apart = merged and not _in_step(turns, which)
    if apart:
        first, which = distinct_rows(np.concatenate([rows, turns], axis=1))
    kinds = rows[first]
    places = kinds.shape[1]
    nodes = state.nodes("join", len(kinds), state.depth(kinds))
    if merged and not apart:
        state.merged.add(len(state.builder.groups) - 1)
    slot = np.tile(np.arange(places), len(kinds))[:, None]
    if apart:
        slot = np.concatenate([slot, turns[first].reshape(-1, 1)], axis=1)
    state.links(np.repeat(nodes, places), kinds, role, slot=slot)
    joined = port(nodes)[which].reshape(*outer, *[1] * len(axes))
    return compress(joined.transpose(np.argsort(rest + list(axes))))


def gathered(
    state: State, labels: np.ndarray, axes: Sequence[int], kind: str, role: str, once: bool = False
) -> np.ndarray:
    """One node per distinct multiset of labels along `axes`, linked from its members; labels of size 1 there.

    once: labels that all occur equally often are linked once.
    """
    rest = [a for a in range(labels.ndim) if a not in axes]
    outer = tuple(labels.shape[a] for a in rest)
    rows, turns = (a.transpose([*rest, *axes]).reshape(math.prod(outer), -1) for a in (labels, occurrence(labels)))
    order = np.lexsort((turns, rows), axis=1)
    rows, turns = (np.take_along_axis(a, order, axis=1) for a in (rows, turns))
    first, which = distinct_rows(rows)
    merged = state.is_merged(labels)
    apart = merged and not _in_step(turns, which)
    if apart:
        first, which = distinct_rows(np.concatenate([rows, turns], axis=1))
    kinds = _once(rows[first]) if once and not apart else rows[first]
    nodes = state.nodes(kind, len(kinds), state.depth(kinds))
    if merged and not apart:
        state.merged.add(len(state.builder.groups) - 1)
    slot = turns[first].reshape(-1, 1) if apart else None
    state.links(np.repeat(nodes, kinds.shape[1]), kinds, role, slot=slot)
    new = port(nodes)[which].reshape(*outer, *[1] * len(axes))
    return compress(new.transpose(np.argsort([*rest, *axes])))


def _once(rows: np.ndarray) -> np.ndarray:
    """Sorted rows in which every label occurs equally often, with each once; other rows as they are."""
    runs = np.flatnonzero(rows[0] != rows[0, 0]) if rows.size else np.zeros(0, np.int64)
    run = int(runs[0]) if runs.size else rows.shape[1]
    if run > 1 and rows.shape[1] % run == 0 and (rows.reshape(len(rows), -1, run) == rows[:, ::run, None]).all():
        return rows[:, ::run]
    return rows


def _in_step(turns: np.ndarray, which: np.ndarray) -> bool:
    """Whether all kinds occur in the same turns of what they are made of: turns [n, m], which kind each row is [n]."""
    counts = np.bincount(which)
    if (counts != counts[0]).any():
        return False
    grouped = turns[np.argsort(which, kind="stable")].reshape(len(counts), -1)
    return bool((grouped == grouped[0]).all())


def independent(state: State, factors: Sequence[np.ndarray]) -> Factors:
    """Factors such that no two vary along one axis and none is a single label beside others: join those that do."""
    groups = _components([set(varying(f)) for f in factors])
    merged = [_tuple(state, [factors[i] for i in group]) for group in groups]
    state.pair(merged)
    return tuple(merged)


def combine(
    state: State,
    operands: Sequence[Operand],
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
    pin_against_free(state, operands)
    items = [(i, f) for i, operand in enumerate(operands) for f in operand.factors]
    groups = _components([set(varying(f)) for _, f in items], [i for i, _ in items])
    if all(len({items[j][0] for j in group}) == 1 for group in groups) and len(groups) > 1:
        return _outer(state, items, groups, touch)
    out: list[np.ndarray] = []
    for group in groups:
        members = [items[j] for j in group]
        if len({i for i, _ in members}) == 1:
            operand = members[0][0]
            labels = _tuple(state, [f for _, f in members])
            out.append(map_via(labels, lambda v, operand=operand: touch(operand, v)))  # type: ignore[misc]
            continue
        same = _same_nodes(members, len(operands))
        if same is not None:
            out.append(_composite(same, step))
        else:
            present = sorted({i for i, _ in members})
            parts = [_tuple(state, [f for i, f in members if i == k]) for k in present]
            new = join(state, parts, role, [ranks[k] for k in present])
            out.append(new if joined is None else map_via(new, joined))
    return independent(state, out)


def _outer(
    state: State,
    items: list[tuple[int, np.ndarray]],
    groups: list[list[int]],
    touch: Callable[[int, int], int],
) -> Factors:
    """Operands that are labelled along different axes stay independent factors of the result."""
    out = []
    for group in groups:
        operand = items[group[0]][0]
        labels = _tuple(state, [items[j][1] for j in group])
        out.append(map_via(labels, lambda v, operand=operand: touch(operand, v)))  # type: ignore[misc]
    state.pair(out)
    return tuple(out)


def _tuple(state: State, labels: Sequence[np.ndarray]) -> np.ndarray:
    """Several label tensors of one value as one: itself, or a join node per distinct pair."""
    if len(labels) == 1:
        return labels[0]
    return join(state, labels, "pair")


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


def pin_against_free(state: State, operands: Sequence[Operand]) -> None:
    """Free axes are ordered: a labelled axis that meets an unlabelled one of size > 1 is pinned."""
    labelled = [{a for f in operand.factors for a in varying(f)} for operand in operands]
    for i, operand in enumerate(operands):
        for factor in operand.factors:
            for axis in varying(factor):
                free = (j for j, other in enumerate(operands) if j != i and other.shape[axis] > 1)
                if any(axis not in labelled[j] for j in free):
                    state.pin(factor)


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
