"""The size limits of the front end, checked before anything of that size is allocated.

They bound what a small file can make the compiler compute, repeat or expand; weights in the file do not count, as
they are not read.
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
"""Axes of a tensor: the most that NumPy broadcasts."""

ELEMENTS = 1 << 40
"""Elements of any tensor, stored or not; axes of size 0 count as size 1."""

FOLDED = 1 << 22
"""Elements in memory of a folded constant."""

FOLDED_BYTES = 1 << 30
"""Total bytes of all folded constants."""

STEPS = 1 << 16
"""Work of folding an operator element by element in Python: output elements times window size."""

FOLDED_STEPS = 1 << 18
"""The same for all folded constants together."""

WEIGHT_STEPS = 1 << 21
"""The same for a computed weight that is evaluated on demand."""

OPERANDS = 1 << 12
"""Operands of a node to be lowered."""

MOST_OPERANDS = 1 << 14
"""Operands of any node."""

PLACES = 1 << 25
"""Places of a materialised grid, and entries of a tensor that data movement copies."""

LABELS = 1 << 23
"""Labels of one value, and elements of all sources whose elements get one label each."""

BLOCKS = 1 << 12
"""Edge blocks that a weight is split into where its elements are repeated."""

MOVES = 1 << 16
"""Distinct moves of the entries of one value; each is a via."""

VIAS = 1 << 20
"""Entries of a graph's via table."""

COPIED = 1 << 25
"""Elements of a weight that are indexed one by one: sparse, or moved in a way that is no strided view."""

DRAWN = 1 << 26
"""Entries of a randomly drawn input."""

SPARSE = 1 << 12
"""Sparse tensors, each of which is expanded to four nodes."""

MADE = 1 << 13
"""Nodes after inlining functions, or `MORE` times the nodes in the file if that is more."""

MORE = 8

LOOPED = 1 << 14
"""Nodes of a graph after unrolling loops."""

TRIPS = 64
"""Iterations of an unrolled loop."""

ENTRIES = 256
"""Entries of a sequence that is unpacked."""


def elements(shape: Iterable[int]) -> int:
    """The number of elements of a shape; axes of size 0 count as size 1."""
    return math.prod(max(int(n), 1) for n in shape)


def absurd(shape: Iterable[int]) -> str:
    """Why a shape exceeds the budget; empty if it does not."""
    sizes = list(shape)
    if len(sizes) > AXES:
        return f"{len(sizes)} axes, more than {AXES}"
    if (count := elements(sizes)) > ELEMENTS:
        return f"the shape {sizes} of {count:,} elements, more than {ELEMENTS:,}"
    return ""


def bear(count: int, most: int, what: str) -> None:
    """Raise `TooLarge` if `count` exceeds `most`; `what` names the things counted."""
    if count > most:
        raise TooLarge(f"it needs {count:,} {what}, more than {most:,}")
