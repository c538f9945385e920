"""Which of many like tests a plain run has. What is given are the values of `parametrize`: tuples for
several names, or what `pytest.param` made."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any

import pytest

__all__ = ["first", "one_of_each", "some"]


def first(count: int, values: Iterable[Any]) -> list[Any]:
    """The first of them for every run, the others for `pytest -m full`."""
    return [_in_tier(value, number < count) for number, value in enumerate(values)]


def some(chosen: Iterable[Any], values: Iterable[Any]) -> list[Any]:
    """The chosen ones for every run, the others for `pytest -m full`."""
    kept = [*chosen]
    return [_in_tier(value, value in kept) for value in values]


def one_of_each(kind: Callable[[Any], Hashable], values: Iterable[Any]) -> list[Any]:
    """The first of each kind for every run, the others for `pytest -m full`."""
    seen: set[Hashable] = set()
    marked = []
    for value in values:
        marked.append(_in_tier(value, kind(value) not in seen))
        seen.add(kind(value))
    return marked


def _in_tier(value: Any, plain: bool) -> Any:
    if plain:
        return value
    if isinstance(value, type(pytest.param())):
        return pytest.param(*value.values, marks=[*value.marks, pytest.mark.full], id=value.id)
    return pytest.param(*(value if isinstance(value, tuple) else [value]), marks=pytest.mark.full)
