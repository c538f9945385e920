"""What knows an ONNX graph, and nothing of lowering."""

from __future__ import annotations

__all__: list[str] = []
