"""Attempts to prune: families that cannot be cut, or that differ from the masked original, are left whole."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import onnx
import onnx_ir

from ...frontend import LabelledModel, label_values
from ...ir import GmncError
from ...symmetry import Symmetries
from ...testing.precision import eps_of, tolerance_of
from ...testing.processes import NotRunnable, Runner
from .choice import Choice, choose, group_of_nodes, removed_nodes
from .cuts import Uncuttable
from .feeds import Feeds
from .finish import finish
from .positions import PositionGroup
from .proof import NOT_FINITE, PruningProof, proved
from .reference import masked_original
from .rewrite import rewritten
from .sizes import check_sizes
from .step import Cuts

__all__ = ["Attempt", "GivenSizes", "How", "NothingToPrune", "Plan", "Source", "settled"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model

_MARGIN = 4
"""A smaller matrix is summed in another order than a larger one: more rounding than among equal shapes."""


class NothingToPrune(GmncError):
    """No family can lose a position; the message has the reasons."""


@dataclass(frozen=True, slots=True)
class GivenSizes:
    """Sizes with which a model is lowered.

    Attributes:
        dims: Sizes of symbolic dimensions by name.
        shapes: Shapes of inputs by name.
    """

    dims: Mapping[str, int]
    shapes: Mapping[str, tuple[int, ...]]

    def label(self, source: Source) -> LabelledModel:
        """Lower a model, with the nodes of all its values."""
        return label_values(source, dims=self.dims, inputs=self.shapes)


@dataclass(frozen=True, slots=True)
class How:
    """How to choose positions, see `choose`."""

    ratio: float
    level: str
    only: str
    round_to: int


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What may leave a model.

    Attributes:
        found: The symmetries of its graph.
        groups: The groups of positions.
        scores: The score of every position of each, float64 [degree].
    """

    found: Symmetries
    groups: Sequence[PositionGroup]
    scores: Sequence[np.ndarray]


@dataclass(frozen=True, slots=True, eq=False)
class Attempt:
    """A rewritten model.

    Attributes:
        labelled: The model, and the graph of the original.
        cuts: The cuts of its values.
        choices: The positions that left.
        proof: The comparison with the masked original.
        refused: Why families are left whole, by index.
    """

    labelled: LabelledModel
    cuts: Cuts
    choices: Sequence[Choice]
    proof: PruningProof
    refused: dict[int, str] = field(default_factory=dict)


def settled(source: Source, options: GivenSizes, plan: Plan, how: How, feeds: Feeds, runner: Runner) -> Attempt:
    """Prune all families that can be pruned, and prove it; those that cannot are left out one by one.

    Args:
        source: The model, which is not modified.
        options: The sizes to lower it with.
        plan: What may leave it.
        how: How much of that is to leave.
        feeds: The inputs of the comparison.
        runner: What runs the models.

    Returns:
        The first attempt that holds, or that cannot be run.

    Raises:
        NothingToPrune: Every family is left whole.
        GmncError: The pruned model differs from the masked original.
    """
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
                wrong[number] = proof.summary
        if not wrong:
            raise GmncError(f"the pruned model would be wrong: {attempt.proof.summary} {attempt.proof.reason}")
        refused |= wrong


def _rewritten(source: Source, options: GivenSizes, plan: Plan, how: How, refused: dict[int, str]) -> Attempt:
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
            return Attempt(labelled, cuts, choices, PruningProof(None, reason="nothing was removed"), refused)
        except Uncuttable as reason:
            culprits = {c.group.family for c in choices if np.isin(c.nodes, reason.nodes).any()}
            if not culprits:
                culprits = {c.group.family for c in choices}
            if reason.ragged and not culprits <= alike:
                alike |= culprits
            else:
                refused |= dict.fromkeys(culprits, reason.reason)


def _proof(attempt: Attempt, feeds: Feeds, runner: Runner) -> PruningProof:
    graph, cuts = attempt.labelled.graph, attempt.cuts
    try:
        inputs = feeds.get()
    except NotRunnable as reason:
        return PruningProof(None, reason=str(reason))
    data = {v.name or "": k.data for v, k in cuts.known.items() if k.data is not None}
    dtype = max(feeds.types.values(), key=eps_of, default="float32")
    tolerance = _MARGIN * tolerance_of(graph, dtype)
    for outgoing in (False, True):
        reference = masked_original(graph, cuts.removed, cuts.by_name(), data, outgoing)
        proof = proved(attempt.labelled.model, reference, feeds.original, inputs, tolerance, runner)
        if proof.reason != NOT_FINITE:
            break
    return proof
