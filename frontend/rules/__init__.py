"""The built-in lowering rules, one operator family per file."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pkgutil import iter_modules

__all__ = ["load"]


@cache
def load() -> None:
    """Import every file of this folder, which registers its rules."""
    for module in iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")
