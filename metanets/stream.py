"""Layers of a metanetwork on graphs whose edge states do not fit: a piece of the edges at a time.

The state of an edge after any layer is a function of its value and of what the layers say of its ends, its type and
its graph. So it need not be kept: each layer computes it anew from the values, piece by piece, and so does the backward
pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch.utils.checkpoint import checkpoint

from ..kernels import Layout, Piece, Terms
from .layer import Edges

__all__ = ["Step", "block_sums", "edge_rows", "sums"]

Step = tuple[Edges, Terms]
"""An update of edges, and what it needs besides them."""


def sums(
    values: torch.Tensor, steps: Sequence[Step], layout: Layout, limit: int, kernel: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """What the last of `steps` sums over in-edges and over out-edges, [N, hidden] each; values: read by `layout`."""

    def of_piece(edges: torch.Tensor, into: torch.Tensor, out: torch.Tensor, _: Piece) -> torch.Tensor:
        return torch.stack([into, out])

    found = _pieces(of_piece, values, steps, layout, limit, kernel)
    total = next(found)
    for part in found:
        total = total + part
    return total[0], total[1]


def block_sums(values: torch.Tensor, steps: Sequence[Step], layout: Layout, limit: int, kernel: str) -> torch.Tensor:
    """Sums of the edge states after the last of `steps` over each block, [M, C], in float32 or float64."""

    def of_piece(edges: torch.Tensor, into: torch.Tensor, out: torch.Tensor, piece: Piece) -> torch.Tensor:
        kind = torch.float64 if edges.dtype == torch.float64 else torch.float32
        sizes = piece.layout.blocks[:, 1:5].prod(1).tolist()
        own = torch.stack([part.sum(0, dtype=kind) for part in edges.split(sizes)])
        numbers = torch.tensor(piece.numbers, device=own.device)
        return own.new_zeros(len(layout.blocks), own.shape[1]).index_add(0, numbers, own)

    found = _pieces(of_piece, values, steps, layout, limit, kernel)
    total = next(found)
    for part in found:
        total = total + part
    return total


def edge_rows(
    last: Callable[[torch.Tensor], torch.Tensor],
    values: torch.Tensor, steps: Sequence[Step], layout: Layout, limit: int, kernel: str,
) -> torch.Tensor:  # fmt: skip
    """`last` of the edge states after the last of `steps`, [E, outputs]."""
    return torch.cat(list(_pieces(lambda edges, *_: last(edges), values, steps, layout, limit, kernel)))


def _pieces(
    read: Callable[[torch.Tensor, torch.Tensor, torch.Tensor, Piece], torch.Tensor],
    values: torch.Tensor, steps: Sequence[Step], layout: Layout, limit: int, kernel: str,
) -> Iterator[torch.Tensor]:  # fmt: skip
    """What `read` makes of edges, sums into and sums out of every piece; nothing else of a piece is kept."""

    def run(piece: Piece) -> torch.Tensor:
        edges, where = values, piece.layout
        into = out = values
        for update, terms in steps:
            edges, into, out = update.update(edges, terms, where, kernel)
            where = piece.layout.dense
        return read(edges, into, out, piece)

    for piece in layout.pieces(limit):
        yield checkpoint(run, piece, use_reentrant=False) if torch.is_grad_enabled() else run(piece)
