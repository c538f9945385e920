"""What must hold of any network: all that `verify` checks, and that its graph survives the store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from onnx import TensorProto, numpy_helper
from onnx.reference import ReferenceEvaluator
from support.equality import same

import gmnc
from gmnc.backends import onnx as write_back
from gmnc.backends import store
from gmnc.ir import ParameterGraph
from gmnc.symmetry import KINDS, Product, product
from gmnc.testing import Report, disagreement, verify
from gmnc.testing.inputs import draw_inputs, input_specs
from gmnc.testing.trial import Trial

__all__ = ["check_network"]

SHRINKS = 1e-4
FRESH = 3


def check_network(model: onnx.ModelProto, folder: Path, trials: int = 2, seed: int = 0) -> Report:
    """Raise `AssertionError` (or the error itself) where something does not hold."""
    report = verify(model, trials=trials, seed=seed, controls=1, kinds=KINDS)
    assert not report.failures or _is_rounding(report, model, seed), "\n\n".join(map(str, report.failures))
    assert report.account_closed
    assert report.round_trip == "bit-exact"
    assert report.graph is not None
    path = folder / "graph.safetensors"
    store.save(report.graph, path)
    same(store.load(path), replace(report.graph, source=None))
    return report


def _is_rounding(report: Report, model: onnx.ModelProto, seed: int) -> bool:
    """Whether what changed the output is rounding: in double precision, the change all but disappears.

    So it is where outputs cancel to nothing, or rounding crosses a threshold. A symmetry that is none changes them
    as much in any precision. Looked at with the weights and inputs that failed, and with fresh ones.
    """
    graph = report.graph
    assert graph is not None
    for state in (seed, *((seed, fresh) for fresh in range(FRESH))):
        rng = np.random.default_rng(state)
        trial = Trial(graph, [draw_inputs(input_specs(model), rng)], rng)
        exact = _exact(graph, trial.values, trial.feeds[0])
        for found in _products(graph, rng):
            moved = {**trial.values, **found.apply(trial.values)}
            if trial.error(moved) <= report.tolerance:
                continue
            [new], [old] = trial.network.run(moved, trial.feeds), trial.base
            single, double = _changes(new, old), _changes(_exact(graph, moved, trial.feeds[0]), exact)
            differ = [n for n in trial.names if not disagreement({n: old[n]}, {n: new[n]}) <= report.tolerance]
            if any(not double[name] <= SHRINKS * single[name] for name in differ):
                return False
    return True


def _changes(a: Mapping[str, np.ndarray], b: Mapping[str, np.ndarray]) -> dict[str, float]:
    return {name: float(np.abs(_float(a[name]) - _float(b[name])).max(initial=0)) for name in a}


def _products(graph: ParameterGraph, rng: np.random.Generator) -> Iterator[Product]:
    """All generators together, and each of them; signs and scales of random size."""
    claims = gmnc.symmetries(graph, KINDS)
    every = [*claims.generators, *(g for found in claims.rescalings for g in found.generators(rng))]
    yield product(graph, every)
    yield from (product(graph, [one]) for one in every)


def _exact(
    graph: ParameterGraph, values: Mapping[str, np.ndarray], feeds: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The outputs in double precision, by ONNX's reference evaluator."""
    model = _doubled(onnx_ir.to_proto(write_back.write(graph, values)))
    names = [o.name for o in model.graph.output]
    wide = {n: _float(v) if v.dtype == np.float32 else v for n, v in feeds.items()}
    with np.errstate(all="ignore"):
        return dict(zip(names, map(_float, ReferenceEvaluator(model).run(names, wide)), strict=True))


def _doubled(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with every float32 a float64."""
    _double_graph(model.graph)
    return model


def _double_graph(graph: onnx.GraphProto) -> None:
    for tensor in graph.initializer:
        _double(tensor)
    for value in (*graph.input, *graph.output, *graph.value_info):
        if value.type.tensor_type.elem_type == TensorProto.FLOAT:
            value.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                _double(attribute.t)
            if attribute.type == onnx.AttributeProto.GRAPH:
                _double_graph(attribute.g)
            if attribute.name in ("to", "dtype") and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE


def _double(tensor: TensorProto) -> None:
    if tensor.data_type == TensorProto.FLOAT:
        tensor.CopyFrom(numpy_helper.from_array(_float(numpy_helper.to_array(tensor)), tensor.name))


def _float(array: np.ndarray) -> np.ndarray:
    return np.asarray(array, dtype=np.float64)
