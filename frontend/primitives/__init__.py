"""Label tensors, and what the primitives of lowering do to them."""

from __future__ import annotations

__all__: list[str] = []
