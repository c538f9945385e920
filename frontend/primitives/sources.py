"""Where labels begin: the positions of a source, and the rows of a table that an index picks."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import occurrence
from ..budget import MAX_POSITIONS, check_limit
from .elements import Elements
from .grid import free_axes, placed, unfold
from .labels import compress, to_labels, unrepeated
from .state import State

__all__ = ["placed_source", "rows_of_table"]


def placed_source(state: State, labels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Mark entries of a source that are one feature as its different positions, in their order.

    Args:
        state: The state of the lowering.
        labels: Labels of the source, int64.
        shape: Its shape.

    Returns:
        The labels, int64, of the same shape.
    """
    if not labels.size or unrepeated(labels):
        return labels
    grid = tuple(shape[a] for a in free_axes([labels], shape))
    count = occurrence(labels)
    many = int(count.max()) + 1
    size = math.prod(grid)
    check_limit(count.size * size, MAX_POSITIONS, "positions of its input")
    at = count[..., None] * size + np.arange(size)
    found = replace(unfold(state.moves, labels, grid), at=at, bases=((many, *grid),))
    return placed(state.moves, found, found.which, at.reshape(labels.size, size), grid)


def rows_of_table(state: State, table: Elements, index: np.ndarray, rank: int, role: str) -> np.ndarray:
    """Read a table by an index: rows are pinned `token` nodes, linked from the index, their entries are edges.

    Args:
        state: The state of the lowering.
        table: The elements of the table, rows first.
        index: The label of the index, int64, of size 1.
        rank: The rank of the index.
        role: The role of the edges.

    Returns:
        Labels of the new neurons, int64, of size 1 along the axes of the index.
    """
    rows, width = table.shape[0], int(np.prod(table.shape[1:], dtype=np.int64))
    depth = state.depth(index)
    tokens = state.nodes(NodeKind.TOKEN, rows, depth, pinned=True)
    state.links(tokens, np.broadcast_to(index.reshape(-1)[:1], (rows,)), LinkRole.TOKEN)
    neurons = state.nodes(NodeKind.NEURON, width, depth + 1)
    elements = table.move(lambda a: a.reshape(1, rows, width, 1).transpose(0, 2, 1, 3))
    state.edges(neurons[None], tokens[None], np.zeros((1, 1), np.int32), elements, role)
    return compress(to_labels(neurons).reshape((1,) * rank + table.shape[1:]))
