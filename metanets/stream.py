"""Layers of a metanetwork on graphs whose edge states do not fit: a piece of the edges at a time.

The state of an edge after any layer is a function of its value and of what the layers say of its ends, its type and
its graph. So it need not be kept: each layer computes it anew from the values, piece by piece, and so does the backward
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch.utils.checkpoint import checkpoint

from ..kernels import Layout, Piece, Terms
from .layer import Edges

__all__ = ["Step", "Stream", "with_squares"]

Step = tuple[Edges, Terms]
"""An update of edges, and what it needs besides them."""

Read = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Piece], torch.Tensor]
"""What is wanted of a piece: of its edge states, of their sums over in-edges and out-edges, and of its layout."""


@dataclass(frozen=True, slots=True)
class Stream:
    """All edges of a graph, as updates from their values on. values: [rows, D], read by `layout`. limit: of a piece."""

    values: torch.Tensor
    layout: Layout
    limit: int
    kernel: str

    def sums(self, steps: Sequence[Step]) -> tuple[torch.Tensor, torch.Tensor]:
        """What the last of `steps` sums over in-edges and over out-edges, [N, hidden] each."""
        dst = steps[-1][1].dst
        total = dst.new_zeros(2, *dst.shape)
        for part in self._pieces(steps, lambda _, into, out, piece: torch.stack([into, out])):
            total = total + part
        return total[0], total[1]

    def block_sums(self, steps: Sequence[Step], squares: bool) -> torch.Tensor:
        """Sums of the edge states after the last of `steps` over each block, [M, C], in float32 or float64.

        squares: also of their squares, [M, 2 C].
        """
        kind = torch.float64 if self.values.dtype == torch.float64 else torch.float32

        def of_piece(edges: torch.Tensor, into: torch.Tensor, out: torch.Tensor, piece: Piece) -> torch.Tensor:
            sizes = piece.layout.blocks[:, 1:5].prod(1).tolist()
            own = torch.stack([with_squares(part.to(kind), squares).sum(0) for part in edges.split(sizes)])
            return torch.zeros_like(total).index_add(0, torch.tensor(piece.numbers, device=own.device), own)

        columns = (1 + squares) * len(steps[-1][1].b_out)
        total = self.values.new_zeros(len(self.layout.blocks), columns, dtype=kind)
        for part in self._pieces(steps, of_piece):
            total = total + part
        return total

    def rows(self, steps: Sequence[Step], last: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
        """`last` of the edge states after the last of `steps`, [E, outputs]."""
        none = last(self.values.new_zeros(0, len(steps[-1][1].b_out)))
        return torch.cat([none, *self._pieces(steps, lambda edges, *_: last(edges))])

    def _pieces(self, steps: Sequence[Step], read: Read) -> Iterator[torch.Tensor]:
        """What `read` makes of every piece after all of `steps`; nothing else of it is kept."""

        def of_piece(piece: Piece) -> torch.Tensor:
            first, then = steps[0], steps[1:]
            found = first[0].update(self.values, first[1], piece.layout, self.kernel)
            for update, terms in then:
                found = update.update(found[0], terms, piece.layout.dense, self.kernel)
            return read(*found, piece)

        for piece in self.layout.pieces(self.limit):
            yield checkpoint(of_piece, piece, use_reentrant=False) if torch.is_grad_enabled() else of_piece(piece)


def with_squares(rows: torch.Tensor, squares: bool) -> torch.Tensor:
    """The rows, and beside them their squares if asked: [n, C] to [n, C] or [n, 2 C]."""
    return torch.cat([rows, rows.square()], dim=1) if squares else rows
