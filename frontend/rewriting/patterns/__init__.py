"""Patterns of several operators that compute one thing together."""

from __future__ import annotations

__all__: list[str] = []
