"""The size limits of the front end, checked before anything of that size is allocated.

They bound what a small file can make the compiler compute, repeat or expand; weights in the file do not count, as
they are not read.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from .errors import TooLarge

__all__ = [
    "MAX_AXES",
    "MAX_BLOCKS",
    "MAX_ELEMENTS",
    "MAX_EXPANDED",
    "MAX_FOLDED_BYTES",
    "MAX_FOLDED_ELEMENTS",
    "MAX_FOLD_WORK",
    "MAX_INDEXED_ELEMENTS",
    "MAX_INLINED_NODES",
    "MAX_INLINING_FACTOR",
    "MAX_LABELS",
    "MAX_LOWERED_OPERANDS",
    "MAX_MOVES",
    "MAX_OPERANDS",
    "MAX_POSITIONS",
    "MAX_RANDOM_ELEMENTS",
    "MAX_SEQUENCE_ENTRIES",
    "MAX_SHARED",
    "MAX_SHARED_LABELS",
    "MAX_SPARSE_TENSORS",
    "MAX_TOTAL_FOLD_WORK",
    "MAX_TRIPS",
    "MAX_UNROLLED_NODES",
    "MAX_VIAS",
    "MAX_WEIGHT_WORK",
    "check_limit",
    "elements",
    "oversize_reason",
]

MAX_AXES = 32
"""Axes of a tensor: the most that NumPy broadcasts."""

MAX_ELEMENTS = 1 << 40
"""Elements of any tensor, stored or not; axes of size 0 count as size 1."""

MAX_FOLDED_ELEMENTS = 1 << 22
"""Elements in memory of a folded constant."""

MAX_FOLDED_BYTES = 1 << 30
"""Total bytes of all folded constants."""

MAX_FOLD_WORK = 1 << 16
"""Work of folding one operator element by element in Python: output elements times window size."""

MAX_TOTAL_FOLD_WORK = 1 << 18
"""The same for all folded constants together."""

MAX_WEIGHT_WORK = 1 << 21
"""The same for a computed weight that is evaluated on demand."""

MAX_LOWERED_OPERANDS = 1 << 14
"""Operands of a node to be lowered."""

MAX_OPERANDS = 1 << 14
"""Operands of any node in a file."""

MAX_POSITIONS = 1 << 25
"""Positions of a materialised grid, and entries of a tensor that data movement copies."""

MAX_EXPANDED = 1 << 20
"""Neurons that a constant has along the axes on which it expands an activation; beyond it, they are positions."""

MAX_SHARED = 1 << 7
"""Neurons that share a weight and may trade places; more are joined, as positions are."""

MAX_SHARED_LABELS = 1 << 13
"""The same, times the neurons that meet different entries of the weight."""

MAX_LABELS = 1 << 23
"""Labels of one value, and elements of all sources whose elements get one label each."""

MAX_BLOCKS = 1 << 12
"""Edge blocks that a weight is split into where its elements are repeated."""

MAX_MOVES = 1 << 16
"""Distinct moves of the entries of one value; each is a via."""

MAX_VIAS = 1 << 20
"""Entries of a graph's via table."""

MAX_INDEXED_ELEMENTS = 1 << 25
"""Elements of a weight that are indexed one by one: sparse, or moved in a way that is no strided view."""

MAX_RANDOM_ELEMENTS = 1 << 26
"""Elements of a randomly drawn input."""

MAX_SPARSE_TENSORS = 1 << 12
"""Sparse tensors, each of which is expanded to four nodes."""

MAX_INLINED_NODES = 1 << 13
"""Nodes after inlining functions; `MAX_INLINING_FACTOR` times the nodes in the file if that is more."""

MAX_INLINING_FACTOR = 8

MAX_UNROLLED_NODES = 1 << 14
"""Nodes of a graph after unrolling loops."""

MAX_TRIPS = 64
"""Iterations of an unrolled loop."""

MAX_SEQUENCE_ENTRIES = 256
"""Entries of a sequence that is unpacked."""


def elements(shape: Iterable[int]) -> int:
    """The number of elements of a shape; axes of size 0 count as size 1."""
    return math.prod(max(int(n), 1) for n in shape)


def oversize_reason(shape: Iterable[int]) -> str:
    """Why a shape exceeds the budget; empty if it does not."""
    sizes = list(shape)
    if len(sizes) > MAX_AXES:
        return f"{len(sizes)} axes, more than {MAX_AXES}"
    if (count := elements(sizes)) > MAX_ELEMENTS:
        return f"the shape {sizes} of {count:,} elements, more than {MAX_ELEMENTS:,}"
    return ""


def check_limit(count: int, most: int, what: str) -> None:
    """Raise `TooLarge` if `count` exceeds `most`; `what` names the things counted."""
    if count > most:
        raise TooLarge(f"it needs {count:,} {what}, more than {most:,}")
