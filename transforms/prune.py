"""`prune`: whole channels, neurons, heads, groups or experts leave an ONNX model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import onnx
import onnx_ir

from ..backends.external_data import external_tensors
from ..frontend import LabelledModel, label_values
from ..frontend.inference.shapes import infer
from ..ir import GmncError
from ..symmetry import Symmetries, symmetries
from ..testing.inputs import SAMPLINGS, InferredModel, draw_inputs, input_specs
from ..testing.precision import eps_of, float_types, tolerance_of
from ..testing.processes import ChildProcess, InProcess, NotRunnable, Runner, default_timeout
from .pruning.choice import Choice, choose, group_of_nodes, removed_nodes
from .pruning.costs import Costs, latency, macs, parameters
from .pruning.cuts import Uncuttable
from .pruning.finish import finish
from .pruning.importance import CRITERIA, activation_scores, position_nodes, position_scores, weight_scores
from .pruning.positions import PositionGroup, position_groups
from .pruning.proof import NOT_FINITE, Proof, proved
from .pruning.reference import masked_original
from .pruning.report import Pruned, family_reports
from .pruning.rewrite import rewritten
from .pruning.saving import is_external, save, serialised
from .pruning.sizes import check_sizes
from .pruning.step import Cuts

__all__ = ["NothingToPrune", "prune"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model
Progress = Callable[[str, int, int], None]

_LEVELS = ("inner", "outer")
_MARGIN = 4
"""A smaller matrix is summed in another order than a larger one: more rounding than among equal shapes."""


class NothingToPrune(GmncError):
    """No family can lose a position; the message has the reasons."""


def prune(
    source: Source,
    ratio: float = 0.5,
    *,
    importance: str | Mapping[str, np.ndarray] = "l2",
    only: str = "",
    round_to: int = 1,
    level: Literal["inner", "outer"] = "inner",
    path: str | os.PathLike[str] | None = None,
    inputs: Mapping[str, np.ndarray] | None = None,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    timeout: float | Literal["auto"] | None = None,
    measure: bool = True,
    on_progress: Progress | None = None,
) -> Pruned:
    """Remove whole positions of symmetric families from a model: channels, neurons, heads, groups or experts.

    Positions are removed wherever they occur: rows and columns of weights, biases, statistics, scales of quantisation,
    sizes in attributes and constants. The pruned model is run in ONNX Runtime beside the masked original, in which the
    parameters of the removed positions are zeros. Families that cannot be pruned stay whole; the report says why.

    Args:
        source: A path, a `ModelProto` or an `onnx_ir.Model`, which is not modified.
        ratio: The share of the positions of each symmetric group to remove, rounded down; at least one stays.
        importance: "l2" or "l1", norms of the parameters of a position; "activations", its mean absolute value on
            `inputs`; "random"; or scores of positions by family name, the least of which are removed.
        only: A regular expression; only families whose names contain it are pruned.
        round_to: The number of positions left in a group is a multiple of this, as far as there are so many.
        level: Of nested groups, as the features of several heads, prune the "inner" ones (features of every head) or
            the "outer" ones (whole heads, groups or experts).
        path: The file to write; large tensors go to ``<path>.data`` if the original has external data.
        inputs: Arrays by input name, for importance by activations and for the comparison; random by default.
        seed: Seed of everything random.
        dims: Sizes of symbolic dimensions by name.
        shapes: Shapes of inputs by name.
        timeout: Time limit of a run in seconds, in a child process that may crash; "auto" for 120; None for no limit.
        measure: Whether to measure the latency before and after.
        on_progress: Called with (activity, steps done, steps in total).

    Returns:
        The smaller model, what was removed, costs before and after, and the proof.

    Raises:
        NothingToPrune: No family can be pruned.
        GmncError: An option has no such value, the pruned model differs from the masked
            original, or the file cannot be written.
        LoadError: The source is not a usable model.
    """
    _check(ratio, importance, level, round_to)
    given = {n: np.asarray(v) for n, v in (inputs or {}).items()}
    options = _Options(dims or {}, {**{n: v.shape for n, v in given.items()}, **(shapes or {})})
    report = on_progress or (lambda what, done, total: None)
    report("lowering", 0, 4)
    labelled = options.label(source)
    report("finding symmetries", 1, 4)
    found = symmetries(labelled.graph)
    size = sum(p.size * 4 for p in labelled.graph.parameters.values())
    limit = default_timeout(labelled.graph.model, size) if timeout == "auto" else timeout
    runner: Runner = InProcess() if limit is None else ChildProcess(limit, size)
    try:
        feeds = _Feeds(labelled, given, seed, runner)
        plan = _plan(labelled, found, importance, seed, feeds)
        how = _How(ratio, level, only, round_to)
        report("pruning", 2, 4)
        attempt = _settled(source, options, plan, how, feeds, runner)
    finally:
        runner.close()
    report("measuring", 3, 4)
    pruned = _reported(attempt, plan, how, options, feeds, measure)
    if path is not None:
        save(pruned.model, path, is_external(pruned.model) or _has_data(labelled), labelled.graph.files)
    report("done", 4, 4)
    return pruned


def _check(ratio: float, importance: str | Mapping[str, np.ndarray], level: str, round_to: int) -> None:
    if not 0 < ratio < 1:
        raise GmncError(f"the ratio is {ratio}: give the share of positions to remove, between 0 and 1")
    if isinstance(importance, str) and importance not in CRITERIA:
        raise GmncError(f"importance is {importance!r}: choose one of {', '.join(CRITERIA)}, or give scores by family")
    if level not in _LEVELS:
        raise GmncError(f"level is {level!r}: choose {' or '.join(_LEVELS)}")
    if round_to < 1:
        raise GmncError(f"round_to is {round_to}: give a number of at least 1")


def _has_data(labelled: LabelledModel) -> bool:
    return next(external_tensors(labelled.graph.model), None) is not None


@dataclass(frozen=True, slots=True)
class _Options:
    """Sizes of symbolic dimensions and shapes of inputs."""

    dims: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]

    def label(self, source: Source) -> LabelledModel:
        return label_values(source, dims=self.dims, inputs=self.shapes)


@dataclass(frozen=True, slots=True)
class _How:
    """How to choose positions, see `choose`."""

    ratio: float
    level: str
    only: str
    round_to: int


@dataclass(frozen=True, slots=True, eq=False)
class _Plan:
    """The groups of positions and their scores."""

    found: Symmetries
    groups: Sequence[PositionGroup]
    scores: Sequence[np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class _Attempt:
    """A rewritten model; refused: why families are left whole, by index."""

    labelled: LabelledModel
    cuts: Cuts
    choices: Sequence[Choice]
    proof: Proof
    refused: dict[int, str] = field(default_factory=dict)


class _Feeds:
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


def _plan(
    labelled: LabelledModel, found: Symmetries, importance: str | Mapping[str, np.ndarray], seed: int, feeds: _Feeds
) -> _Plan:
    groups = position_groups(found)
    given = {} if isinstance(importance, str) else importance
    if unknown := sorted(given.keys() - {g.name for g in groups}):
        names = ", ".join(dict.fromkeys(g.name for g in groups))
        raise GmncError(f"there is no family {unknown[0]!r} to score: the families are {names}")
    scores = None
    if importance != "random":
        positions = position_nodes(labelled.graph, groups)
        if importance == "activations":
            scores = activation_scores(labelled, feeds.get()) @ positions
        else:
            scores = weight_scores(labelled.graph, 1 if importance == "l1" else 2, positions)
    return _Plan(found, groups, position_scores(groups, scores, given, seed))


def _settled(source: Source, options: _Options, plan: _Plan, how: _How, feeds: _Feeds, runner: Runner) -> _Attempt:
    """Prune all families that can be pruned, and prove it; those that cannot are left out one by one."""
    refused: dict[int, str] = {}
    while True:
        attempt = _rewritten(source, options, plan, how, refused)
        attempt = replace(attempt, proof=_proof(attempt, feeds, runner))
        if attempt.proof.holds or attempt.proof.error is None:
            return attempt
        # A family that differs by itself stays whole.
        families = sorted({c.group.family for c in attempt.choices})
        wrong = {}
        for number in families if len(families) > 1 else ():
            others = refused | dict.fromkeys((f for f in families if f != number), "")
            alone = _rewritten(source, options, plan, how, others)
            proof = _proof(alone, feeds, runner) if alone.choices else None
            if proof is not None and not proof.holds:
                wrong[number] = proof.line()
        if not wrong:
            raise GmncError(f"the pruned model would be wrong: {attempt.proof.line()} {attempt.proof.reason}")
        refused |= wrong


def _rewritten(source: Source, options: _Options, plan: _Plan, how: _How, refused: dict[int, str]) -> _Attempt:
    """Prune what can be rewritten."""
    refused, alike = dict(refused), set[int]()
    while True:
        labelled = options.label(source)
        every = choose(plan.groups, plan.scores, how.ratio, how.level, how.only, how.round_to, alike)
        choices = [c for c in every if c.group.family not in refused]
        removed = removed_nodes(labelled.graph, choices)
        if not choices:
            reasons = "; ".join(dict.fromkeys(refused.values())) or "no family has positions to remove"
            raise NothingToPrune(f"nothing can be pruned: {reasons}")
        try:
            cuts = rewritten(labelled, removed, group_of_nodes(labelled.graph, plan.groups))
            check_sizes(labelled, cuts, options.dims, options.shapes)
            finish(labelled.model)
            return _Attempt(labelled, cuts, choices, Proof(None, reason="nothing was removed"), refused)
        except Uncuttable as reason:
            culprits = {c.group.family for c in choices if np.isin(c.nodes, reason.nodes).any()}
            if not culprits:
                culprits = {c.group.family for c in choices}
            if reason.ragged and not culprits <= alike:
                alike |= culprits
            else:
                refused |= dict.fromkeys(culprits, reason.reason)


def _proof(attempt: _Attempt, feeds: _Feeds, runner: Runner) -> Proof:
    graph, cuts = attempt.labelled.graph, attempt.cuts
    try:
        inputs = feeds.get()
    except NotRunnable as reason:
        return Proof(None, reason=str(reason))
    data = {v.name or "": k.data for v, k in cuts.known.items() if k.data is not None}
    dtype = max(feeds.types.values(), key=eps_of, default="float32")
    tolerance = _MARGIN * tolerance_of(graph, dtype)
    for outgoing in (False, True):
        reference = masked_original(graph, cuts.removed, cuts.by_name(), data, outgoing)
        proof = proved(attempt.labelled.model, reference, feeds.original, inputs, tolerance, runner)
        if proof.reason != NOT_FINITE:
            break
    return proof


def _unchosen(group: PositionGroup, how: _How) -> str:
    """Why a family that could be pruned was not to be."""
    if how.only and not re.search(how.only, group.name):
        return "kept whole: not among those to prune"
    return "kept whole: too few positions to remove this share of them"


def _reported(attempt: _Attempt, plan: _Plan, how: _How, options: _Options, feeds: _Feeds, measure: bool) -> Pruned:
    small, graph = attempt.labelled.model, attempt.labelled.graph
    known = infer(small, options.dims, options.shapes)
    costs = []
    for model, shapes, counted in ((feeds.inferred.model, feeds.inferred.known, feeds.original), (small, known, small)):
        data = serialised(counted)
        time = latency(data, feeds.get()[0]) if measure and attempt.proof.holds else None
        original = graph.source.original if counted is feeds.original and graph.source is not None else None
        size = len(data) if original is None or _has_data(attempt.labelled) else len(original)
        costs.append(Costs(parameters(model, graph.parameters), macs(model, shapes), size, time))
    removed: dict[str, list[list[int]]] = {}
    for choice in attempt.choices:
        removed.setdefault(choice.group.name, []).append(choice.positions.tolist())
    others = {g.family: _unchosen(g, how) for g in plan.groups}
    families = family_reports(plan.found.families, attempt.choices, attempt.refused, others)
    return Pruned(small, families, costs[0], costs[1], attempt.proof, removed)
