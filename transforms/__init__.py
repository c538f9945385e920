"""What a symmetry is good for: networks compared, aligned, merged and pruned. No torch."""

from __future__ import annotations

from .prune import Pruned, prune

__all__ = ["Pruned", "prune"]
