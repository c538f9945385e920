"""Passes of onnx-ir that transform a model by the symmetries of its parameter graph."""

from __future__ import annotations

from .transforms.passes import Align, Prune, Scramble

__all__ = ["Align", "Prune", "Scramble"]
