"""Loop-carried values: join nodes in a cycle, found by partition refinement.

At the start of an iteration a carried value is labelled with join nodes. Which entries share a node depends on the
labels of the initial value and of the body's result, which depends on the carried labels in turn. So lowering starts
with all entries on one node and is repeated with a finer partition until it is stable: entries on one node then have
equal initial values and equal updates. Other operands are read entry by entry.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...ir import LinkRole, NodeKind
from ...ir.arrays import distinct, distinct_rows
from .grid import free_axes, spread
from .joins import Factors, Operand, independent, shared_neuron
from .labels import compress, map_via, nodes_of, to_labels, varying
from .state import State

__all__ = ["carry", "close", "read_by_step"]


def carry(state: State, classes: np.ndarray, initial: Factors) -> np.ndarray:
    """Label a carried value with one join node per class.

    Args:
        state: The state of the lowering.
        classes: The class of each entry, numbered from 0, int64.
        initial: Labels of the initial value.

    Returns:
        The labels, int64, of the shape of `classes`.
    """
    depth = max((state.depth(f) for f in initial), default=0)
    ids = state.nodes(NodeKind.JOIN, int(classes.max()) + 1 if classes.size else 0, depth)
    return to_labels(ids)[classes]


def close(state: State, carried: Operand, initial: Operand, end: Operand) -> np.ndarray | None:
    """Link the initial value and the body's result to the carried nodes.

    Args:
        state: The state of the lowering.
        carried: The carried value, of one factor like the others.
        initial: Its initial value.
        end: The body's result.

    Returns:
        None, or a finer partition (the class of each entry) if entries of one node would get different links.
    """
    operands = [carried, initial, end]
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


def read_by_step(
    state: State, factors: Factors, shape: tuple[int, ...], axis: int, attributes: Mapping[str, Any]
) -> Factors:
    """Label the entry that an iteration reads; labels that differ along the axis are joined.

    Args:
        state: The state of the lowering.
        factors: Labels of the operand.
        shape: Its shape.
        axis: The axis along which each iteration reads one entry.
        attributes: Attributes of the step, which names the axis by its number in the grid.

    Returns:
        The labels, without the axis.
    """
    free = free_axes(factors, shape)
    labelled = any(f.shape[axis] > 1 for f in factors)
    items = {"axis": sorted({axis, *free}).index(axis), **attributes}
    entry = (slice(None),) * axis + (0,)
    out = []
    for factor in factors:
        here = shared_neuron(state, factor, (axis,), beside=free) if factor.shape[axis] > 1 else factor
        reads = factor.shape[axis] > 1 or not labelled
        marked = map_via(here, lambda v: state.builder.via("Step", items.items(), (v,))) if reads else here
        out.append(marked[entry])
    return independent(state, out)
