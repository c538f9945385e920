"""Which entries of stored tensors leave the file: those whose edges all touch a removed node."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from ...ir import EdgeBlock, ParameterGraph
from .cuts import Cut, Uncuttable, cut_of, whole

__all__ = ["StoredCuts", "stored_cuts"]


@dataclass(frozen=True, slots=True, eq=False)
class StoredCuts:
    """The cuts of the tensors that lie on edges.

    Attributes:
        cuts: By name of a parameter or of a constant of the graph; tensors none of whose edges is removed are left out.
        partly: The names of those with entries that lie on no edge; what reads them must agree with the cut.
        refused: Why a tensor cannot be cut, by name.
    """

    cuts: dict[str, Cut] = field(default_factory=dict)
    partly: set[str] = field(default_factory=set)
    refused: dict[str, Uncuttable] = field(default_factory=dict)

    def of(self, name: str, shape: tuple[int, ...]) -> Cut:
        """The cut of a tensor. Raises `Uncuttable` if what is left of it has no shape."""
        if name in self.refused:
            raise self.refused[name]
        return self.cuts.get(name) or whole(shape)


def stored_cuts(graph: ParameterGraph, removed: np.ndarray) -> StoredCuts:
    """The cuts of all tensors of a graph.

    Args:
        graph: The graph.
        removed: bool [num_nodes], the nodes that leave it.
    """
    blocks: dict[str, list[EdgeBlock]] = {}
    for block in graph.edges:
        blocks.setdefault(block.view.name, []).append(block)
    found = StoredCuts()
    for name, some in blocks.items():
        if any(removed[b.dst].any() or removed[b.src].any() for b in some):
            shape = (graph.parameters.get(name) or graph.constants[name]).shape
            _add(found, name, shape, some, removed)
    return found


def _add(found: StoredCuts, name: str, shape: tuple[int, ...], blocks: list[EdgeBlock], removed: np.ndarray) -> None:
    state = _states(shape, blocks, removed)
    cut, kept = state == 1, state == 0
    if (state < 0).any():
        found.partly.add(name)
        for axis in range(len(shape)):
            # A line that has only removed entries and such without an edge goes as a whole.
            others = tuple(a for a in range(len(shape)) if a != axis)
            line = cut.any(axis=others, keepdims=True) & ~kept.any(axis=others, keepdims=True)
            cut = cut | line
    try:
        found.cuts[name] = cut_of(cut, shape)
    except Uncuttable as reason:
        ends = [x[removed[x]] for b in blocks for x in (b.dst, b.src)]
        found.refused[name] = Uncuttable(f"tensor {name!r}: {reason.reason}", np.concatenate(ends), reason.ragged)


def _states(shape: tuple[int, ...], blocks: list[EdgeBlock], removed: np.ndarray) -> np.ndarray:
    """For every entry 1 if all its edges touch a removed node, 0 if one does not, -1 if it has none; int8."""
    state = np.full(shape, -1, np.int8)
    for kept in (False, True):
        for block in blocks:
            gone = removed[block.dst][:, :, None] | removed[block.src][:, None, :]
            gone = np.broadcast_to(gone[..., None], block.shape)
            if block.view.index is not None:
                at = block.view.index[~gone] if kept else block.view.index
                state.reshape(-1)[at.reshape(-1)] = 0 if kept else 1
            elif kept:
                view = block.view.read(state)
                view[~gone] = 0
            else:
                block.view.write(state, np.ones(1, np.int8))
    return state
