"""What must hold of any network: it lowers, its account closes, its graph survives the store and the write-back, and the
symmetries that are claimed are real in ONNX Runtime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import reduce
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
from onnx import numpy_helper
from soundness import _diagnose as diagnose
from soundness import _Trial as Trial
from soundness import input_arrays
from test_store import same

import gmnc
from gmnc.backends import onnx as write_back
from gmnc.backends import store
from gmnc.ir import ParameterGraph
from gmnc.ir.permute import apply, compose
from gmnc.ir.symmetry import generators, sample

__all__ = ["Found", "check_network"]

TOLERANCE = 1e-4
ROUNDING = 3e-7


@dataclass(frozen=True)
class Found:
    """What came out. conditioning: how far rounding-sized changes of the weights move the outputs."""

    graph: ParameterGraph
    generators: int
    error: float = 0.0
    conditioning: float = 0.0
    detected: bool = False


def check_network(model: onnx.ModelProto, folder: Path, trials: int = 2, seed: int = 0) -> Found:
    """Raise `AssertionError` (or the error itself) where something does not hold."""
    graph = gmnc.compile(model)
    graph.check()
    assert graph.num_parameter_edges + sum(e.count for e in graph.account) == graph.num_parameters
    _survives(graph, model, folder)
    return _sound(graph, model, trials, np.random.default_rng(seed))


def _survives(graph: ParameterGraph, model: onnx.ModelProto, folder: Path) -> None:
    """Write-back of unchanged values is bit-exact; the store gives the graph back."""
    written = {t.name: t for t in ir.to_proto(write_back.write(graph, _own_values(graph))).graph.initializer}
    for tensor in model.graph.initializer:
        before, after = numpy_helper.to_array(tensor), numpy_helper.to_array(written[tensor.name])
        assert (before.dtype, before.shape, before.tobytes()) == (after.dtype, after.shape, after.tobytes())
    path = folder / "graph.safetensors"
    store.save(graph, path)
    same(store.load(path), replace(graph, model=None))


def _own_values(graph: ParameterGraph) -> dict[str, np.ndarray]:
    return {name: p.load() for name, p in graph.parameters.items() if p.origin != "folded"}


def _sound(graph: ParameterGraph, model: onnx.ModelProto, trials: int, rng: np.random.Generator) -> Found:
    claimed = generators(graph)
    if not claimed:
        return Found(graph, 0)
    trial = Trial(graph, input_arrays(model, rng), rng)
    products = [reduce(compose, claimed), *(sample(graph, claimed, rng) for _ in range(trials - 1))]
    error = max(trial.error(apply(graph, p, trial.values)) for p in products)
    conditioning = trial.error(_rounded(trial.values, rng))
    tolerance = max(TOLERANCE, 100 * conditioning)
    assert error < tolerance, "\n\n".join(diagnose(trial, claimed, tolerance))
    detected = trial.error(_one_sided(trial.values, apply(graph, products[0], trial.values), rng)) > 1e-3
    return Found(graph, len(claimed), error, conditioning, detected)


def _rounded(values: Mapping[str, np.ndarray], rng: np.random.Generator) -> dict[str, np.ndarray]:
    """The values with errors of the size of rounding."""
    return {
        n: (v * (1 + ROUNDING * rng.standard_normal(v.shape))).astype(v.dtype)
        for n, v in values.items()
        if v.dtype.kind == "f"
    }


def _one_sided(
    values: Mapping[str, np.ndarray], changes: Mapping[str, np.ndarray], rng: np.random.Generator
) -> dict[str, np.ndarray]:
    """Only one of the tensors is permuted."""
    changed = sorted(n for n, v in changes.items() if not np.array_equal(v, values[n]))
    if len(changed) < 2:
        return {}
    name = changed[int(rng.integers(len(changed)))]
    return {name: changes[name]}
