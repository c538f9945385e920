"""Reads an ONNX file into a validated onnx-ir model, weights left in the file."""

from __future__ import annotations

__all__: list[str] = []
