"""The symmetries of a graph as one object: generators, orbits, group order, random elements, text and JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import ParameterGraph
from ..ir.printable import counted
from ..ir.vocabulary import Matrices
from .automorphism import Automorphism
from .find import determined, generators, orbits, sample
from .group import Component, components, innermost
from .incidence import incidence
from .interchange import Interchangeable, interchangeable
from .kinds import MIXINGS, RESCALINGS, checked_kinds, plural
from .mixing import Mixings
from .products import Factor, Product
from .report import SymmetryFamily, families, size_text
from .rescaling import Rescalings, rescalings
from .space_search import find_spaces
from .spaces import Space

__all__ = ["Symmetries", "symmetries"]


@dataclass(frozen=True)
class Symmetries:
    """The symmetries of a parameter graph, as `symmetries` returns them.

    Attributes:
        graph: The graph.
        generators: Generators of the permutations that were found; order, orbits and families describe their group.
        kinds: The kinds asked for, from which `sample` draws.
        rescalings: The sign and scale symmetries, one group per kind asked for.
        mixings: The orthogonal and linear symmetries, one group per kind asked for.
    """

    graph: ParameterGraph
    generators: tuple[Automorphism, ...]
    kinds: tuple[str, ...] = ("permutation",)
    rescalings: tuple[Rescalings, ...] = ()
    mixings: tuple[Mixings, ...] = ()

    @property
    def others(self) -> tuple[Rescalings | Mixings, ...]:
        """The groups of all kinds that are no permutations, in the order of `KINDS`."""
        return (*self.rescalings, *self.mixings)

    @cached_property
    def orbits(self) -> list[np.ndarray]:
        """The orbits of more than one node: int64 node ids, ascending."""
        return orbits(self.graph, self.generators)

    @cached_property
    def components(self) -> list[Component]:
        """The direct factors of the permutation group.

        They are computed from its action on the nodes that others do not determine. That action is faithful: a
        permutation that fixes those nodes fixes the determined ones too.
        """
        free = ~determined(incidence(self.graph))
        moves = ((g, free[g.src]) for g in self.generators)
        return components([replace(g, src=g.src[keep], dst=g.dst[keep]) for g, keep in moves])

    @cached_property
    def positions(self) -> list[Interchangeable]:
        """The outermost positions that may be put in any order; parts of the group of another form are left out."""
        return interchangeable(self.graph, self.components, self.generators)

    @property
    def log10_size(self) -> float:
        """log10 of the order of the permutation group; a lower bound unless `exact`."""
        return float(sum(c.log10 for c in self.components))

    @property
    def exact(self) -> bool:
        """Whether `log10_size` is the order of the group, not a lower bound."""
        return all(c.exact for c in self.components)

    def sample(self, rng: np.random.Generator) -> Automorphism | Product:
        """A random symmetry of the kinds asked for.

        Args:
            rng: Source of randomness.

        Returns:
            A permutation, or a product with symmetries of other kinds; its `apply` maps parameter tensors.
        """
        factors: list[Automorphism | Factor] = [r.sample(rng) for r in self.others if r.dimension]
        if "permutation" in self.kinds:
            factors.append(sample(self.graph, self.generators, rng))
        return factors[0] if len(factors) == 1 and isinstance(factors[0], Automorphism) else Product(tuple(factors))

    @cached_property
    def families(self) -> list[SymmetryFamily]:
        """One `SymmetryFamily` per direct factor, and one per fixed group of inputs or neurons, in node group order."""
        return families(self.graph, self.components, self.generators, self.others)

    @property
    def summary(self) -> str:
        """The number of permutations in one line; exact if it is small, as in ``4! = 24 symmetries``."""
        if not self.generators:
            return "no symmetries: no node can take another's place"
        by = f"by {counted(len(self.generators), 'generator')}, {counted(len(self.orbits), 'orbit')}"
        return f"{size_text(self.components)} symmetries {by}"

    def __str__(self) -> str:
        return "\n".join([*(f.summary for f in self.families), self.summary, *(r.summary for r in self.others)])

    def to_json(self) -> dict[str, Any]:
        """The symmetries as JSON data, without the permutations themselves."""
        graph = self.graph
        groups = [distinct(graph.group_of(o)).tolist() for o in self.orbits]
        return {
            "nodes": graph.num_nodes,
            "generators": len(self.generators),
            "log10_size": round(self.log10_size, 6),
            "exact": self.exact,
            **{plural(r.kind): r.dimension for r in self.others},
            "families": [f.to_json() for f in self.families],
            "orbits": [
                {
                    "size": len(o),
                    "groups": g,
                    **{plural(r.kind): int(r.starts[1][np.isin(r.starts[0], o)].sum()) for r in self.others},
                }
                for o, g in zip(self.orbits, groups, strict=True)
            ],
        }


def symmetries(graph: ParameterGraph, kinds: Sequence[str] = ("permutation",)) -> Symmetries:
    """Find the symmetries of a graph: changes of its parameters that leave the network's function unchanged.

    The result is cached with the graph. The search is sound but not complete, see docs/symmetries.md.

    Args:
        graph: The parameter graph.
        kinds: Some of "permutation" (of nodes), "sign" (hidden values times -1, through odd functions), "scale" (hidden
            values times a positive number, through homogeneous functions), "orthogonal" and "linear" (hidden values
            mixed by orthogonal matrices where they are normalised, by any invertible ones where nothing but linear
            functions meets them).

    Returns:
        Generators, orbits, order and families of the group; `sample` draws a random element of these kinds.

    Raises:
        GmncError: if a kind is unknown, or there is none.
    """
    checked = checked_kinds(kinds)
    return graph.derived(("symmetries", checked), lambda: _found(graph, checked))


def _found(graph: ParameterGraph, kinds: tuple[str, ...]) -> Symmetries:
    known = symmetries(graph).generators if kinds != ("permutation",) else generators(graph)
    others = tuple(rescalings(graph, kind) for kind in kinds if kind in RESCALINGS)
    mixed = tuple(_mixings(graph, kind) for kind in kinds if kind in MIXINGS)
    return Symmetries(graph, tuple(replace(g, graph=graph) for g in known), kinds, others, mixed)


def _mixings(graph: ParameterGraph, kind: str) -> Mixings:
    """The symmetries of one of the kinds `MIXINGS`, found on first use and cached with the graph."""
    every = graph.derived("spaces", lambda: _spaces(symmetries(graph)))
    some = tuple(s for s in every if (s.matrices is Matrices.ALL) == (kind == "linear"))
    return graph.derived(("mixings", kind), lambda: Mixings(graph, kind, some))


def _spaces(found: Symmetries) -> tuple[Space, ...]:
    """The spaces among the symmetric groups that the permutations form."""
    groups = (g for component in found.components for g in innermost(component, found.generators))
    nodes = (g[(g < found.graph.num_nodes).all(axis=1)] for g in groups)
    return find_spaces(found.graph, [n for n in nodes if len(n)])
