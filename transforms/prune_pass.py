"""Pruning as a pass of onnx-ir."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir

from .prune import prune
from .pruning.report import Pruned

__all__ = ["Prune", "PruneResult"]


@dataclass
class PruneResult(onnx_ir.passes.PassResult):
    """The result of the pass: the pruned model, and what was removed."""

    pruned: Pruned


class Prune(onnx_ir.passes.FunctionalPass):
    """Removes positions of symmetric families from a model; the model that it is given stays as it is.

    The report is in the result and, for pipelines that drop results, in the attribute `pruned` (None before a run).

    Args:
        ratio: The share of positions to remove.
        **options: As in `gmnc.prune`, but `path`.
    """

    def __init__(self, ratio: float = 0.5, **options: Any) -> None:
        self.ratio, self.options = ratio, options
        self.pruned: Pruned | None = None

    def call(self, model: onnx_ir.Model) -> PruneResult:
        """Prune a model.

        Args:
            model: The model; it is not modified.

        Returns:
            The pruned model, and the report.

        Raises:
            GmncError: As raised by `gmnc.prune`.
        """
        self.pruned = prune(model, self.ratio, **{"measure": False, **self.options})
        return PruneResult(self.pruned.model, True, self.pruned)
