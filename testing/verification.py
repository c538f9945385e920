"""`verify`: every claim that lowering makes about a network, checked against ONNX Runtime and the file itself."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir

from ..backends import onnx as write_back
from ..backends.values import same_bytes
from ..frontend import compile
from ..ir import GmncError, GraphError, ParameterGraph
from ..ir.rescaling import KINDS, checked_kinds, product
from ..ir.symmetries import Symmetries
from .controls import controls as negative
from .diagnose import Generator, culprits
from .inputs import around_splits, draw, input_specs
from .report import Failure, Report
from .trial import NotRunnable, Trial, shaken_values, tolerance_of

__all__ = ["KINDS", "verify"]

Source = str | os.PathLike[str] | onnx.ModelProto | ir.Model
Arrays = dict[str, np.ndarray]
Watch = Callable[[str, int, int], None]

_AMPLIFIED = 30
_ROUNDS = 4


def verify(
    model: Source,
    *,
    trials: int = 8,
    seed: int = 0,
    inputs: Mapping[str, np.ndarray] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    kinds: Sequence[str] = ("permutation",),
    tolerance: float | None = None,
    controls: int = 3,
    watch: Watch | None = None,
    **options: Any,
) -> Report:
    """Check the symmetries that the graph of a model claims, that others matter, the account and the write-back.

    Symmetries: the product of all generators and random products of some are applied to the weights (shaken first, so
    that all differ; signs and scales are drawn at random), written back, and run in ONNX Runtime (CPU, one thread, no
    optimisation) on random inputs and on `inputs`. The change of each output, relative to its largest magnitude, must
    stay below the tolerance. Negative controls: changes that are no symmetries, of which at least one must change an
    output.

    inputs: arrays by name of graph input, whose shapes are then used for lowering too; integers among them are used
    beside random floats as well. shapes: of inputs by name, the option `inputs` of `gmnc.compile`; options: its other
    ones (`dims`, `registry`, ...). kinds: those of `KINDS` that are checked. controls: how many of each form (see
    `controls.controls`). tolerance: by default `trial.tolerance_of` the graph, and where the network itself amplifies
    rounding more, 30 times what rounding does.
    watch: called with (what is done, steps done, steps in all).

    What cannot be checked (ONNX Runtime lacks an operator, an output is no tensor, not finite, or differs from run to
    run) is in `Report.skipped`. Raises what `gmnc.compile` raises, and `GmncError` for unknown kinds or inputs.
    """
    kinds = checked_kinds(kinds)
    told = watch or (lambda what, done, total: None)
    told("lowering", 0, trials)
    given = {n: np.asarray(v) for n, v in (inputs or {}).items()}
    shapes = {**{n: v.shape for n, v in given.items()}, **(shapes or {})}
    graph = compile(model, inputs=shapes, **options)
    told("finding symmetries", 0, trials)
    claims = graph.symmetries(kinds)
    claimed = {k: len(claims.generators) for k in kinds if k == "permutation"}
    claimed |= {r.kind: r.dimension for r in claims.rescalings}
    check = _Check(graph, claims, tolerance or tolerance_of(graph, {}), told)
    try:
        trial = _start(model, graph, given, shapes, options, np.random.default_rng(seed))
    except NotRunnable as reason:
        check.skipped.append(f"the network: {reason}")
        trial = None
    if trial is not None:
        check.skipped += trial.skipped
        check.tolerance = tolerance or tolerance_of(graph, trial.base[0])
        check.symmetries(
            trial, trials if any(claimed.values()) else 0, options.get("registry"), fixed=tolerance is not None
        )
        check.controls(trial, controls)
    told("writing back", trials, trials)
    return Report(
        sound=None if trial is None or not trial.names else not check.failures,
        trials=check.trials,
        generators=sum(claimed.values()),
        moved_parameters=check.moved,
        max_error=check.error,
        tolerance=check.tolerance,
        tried=check.tried,
        detected=check.detected,
        round_trip=_round_trip(graph, shapes, options, seed),
        account_closed=_account_closed(graph),
        skipped=tuple(check.skipped),
        failures=tuple(check.failures),
        graph=graph,
        kinds=claimed,
    )


@dataclass
class _Check:
    """What is found so far."""

    graph: ParameterGraph
    claims: Symmetries
    tolerance: float
    watch: Watch
    skipped: list[str] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    trials: int = 0
    moved: int = 0
    error: float = 0.0
    tried: int = 0
    detected: int = 0

    def symmetries(self, trial: Trial, trials: int, registry: Any, fixed: bool) -> None:
        """Run changed networks; the first failing product is taken apart."""
        failing: Sequence[Generator] = ()
        for number in range(trials):
            self.watch("changing parameters", number, trials)
            some = self._some(trial.rng, every=number == 0)
            changes = product(self.graph, some).apply(trial.values)
            error = trial.error(changes)
            self.trials += 1
            self.moved = max(self.moved, trial.changed(changes))
            self.error = max(self.error, error)
            if not error < self.tolerance and not fixed:
                fixed = True
                self.tolerance = max(self.tolerance, _AMPLIFIED * trial.conditioning())
            if not error < self.tolerance and not failing:
                failing = some
        if failing:
            self.watch("looking for the cause", trials, trials)
            self.failures = culprits(trial, failing, self.tolerance, registry)

    def controls(self, trial: Trial, each: int) -> None:
        """Run networks that should differ, unless no output depends on the parameters; more of them if none does."""
        if not trial.names or all(any(f"{n!r}: it does not" in s for s in trial.skipped) for n in trial.names):
            return
        for _ in range(_ROUNDS):
            for changes in negative(self.graph, trial.values, trial.rng, each, self.claims):
                self.watch("negative controls", self.tried, max(3 * each, self.tried))
                self.tried += 1
                self.detected += trial.error(changes) > self.tolerance
            if self.detected:
                return

    def _some(self, rng: np.random.Generator, every: bool) -> list[Generator]:
        found: list[Generator] = []
        if "permutation" in self.claims.kinds:
            found += [self.claims.generators[i] for i in rng.permutation(len(self.claims.generators))]
        for rescalings in self.claims.rescalings:
            found += rescalings.singly(rng)
        return [g for g in found if every or rng.random() < 0.5]


def _start(
    model: Source,
    graph: ParameterGraph,
    given: Arrays,
    shapes: Mapping[str, tuple[int, ...]],
    options: Mapping[str, Any],
    rng: np.random.Generator,
) -> Trial:
    """A trial on random and on given inputs; if the network refuses the integers, on smaller ones.

    Integers that are given take the place of random ones: they may be sizes, rates or choices.
    """
    specs = input_specs(model, options.get("dims"), shapes, options.get("registry"))
    unknown = sorted(given.keys() - {s.name for s in specs})
    if unknown:
        raise GmncError(f"the model has no input {unknown[0]!r}: its inputs are {', '.join(s.name for s in specs)}")
    whole = {n: v for n, v in given.items() if v.dtype.kind not in "fc"}
    first: NotRunnable | None = None
    for high in (None, 2, 1):
        drawn = draw(specs, rng, high)
        feeds = [{**drawn, **whole}, {**drawn, **given}] if given else [drawn]
        feeds += around_splits(graph, feeds[0], rng)
        try:
            return Trial(graph, feeds, rng)
        except NotRunnable as error:
            first = first or error
    assert first is not None
    raise first


def _round_trip(graph: ParameterGraph, shapes: Mapping[str, Any], options: Mapping[str, Any], seed: int) -> str:
    """Other values are written, read back from the written model, and the first ones written back again."""
    rng = np.random.default_rng(seed)
    own = {n: p.load() for n, p in graph.parameters.items() if p.origin != "folded"}
    on_edges = {b.view.name for b in graph.edges if not b.constant}
    new = shaken_values(graph, {n: v for n, v in own.items() if n in on_edges}, rng)
    try:
        written = write_back.write(graph, new)
        middle = compile(written, inputs=shapes, **options)
        for name, value in new.items():
            parameter = middle.parameters.get(name)
            if parameter is None or not same_bytes(parameter.load(), value):
                return f"{name!r} reads back otherwise than it was written"
        again = write_back.write(middle, own)
    except GraphError:
        raise
    except GmncError as error:
        return f"not possible: {error}"
    assert isinstance(graph.model, ir.Model)
    before, after = _tensors(graph.model), _tensors(again)
    if before.keys() != after.keys():
        return f"{min(before.keys() ^ after.keys())[-1]!r} comes or goes"
    changed = [n for n in before if not same_bytes(before[n].numpy(), after[n].numpy())]
    return f"{changed[0][-1]!r} changes" if changed else "bit-exact"


def _tensors(model: ir.Model) -> dict[tuple[str, ...], ir.TensorProtocol]:
    """Every initializer and tensor attribute, by where it is."""
    found: dict[tuple[str, ...], ir.TensorProtocol] = {}
    for number, graph in enumerate((*model.graphs(), *(f.graph for f in model.functions.values()))):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                found[str(number), name] = value.const_value
        for place, node in enumerate(graph):
            for attribute in node.attributes.values():
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    found[str(number), str(place), node.name or "", attribute.name] = attribute.as_tensor()
    return found


def _account_closed(graph: ParameterGraph) -> bool:
    try:
        graph.check()
    except GraphError:
        return False
    return graph.num_parameter_edges + sum(e.count for e in graph.account) == graph.num_parameters
