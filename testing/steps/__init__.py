"""The steps that `networks` draws, by operator family."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..sketch import Sketch
from . import (
    attention,
    classic,
    control,
    convolution,
    derived,
    elementwise,
    expanded,
    indexed,
    linear,
    movement,
    normalisation,
    recurrent,
    reduction,
    routed,
    sequences,
    shared,
    sizes,
    sources,
    streams,
    twins,
)

__all__ = ["STEPS"]

_PLAIN: Mapping[str, Callable[[Sketch], None]] = {
    **linear.STEPS,
    **convolution.STEPS,
    **elementwise.STEPS,
    **movement.STEPS,
    **normalisation.STEPS,
    **reduction.STEPS,
    **attention.STEPS,
    **recurrent.STEPS,
    **control.STEPS,
    **sequences.STEPS,
    **sources.STEPS,
    **classic.STEPS,
    **derived.STEPS,
    **expanded.STEPS,
    **indexed.STEPS,
    **shared.STEPS,
    **sizes.STEPS,
    **streams.STEPS,
    **routed.STEPS,
}
STEPS: Mapping[str, Callable[[Sketch], None]] = {**_PLAIN, "twins": twins.twins(_PLAIN)}
"""Family -> step; a step takes values from the pool of a sketch and adds new ones."""
