"""The symmetries of a graph as one object: generators, orbits, the size of the group, random elements, words."""

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
from .report import SymmetryFamily, families, size_in_words
from .rescaling import RESCALINGS, Product, Rescaling, Rescalings, checked_kinds, rescalings

__all__ = ["Symmetries", "symmetries"]


@dataclass(frozen=True)
class Symmetries:
    """What `symmetries` returns.

    generators: permutations that generate all those that swap closure finds; sizes, orbits and families are of them.
    kinds: what was asked for, and what `sample` draws from. rescalings: of the kinds that multiply.
    """

    graph: ParameterGraph
    generators: tuple[Automorphism, ...]
    kinds: tuple[str, ...] = ("permutation",)
    rescalings: tuple[Rescalings, ...] = ()

    @cached_property
    def orbits(self) -> list[np.ndarray]:
        """Nodes that can take each other's place: int64 ids, ascending, orbits of more than one node."""
        return orbits(self.graph, self.generators)

    @cached_property
    def components(self) -> list[Component]:
        """The independent factors of the group, as it acts on nodes that no others decide, which is faithful."""
        free = ~determined(incidence(self.graph))
        moves = ((g, free[g.src]) for g in self.generators)
        return components([replace(g, src=g.src[keep], dst=g.dst[keep]) for g, keep in moves])

    @property
    def log10_size(self) -> float:
        """log10 of the number of symmetries that the generators generate; a lower bound if not `exact`."""
        return float(sum(c.log10 for c in self.components))

    @property
    def exact(self) -> bool:
        """Whether `log10_size` is the size of that group and no mere lower bound."""
        return all(c.exact for c in self.components)

    def sample(self, rng: np.random.Generator) -> Automorphism | Product:
        """A random symmetry of the kinds asked for; its `apply` changes parameters."""
        steps: list[Automorphism | Rescaling] = [r.sample(rng) for r in self.rescalings if r.dimension]
        if "permutation" in self.kinds:
            steps.append(sample(self.graph, self.generators, rng))
        return steps[0] if len(steps) == 1 and isinstance(steps[0], Automorphism) else Product(tuple(steps))

    @cached_property
    def families(self) -> list[SymmetryFamily]:
        """All symmetries in words, and the inputs and neurons that do not move, in the order of the node groups."""
        return families(self.graph, self.components, self.generators, self.rescalings)

    @property
    def words(self) -> str:
        """How many permutations there are, in words: a few exactly, as in ``4! = 24 symmetries``."""
        if not self.generators:
            return "no symmetries: no node can take another's place"
        by = f"by {counted(len(self.generators), 'generator')}, {counted(len(self.orbits), 'orbit')}"
        return f"{size_in_words(self.components)} symmetries {by}"

    def __str__(self) -> str:
        return "\n".join([*(f.words for f in self.families), self.words, *(r.words for r in self.rescalings)])

    def to_json(self) -> dict[str, Any]:
        """The symmetries as plain data, without the permutations themselves."""
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
                {"size": len(o), "groups": g, **{f"{r.kind}s": int(np.isin(r.homes, o).sum()) for r in self.rescalings}}
                for o, g in zip(self.orbits, groups, strict=True)
            ],
        }


def symmetries(graph: ParameterGraph, kinds: Sequence[str] = ("permutation",)) -> Symmetries:
    """The permutations of nodes that keep the graph, and so, applied to the parameters, the network's function.

    Found on the first call and kept with the graph.

    Args:
        graph: The parameter graph.
        kinds: Among "permutation", "sign" and "scale". The latter two are what may be multiplied: values of odd
            functions by -1, of homogeneous ones by a positive number.

    Returns:
        Generators, orbits, size and families of the group; `sample` draws a random element of these kinds.

    Raises:
        GmncError: for an unknown kind, and for none at all.
    """
    checked = checked_kinds(kinds)
    return graph.derived(("symmetries", checked), lambda: _found(graph, checked))


def _found(graph: ParameterGraph, kinds: tuple[str, ...]) -> Symmetries:
    known = symmetries(graph).generators if kinds != ("permutation",) else generators(graph)
    others = tuple(rescalings(graph, kind) for kind in kinds if kind in RESCALINGS)
    return Symmetries(graph, tuple(replace(g, graph=graph) for g in known), kinds, others)
