"""Networks that read networks: the graph metanetwork."""

from __future__ import annotations

from .files import load, save
from .gmn import GMN, HEADS

__all__ = ["GMN", "HEADS", "load", "save"]
