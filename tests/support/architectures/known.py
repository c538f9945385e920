"""Symmetry groups that were derived by hand: log10 of the number of permutations, for each architecture.

Sizes are those of the configurations in this folder.
"""

from __future__ import annotations

from . import known_convolutions, known_diffusion, known_graphs, known_language, known_transformers

__all__ = ["KNOWN"]

KNOWN: dict[str, float] = {}
for _part in (known_language, known_transformers, known_convolutions, known_diffusion, known_graphs):
    _twice = KNOWN.keys() & _part.KNOWN.keys()
    if _twice:
        raise ValueError(f"two groups are known of {sorted(_twice)}")
    KNOWN |= _part.KNOWN
