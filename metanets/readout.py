"""Means over blocks and graphs, which the invariant head reads."""

from __future__ import annotations

from typing import NamedTuple

import torch

from ..backends.blocks import Blocks
from .chunked import with_squares

__all__ = ["ReadoutTables", "block_means", "is_single", "over_graphs", "readout_tables"]


class ReadoutTables(NamedTuple):
    """Tables of the means over blocks; m of the M blocks carry parameters.

    Attributes:
        sizes: Number of edges of each of the M blocks.
        chosen: Numbers of the m blocks.
        divisors: float64 [M] on the device, `sizes` but at least 1.
        blocks: int64 [m] on the device, `chosen`.
        graph: int64 [m] on the device, the graph of each of the m blocks.
        shares: float64 [2, m] on the device, weight of a block in the mean over the edges and in the mean over the
            blocks of its graph.
    """

    sizes: list[int]
    chosen: list[int]
    divisors: torch.Tensor
    blocks: torch.Tensor
    graph: torch.Tensor
    shares: torch.Tensor


def readout_tables(graph: Blocks) -> ReadoutTables:
    """The tables of a graph or batch, cached with its layout."""
    found: ReadoutTables = graph.layout.cached("readout", lambda: _tables(graph))
    return found


def _tables(graph: Blocks) -> ReadoutTables:
    sizes = graph.layout.sizes
    chosen = ((sizes > 0) & graph.parameter_block).nonzero()[:, 0]
    of_graph = graph.block_graph[chosen]
    shares = []
    for weights in (sizes[chosen].double(), torch.ones(len(chosen), dtype=torch.float64)):
        total = weights.new_zeros(graph.num_graphs).index_add(0, of_graph, weights)
        shares.append(weights / total[of_graph])
    tables = (sizes.clamp(min=1).double(), chosen, of_graph, torch.stack(shares))
    return ReadoutTables(sizes.tolist(), chosen.tolist(), *(t.to(graph.values.device) for t in tables))


def block_means(edges: torch.Tensor, graph: Blocks, tables: ReadoutTables, squares: bool) -> torch.Tensor:
    """Mean edge state of each block with parameters, [m, C]; with `squares` also of their squares, [m, 2 C]."""
    kind = torch.float64 if edges.dtype == torch.float64 else torch.float32
    if graph.layout.small:
        rows = with_squares(edges.to(kind), squares)
        total = rows.new_zeros(len(tables.sizes), rows.shape[1]).index_add(0, graph.layout.per_edge.block, rows)
        return (total / tables.divisors.to(kind)[:, None]).index_select(0, tables.blocks)
    parts = edges.split(tables.sizes)
    means = [with_squares(parts[i].to(kind), squares).mean(0) for i in tables.chosen]
    return torch.stack(means) if means else edges.new_zeros(0, (1 + squares) * edges.shape[1], dtype=kind)


def over_graphs(means: torch.Tensor, graph: Blocks, tables: ReadoutTables, by_block: bool) -> torch.Tensor:
    """Mean over the blocks of each graph, [G, C]; each weighted by its number of edges unless `by_block`."""
    share = tables.shares[int(by_block)].to(means.dtype)[:, None]
    return means.new_zeros(graph.num_graphs, means.shape[1]).index_add(0, tables.graph, means * share)


def is_single(graph: Blocks) -> bool:
    """Whether the graph came from tensors of single edges, which do not say which edges form a parameter tensor."""
    return len(graph.segments) == 0 and bool(graph.parameter_block.any())
