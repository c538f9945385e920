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
from .automorphism import Automorphism
from .find import determined, generators, orbits, sample
from .group import Component, components
from .incidence import incidence
from .report import SymmetryFamily, families, size_text
from .rescaling import RESCALINGS, Product, Rescaling, Rescalings, checked_kinds, rescalings

__all__ = ["Symmetries", "symmetries"]


@dataclass(frozen=True)
class Symmetries:
    """The symmetries of a parameter graph, as `symmetries` returns them.

    Attributes:
        graph: The graph.
        generators: Generators of the permutations that were found; order, orbits and families describe their group.
        kinds: The kinds asked for, from which `sample` draws.
        rescalings: The sign and scale symmetries, one group per kind asked for.
    """

    graph: ParameterGraph
    generators: tuple[Automorphism, ...]
    kinds: tuple[str, ...] = ("permutation",)
    rescalings: tuple[Rescalings, ...] = ()

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
            A permutation, or a product with rescalings; its `apply` maps parameter tensors.
        """
        factors: list[Automorphism | Rescaling] = [r.sample(rng) for r in self.rescalings if r.dimension]
        if "permutation" in self.kinds:
            factors.append(sample(self.graph, self.generators, rng))
        return factors[0] if len(factors) == 1 and isinstance(factors[0], Automorphism) else Product(tuple(factors))

    @cached_property
    def families(self) -> list[SymmetryFamily]:
        """One `SymmetryFamily` per direct factor, and one per fixed group of inputs or neurons, in node group order."""
        return families(self.graph, self.components, self.generators, self.rescalings)

    @property
    def summary(self) -> str:
        """The number of permutations in one line; exact if it is small, as in ``4! = 24 symmetries``."""
        if not self.generators:
            return "no symmetries: no node can take another's place"
        by = f"by {counted(len(self.generators), 'generator')}, {counted(len(self.orbits), 'orbit')}"
        return f"{size_text(self.components)} symmetries {by}"

    def __str__(self) -> str:
        return "\n".join([*(f.summary for f in self.families), self.summary, *(r.summary for r in self.rescalings)])

    def to_json(self) -> dict[str, Any]:
        """The symmetries as JSON data, without the permutations themselves."""
        graph = self.graph
        groups = [distinct(graph.group_of(o)).tolist() for o in self.orbits]
        return {
            "nodes": graph.num_nodes,
            "generators": len(self.generators),
            "log10_size": round(self.log10_size, 6),
            "exact": self.exact,
            **{f"{r.kind}s": r.dimension for r in self.rescalings},
            "families": [f.to_json() for f in self.families],
            "orbits": [
                {
                    "size": len(o),
                    "groups": g,
                    **{f"{r.kind}s": int(np.isin(r.first_nodes, o).sum()) for r in self.rescalings},
                }
                for o, g in zip(self.orbits, groups, strict=True)
            ],
        }


def symmetries(graph: ParameterGraph, kinds: Sequence[str] = ("permutation",)) -> Symmetries:
    """Find the symmetries of a graph: changes of its parameters that leave the network's function unchanged.

    The result is cached with the graph. The search is sound but not complete, see docs/symmetries.md.

    Args:
        graph: The parameter graph.
        kinds: Some of "permutation" (of nodes), "sign" (hidden values times -1, through odd functions) and "scale"
            (hidden values times a positive number, through homogeneous functions).

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
    return Symmetries(graph, tuple(replace(g, graph=graph) for g in known), kinds, others)
