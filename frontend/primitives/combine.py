"""Elementwise operators of several activations: operands on one node stay there, others are joined."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence, Set

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct_rows
from .joins import Factors, Operand, group_by_axes, independent, join_before_moves, merged_labels
from .labels import compress, map_via, nodes_of, to_labels, varying, vias_of
from .moves import Grid
from .state import State

__all__ = ["combine"]


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
    """Combine the activations of an elementwise op.

    Where all operands have the same node, that node stays and the via is `step(vias)`. A factor of a single operand
    stays, with the via `touch(operand, via)`. All others are joined, with the via `joined(via)`.

    Args:
        state: The state of the lowering.
        operands: The activations.
        shape: The shape of the result.
        role: The role of links into joins.
        ranks: The ranks of the operands, see `join`.
        step: The via of a function of several branches of one node.
        touch: The via of a factor that one operand alone has.
        joined: The via of joined nodes; unchanged by default.

    Returns:
        The labels of the result.
    """
    out: list[np.ndarray] = []
    groups = group_by_axes(state, operands, shape)
    same = [_same_nodes(members, len(operands)) for members in groups]
    wholes = _wholes(state, list(zip(groups, same, strict=True)), ranks)
    for members, composed in zip(groups, same, strict=True):
        if len(members) == 1:
            operand, labels = members[0]
            out.append(map_via(labels, lambda v, operand=operand: touch(operand, v)))  # type: ignore[misc]
        elif composed is not None:
            out.append(_composite(composed, step))
        else:
            labelled = {a for _, f in members for a in varying(f)}
            grids = {_grid_sizes(operands[i], labelled, shape) for i, _ in members}
            own = [ranks[i] for i, _ in members]
            met = [merged_labels(state, [f, wholes[i]] if i in wholes else [f]) for i, f in members]
            new = join_before_moves(state, met, role, own, grids.pop() if len(grids) == 1 else None)
            out.append(new if joined is None else map_via(new, joined))
    return independent(state, out)


def _wholes(
    state: State,
    groups: Sequence[tuple[Sequence[tuple[int, np.ndarray]], Sequence[np.ndarray] | None]],
    ranks: Sequence[int],
) -> dict[int, np.ndarray]:
    """A node for each operand whose labels in several groups belong together, linked from all of them.

    Joins do not say which operand a label is of if operands are interchangeable. So in `a[i] * b[j] + c[i] * d[j]` the
    joins of a and c and those of b and d alone would let b and d trade places without a and c.

    groups: Each with the labels of all operands if these have the same nodes.
    """
    own: dict[int, list[np.ndarray]] = defaultdict(list)
    mixed: set[int] = set()
    for members, same in groups:
        if same is not None and all(np.array_equal(f, same[0]) for f in same):
            continue  # It says nothing about an operand.
        for i, labels in members:
            own[i].append(labels)
        if same is None:
            times = Counter(ranks[i] for i, _ in members)
            mixed |= {i for i, _ in members if times[ranks[i]] > 1}
    found = {}
    for i in sorted(mixed):
        if len(own[i]) > 1:
            labels = np.unique(np.concatenate([f.reshape(-1) for f in own[i]]))
            node = state.nodes(NodeKind.JOIN, 1, state.depth(labels))
            state.links(np.repeat(node, len(labels)), labels, LinkRole.PAIR)
            found[i] = to_labels(node).reshape([1] * own[i][0].ndim)
    return found


def _grid_sizes(operand: Operand, labelled: Set[int], shape: tuple[int, ...]) -> Grid:
    """The grid of an operand's labels in a group that varies along the axes `labelled`, see `_spread`."""
    own = {a for f in operand.factors for a in varying(f)}
    return tuple(n for a, n in enumerate(shape) if n > 1 and a not in labelled and a not in own)


def _same_nodes(members: list[tuple[int, np.ndarray]], operands: int) -> list[np.ndarray] | None:
    """The broadcast labels of all operands if they have the same node everywhere, else None."""
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
    return compress(to_labels(nodes_of(labels[0]), new[which].reshape(labels[0].shape)))
