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
from .rescaling import balancing, best_signs
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

    Args:
        search: What is searched.
        a: Parameters of the reference, by name.
        b: Those of the other network.

    Returns:
        The reference, which changes only if kinds of `MIXED` are used, and the other network.
    """
    linear = "linear" in search.kinds and bool(symmetries(search.graph, ("linear",)).mixings[0].spaces)
    signed = "sign" in search.kinds and bool(symmetries(search.graph, ("sign",)).rescalings[0].dimension)
    # A start that undoes any signs or matrices is worse than a plain one where there are none to undo.
    starts = [(normal, unsigned) for normal in (False, True)[: 1 + linear] for unsigned in (False, True)[: 1 + signed]]
    found = [_descended(search, a, b, *start) for start in starts]
    own, other = min(found, key=lambda pair: distance(pair[0].values, pair[1].values))
    # Going to a normal form and back leaves the reference as it was, but for rounding.
    return (own, other) if not set(search.kinds).isdisjoint(MIXED) else (Course(search.graph, a), other)


def _descended(search: Search, a: Values, b: Values, normal: bool, unsigned: bool) -> tuple[Course, Course]:
    """The networks after all kinds have been brought to their best in turn.

    normal: whether both are put into their normal forms by linear maps first; by scales they always are. unsigned:
    whether magnitudes alone are compared at first, as if no sign were known.
    """
    graph, kinds = search.graph, search.kinds
    own, other = Course(graph, a), Course(graph, b)
    back: list[Factor] = []
    if "scale" in kinds:
        back += _put_into_form(own, other, balancing)
    for kind in MIXED:
        if kind in kinds:
            # Scales of normalisations that are 1 in one network must be 1 in the other.
            _put_into_form(own, other, partial(absorbed, kind=kind))
    if normal:
        back += _put_into_form(own, other, normal_form)
    if "orthogonal" in kinds:
        other.apply(best_mixing(graph, own.values, other.values, "orthogonal", _unmoved(graph)))
    for number in range(1 if set(kinds) <= {"permutation", "scale"} else _ROUNDS):
        _improve(search, own, other, first=not number, unsigned=unsigned and not number)
    for each in reversed(back):
        own.apply(each)
        other.apply(each)
    return own, other


def _improve(search: Search, own: Course, other: Course, first: bool, unsigned: bool) -> None:
    """Bring every kind to its best once."""
    kinds = search.kinds
    if "permutation" in kinds:
        a, b = (_magnitudes(c.values) if unsigned else c.values for c in (own, other))
        starts = search.starts if first else 0
        made = match(search.graph, a, b, starts, search.rng, search.on_progress, search.alike).symmetry
        other.apply(made if len(made.src) else None)
    if "sign" in kinds:
        other.apply(best_signs(search.graph, own.values, other.values))
    for kind in MIXED:
        if kind in kinds:
            other.apply(best_mixing(search.graph, own.values, other.values, kind))


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
