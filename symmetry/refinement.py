"""The fixed-point loop of colour refinement (1-dimensional Weisfeiler-Leman): classes split until they are stable."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir.arrays import distinct

__all__ = ["GOLDEN", "refined"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio, as in splitmix64: separates the terms of a hash."""


def refined(colour: np.ndarray, one_round: Callable[[np.ndarray], np.ndarray], rounds: int | None = None) -> np.ndarray:
    """Refine colours until the number of classes no longer grows.

    Args:
        colour: Integers [n], the initial colours.
        one_round: New colours [n] from old ones; items of unequal colours must keep unequal ones.
        rounds: The most rounds to make; None for no limit.

    Returns:
        Colours [n], equal for items that refinement cannot tell apart.
    """
    classes, left = 0, rounds
    while left != 0 and (found := len(distinct(colour))) != classes:
        classes, left = found, None if left is None else left - 1
        colour = one_round(colour)
    return colour
