"""Helpers shared by several rules."""

from __future__ import annotations

__all__: list[str] = []
