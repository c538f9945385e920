"""What is known of values before they are lowered: shapes, constants that are no parameters, attributes."""

from __future__ import annotations

__all__: list[str] = []
