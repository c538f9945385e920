"""The reference implementation: plain differentiable torch, block by block."""

from __future__ import annotations

import torch

from .activations import ACTIVATIONS
from .layout import Block, Layout
from .terms import Terms

__all__ = ["forward"]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool, dtype: torch.dtype
) -> Outputs:
    """Compute `gmnc.kernels.edge_update`."""
    nodes, width = terms.dst.shape
    in_sum, out_sum = (terms.dst.new_zeros(nodes, width) for _ in range(2))
    rows = []
    for block in layout:
        dst, src, types = layout.ids(block)
        state = _state(e, block).to(terms.dst.dtype)
        hidden = ACTIVATIONS[activation](
            state @ terms.w_in
            + terms.dst[dst][:, :, None, None]
            + terms.src[src][:, None, :, None]
            + terms.type[types][:, None]
        )
        new = hidden @ terms.w_out + terms.b_out
        rows.append((new + state if residual else new).reshape(-1, new.shape[-1]).to(dtype))
        in_sum = in_sum.index_add(0, dst.reshape(-1), block.scale_in * hidden.sum((2, 3)).reshape(-1, width))
        out_sum = out_sum.index_add(0, src.reshape(-1), block.scale_out * hidden.sum((1, 3)).reshape(-1, width))
    return torch.cat(rows) if rows else e.new_zeros(0, terms.w_out.shape[1], dtype=dtype), in_sum, out_sum


def _state(e: torch.Tensor, block: Block) -> torch.Tensor:
    """The edge states of one block, [B, N, K, S, D]."""
    axes = [torch.arange(n, device=e.device) * step for n, step in zip(block.shape, block.strides, strict=True)]
    b, n, k, s = (a.view([-1 if i == j else 1 for j in range(4)]) for i, a in enumerate(axes))
    return e[block.value + b + n + k + s]
