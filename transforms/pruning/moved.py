"""Cuts of results without labels, where an operator only moves entries."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .cuts import cut_of
from .step import Step

__all__ = ["moved"]


def moved(step: Step, function: Callable[[np.ndarray], np.ndarray], index: int = 0) -> None:
    """Set the cut of a result that has no labels: the operator runs on the entries that are removed."""
    out = step.node.outputs[index]
    if step.outs[index] is not None or out not in step.all.known:
        return
    cut, shape = step.cut(0), step.all.known[out].shape
    if not cut.any:
        step.outs[index] = cut_of(np.zeros((1,) * len(shape), bool), shape)
    else:
        step.outs[index] = cut_of(function(np.broadcast_to(cut.removed, cut.shape)).reshape(shape), shape)
