"""The network itself in ONNX Runtime, the reference for every claim about its function."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx_ir

from ..backends import onnx as write_back
from ..backends.external_data import external_tensors
from ..ir import ParameterGraph, StorageWarning
from .held import HeldNetwork
from .processes import InProcess, NotRunnable, Runner
from .worker import run_all, session

__all__ = ["Arrays", "Network", "disagreement", "run"]

Arrays = dict[str, np.ndarray]

_LARGEST = 1 << 30


class Network:
    """The network of a graph, run with any parameter values; by default in this process.

    Attributes:
        held: The network with its parameters as inputs, if `hold` succeeded.
    """

    def __init__(self, graph: ParameterGraph, runner: Runner | None = None) -> None:
        self.graph, self.runner = graph, runner or InProcess()
        self.held: HeldNetwork | None = None
        size = sum(p.size * 4 for p in graph.parameters.values())
        self._in_files = size > _LARGEST or (
            isinstance(graph.model, onnx_ir.Model) and next(external_tensors(graph.model), None) is not None
        )

    def run(self, values: Mapping[str, np.ndarray], feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Arrays]:
        """Write the values into the model and run it on each of the feeds; see `Runner.run`."""
        if not self._in_files:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", StorageWarning)
                source = write_back.serialised(self.graph, values, rounded=True)
            return self.runner.run(source, feeds)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "network.onnx"
            self._written(values, path)
            return self.runner.run(path, feeds)

    def hold(self, values: Mapping[str, np.ndarray]) -> None:
        """Keep the model with these values in memory for `run_changed`, if its parameters can be inputs."""
        try:
            self.held = HeldNetwork(self.graph, values, self._written(values), self.runner)
        except (NotRunnable, ValueError):
            self.held = None

    def run_changed(
        self,
        values: Mapping[str, np.ndarray],
        changes: Mapping[str, np.ndarray],
        feeds: Sequence[Mapping[str, np.ndarray]],
    ) -> list[Arrays]:
        """Run with changes of the values that `hold` was given; written as a whole only if what changes is no input."""
        found = None if self.held is None else self.held.run(changes, feeds)
        return self.run({**values, **changes}, feeds) if found is None else found

    def _written(self, values: Mapping[str, np.ndarray], path: Path | None = None) -> onnx_ir.Model:
        with warnings.catch_warnings():
            # Values off the grid of quantised weights are rounded: as floats, scales would have no effect.
            warnings.simplefilter("ignore", StorageWarning)
            return write_back.write(self.graph, values, path, rounded=True)


def run(model: onnx.ModelProto | str | os.PathLike[str], inputs: Mapping[str, np.ndarray]) -> Arrays:
    """Run a model in ONNX Runtime, on one CPU thread and without graph optimisation.

    Args:
        model: A model, or the path of one.
        inputs: Arrays by input name.

    Returns:
        Outputs by name. A sequence of tensors has one entry `name[i]` per element; maps become tables of their values
        by ascending key.

    Raises:
        Exception: What ONNX Runtime raises.
    """
    source = model.SerializeToString() if isinstance(model, onnx.ModelProto) else os.fspath(model)
    return run_all(session(source), [inputs])[0]


def disagreement(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> float:
    """Compute the largest difference of two sets of outputs, relative to each output's largest magnitude in `a`.

    Args:
        a: Outputs by name.
        b: Outputs by name.

    Returns:
        The difference; infinite if names, shapes or finiteness differ.
    """
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    return max((_relative(a[name], b[name]) for name in a), default=0.0)


def _relative(a: np.ndarray, b: np.ndarray) -> float:
    if a.dtype.kind in "OUS":
        return 0.0 if np.array_equal(a, b) else float("inf")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not np.array_equal(np.isfinite(x), np.isfinite(y)):
        return float("inf")
    known = np.isfinite(x)
    if not known.any():
        return 0.0
    return float(np.abs(x[known] - y[known]).max() / max(np.abs(x[known]).max(), 1e-30))
