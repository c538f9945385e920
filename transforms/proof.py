"""Proofs of transforms: a network and its transformed version run in ONNX Runtime on the same inputs.

Outputs are compared by `largest_difference`. Where they differ by more than rounding explains, three times the effect
of `noise`, ten times as large as rounding, is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..ir import ParameterGraph
from ..testing.inputs import SAMPLINGS, InputSpec, Source, draw_inputs, infer_model, input_specs
from ..testing.precision import AMPLIFIED, NOISE, eps_of, float_types, tolerance_of
from ..testing.processes import NotRunnable
from ..testing.runtime import Arrays, Network, disagreement
from .similarity import Values

__all__ = ["Feeds", "Proof", "feeds_for", "largest_difference", "noise", "prove"]

Feeds = list[dict[str, np.ndarray]]
"""Arrays by input name, for each run."""


@dataclass(frozen=True, slots=True)
class Proof:
    """Whether two networks compute the same.

    Attributes:
        error: The largest difference of an output, relative to its largest magnitude; None if they were not run.
        tolerance: The largest difference that rounding explains.
        runs: On how many inputs they ran.
        reason: Why they were not run.
    """

    error: float | None
    tolerance: float = 0.0
    runs: int = 0
    reason: str = ""

    @property
    def holds(self) -> bool:
        """Whether they were run and compute the same up to rounding."""
        return self.error is not None and self.error <= self.tolerance

    @property
    def summary(self) -> str:
        """The proof as one line."""
        return f"not checked in ONNX Runtime: {self.reason}" if self.error is None else self._verdict(self.error)

    def _verdict(self, error: float) -> str:
        verdict = "the outputs stay the same" if self.holds else "THE OUTPUTS CHANGE"
        return f"ONNX Runtime: {verdict}, largest change {error:.2g} (tolerance {self.tolerance:.2g})"

    def to_json(self) -> dict[str, object]:
        """The proof as JSON data."""
        return {
            "holds": self.holds, "change": self.error, "tolerance": self.tolerance, "runs": self.runs,
            "reason": self.reason,
        }  # fmt: skip


def feeds_for(
    model: Source,
    graph: ParameterGraph,
    given: Mapping[str, np.ndarray],
    rng: np.random.Generator,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    runs: int = 2,
) -> Feeds:
    """Inputs on which a network runs: random ones, and given arrays.

    Args:
        model: The model.
        graph: Its graph.
        given: Arrays by input name; inputs that are missing are drawn.
        rng: Source of randomness.
        dims: Sizes of symbolic dimensions by name.
        shapes: Shapes by input name.
        runs: How many random inputs.

    Returns:
        Arrays by input name, for each run.

    Raises:
        NotRunnable: ONNX Runtime runs the network on none of them.
    """
    specs = input_specs(infer_model(model, dims, {**{n: v.shape for n, v in given.items()}, **(shapes or {})}))
    network = Network(graph)
    reason = NotRunnable("there are no inputs to run it on")
    for sampling in SAMPLINGS:
        drawn: Sequence[Mapping[str, np.ndarray]] = [
            draw_inputs(_wanted(specs, given), rng, sampling) for _ in range(runs)
        ]
        feeds = [{**each, **given} for each in drawn]
        try:
            network.run({}, feeds)
        except NotRunnable as error:
            reason = error
            continue
        return feeds
    raise reason


def _wanted(specs: Sequence[InputSpec], given: Mapping[str, np.ndarray]) -> list[InputSpec]:
    return [s for s in specs if s.name not in given]


def prove(
    graph: ParameterGraph, new: Values, feeds: Feeds, rng: np.random.Generator, model: Source | None = None
) -> Proof:
    """Run a network with its own parameters and with new ones.

    Args:
        graph: Its graph.
        new: The parameters that change.
        feeds: Arrays by input name, for each run.
        rng: Source of randomness.
        model: The model, for the float types of its outputs.

    Returns:
        The largest change of an output, and what rounding changes: three times the effect of noise, at least as much as
        depth and float type explain.
    """
    network = Network(graph)
    try:
        base = network.run({}, feeds)
        change = largest_difference(base, network.run(new, feeds))
        types = float_types(infer_model(model)) if model is not None else {}
        least = tolerance_of(graph, max(types.values(), key=eps_of, default="float32"))
        draws = range(2) if change > least else ()
        noisy = [network.run(_with_noise(graph, new, rng), feeds) for _ in draws]
    except NotRunnable as reason:
        return Proof(None, reason=str(reason))
    return Proof(change, max([least, *(AMPLIFIED * largest_difference(base, n) for n in noisy)]), len(feeds))


def largest_difference(before: Sequence[Arrays], after: Sequence[Arrays]) -> float:
    """The largest `disagreement` of outputs over several runs; 0 if there are none."""
    return max((disagreement(a, b) for a, b in zip(before, after, strict=True)), default=0.0)


def noise(array: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """An array of floats changed by relative noise that is ten times as large as the rounding of float32."""
    return np.asarray((array * (1 + NOISE * rng.standard_normal(array.shape))).astype(array.dtype))


def _with_noise(graph: ParameterGraph, new: Values, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The tensors that change as they are, up to noise."""
    values = {n: np.asarray(graph.parameters[n].load()) for n in new}
    return {n: noise(v, rng) for n, v in values.items() if v.dtype.kind == "f"}
