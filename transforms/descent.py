"""Brings one kind of symmetries after the other to its best, until two networks are as close as they get."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import numpy as np

from ..ir import ParameterGraph
from ..symmetry import Automorphism, Factor, symmetries
from .activations import Correlations
from .distance import distance
from .matching import Progress, match
from .mixing import absorbed, best_mixing, normal_form
from .rescaling import balancing, best_scales, best_signs
from .similarity import Values

__all__ = ["MIXED", "Course", "Search", "closest"]

MIXED = ("linear", "orthogonal")
"""Kinds of matrices; using them changes the reference too."""

_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Search:
    """What is searched, and how.

    Attributes:
        graph: The graph of both networks.
        kinds: The kinds of symmetries.
        starts: How many orders of the layers are tried.
        rng: Source of randomness.
        on_progress: Called with what is done.
        alike: How alike the activations of neurons are; None to compare parameters.
    """

    graph: ParameterGraph
    kinds: Sequence[str]
    starts: int
    rng: np.random.Generator
    on_progress: Progress
    alike: Correlations | None = None


@dataclass
class Course:
    """What has been applied to a network so far.

    Attributes:
        graph: Its graph.
        values: Its parameters by now.
        factors: What was applied, the first one first.
    """

    graph: ParameterGraph
    values: Values
    factors: list[Automorphism | Factor] = field(default_factory=list)

    def apply(self, more: Automorphism | Factor | None) -> None:
        """Apply a symmetry, if there is one."""
        if more is not None:
            self.factors.append(more)
            self.values = {**self.values, **more.apply(self.values)}


def closest(search: Search, a: Values, b: Values) -> tuple[Course, Course]:
    """What is done to the reference and to another network to bring them as close as possible.

    Two starts are tried: the networks as they are, the best for networks that were trained alike, and normal forms that
    no sign, scale or matrix changes.

    Args:
        search: What is searched.
        a: Parameters of the reference, by name.
        b: Those of the other network.

    Returns:
        The reference, which changes only if kinds of `MIXED` are used, and the other network.
    """
    found = [_descended(search, a, b, normal) for normal in (False, True)[: 1 + _has_forms(search)]]
    own, other = min(found, key=lambda pair: distance(pair[0].values, pair[1].values))
    # Going to a normal form and back leaves the reference as it was, but for rounding.
    return (own, other) if not set(search.kinds).isdisjoint(MIXED) else (Course(search.graph, a), other)


def _has_forms(search: Search) -> bool:
    """Whether there are other symmetries than permutations."""
    found = [symmetries(search.graph, (k,)) for k in search.kinds if k != "permutation"]
    return any(r.dimension for s in found for r in s.rescalings) or any(m.spaces for s in found for m in s.mixings)


def _descended(search: Search, a: Values, b: Values, normal: bool) -> tuple[Course, Course]:
    """The networks after all kinds have been brought to their best in turn.

    normal: whether both are put into normal forms first, and magnitudes are compared as long as no sign is known.
    """
    graph, kinds = search.graph, search.kinds
    own, other = Course(graph, a), Course(graph, b)
    back: list[Factor] = []
    if normal and "scale" in kinds:
        back += _put_into_form(own, other, balancing)
    for kind in MIXED:
        if kind in kinds:
            # Scales of normalisations that are 1 in one network must be 1 in the other.
            _put_into_form(own, other, partial(absorbed, kind=kind))
    if normal and "linear" in kinds:
        back += _put_into_form(own, other, normal_form)
    if "orthogonal" in kinds:
        other.apply(best_mixing(graph, own.values, other.values, "orthogonal", _unmoved(graph)))
    for number in range(1 if set(kinds) == {"permutation"} else _ROUNDS):
        _improve(search, own, other, not number, normal)
    for each in reversed(back):
        own.apply(each)
        other.apply(each)
    return own, other


def _improve(search: Search, own: Course, other: Course, first: bool, normal: bool) -> None:
    """Bring every kind to its best once."""
    graph, kinds = search.graph, search.kinds
    if "permutation" in kinds:
        unsigned = first and normal and "sign" in kinds
        a, b = (_magnitudes(c.values) if unsigned else c.values for c in (own, other))
        starts = search.starts if first else 0
        made = match(graph, a, b, starts, search.rng, search.on_progress, search.alike).symmetry
        other.apply(made if len(made.src) else None)
    if "sign" in kinds:
        other.apply(best_signs(graph, own.values, other.values))
    if "scale" in kinds:
        other.apply(best_scales(graph, own.values, other.values))
    for kind in MIXED:
        if kind in kinds:
            other.apply(best_mixing(graph, own.values, other.values, kind, None, normal))


def _put_into_form(own: Course, other: Course, form: Callable[[ParameterGraph, Values], Factor | None]) -> list[Factor]:
    """Put two networks into a normal form; returns what takes the first one back, if anything changes."""
    made = form(own.graph, own.values)
    if made is None:
        return []
    own.apply(made)
    other.apply(form(other.graph, other.values))
    return [made.inverse()]


def _magnitudes(values: Values) -> Values:
    return {n: np.abs(v) for n, v in values.items()}


def _unmoved(graph: ParameterGraph) -> np.ndarray:
    """The nodes that no permutation moves, bool [num_nodes]."""
    found = np.ones(graph.num_nodes, dtype=bool)
    for orbit in symmetries(graph).orbits:
        found[orbit] = False
    return found
