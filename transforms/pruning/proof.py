"""The proof of a pruning: the small model and the masked original in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir

from ...testing.precision import AMPLIFIED
from ...testing.processes import NotRunnable, Runner
from ..proof import Proof, largest_difference, noise
from .reference import Reference
from .saving import written

__all__ = ["NOT_FINITE", "PruningProof", "proved"]

NOT_FINITE = "outputs of the masked original are not finite"

Feeds = Sequence[Mapping[str, np.ndarray]]


@dataclass(frozen=True, slots=True)
class PruningProof(Proof):
    """Whether a pruned model computes what the masked original does.

    Attributes:
        change: The largest difference of an output from those of the unmasked original; None if they were not run.
        statistics: The nodes whose statistic spans an axis that lost entries; the masked original takes it over what
            is left.
    """

    change: float | None = None
    statistics: tuple[str, ...] = ()

    def _verdict(self, error: float) -> str:
        what = "equal those of" if self.holds else "DIFFER from those of"
        masked = "the masked original"
        if self.statistics:
            more = f" and {len(self.statistics) - 1} more" if len(self.statistics) > 1 else ""
            masked += (
                f" with statistics over what is left (not exact: a statistic spans it at {self.statistics[0]!r}{more})"
            )
        change = "" if self.change is None else f"; pruning changes the outputs by {self.change:.2g}"
        return f"outputs {what} {masked}: error {error:.1e}, tolerance {self.tolerance:.1e}{change}"

    def to_json(self) -> dict[str, object]:
        """The proof as JSON data."""
        return {
            "error": self.error, "tolerance": self.tolerance, "change": self.change, "statistics": self.statistics,
            "reason": self.reason, "holds": self.holds,
        }  # fmt: skip


def proved(
    small: onnx_ir.Model, reference: Reference, original: onnx_ir.Model, feeds: Feeds, tolerance: float, runner: Runner
) -> PruningProof:
    """Run the pruned model, the masked original and the original.

    Args:
        small: The pruned model.
        reference: The masked original.
        original: The original.
        feeds: The inputs of each run.
        tolerance: The relative error to allow. If it is exceeded, the masked original is run with slightly changed
            parameters, and three times the effect is allowed.
        runner: What runs them.

    Returns:
        The proof; it has a reason instead of an error if ONNX Runtime does not run the original.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        try:
            whole = runner.run(written(original, folder, "original.onnx"), feeds)
            masked = runner.run(written(reference.model, folder, "masked.onnx"), feeds)
        except NotRunnable as reason:
            return PruningProof(None, reason=str(reason))
        if not all(np.isfinite(a).all() for out in masked for a in out.values() if a.dtype.kind == "f"):
            return PruningProof(None, reason=NOT_FINITE)
        try:
            found = runner.run(written(small, folder, "small.onnx"), feeds)
        except NotRunnable as reason:
            return PruningProof(float("inf"), tolerance, reason=f"the pruned model does not run: {reason}")
        error, change = (largest_difference(other, found) for other in (masked, whole))
        if error > tolerance:
            with suppress(NotRunnable):
                noisy = runner.run(written(_with_noise(reference.model), folder, "noisy.onnx"), feeds)
                tolerance = max(tolerance, AMPLIFIED * largest_difference(masked, noisy))
    return PruningProof(error, tolerance, len(feeds), change=change, statistics=reference.statistics)


def _with_noise(model: onnx_ir.Model) -> onnx_ir.Model:
    """A model whose float tensors have changed by a few of their rounding errors."""
    rng = np.random.default_rng(0)
    noisy = model.clone()
    for value in noisy.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == onnx_ir.DataType.FLOAT and tensor.size > 1:
            value.const_value = onnx_ir.tensor(noise(tensor.numpy(), rng), name=value.name)
    return noisy
