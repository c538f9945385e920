"""What must hold of any network: all that `verify` checks, and that its graph survives the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
from test_store import same

from gmnc.backends import store
from gmnc.testing import Report, verify
from gmnc.testing.inputs import draw, input_specs
from gmnc.testing.trial import Trial

__all__ = ["check_network"]

SMALLEST = 1e-5
AMPLIFIED = 100


def check_network(model: onnx.ModelProto, folder: Path, trials: int = 2, seed: int = 0) -> Report:
    """Raise `AssertionError` (or the error itself) where something does not hold."""
    report = verify(model, trials=trials, seed=seed, controls=1)
    assert not report.failures or _says_nothing(report, model, seed), "\n\n".join(map(str, report.failures))
    assert report.account_closed
    assert report.round_trip == "bit-exact"
    assert report.graph is not None
    path = folder / "graph.safetensors"
    store.save(report.graph, path)
    same(store.load(path), replace(report.graph, model=None))
    return report


def _says_nothing(report: Report, model: onnx.ModelProto, seed: int) -> bool:
    """Whether an output is zero but for rounding, or at a threshold where rounding makes it jump."""
    assert report.graph is not None
    rng = np.random.default_rng(seed)
    trial = Trial(report.graph, [draw(input_specs(model), rng)], rng)
    if any(v.size and np.abs(v).max() < SMALLEST for outputs in trial.base for v in outputs.values()):
        return True
    return max(trial.conditioning() for _ in range(8)) * AMPLIFIED > report.max_error
