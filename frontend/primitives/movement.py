"""Data movement on arrays that are too large to materialise: only what NumPy can express as a view."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from ..budget import MAX_POSITIONS
from ..errors import TooLarge

__all__ = ["apply_movement"]


def apply_movement(function: Callable[[np.ndarray], np.ndarray], array: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Apply data movement to an array.

    Args:
        function: The data movement.
        array: The array.
        shape: The shape of the result.

    Returns:
        `function(array)` in the given shape; views may be of any size.

    Raises:
        TooLarge: A result beyond the budget (`MAX_POSITIONS`) would be copied.
    """
    if math.prod(shape) <= MAX_POSITIONS:
        return function(array).reshape(shape)
    try:
        return function(array.view(_ViewsOnly)).reshape(shape).view(np.ndarray)
    except _WouldCopy:
        raise TooLarge(f"it copies {math.prod(shape):,} entries, more than {MAX_POSITIONS:,}") from None


class _WouldCopy(Exception):
    """An operation would copy an array that is too large."""


class _ViewsOnly(np.ndarray):
    """An array that refuses all operations but views."""

    def __array_function__(self, func: Any, types: Any, args: Iterable[Any], kwargs: Mapping[str, Any]) -> Any:
        if func not in _VIEWS:
            raise _WouldCopy
        plain = [a.view(np.ndarray) if isinstance(a, _ViewsOnly) else a for a in args]
        return func(*plain, **kwargs).view(_ViewsOnly)

    def __array_ufunc__(self, *args: Any, **kwargs: Any) -> Any:
        raise _WouldCopy

    def __getitem__(self, key: Any) -> Any:
        keys = key if isinstance(key, tuple) else (key,)
        if not all(k is None or k is Ellipsis or isinstance(k, slice | int | np.integer) for k in keys):
            raise _WouldCopy
        return super().__getitem__(key)

    def reshape(self, *shape: Any, **kwargs: Any) -> Any:
        """A view of this shape; raises `_WouldCopy` if there is none."""
        wanted = shape[0] if len(shape) == 1 and isinstance(shape[0], Sequence) else shape
        flat = self.view(np.ndarray)
        if -1 not in wanted and math.prod(wanted) != self.size:
            raise ValueError(f"cannot reshape {self.shape} into {tuple(wanted)}")
        try:
            return flat.reshape(wanted, copy=False).view(_ViewsOnly)
        except ValueError as error:
            raise _WouldCopy from error

    def _would_copy(self, *args: Any, **kwargs: Any) -> Any:
        raise _WouldCopy

    astype = choose = compress = copy = cumsum = flatten = ravel = repeat = take = _would_copy


_VIEWS = frozenset(
    {np.broadcast_to, np.expand_dims, np.flip, np.moveaxis, np.reshape, np.squeeze, np.swapaxes, np.transpose}
)
