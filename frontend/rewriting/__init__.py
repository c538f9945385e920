"""A model in a form with fewer cases: each pass puts nodes in the place of others and keeps every parameter."""

from __future__ import annotations

__all__: list[str] = []
