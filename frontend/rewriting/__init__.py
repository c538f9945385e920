"""Rewriting passes: each brings the model into a form with fewer cases and keeps every parameter."""

from __future__ import annotations

__all__: list[str] = []
