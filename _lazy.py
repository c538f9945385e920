"""Faces of packages whose names are loaded on first use."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

__all__ = ["lazy"]


def lazy(
    package: str, homes: Mapping[str, str], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """`__getattr__` and `__dir__` of a package.

    Args:
        package: Its full name.
        homes: For each public name the submodule that defines it, relative to the package.
        modules: Submodules that are public themselves.

    Returns:
        The two functions, to be assigned at the package's top level.
    """
    rooms = tuple(modules)

    def load(name: str) -> Any:
        if name in homes:
            found = getattr(import_module(f".{homes[name]}", package), name)
        elif name in rooms:
            found = import_module(f".{name}", package)
        else:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        # Importing a submodule of the same name (`coo`) has put the module in the name's place.
        setattr(sys.modules[package], name, found)
        return found

    return load, lambda: sorted({*homes, *rooms})
