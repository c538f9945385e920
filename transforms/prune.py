"""`prune`: whole channels, neurons, heads, groups or experts leave an ONNX file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir

from ..frontend import LabelledModel, label_values
from ..ir import GmncError
from ..symmetry import symmetries
from ..testing import random_inputs
from ..testing.precision import tolerance_of
from .pruning.choice import Choice, choose, group_of_nodes, removed_nodes
from .pruning.cuts import Uncuttable
from .pruning.finish import finish
from .pruning.importance import CRITERIA, position_scores, weight_scores
from .pruning.positions import PositionGroup, position_groups
from .pruning.proof import Proof, proved
from .pruning.reference import masked_original
from .pruning.rewrite import rewritten
from .pruning.sizes import check_sizes

__all__ = ["Pruned", "prune"]

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model


@dataclass(frozen=True)
class Pruned:
    """A pruned model, and what was done.

    Attributes:
        model: The smaller model.
        choices: The positions that left it.
        kept_whole: Why families are left as they are, by name.
    """

    model: onnx_ir.Model
    choices: tuple[Choice, ...]
    proof: Proof
    kept_whole: Mapping[str, str] = field(default_factory=dict)


def prune(
    source: Source,
    ratio: float = 0.5,
    *,
    importance: str = "l2",
    only: str = "",
    round_to: int = 1,
    level: Literal["inner", "outer"] = "inner",
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
) -> Pruned:
    """Remove whole positions of symmetric families from a model."""
    if not 0 < ratio < 1:
        raise GmncError(f"the ratio is {ratio}: give the share of positions to remove, between 0 and 1")
    labelled = label_values(source, dims=dims, inputs=inputs)
    groups = position_groups(symmetries(labelled.graph))
    scores = None if importance == "random" else weight_scores(labelled.graph, 1 if importance == "l1" else 2)
    all_scores = position_scores(groups, scores, {}, seed)
    refused: dict[str, str] = {}
    alike: set[int] = set()
    while True:
        every = choose(groups, all_scores, ratio, level, only, round_to, alike)
        choices = [c for c in every if c.group.name not in refused]
        removed = removed_nodes(labelled.graph, choices)
        try:
            cuts = rewritten(labelled, removed, group_of_nodes(labelled.graph, groups))
            check_sizes(labelled, cuts, dims or {}, inputs or {})
            finish(labelled.model)
            by_name = {v.name or "": c for v, c in cuts.of.items() if v.name in {w.name for w in cuts.known}}
            data = {v.name or "": k.data for v, k in cuts.known.items() if k.data is not None}
            reference = masked_original(labelled.graph, removed, by_name, data)
            feeds = [random_inputs(source, s, dims, inputs) for s in (seed, seed + 1)]
            tolerance = 4 * tolerance_of(labelled.graph)
            proof = proved(labelled.model, reference, labelled.graph.model, feeds, tolerance)
            return Pruned(labelled.model, tuple(choices), proof, refused)
        except Uncuttable as reason:
            culprits = _culprits(choices, reason.nodes)
            if not culprits:
                raise
            if reason.ragged and not {c.group.family for c in culprits} <= alike:
                alike |= {c.group.family for c in culprits}
            else:
                refused |= {c.group.name: reason.reason for c in culprits}
            if os.environ.get("PRUNE_DEBUG"):
                print("refused", culprits, reason)
        labelled = label_values(source, dims=dims, inputs=inputs)


def _culprits(choices: list[Choice], nodes: np.ndarray) -> list[Choice]:
    """The choices that concern these nodes."""
    return [c for c in choices if np.isin(np.concatenate([c.group.positions[i] for i in c.positions]), nodes).any()]
