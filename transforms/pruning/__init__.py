"""How pruning works: positions of families, cuts of values, and the rewriting of nodes."""

from __future__ import annotations

__all__: list[str] = []
