"""Layers of a metanetwork on graphs whose edge states do not fit into memory, one chunk of edges at a time.

The state of an edge after any layer is a function of its value and of the layers' terms for its ends, type and graph.
No state is kept: each layer, and the backward pass, recomputes the states from the values, chunk by chunk.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from ..kernels import Chunk, Layout, Terms
from .layer import EdgeUpdate

__all__ = ["ChunkedEdges", "Update", "with_squares"]

Update = tuple[EdgeUpdate, Terms]
"""An edge update and its operands other than the edge states."""

Read = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Chunk], torch.Tensor]
"""Reduces a chunk: takes its edge states, their sums over in-edges and over out-edges, and the chunk itself."""


@dataclass(frozen=True, slots=True)
class ChunkedEdges:
    """The edges of a graph, whose states are recomputed from their values.

    Attributes:
        values: Features of the values [rows, D], which `layout` reads.
        layout: Layout of all edges.
        limit: Largest number of edges in a chunk.
        kernel: See `gmnc.kernels.edge_update`.
    """

    values: torch.Tensor
    layout: Layout
    limit: int
    kernel: str

    def sums(self, updates: Sequence[Update]) -> tuple[torch.Tensor, torch.Tensor]:
        """Sums of the last update over in-edges and over out-edges, [N, inner_channels] each."""
        dst = updates[-1][1].dst
        total = dst.new_zeros(2, *dst.shape)
        for part in self._chunks(updates, lambda _, in_sum, out_sum, chunk: torch.stack([in_sum, out_sum])):
            total = total + part
        return total[0], total[1]

    def block_sums(self, updates: Sequence[Update], squares: bool) -> torch.Tensor:
        """Sum of the edge states over each block after all updates, [M, C], in float32 or float64.

        With `squares` followed by the sum of their squares, [M, 2 C].
        """
        kind = torch.float64 if self.values.dtype == torch.float64 else torch.float32

        def of_chunk(edges: torch.Tensor, in_sum: torch.Tensor, out_sum: torch.Tensor, chunk: Chunk) -> torch.Tensor:
            sizes = chunk.layout.sizes.tolist()
            own = torch.stack([with_squares(part.to(kind), squares).sum(0) for part in edges.split(sizes)])
            return torch.zeros_like(total).index_add(0, torch.tensor(chunk.numbers, device=own.device), own)

        columns = (1 + squares) * len(updates[-1][1].b_out)
        total = self.values.new_zeros(len(self.layout.blocks), columns, dtype=kind)
        for part in self._chunks(updates, of_chunk):
            total = total + part
        return total

    def rows(self, updates: Sequence[Update], last: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """Apply `last` to the edge states after all updates, [E, out_channels]."""
        none = last(self.values.new_zeros(0, len(updates[-1][1].b_out)))
        return torch.cat([none, *self._chunks(updates, lambda edges, *_: last(edges))])

    def _chunks(self, updates: Sequence[Update], read: Read) -> Iterator[torch.Tensor]:
        """The result of `read` for every chunk after all updates; nothing else of a chunk is kept."""

        def of_chunk(chunk: Chunk) -> torch.Tensor:
            first, then = updates[0], updates[1:]
            found = first[0].update(self.values, first[1], chunk.layout, self.kernel)
            for update, terms in then:
                found = update.update(found[0], terms, chunk.layout.dense, self.kernel)
            return read(*found, chunk)

        for chunk in self.layout.chunks(self.limit):
            yield checkpoint(of_chunk, chunk, use_reentrant=False) if torch.is_grad_enabled() else of_chunk(chunk)


def with_squares(rows: torch.Tensor, squares: bool) -> torch.Tensor:
    """The rows [n, C]; with `squares` followed by their squares, [n, 2 C]."""
    return torch.cat([rows, rows.square()], dim=1) if squares else rows
