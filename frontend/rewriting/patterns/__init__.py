"""Patterns of several operators that together compute one function."""

from __future__ import annotations

__all__: list[str] = []
