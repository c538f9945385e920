"""Edge by edge with an index for each, and sums by torch_scatter: what message passing libraries do."""

from __future__ import annotations

import torch

from . import flat
from .layout import Layout
from .terms import Terms

__all__ = ["forward"]


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """See `gmnc.kernels.edge_update`."""
    return flat.forward(e, terms, layout, activation, residual, dtype, _sum)


def _sum(values: torch.Tensor, ids: torch.Tensor, count: int) -> torch.Tensor:
    # Imported here: it is optional, and loads a library.
    from torch_scatter import scatter_add

    return scatter_add(values, ids, dim=0, dim_size=count)
