"""Label tensors and the primitives of lowering, which transform them and add nodes, edges and links."""

from __future__ import annotations

__all__: list[str] = []
