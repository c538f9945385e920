"""Gather, edge MLP and scatter in one operation, `edge_update`, with several implementations; knows tensors only."""

from __future__ import annotations

from .layout import COLUMNS, Block, Layout
from .terms import Terms
from .update import edge_update, kernels, register

__all__ = ["COLUMNS", "Block", "Layout", "Terms", "edge_update", "kernels", "register"]
