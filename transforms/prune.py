"""`prune`: whole channels, neurons, heads, groups or experts leave an ONNX model."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np

from ..backends.external_data import external_tensors
from ..frontend import LabelledModel
from ..frontend.inference.shapes import infer
from ..ir import GmncError
from ..symmetry import Symmetries, symmetries
from ..testing.processes import ChildProcess, InProcess, Runner, default_timeout
from .pruning.attempt import Attempt, GivenSizes, How, NothingToPrune, Plan, Source, settled
from .pruning.costs import Costs, latency, macs, parameters
from .pruning.feeds import Feeds
from .pruning.importance import CRITERIA, activation_scores, position_nodes, position_scores, weight_scores
from .pruning.positions import PositionGroup, position_groups
from .pruning.report import Pruned, family_reports
from .pruning.saving import is_external, save, serialised

__all__ = ["NothingToPrune", "prune"]

Progress = Callable[[str, int, int], None]

_LEVELS = ("inner", "outer")


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
    options = GivenSizes(dims or {}, {**{n: v.shape for n, v in given.items()}, **(shapes or {})})
    report = on_progress or (lambda what, done, total: None)
    report("lowering", 0, 4)
    labelled = options.label(source)
    report("finding symmetries", 1, 4)
    found = symmetries(labelled.graph)
    size = sum(p.size * 4 for p in labelled.graph.parameters.values())
    limit = default_timeout(labelled.graph.model, size) if timeout == "auto" else timeout
    runner: Runner = InProcess() if limit is None else ChildProcess(limit, size)
    try:
        feeds = Feeds(labelled, given, seed, runner)
        plan = _plan(labelled, found, importance, seed, feeds)
        how = How(ratio, level, only, round_to)
        report("pruning", 2, 4)
        attempt = settled(source, options, plan, how, feeds, runner)
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


def _plan(
    labelled: LabelledModel, found: Symmetries, importance: str | Mapping[str, np.ndarray], seed: int, feeds: Feeds
) -> Plan:
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
            inner = np.repeat([g.level == 0 for g in groups], [g.degree for g in groups])
            scores = weight_scores(labelled.graph, 1 if importance == "l1" else 2, positions, inner)
    return Plan(found, groups, position_scores(groups, scores, given, seed))


def _unchosen(group: PositionGroup, how: How) -> str:
    """Why a family that could be pruned was not to be."""
    if how.only and not re.search(how.only, group.name):
        return "kept whole: not among those to prune"
    return "kept whole: too few positions to remove this share of them"


def _reported(attempt: Attempt, plan: Plan, how: How, options: GivenSizes, feeds: Feeds, measure: bool) -> Pruned:
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
