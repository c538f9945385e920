"""How large things may become: every limit of the front end, checked before anything of that size is made.

Weights in a file do not count, as they are not read; what is computed, repeated or written out from a few bytes does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .errors import TooLarge

__all__ = [
    "AXES",
    "BLOCKS",
    "COPIED",
    "DRAWN",
    "ELEMENTS",
    "ENTRIES",
    "FOLDED",
    "FOLDED_BYTES",
    "FOLDED_STEPS",
    "LABELS",
    "LOOPED",
    "MADE",
    "MORE",
    "MOST_OPERANDS",
    "MOVES",
    "OPERANDS",
    "PLACES",
    "SPARSE",
    "STEPS",
    "TRIPS",
    "VIAS",
    "WEIGHT_STEPS",
    "absurd",
    "bear",
    "elements",
]

AXES = 32
"""Axes of a tensor: as many as NumPy broadcasts."""

ELEMENTS = 1 << 40
"""Elements of any tensor, stored or not; axes of length 0 count as of length 1."""

FOLDED = 1 << 22
"""Stored elements of a constant that is computed."""

FOLDED_BYTES = 1 << 30
"""Bytes of all constants that are computed, together."""

STEPS = 1 << 16
"""Elements of a constant whose operator is computed number by number, in Python, times the window of each."""

FOLDED_STEPS = 1 << 18
"""Those of all constants together."""

WEIGHT_STEPS = 1 << 21
"""Those of a weight that the file computes, where its numbers are asked for."""

OPERANDS = 1 << 12
"""Operands of a node that is lowered."""

MOST_OPERANDS = 1 << 14
"""Operands of any node."""

PLACES = 1 << 25
"""Places of a grid that is written out, and entries of a tensor that data movement copies."""

LABELS = 1 << 23
"""Labels of one value; and the elements of all sources together of which each gets a label of its own."""

BLOCKS = 1 << 12
"""Blocks of edges that a weight is cut into where elements of it are repeated."""

MOVES = 1 << 16
"""Different moves that the entries of one value make, each of which is a via."""

VIAS = 1 << 20
"""Entries of a graph's table of vias."""

COPIED = 1 << 25
"""Elements of a weight that is numbered one by one: stored sparsely, or moved so that no view of the file says it."""

DRAWN = 1 << 26
"""Entries of an input that is drawn at random."""

SPARSE = 1 << 12
"""Sparse tensors, each of which is written out with four nodes."""

MADE = 1 << 13
"""Nodes that inlining functions makes, or `MORE` times those that the file lists, if these are more."""

MORE = 8

LOOPED = 1 << 14
"""Nodes of a graph into which the bodies of loops are repeated."""

TRIPS = 64
"""Iterations of a loop that is repeated."""

ENTRIES = 256
"""Entries of a sequence that is taken apart."""


def elements(shape: Iterable[int]) -> int:
    """What a shape counts for."""
    return math.prod(max(int(n), 1) for n in shape)


def absurd(shape: Iterable[int]) -> str:
    """Why no tensor may have this shape; empty if one may."""
    sizes = list(shape)
    if len(sizes) > AXES:
        return f"{len(sizes)} axes, more than {AXES}"
    if (count := elements(sizes)) > ELEMENTS:
        return f"the shape {sizes} of {count:,} elements, more than {ELEMENTS:,}"
    return ""


def bear(count: int, most: int, what: str) -> None:
    """Raise `TooLarge` if `count` of something are more than `most`."""
    if count > most:
        raise TooLarge(f"it needs {count:,} {what}, more than {most:,}")
