"""Shape inference and constant folding before lowering, and which constants are parameters."""

from __future__ import annotations

__all__: list[str] = []
