"""Transforms as passes of onnx-ir, to run beside other people's passes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import onnx_ir

from ..backends.onnx import write
from ..ir import GmncError
from .align import Alignment, Source, align
from .proof import Proof
from .prune import prune
from .pruning.report import Pruned
from .scramble import Scrambled, scramble

__all__ = ["Align", "Prune", "PruneResult", "Scramble"]


class Align(onnx_ir.passes.FunctionalPass):
    """Puts a model's neurons in the order of a reference of the same architecture.

    The alignment is in the attribute `result` (None before a run).

    Args:
        reference: An ONNX model, its path, or its graph.
        **options: As in `gmnc.align`.
    """

    def __init__(self, reference: Source, **options: Any) -> None:
        self.reference, self.options = reference, options
        self.result: Alignment | None = None

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Align a model.

        Args:
            model: The model; it is not modified.

        Returns:
            The aligned model, and whether a parameter has changed.

        Raises:
            GmncError: As raised by `gmnc.align`, or its proof fails.
        """
        self.result = align(self.reference, model, **self.options)
        _require(self.result.proof)
        values = self.result.values
        return onnx_ir.passes.PassResult(write(self.result.networks.b, values), bool(values))


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


class Scramble(onnx_ir.passes.FunctionalPass):
    """Changes a model by a random symmetry.

    What was changed is in the attribute `result` (None before a run).

    Args:
        seed: Seed of everything random.
        **options: As in `gmnc.scramble`.
    """

    def __init__(self, seed: int = 0, **options: Any) -> None:
        self.seed, self.options = seed, options
        self.result: Scrambled | None = None

    def call(self, model: onnx_ir.Model) -> onnx_ir.passes.PassResult:
        """Scramble a model.

        Args:
            model: The model; it is not modified.

        Returns:
            The changed model, and whether a parameter has changed.

        Raises:
            GmncError: As raised by `gmnc.scramble`, or its proof fails.
        """
        self.result = scramble(model, seed=self.seed, **self.options)
        _require(self.result.proof)
        values = self.result.values
        return onnx_ir.passes.PassResult(write(self.result.graph, values), bool(values))


def _require(proof: Proof) -> None:
    """Raise `GmncError` if a network that ran computes something else; one that cannot be run is passed on."""
    if proof.error is not None and not proof.holds:
        raise GmncError(f"the transformed model is not the same: {proof.summary}")
