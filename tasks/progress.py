"""How long work reports its progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["OnProgress"]

OnProgress = Callable[[str, int, int], None]
"""Called with a description, the number of steps done, and the number of steps in all."""
