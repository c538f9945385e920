"""Networks that read networks: the graph metanetwork."""

from __future__ import annotations

from .gmn import GMN, HEADS

__all__ = ["GMN", "HEADS"]
