"""Inputs on which the original runs, and on which the pruned model is compared with it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...frontend import LabelledModel
from ...ir import GmncError
from ...testing.inputs import SAMPLINGS, InferredModel, draw_inputs, input_specs
from ...testing.precision import float_types
from ...testing.processes import NotRunnable, Runner
from .saving import serialised

__all__ = ["Feeds"]


class Feeds:
    """Inputs on which the original runs; drawn on first use."""

    def __init__(self, labelled: LabelledModel, given: Mapping[str, np.ndarray], seed: int, runner: Runner) -> None:
        self.inferred = InferredModel(labelled.model, labelled.known)
        self._specs = input_specs(self.inferred)
        names = [s.name for s in self._specs]
        if unknown := sorted(given.keys() - {*names}):
            raise GmncError(f"the model has no input {unknown[0]!r}: its inputs are {', '.join(names)}")
        self.original = labelled.graph.model
        self.types = float_types(self.inferred)
        self._given, self._seed, self._runner = given, seed, runner
        self._found: list[dict[str, np.ndarray]] | None = None

    def get(self) -> list[dict[str, np.ndarray]]:
        """Two feeds. Raises `NotRunnable` if the original runs on none."""
        if self._found is None:
            self._found = self._drawn()
        return self._found

    def _drawn(self) -> list[dict[str, np.ndarray]]:
        first: NotRunnable | None = None
        for sampling in SAMPLINGS:
            rng = np.random.default_rng(self._seed)
            feeds = [{**draw_inputs(self._specs, rng, sampling), **self._given} for _ in range(2)]
            try:
                outputs = self._runner.run(serialised(self.original), feeds)
            except NotRunnable as reason:
                first = first or reason
                continue
            if all(np.isfinite(a).all() for out in outputs for a in out.values() if a.dtype.kind == "f"):
                return feeds
        wanted = ", ".join(f"{s.name} ({s.dtype} {list(s.shape)})" for s in self._specs if s.name not in self._given)
        raise NotRunnable(f"{first or 'its outputs are not finite'}; random inputs were {wanted}: give others")
