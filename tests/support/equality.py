"""Equality of graphs by value."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import numpy as np

from gmnc.ir import Parameter

__all__ = ["same"]


def same(a: Any, b: Any) -> None:
    """Equality of graph parts by value, arrays included; two parameters are equal if their numbers are."""
    if isinstance(a, Parameter):
        left, right = a.load(), b.load()
        assert (a.name, a.shape, a.dtype, a.origin) == (b.name, b.shape, b.dtype, b.origin)
        assert (left.shape, left.dtype, left.tobytes()) == (right.shape, right.dtype, right.tobytes())
    elif isinstance(a, np.ndarray):
        assert (a.shape, a.dtype) == (b.shape, b.dtype)
        assert a.tobytes() == b.tobytes()
    elif isinstance(a, dict):
        assert list(a) == list(b)
        same(list(a.values()), list(b.values()))
    elif isinstance(a, tuple | list):
        assert type(a) is type(b)
        assert len(a) == len(b)
        for x, y in zip(a, b, strict=True):
            same(x, y)
    elif hasattr(a, "__dataclass_fields__"):
        assert type(a) is type(b)
        for field in fields(a):
            same(getattr(a, field.name), getattr(b, field.name))
    else:
        assert type(a) is type(b)
        assert a == b
