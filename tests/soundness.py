"""Claimed symmetries against ONNX Runtime: permuted networks compute the same, half-permuted ones do not."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce

import numpy as np
import onnx
import onnx_ir as ir
from oracle import disagreement, run

import gmnc
from gmnc.backends import onnx as write_back
from gmnc.frontend.load import load
from gmnc.frontend.normalise import normalise
from gmnc.frontend.shapes import infer
from gmnc.ir import ParameterGraph
from gmnc.ir.permute import Automorphism, apply, compose, describe
from gmnc.ir.symmetry import generators, sample

__all__ = ["Soundness", "Trial", "assert_sound", "input_arrays", "soundness"]

Arrays = dict[str, np.ndarray]


@dataclass
class Soundness:
    """Outcome of one check. failures: generators that change the output, with their error, in words."""

    graph: ParameterGraph
    generators: int
    moved_parameters: int = 0
    max_error: float = 0.0
    controls: int = 0
    detected: int = 0
    failures: list[str] = field(default_factory=list)


def assert_sound(
    model: onnx.ModelProto | str | os.PathLike[str],
    trials: int = 6,
    seed: int = 0,
    tolerance: float = 1e-4,
    inputs: Arrays | None = None,
    **options: object,
) -> int:
    """Every claimed symmetry leaves the outputs as they are, and some one-sided permutation changes them.

    Returns how many generators there are. options: of `gmnc.compile`.
    """
    found = soundness(model, trials, seed, tolerance, inputs, **options)
    assert not found.failures, "\n\n".join(found.failures)
    assert not found.controls or found.detected, f"none of {found.controls} one-sided permutations changed an output"
    return found.generators


def soundness(
    model: onnx.ModelProto | str | os.PathLike[str],
    trials: int = 6,
    seed: int = 0,
    tolerance: float = 1e-4,
    inputs: Arrays | None = None,
    **options: object,
) -> Soundness:
    """Permute by single generators and by products of them; on failure, find the kinds of generator at fault."""
    rng = np.random.default_rng(seed)
    graph = gmnc.compile(model, **options)
    claimed = generators(graph)
    report = Soundness(graph, len(claimed))
    if not claimed:
        return report
    trial = Trial(graph, input_arrays(model, rng) if inputs is None else inputs, rng)
    # a product of two faulty generators may be a symmetry, so some are tried alone
    alone = [claimed[i] for i in rng.permutation(len(claimed))[: 5 * trials]]
    for product in (*alone, reduce(compose, claimed), *(sample(graph, claimed, rng) for _ in range(trials))):
        error = trial.error(apply(graph, product, trial.values))
        report.moved_parameters = max(report.moved_parameters, trial.changed)
        report.max_error = max(report.max_error, error)
    if not report.max_error < tolerance:
        report.failures = _diagnose(trial, claimed, tolerance)
    _controls(trial, claimed, rng, report)
    return report


def input_arrays(model: onnx.ModelProto | str | os.PathLike[str], rng: np.random.Generator) -> Arrays:
    """Random inputs of the shapes that `gmnc.compile` takes: normal, integers 0 .. 3, booleans."""
    normal = normalise(load(model))
    known = infer(normal)
    arrays: Arrays = {}
    for value in normal.graph.inputs:
        assert value.name is not None
        shape, dtype = known[value].shape, np.dtype(known[value].dtype)
        if np.issubdtype(dtype, np.floating):
            arrays[value.name] = rng.standard_normal(shape).astype(dtype)
        else:
            arrays[value.name] = rng.integers(0, 2 if dtype == np.bool_ else 4, shape).astype(dtype)
    return arrays


class Trial:
    """A network with distinct random weights and its outputs, to compare permuted weights with."""

    def __init__(self, graph: ParameterGraph, inputs: Arrays, rng: np.random.Generator) -> None:
        self.graph, self.inputs, self.rng = graph, inputs, rng
        names = {b.view.name for b in graph.edges if not b.constant}
        self.values = {n: graph.parameters[n].load() for n in sorted(names)}
        self.base: Arrays = {}
        self.changed = 0
        shaken = {n: _shaken(v, rng) for n, v in self.values.items()}
        for values in (shaken, self.values):
            self.values, self.base = values, self._run(values)
            if all(np.isfinite(v).all() for v in self.base.values() if v.dtype.kind == "f"):
                break

    def error(self, changes: Mapping[str, np.ndarray]) -> float:
        """Disagreement of the outputs when these parameters are put in."""
        self.changed = sum(int((self.values[n] != v).sum()) for n, v in changes.items())
        return disagreement(self.base, self._run({**self.values, **changes}))

    def product(self, some: Sequence[Automorphism]) -> Arrays:
        """The parameters that a random product changes."""
        return apply(self.graph, sample(self.graph, list(some), self.rng), self.values)

    def _run(self, values: Arrays) -> Arrays:
        return run(ir.to_proto(write_back.write(self.graph, values)), self.inputs)


def _shaken(tensor: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Values that differ from each other where the network's may be equal; the signs of a tensor of one sign stay."""
    if tensor.dtype.kind in "iub" or tensor.dtype.itemsize < 2:
        return tensor
    new = tensor * np.exp(0.2 * rng.standard_normal(tensor.shape))
    if not (tensor > 0).all() and not (tensor < 0).all():
        new = new + (0.05 * float(np.std(tensor.astype(np.float64))) + 0.02) * rng.standard_normal(tensor.shape)
    return new.astype(tensor.dtype)


def _kind(graph: ParameterGraph, automorphism: Automorphism) -> tuple[int, ...]:
    return tuple(np.unique(graph.group_of(automorphism.src)).tolist())


def _diagnose(trial: Trial, claimed: Sequence[Automorphism], tolerance: float) -> list[str]:
    """The smallest generator at fault of each kind (set of node groups that it touches)."""
    kinds: dict[tuple[int, ...], list[Automorphism]] = {}
    for automorphism in claimed:
        kinds.setdefault(_kind(trial.graph, automorphism), []).append(automorphism)
    failures = []
    for some in kinds.values():
        # products of neighbouring swaps may cancel a fault, so a large kind is tried as several random products
        if len(some) > 8 and all(trial.error(trial.product(some)) < tolerance for _ in range(3)):
            continue
        for automorphism in some:
            error = trial.error(apply(trial.graph, automorphism, trial.values))
            if not error < tolerance:
                failures.append(f"error {error:.3g} from the swap of\n{describe(trial.graph, automorphism)}")
                break
    return failures or ["only products of several kinds of generators fail"]


def _controls(
    trial: Trial, claimed: Sequence[Automorphism], rng: np.random.Generator, report: Soundness, most: int = 6
) -> None:
    """Permute one of the tensors that a generator permutes and leave the others: the outputs should change."""
    for number in rng.permutation(len(claimed)):
        changes = apply(trial.graph, claimed[number], trial.values)
        changes = {n: v for n, v in changes.items() if not np.array_equal(v, trial.values[n])}
        if len(changes) < 2:
            continue
        name = sorted(changes)[int(rng.integers(len(changes)))]
        report.controls += 1
        report.detected += trial.error({name: changes[name]}) > 1e-5
        if report.controls == most:
            break
