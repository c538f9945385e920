"""A weight matrix that is lowered like an activation: a node per row and per column, and an edge per element."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ...ir import NodeKind
from .add_parameters import coordinates
from .elements import Elements
from .joins import Factors
from .labels import to_labels, varying
from .state import State
from .values import Value

__all__ = ["matrix_axes", "neuron_axes", "paired", "paired_by_group"]


def matrix_axes(shape: Sequence[int], kernel: bool) -> tuple[int, int]:
    """The axes of a weight's rows and columns, two of those longer than 1.

    Args:
        shape: The shape of the weight.
        kernel: Whether it is the kernel of a convolution, whose first two such axes they are, rather than its last two.

    Returns:
        The axes.
    """
    wide = [a for a, n in enumerate(shape) if n > 1]
    rows, columns = wide[:2] if kernel else wide[-2:]
    return rows, columns


def neuron_axes(value: Value, operands: Sequence[Value | None], kernel: bool) -> tuple[int, ...]:
    """The axes along which a constant operand of an elementwise operator has neurons of its own.

    These are the axes along which a parameter expands the activations (all have size 1, or copies, there), and those on
    which it meets neurons of theirs. Along other axes it holds one number per position.

    Args:
        value: The constant.
        operands: All operands.
        kernel: Whether the result is used as the kernel of a convolution.

    Returns:
        The axes; none if the constant is to be added to neurons of the activations.
    """
    wide = {a - value.rank for a, n in enumerate(value.shape) if n > 1}
    active = [v for v in operands if v is not None and v.is_activation]
    labelled = [[{a - f.ndim for a in varying(f)} for f in v.factors] for v in active]
    occupied = {a - v.rank for v in active for a, n in enumerate(v.shape) if n > 1 and a not in v.copy_axes}
    met = wide & {a for factors in labelled for own in factors for a in own}
    axes: set[int] = set()
    if value.data is None and wide - occupied:
        axes = (wide - occupied) | met
        if kernel and len(wide) > 2:
            axes = {a - value.rank for a in matrix_axes(value.shape, kernel)}
    elif len(wide) == 2 and any(sum(not wide.isdisjoint(own) for own in factors) > 1 for factors in labelled):
        axes = wide
    return tuple(sorted(a + value.rank for a in axes))


def paired(
    state: State, elements: Elements, shape: tuple[int, ...], rows: Sequence[int], columns: Sequence[int]
) -> Factors:
    """Create nodes for the rows (`param`) and columns (`neuron`) of a weight tensor, and edges from row to column.

    Args:
        state: The state of the lowering.
        elements: The elements of the tensor.
        shape: Its shape.
        rows: The axes of its rows, ascending.
        columns: The axes of its columns, ascending; positions along others are slots.

    Returns:
        The labels of the rows and of the columns, one factor each.
    """
    rest = [a for a, n in enumerate(shape) if n > 1 and a not in rows and a not in columns]
    counts = [math.prod(shape[a] for a in axes) for axes in (rows, columns)]
    sources, targets = state.nodes(NodeKind.PARAM, counts[0], 0), state.nodes(NodeKind.NEURON, counts[1], 1)
    given = [*columns, *rows, *rest]
    order = [*given, *(a for a in range(len(shape)) if a not in given)]
    entries = elements.move(lambda a: a.transpose(order).reshape(1, len(targets), len(sources), -1))
    slots = coordinates([shape[a] for a in rest])
    block = state.edges(targets[None], sources[None], np.zeros((1, 1), np.int32), entries, "source", slots)
    via = state.builder.via("Source", (), (0,), (block,))
    return tuple(
        to_labels(ids, via).reshape([n if a in axes else 1 for a, n in enumerate(shape)])
        for ids, axes in ((sources, rows), (targets, columns))
    )


def paired_by_group(state: State, elements: Elements, shape: tuple[int, ...], groups: int) -> Factors:
    """The same for the kernel of a convolution in groups, each of which has its own rows and columns.

    Args:
        state: The state of the lowering.
        elements: The elements of the kernel.
        shape: Its shape: channels of all groups, channels of one group, positions.
        groups: The number of groups.

    Returns:
        The labels of the channels of all groups, and those of the others, which vary along the first axis too.
    """
    many, each = shape[:2]
    own = np.repeat(np.arange(groups), many // groups)
    rows = state.nodes(NodeKind.PARAM, groups * each, 0).reshape(groups, each)
    columns = state.nodes(NodeKind.NEURON, many, 1)
    entries = elements.move(lambda a: a.reshape(groups, many // groups, each, -1))
    slots = coordinates([n for n in shape[2:] if n > 1])
    block = state.edges(columns.reshape(groups, -1), rows, np.zeros((1, 1), np.int32), entries, "source", slots)
    via = state.builder.via("Source", (), (0,), (block,))
    ones = (1,) * (len(shape) - 2)
    return to_labels(columns, via).reshape(many, 1, *ones), to_labels(rows[own], via).reshape(many, each, *ones)
