"""The proof of a pruning: the small model and the masked original in ONNX Runtime."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir

from ...testing import disagreement
from ...testing.processes import NotRunnable, Runner
from .reference import Reference
from .saving import written

__all__ = ["NOT_FINITE", "Proof", "proved"]

NOT_FINITE = "outputs of the masked original are not finite"

_NOISE, _ALLOWED = 3e-6, 3.0
"""Relative noise on the parameters, ten times their rounding errors, and how much of its effect is allowed."""

Feeds = Sequence[Mapping[str, np.ndarray]]


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
    tolerance: float = 0.0
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
            return f"not checked in ONNX Runtime: {self.reason}"
        what = "equal those of" if self.holds else "DIFFER from those of"
        masked = "the masked original"
        if self.statistics:
            more = f" and {len(self.statistics) - 1} more" if len(self.statistics) > 1 else ""
            masked += (
                f" with statistics over what is left (not exact: a statistic spans it at {self.statistics[0]!r}{more})"
            )
        change = "" if self.change is None else f"; pruning changes the outputs by {self.change:.2g}"
        return f"outputs {what} {masked}: error {self.error:.1e}, tolerance {self.tolerance:.1e}{change}"


def proved(
    small: onnx_ir.Model, reference: Reference, original: onnx_ir.Model, feeds: Feeds, tolerance: float, runner: Runner
) -> Proof:
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
            return Proof(None, reason=str(reason))
        if not all(np.isfinite(a).all() for out in masked for a in out.values() if a.dtype.kind == "f"):
            return Proof(None, reason=NOT_FINITE)
        try:
            found = runner.run(written(small, folder, "small.onnx"), feeds)
        except NotRunnable as reason:
            return Proof(float("inf"), tolerance, reason=f"the pruned model does not run: {reason}")
        error, change = (_largest(other, found) for other in (masked, whole))
        if error > tolerance:
            with suppress(NotRunnable):
                noisy = runner.run(written(_with_noise(reference.model), folder, "noisy.onnx"), feeds)
                tolerance = max(tolerance, _ALLOWED * _largest(masked, noisy))
    return Proof(error, tolerance, change, reference.statistics)


def _largest(some: Feeds, others: Feeds) -> float:
    return max(disagreement(a, b) for a, b in zip(some, others, strict=True))


def _with_noise(model: onnx_ir.Model) -> onnx_ir.Model:
    """A model whose float tensors have changed by a few of their rounding errors."""
    rng = np.random.default_rng(0)
    noisy = model.clone()
    for value in noisy.graph.initializers.values():
        tensor = value.const_value
        if tensor is not None and tensor.dtype == onnx_ir.DataType.FLOAT and tensor.size > 1:
            array = tensor.numpy()
            value.const_value = onnx_ir.tensor(
                (array * (1 + _NOISE * rng.standard_normal(array.shape))).astype(np.float32), name=value.name
            )
    return noisy
