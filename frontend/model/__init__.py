"""Helpers on ONNX graphs that know nothing of lowering: traversal, schemas, opsets, metadata keys."""

from __future__ import annotations

__all__: list[str] = []
