"""Gather, edge MLP and scatter in one operation, `edge_update`, with several implementations; knows tensors only."""

from __future__ import annotations

from .layout import COLUMNS, Block, Layout, Piece
from .terms import Terms
from .update import Fused, edge_update, kernels, register

__all__ = ["COLUMNS", "Block", "Fused", "Layout", "Piece", "Terms", "edge_update", "kernels", "register"]
