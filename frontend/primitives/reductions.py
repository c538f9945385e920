"""Reduce, normalise and order: parameter-free ops along axes of neurons."""

from __future__ import annotations

from collections.abc import ItemsView, Sequence

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct, distinct_rows
from .grid import free_axes
from .joins import Factors, along, gathered, independent, members
from .labels import map_via, nodes_of, to_labels, varying, vias_of
from .state import State

__all__ = ["layout", "normalize_over", "order", "reduce"]


def reduce(
    state: State, factors: Factors, axes: Sequence[int], op: str, attributes: dict[str, object], shape: tuple[int, ...]
) -> Factors:
    """Reduce over axes, regardless of order.

    A factor that varies along one of the axes gets one new node per distinct multiset of labels; others keep theirs.

    Args:
        state: The state of the lowering.
        factors: Labels of the value.
        axes: The axes, which keep size 1.
        op: The step to append to the vias.
        attributes: Its attributes.
        shape: The shape of the value.

    Returns:
        The labels of the result.
    """
    free = free_axes(factors, shape)
    grid, whole = tuple(shape[a] for a in free), set(free) <= set(axes)
    out = []
    for factor in factors:
        items = _over(state, factors, factor, axes, attributes, shape).items()
        inside = [a for a in axes if factor.shape[a] > 1]
        labels = gathered(state, factor, inside, NodeKind.REDUCE, LinkRole.REDUCE, grid, whole) if inside else factor
        out.append(map_via(labels, lambda v, items=items: state.builder.via(op, items, (v,))))  # type: ignore[misc]
    return independent(state, out)


def normalize_over(
    state: State, factors: Factors, axes: Sequence[int], op: str, attributes: dict[str, object], shape: tuple[int, ...]
) -> Factors:
    """Apply an op in which each result depends on all entries along `axes` (softmax, normalisation).

    If the axes cover a whole indivisible node group, only the via changes. Otherwise one `reduce` node per part is
    linked from its members, so that symmetries can only exchange whole parts. The via names the scope by its number
    among those of the label; the link has the same number as slot.

    Args:
        state: The state of the lowering.
        factors: Labels of the value.
        axes: The axes.
        op: The step to append to the vias.
        attributes: Its attributes.
        shape: The shape of the value, which is also that of the result.

    Returns:
        The labels of the result.
    """
    free = free_axes(factors, shape)
    grid, whole = tuple(shape[a] for a in free), set(free) <= set(axes)
    out = []
    for factor in factors:
        named = _over(state, factors, factor, axes, attributes, shape)
        items = named.items()
        inside = [a for a in axes if factor.shape[a] > 1]
        if inside and not _whole(state, factor, inside):
            out.append(_parts(state, members(state, factor, inside, grid, whole), factor, inside, op, named))
        else:
            out.append(map_via(factor, lambda v, items=items: state.builder.via(op, items, (v,))))  # type: ignore[misc]
    return tuple(out)


def _parts(
    state: State, rows: np.ndarray, labels: np.ndarray, axes: Sequence[int], op: str, attributes: dict[str, object]
) -> np.ndarray:
    """Create a scope node per distinct row of `members`, and return the labels with the scope in their vias."""
    first, which = distinct_rows(rows)
    kinds = rows[first]
    nodes = state.nodes(NodeKind.REDUCE, len(kinds), state.depth(kinds))
    # Scopes are numbered per label without its last move, since entries of one array may have different moves.
    part = np.broadcast_to(along(which, labels, axes), labels.shape)
    pairs = [np.stack([_bare(state, a).reshape(-1), b.reshape(-1)], axis=1) for a, b in
             ((labels, part), (kinds, np.repeat(np.arange(len(kinds)), kinds.shape[1])))]  # fmt: skip
    different, number = distinct_rows(np.concatenate(pairs))
    rank = state.scopes(np.concatenate(pairs)[different][:, 0])[number]
    mine, theirs = rank[: labels.size].reshape(labels.shape), rank[labels.size :]
    state.links(np.repeat(nodes, kinds.shape[1]), kinds, LinkRole.SCOPE, slot=theirs[:, None] if theirs.any() else None)
    out = labels.copy()
    for value in distinct(mine).tolist():
        items = {**attributes, "scope": value, "parts": len(kinds)}.items()

        def step(vias: tuple[int, ...], items: ItemsView[str, object] = items) -> int:
            return state.builder.via(op, items, vias)

        out[mine == value] = map_via(labels[mine == value], lambda v, step=step: state.moves.under((v,), step))  # type: ignore[misc]
    return out


