"""Edge by edge with an index for each, and sums by torch_scatter: what message passing libraries do."""

from __future__ import annotations

import numpy as np
import torch

from .activations import ACTIVATIONS
from .layout import Layout
from .terms import Terms

__all__ = ["expand", "forward"]


def expand(layout: Layout) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """What each edge reads: dst, src, type and value row, int64 [edges], and the number of its block."""
    parts: list[list[torch.Tensor]] = [[], [], [], [], []]
    for number, block in enumerate(layout):
        dst, src, types = layout.ids(block)
        grid = np.ix_(
            *(np.arange(n, dtype=np.int64) * step for n, step in zip(block.shape, block.strides, strict=True))
        )
        rows = torch.from_numpy(block.value + sum(grid)).to(dst.device)
        of_block = torch.full((), number, device=dst.device)
        found = (dst[:, :, None, None], src[:, None, :, None], types[:, None], rows, of_block)
        for part, ids in zip(parts, found, strict=True):
            part.append(ids.long().expand(block.shape).reshape(-1))
    empty = torch.zeros(0, dtype=torch.int64, device=layout.dst.device)
    dst, src, types, rows, numbers = (torch.cat([empty, *part]) for part in parts)
    return dst, src, types, rows, numbers


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `gmnc.kernels.edge_update`."""
    from torch_scatter import scatter_add

    dst, src, types, rows, numbers = expand(layout)
    state = e[rows].to(terms.dst.dtype)
    hidden = ACTIVATIONS[activation](state @ terms.w_in + terms.dst[dst] + terms.src[src] + terms.type[types])
    new = hidden @ terms.w_out + terms.b_out
    scale = layout.scale.to(hidden)[numbers.to(layout.scale.device)].to(hidden)
    into = scatter_add(hidden * scale[:, :1], dst, dim=0, dim_size=len(terms.dst))
    out = scatter_add(hidden * scale[:, 1:], src, dim=0, dim_size=len(terms.dst))
    return (new + state if residual else new).to(dtype), into, out
