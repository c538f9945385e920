"""The proof of a pruning: the small model and the masked original in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir

from ...testing import disagreement, run
from .reference import Reference

__all__ = ["Proof", "proved"]


@dataclass(frozen=True, slots=True)
class Proof:
    """How far the outputs of a pruned model are from those of the masked original.

    Attributes:
        error: The largest difference of an output, relative to its largest magnitude; None if nothing could be run.
        tolerance: The largest error that rounding explains.
        change: The same difference from the unmasked original; None if that was not run.
        statistics: The nodes whose statistic spans an axis that lost entries; the masked original takes it over what
            is left.
        reason: Why nothing could be run.
    """

    error: float | None
    tolerance: float
    change: float | None = None
    statistics: tuple[str, ...] = ()
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether the outputs are equal up to rounding."""
        return self.error is not None and self.error <= self.tolerance

    def line(self) -> str:
        """The proof in one line of text."""
        if self.error is None:
            return f"not checked: {self.reason}"
        what = "equal those of" if self.holds else "DIFFER from those of"
        masked = "the masked original"
        if self.statistics:
            more = f" and {len(self.statistics) - 1} more" if len(self.statistics) > 1 else ""
            masked += f" with statistics over what is left (not exact otherwise: {self.statistics[0]!r}{more} spans it)"
        change = "" if self.change is None else f"; pruning changes the outputs by {self.change:.2g}"
        return f"outputs {what} {masked}: error {self.error:.1e}, tolerance {self.tolerance:.1e}{change}"


def proved(
    small: onnx_ir.Model,
    reference: Reference,
    original: onnx_ir.Model,
    feeds: Sequence[Mapping[str, np.ndarray]],
    tolerance: float,
) -> Proof:
    """Run the pruned model, the masked original and the original on some inputs."""
    protos = [onnx_ir.to_proto(small), reference.model, onnx_ir.to_proto(original)]
    outputs = [[run(proto, feed) for feed in feeds] for proto in protos]
    error = max(disagreement(a, b) for a, b in zip(outputs[1], outputs[0], strict=True))
    change = max(disagreement(a, b) for a, b in zip(outputs[2], outputs[0], strict=True))
    return Proof(error, tolerance, change, reference.statistics)
