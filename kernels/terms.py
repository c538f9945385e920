"""Operands of an edge update other than the edge states: terms per node and per type, and two small matrices."""

from __future__ import annotations

from typing import NamedTuple

import torch

__all__ = ["Terms"]


class Terms(NamedTuple):
    """Operands of `edge_update` other than the edge states.

    Attributes:
        dst: [num_nodes, H], added to the hidden layer of an edge, by destination.
        src: [num_nodes, H], by source.
        type: [num_types, H], by type.
        w_in: [D, H], from the edge state to the hidden layer.
        w_out: [H, O], from the hidden layer to the new state.
        b_out: [O], bias of the new state.
    """

    dst: torch.Tensor
    src: torch.Tensor
    type: torch.Tensor
    w_in: torch.Tensor
    w_out: torch.Tensor
    b_out: torch.Tensor
