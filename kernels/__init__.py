"""Gather, edge MLP and scatter fused into one operation, `edge_update`, with several implementations."""

from __future__ import annotations

from .activations import ACTIVATIONS
from .layout import COLUMN, COLUMNS, Block, Chunk, EdgeTable, Layout, block_table
from .terms import Terms
from .update import Fused, edge_update, kernels, register

__all__ = [
    "ACTIVATIONS",
    "COLUMN",
    "COLUMNS",
    "Block",
    "Chunk",
    "EdgeTable",
    "Fused",
    "Layout",
    "Terms",
    "block_table",
    "edge_update",
    "kernels",
    "register",
]
