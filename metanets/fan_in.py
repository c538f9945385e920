"""Values and sums normalised by fan-in, so that duplicating neurons leaves a metanetwork's output unchanged."""

from __future__ import annotations

from dataclasses import replace

import torch

from ..backends.blocks import Blocks
from ..ir import GmncError
from ..kernels import COLUMN, Layout
from .readout import is_single

__all__ = ["normalised"]


def normalised(graph: Blocks) -> tuple[torch.Tensor, Layout]:
    """Values times their number of sources [E, 1], and a layout that divides sums by edges per node of the block."""
    if is_single(graph):
        raise GmncError("fan_in needs blocks: tensors of single edges do not say how many sources a weight has")
    layout, rows = graph.layout, graph.rows().contiguous()
    divided = layout.cached("fan_in", lambda: _divided(layout))
    if layout.small:
        sources = layout.on_device[0][:, COLUMN.k].to(rows.dtype)
        edges = layout.per_edge
        return rows.index_select(0, edges.row) * sources[edges.block][:, None], divided
    parts = [rows[:0]]
    for block in layout:
        steps = (*block.strides, 1)
        parts.append((rows[block.value :].as_strided((*block.shape, 1), steps) * block.k).reshape(-1, 1))
    return torch.cat(parts), divided


def _divided(layout: Layout) -> Layout:
    """Reads dense edges, with sums over each block divided by its edges per node."""
    scale = []
    for block in layout:
        pairs = max(block.b * block.n * block.k, 1)
        scale.append([len(torch.unique(end)) / pairs for end in layout.ids(block)[:2]])
    # A cache of its own: `layout` caches this one, which must not reference it in turn.
    return replace(layout.dense, scale=torch.tensor(scale).reshape(-1, 2), _cache={})
