"""The network itself in ONNX Runtime, the reference for every claim about its function."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
import onnx
import onnx_ir

from ..backends import onnx as write_back
from ..backends.external_data import external_tensors
from ..backends.values import same_bytes
from ..ir import ParameterGraph, StorageWarning
from .held import HeldNetwork
from .processes import InProcess, NotRunnable, Runner, Stopped
from .worker import run_all, session

__all__ = ["Arrays", "Network", "disagreement", "magnitude", "run"]

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
        with self._written(values) as source:
            return self.runner.run(source, feeds)

    def hold(self, values: Mapping[str, np.ndarray], feeds: Sequence[Mapping[str, np.ndarray]]) -> list[Arrays]:
        """Write the values and run as `run` does, and keep the model in memory for `run_changed`.

        It is kept only if its parameters can be inputs of a session, and if its outputs are those of the written model,
        bit for bit.
        """
        self.held = None
        with self._written(values) as source:
            outputs = self.runner.run(source, feeds)
            with suppress(NotRunnable, ValueError):
                held = HeldNetwork(self.graph, values, source, self.runner)
                if _identical(held.run({}, feeds), outputs):
                    self.held = held
        return outputs

    def run_changed(
        self,
        values: Mapping[str, np.ndarray],
        changes: Mapping[str, np.ndarray],
        feeds: Sequence[Mapping[str, np.ndarray]],
        written: bool = False,
    ) -> list[Arrays]:
        """Run with some values changed, in memory if a model is held.

        Args:
            values: The values that `hold` was given.
            changes: New values of some parameters.
            feeds: As for `run`.
            written: Whether to write them into the model. A model that is held is then compared with it, tensor by
                tensor and output by output, and given up if a bit differs.

        Returns:
            The outputs of each run.
        """
        found = None
        if self.held is not None:
            try:
                found = self.held.run(changes, feeds)
            except Stopped:
                raise
            except NotRunnable:
                found = None  # perhaps only in memory
        if found is not None and not written:
            return found
        with self._written({**values, **changes}) as source:
            outputs = self.runner.run(source, feeds)
            if found is not None and not (_identical(found, outputs) and self._matches(changes, source)):
                self.held = None
        return outputs

    def _matches(self, changes: Mapping[str, np.ndarray], source: bytes | Path) -> bool:
        with suppress(ValueError):
            return self.held is not None and self.held.matches(changes, source)
        return False

    @contextmanager
    def _written(self, values: Mapping[str, np.ndarray]) -> Iterator[bytes | Path]:
        """The model with these values: serialised, or a file as long as the context is open."""
        with warnings.catch_warnings(), ExitStack() as stack:
            # Values off the grid of quantised weights are rounded: as floats, scales would have no effect.
            warnings.simplefilter("ignore", StorageWarning)
            if self._in_files:
                path = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "network.onnx"
                write_back.write(self.graph, values, path, rounded=True)
                yield path
            else:
                yield write_back.serialised(self.graph, values, rounded=True)


def _identical(some: Sequence[Arrays] | None, others: Sequence[Arrays]) -> bool:
    """Whether the outputs are the same bits."""
    return some is not None and all(
        a.keys() == b.keys() and all(_same_bits(a[n], b[n]) for n in a) for a, b in zip(some, others, strict=True)
    )


def _same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    if a.dtype.kind in "OUS":
        return np.array_equal(a, b)
    return a.dtype == b.dtype and a.shape == b.shape and same_bytes(a, b)


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


def disagreement(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray], otherwise: float = 0.0) -> float:
    """Compute the largest difference of two sets of outputs, relative to each output's largest magnitude in `a`.

    Args:
        a: Outputs by name.
        b: Outputs by name.
        otherwise: The magnitude of outputs that are all zeros in `a`, if it is known from other runs.

    Returns:
        The difference; infinite if names, shapes or finiteness differ.
    """
    if a.keys() != b.keys() or any(a[name].shape != b[name].shape for name in a):
        return float("inf")
    return max((_relative(a[name], b[name], otherwise) for name in a), default=0.0)


def magnitude(array: np.ndarray) -> float:
    """The largest magnitude of finite entries; 0 for text, and if there are none."""
    if array.dtype.kind in "OUS":
        return 0.0
    return float(
        np.abs(np.asarray(array, np.float64), where=np.isfinite(array), out=np.zeros(array.shape)).max(initial=0)
    )


def _relative(a: np.ndarray, b: np.ndarray, otherwise: float) -> float:
    if a.dtype.kind in "OUS":
        return 0.0 if np.array_equal(a, b) else float("inf")
    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if not np.array_equal(np.isfinite(x), np.isfinite(y)):
        return float("inf")
    known = np.isfinite(x)
    if not known.any():
        return 0.0
    return float(np.abs(x[known] - y[known]).max() / max(magnitude(a) or otherwise, 1e-30))
