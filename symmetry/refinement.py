"""Colour refinement: classes of items that split until they are stable (1-dimensional Weisfeiler-Leman)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..ir.arrays import distinct

__all__ = ["GOLDEN", "refined"]

GOLDEN = np.uint64(0x9E3779B97F4A7C15)
"""2^64 over the golden ratio: a constant that tells terms of a hash apart."""


def refined(colour: np.ndarray, step: Callable[[np.ndarray], np.ndarray], rounds: int | None = None) -> np.ndarray:
    """Colours after rounds of messages, until no more classes appear.

    Args:
        colour: Of each item, integers [n].
        step: One round: new colours [n] from old ones; unequal ones must stay unequal.
        rounds: At most so many; None for no limit.

    Returns:
        Colours [n], equal for items that refinement cannot tell apart.
    """
    classes, left = 0, rounds
    while left != 0 and (found := len(distinct(colour))) != classes:
        classes, left = found, None if left is None else left - 1
        colour = step(colour)
    return colour
