"""What a loop carries: nodes in a cycle, as few as tell apart what enters them.

A carried value is labelled with join nodes where an iteration begins. Which of its entries are one node follows from
the labels of what enters: of the initial value, and of what the body makes, which depend on the carried labels in turn.
So a lowering starts with all entries as places of one node, and is done again with a finer division while one is
needed. Entries that are one node then begin alike and go on alike, place by place.
"""

from __future__ import annotations

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct, distinct_rows
from .grid import free_axes, spread
from .joins import Factors, Operand, pin_against_free
from .labels import compress, nodes_of, port, varying
from .state import State

__all__ = ["carry", "close"]


def carry(state: State, classes: np.ndarray, initial: Factors) -> np.ndarray:
    """Labels of a carried value with one join node per class, numbered from 0; initial: labels of what it starts as."""
    depth = max((state.depth(f) for f in initial), default=0)
    ids = state.nodes(NodeKind.JOIN, int(classes.max()) + 1 if classes.size else 0, depth)
    return port(ids)[classes]


def close(state: State, carried: Operand, initial: Operand, end: Operand) -> np.ndarray | None:
    """Link the labels of the initial value and of what the body makes to the carried nodes, each with one factor.

    Returns classes of the carried entries instead, if entries of one node get different labels.
    """
    operands = pin_against_free(state, [carried, initial, end])
    shape = carried.shape
    keep = sorted({a for o in operands for a in varying(o.factors[0])})
    grid = [a for a, n in enumerate(shape) if n > 1 and a not in keep]
    columns = [nodes_of(carried.factors[0])]
    for operand in operands[1:]:
        axes = free_axes(operand.factors, operand.shape)
        columns.append(spread(state.moves, operand.factors[0], operand.shape, axes, shape, keep, grid))
    size = tuple(n if a in keep else 1 for a, n in enumerate(shape))
    rows = np.stack([np.broadcast_to(c, size).reshape(-1) for c in columns], axis=1)
    first, which = distinct_rows(rows)
    if len(first) > len(distinct(columns[0])):
        return compress(which.reshape(size))
    for column, role in ((1, LinkRole.INITIAL), (2, LinkRole.CARRY)):
        state.links(rows[first, 0], rows[first, column], role)
    return None
