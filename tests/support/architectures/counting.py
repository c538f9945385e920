"""What derivations of symmetry groups are made of: log10 of numbers of permutations."""

from __future__ import annotations

from math import lgamma, log

__all__ = ["HIDDEN", "STREAM", "attention", "blocks", "ways"]

STREAM, HIDDEN = 24, 40


def ways(*sizes: int) -> float:
    """log10 of the product of the factorials."""
    return sum(lgamma(n + 1) for n in sizes) / log(10)


def blocks(count: int, size: int) -> float:
    """As many blocks trade places, and so do the members of each."""
    return ways(count) + count * ways(size)


def attention(heads: int, *dims: int) -> float:
    """Heads trade places, and within each head the features of every kind (queries with keys, values) do."""
    return ways(heads) + heads * ways(*dims)
