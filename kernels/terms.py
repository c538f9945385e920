"""What an edge update computes with, apart from the edges: terms per node and per type, and two small matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["Terms"]


class Terms(NamedTuple):
    """dst, src: [num_nodes, H], added to the hidden layer of an edge by its ends. type: [num_types, H], by its type.

    w_in: [D, H], for the edge state. w_out: [H, O] and b_out: [O], from the hidden layer to the new state.
    """

    dst: torch.Tensor
    src: torch.Tensor
    type: torch.Tensor
    w_in: torch.Tensor
    w_out: torch.Tensor
    b_out: torch.Tensor
