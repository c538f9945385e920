"""From bytes to an onnx-ir model that the rest may rely on."""

from __future__ import annotations

__all__: list[str] = []
