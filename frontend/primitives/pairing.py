"""A weight matrix that is lowered like an activation: a node per row and per column, and an edge per element."""

from __future__ import annotations

import numpy as np

from ...ir import NodeKind
from .add_parameters import coordinates
from .elements import Elements
from .joins import Factors
from .labels import to_labels
from .state import State

__all__ = ["paired"]


def paired(state: State, elements: Elements, shape: tuple[int, ...], kernel: bool = False) -> Factors:
    """Create nodes for the rows (`param`) and columns (`neuron`) of a weight tensor, and edges from row to column.

    Args:
        state: The state of the lowering.
        elements: The elements of the tensor.
        shape: Its shape. Rows and columns are its last two axes longer than 1; positions along others are slots.
        kernel: Whether it is the kernel of a convolution, whose first two such axes are rows and columns.

    Returns:
        The labels of the rows and of the columns, one factor each.
    """
    wide = [a for a, n in enumerate(shape) if n > 1]
    axes, rest = (wide[:2], wide[2:]) if kernel else (wide[-2:], wide[:-2])
    rows, columns = state.nodes(NodeKind.PARAM, shape[axes[0]], 0), state.nodes(NodeKind.NEURON, shape[axes[1]], 1)
    order = [axes[1], axes[0], *rest, *(a for a, n in enumerate(shape) if n == 1)]
    entries = elements.move(lambda a: a.transpose(order).reshape(1, len(columns), len(rows), -1))
    slots = coordinates([shape[a] for a in rest])
    block = state.edges(columns[None], rows[None], np.zeros((1, 1), np.int32), entries, "source", slots)
    via = state.builder.via("Source", (), (0,), (block,))
    return tuple(
        to_labels(ids, via).reshape([n if b == a else 1 for b, n in enumerate(shape)])
        for ids, a in ((rows, axes[0]), (columns, axes[1]))
    )
