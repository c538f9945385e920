"""An index per edge and sums by torch_scatter, as in message-passing libraries."""

from __future__ import annotations

import torch

from . import flat
from .layout import Layout
from .terms import Terms

__all__ = ["forward"]


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool, dtype: torch.dtype
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Compute `gmnc.kernels.edge_update`."""
    return flat.forward(e, terms, layout, activation, residual, dtype, _sum)


def _sum(values: torch.Tensor, ids: torch.Tensor, count: int) -> torch.Tensor:
    # Imported here, as it is optional and loads a shared library.
    from torch_scatter import scatter_add

    return scatter_add(values, ids, dim=0, dim_size=count)