def _bare(state: State, labels: np.ndarray) -> np.ndarray:
    return map_via(labels, state.moves.before)


def order(
    state: State, factors: Factors, axes: Sequence[int], op: str, attributes: dict[str, object],
    old: tuple[int, ...], shape: tuple[int, ...],
) -> Factors:  # fmt: skip
    """Apply an op whose result depends on the order along `axes` (sort, cumulative sum, resize, windows).

    Neurons along these axes are pinned. Where the length of such an axis changes, new pinned nodes are linked from one
    node that is linked from all old ones.

    Args:
        state: The state of the lowering.
        factors: Labels of the value.
        axes: The axes.
        op: The step to append to the vias.
        attributes: Its attributes.
        old: The shape of the value.
        shape: The shape of the result.

    Returns:
        The labels of the result.
    """
    items = {**attributes, **layout(factors, old)}.items()
    out = []
    for factor in factors:
        inside = [a for a in axes if factor.shape[a] > 1]
        labels = map_via(factor, lambda v: state.builder.via(op, items, (v,)))
        if any(factor.shape[a] != shape[a] for a in inside):
            state.pin(factor)
            labels = _resized(state, labels, [shape[a] if n > 1 else 1 for a, n in enumerate(factor.shape)])
        elif inside:
            rank = state.scopes(np.unique(factor))[np.unique(factor, return_inverse=True)[1].reshape(factor.shape)]
            labels = state.marked(state.ordered(labels), "Scope", np.where(rank > 0, rank, -1))
        out.append(labels)
    return tuple(out)


def layout(factors: Factors, shape: tuple[int, ...]) -> dict[str, object]:
    """The attribute `grid` of a step that names axes: the axes of the grid, from the end; {} if they are the last."""
    at = tuple(a - len(shape) for a in free_axes(factors, shape))
    return {} if at == tuple(range(-len(at), 0)) else {"grid": at}


def _over(
    state: State,
    factors: Factors,
    factor: np.ndarray,
    axes: Sequence[int],
    attributes: dict[str, object],
    shape: tuple[int, ...],
) -> dict[str, object]:
    """Attributes of the step of one factor, with the axes named independently of the layout.

    An axis is one of the factor's own neurons, of other factors' neurons, or an axis of the grid.
    """
    grid, places = free_axes(factors, shape), [a for a in sorted(axes) if all(f.shape[a] == 1 for f in factors)]
    over: list[object] = [grid.index(a) - len(grid) for a in places if a in grid]
    # If all grid axes have been merged into axes of neurons, moves tell which position an entry is.
    merged = not grid and not state.moves.none(factor, ())
    if (places or merged) and len(over) == len(grid):
        over = ["all places"]
    if any(factor.shape[a] > 1 for a in axes):
        over.append("neurons")
    if any(f.shape[a] > 1 for f in factors for a in axes if f is not factor):
        over.append("neurons of other factors")
    return {**{n: v for n, v in attributes.items() if n != "axes"}, "over": tuple(over)}


def _resized(state: State, labels: np.ndarray, shape: list[int]) -> np.ndarray:
    depth = state.depth(labels)
    middle = state.nodes(NodeKind.REDUCE, 1, depth, pinned=True)
    state.links(np.repeat(middle, labels.size), labels, LinkRole.REDUCE, operand=np.arange(labels.size))
    new = state.labelled_nodes(NodeKind.SPLIT, int(np.prod(shape)), depth, pinned=True)
    state.links(nodes_of(new), np.repeat(to_labels(middle), len(new)), LinkRole.SPLIT, operand=np.arange(len(new)))
    return new.reshape(shape)


def _whole(state: State, labels: np.ndarray, axes: list[int]) -> bool:
    """Whether the labels along `axes` are all nodes of an indivisible group, once each."""
    if set(varying(labels)) - set(axes) or len(distinct(vias_of(labels))) > 1:
        return False
    nodes, counts = np.unique(nodes_of(labels), return_counts=True)
    if (counts != 1).any():
        return False
    groups = state.builder.groups_among(nodes)
    whole = len(groups) == 1 and len(nodes) == state.builder.groups[int(groups[0])].size
    return whole and state.indivisible.contains(int(groups[0]))
