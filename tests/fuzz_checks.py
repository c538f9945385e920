"""What must hold of any network: all that `verify` checks, and that its graph survives the store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import onnx
from test_store import same

from gmnc.backends import store
from gmnc.testing import Report, verify

__all__ = ["check_network"]


def check_network(model: onnx.ModelProto, folder: Path, trials: int = 2, seed: int = 0) -> Report:
    """Raise `AssertionError` (or the error itself) where something does not hold."""
    report = verify(model, trials=trials, seed=seed, controls=1)
    assert not report.failures, "\n\n".join(map(str, report.failures))
    assert report.account_closed
    assert report.round_trip == "bit-exact"
    assert report.graph is not None
    path = folder / "graph.safetensors"
    store.save(report.graph, path)
    same(store.load(path), replace(report.graph, model=None))
    return report
