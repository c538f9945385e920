"""The symmetries of a graph as one object: generators, orbits, the size of the group, random elements, words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from .distinct import distinct
from .factors import Component, Factor, components
from .graph import NodeGroup, ParameterGraph
from .incidence import incidence
from .permute import Automorphism
from .rescaling import RESCALINGS, Product, Rescaling, Rescalings, rescalings
from .symmetry import decided, generators, orbits, sample

__all__ = ["Family", "Symmetries", "group_name"]

_LISTED = 3
_MADE = ("neuron", "input")


@dataclass(frozen=True, slots=True)
class Family:
    """Nodes that move together, or a group of nodes that do not move.

    name, what: in words, e.g. ``conv1`` and ``64 channels, free``. groups: node group numbers, ascending. generators:
    indices into `Symmetries.generators`; none if the nodes do not move. degrees: of the symmetric groups, inner ones
    first; in each level, of all that trade places. signs, scales: how many independent changes of sign and of scale
    begin at these nodes; None where they were not asked for.
    """

    name: str
    what: str
    groups: tuple[int, ...]
    generators: tuple[int, ...] = ()
    degrees: tuple[tuple[int, ...], ...] = ()
    log10_size: float = 0.0
    exact: bool = True
    signs: int | None = None
    scales: int | None = None

    @property
    def words(self) -> str:
        """One line."""
        more = [f"{n} {what}" for n, what in ((self.signs, "signs"), (self.scales, "scales")) if n]
        return f"{self.name}: {', '.join([self.what, *more])}"

    def to_json(self) -> dict[str, Any]:
        """The family as plain data; of the generators their number."""
        return {
            "name": self.name,
            "what": self.what,
            "groups": list(self.groups),
            "generators": len(self.generators),
            "degrees": [list(level) for level in self.degrees],
            "log10_size": round(self.log10_size, 6),
            "exact": self.exact,
            **{name: n for name, n in (("signs", self.signs), ("scales", self.scales)) if n is not None},
        }


@dataclass(frozen=True)
class Symmetries:
    """What `ParameterGraph.symmetries` returns.

    generators: permutations that generate all those that swap closure finds; sizes, orbits and families are of them.
    kinds: what was asked for, and what `sample` draws from. rescalings: of the kinds that multiply.
    """

    graph: ParameterGraph
    generators: tuple[Automorphism, ...]
    kinds: tuple[str, ...] = ("permutation",)
    rescalings: tuple[Rescalings, ...] = ()

    @classmethod
    def of(cls, graph: ParameterGraph, kinds: tuple[str, ...] = ("permutation",)) -> Symmetries:
        """Find the generators, and the rescalings of these kinds."""
        found = graph.symmetries().generators if kinds != ("permutation",) else generators(graph)
        others = tuple(rescalings(graph, kind) for kind in kinds if kind in RESCALINGS)
        return cls(graph, tuple(replace(g, graph=graph) for g in found), kinds, others)

    @cached_property
    def orbits(self) -> list[np.ndarray]:
        """Nodes that can take each other's place: int64 ids, ascending, orbits of more than one node."""
        return orbits(self.graph, self.generators)

    @cached_property
    def components(self) -> list[Component]:
        """The independent factors of the group, as it acts on nodes that no others decide, which is faithful."""
        free = ~decided(incidence(self.graph))
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
            steps.append(replace(sample(self.graph, self.generators, rng), graph=self.graph))
        return steps[0] if len(steps) == 1 and isinstance(steps[0], Automorphism) else Product(tuple(steps))

    @cached_property
    def families(self) -> list[Family]:
        """All symmetries in words, and the inputs and neurons that do not move, in the order of the node groups."""
        found = [_family(self.graph, c, self.generators) for c in self.components]
        moving = {g for f in found for g in f.groups}
        found += _unmoved(self.graph, moving)
        for each in self.rescalings:
            found = _annotated(self.graph, found, each)
        return sorted(found, key=lambda f: f.groups)

    def __str__(self) -> str:
        size = f"{'' if self.exact else 'at least '}10^{self.log10_size:.2f} symmetries"
        lines = [*(f.words for f in self.families), f"{size}, {len(self.generators)} generators"]
        return "\n".join([*lines, *(r.words for r in self.rescalings)])

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


def group_name(group: NodeGroup) -> str:
    """What a user knows a node group by: the module of its scope if the exporter left one, else the ONNX value."""
    if ": " in group.scope:
        paths = [part.split(": ", 1)[0] for part in group.scope.split("/")[:-1]]
        if paths and paths[-1]:
            return paths[-1]
    elif group.scope.strip("/"):
        return group.scope.strip("/")
    return group.value or group.node or group.kind


def _family(graph: ParameterGraph, component: Component, automorphisms: Sequence[Automorphism]) -> Family:
    moved = distinct(np.concatenate([automorphisms[i].src for i in component.generators]))
    groups = distinct(graph.group_of(moved)).tolist() if len(moved) else []
    degrees = tuple(tuple(f.degree for f in level) for level in component.levels)
    name, what = _names(graph, groups), _what(graph, groups, component)
    return Family(name, what, tuple(groups), component.generators, degrees, component.log10, component.exact)


def _what(graph: ParameterGraph, groups: list[int], component: Component) -> str:
    noun = "channels" if _has_kernel(graph, groups) else "neurons"
    kinds = {graph.groups[g].kind for g in groups}
    made = [g for g in groups if graph.groups[g].kind in _MADE]
    along = f"tied along {len(made)} layers" if len(made) > 1 else "free"
    if not component.exact:
        return f"{len(component.generators)} generators of no known form, at least 10^{component.log10:.2f} symmetries"
    if len(component.levels) == 1 and len(component.levels[0]) == 1:
        return f"{component.levels[0][0].degree} {noun}, {along}"
    blocks = "heads" if "sum" in kinds else "groups" if "reduce" in kinds else "blocks"
    inside = "dims" if "sum" in kinds else noun
    nesting = " x ".join(", ".join(map(str, _degrees(level))) for level in reversed(component.levels[:-1]))
    outer = " and ".join(map(str, _degrees(component.levels[-1])))
    return f"{outer} {blocks} x {nesting} {inside}, {blocks} swap with {', '.join(_weights(graph, groups))} tied"


def _degrees(level: Sequence[Factor]) -> list[int]:
    return sorted({f.degree for f in level})


def _weights(graph: ParameterGraph, groups: list[int]) -> list[str]:
    """Short names of the layers whose weights these groups are ends of."""
    ends = (distinct(graph.group_of(e)) for b in graph.edges if b.role == "weight" for e in (b.dst, b.src))
    wanted, layers = set(groups), []
    for dst, src in zip(ends, ends, strict=True):
        if wanted.intersection(dst.tolist()) or wanted.intersection(src.tolist()):
            layers += [group_name(graph.groups[g]) for g in dst.tolist()]
    names = list(dict.fromkeys(layers))
    prefix = _prefix(names)
    return [n[len(prefix) :].lstrip("./") or n for n in names]


def _prefix(names: Sequence[str]) -> str:
    """The modules that all names begin with."""
    parts = [re.split(r"(?<=[./])", n)[:-1] for n in names]
    common = [p[0] for p in zip(*parts, strict=False) if len(set(p)) == 1]
    return "".join(common)


def _unmoved(graph: ParameterGraph, moving: set[int]) -> Iterator[Family]:
    """Inputs and neurons of which none moves."""
    ports = {}
    for word, ends in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        for port in ends:
            ports.update(dict.fromkeys(distinct(graph.group_of(port.nodes)).tolist(), word))
    for number, group in enumerate(graph.groups):
        if number in moving or group.kind not in _MADE:
            continue
        pinned = graph.pinned[group.start : group.stop].all()
        why = ports.get(number, "order matters") if pinned else f"{group.size} neurons, no two alike"
        yield Family(group_name(group), ("pinned, " if pinned else "") + why, (number,))


def _annotated(graph: ParameterGraph, families: list[Family], found: Rescalings) -> list[Family]:
    """The families with how many rescalings begin in their groups; groups of no family get one where some do."""
    groups = graph.group_of(found.homes)
    owner = {g: i for i, family in reversed(list(enumerate(families))) for g in family.groups}
    counts = [0] * len(families)
    for number, count in zip(*(a.tolist() for a in np.unique(groups, return_counts=True)), strict=True):
        if number not in owner:
            owner[number] = len(families)
            group = graph.groups[number]
            signs = families[0].signs if families else None
            new = Family(group_name(group), f"{group.size} values", (number,), signs=None if signs is None else 0)
            families = [*families, new]
            counts.append(0)
        counts[owner[number]] += count
    if found.kind == "sign":
        return [replace(f, signs=n) for f, n in zip(families, counts, strict=True)]
    return [replace(f, scales=n) for f, n in zip(families, counts, strict=True)]


def _names(graph: ParameterGraph, groups: list[int]) -> str:
    """The first few groups by name, those that weights make if there are any."""
    made = [g for g in groups if graph.groups[g].kind in _MADE] or groups
    names = list(dict.fromkeys(group_name(graph.groups[g]) for g in made))
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _has_kernel(graph: ParameterGraph, groups: list[int]) -> bool:
    """Whether a convolution makes these nodes: an edge block with a kernel ends in them."""
    wanted = set(groups)
    return any(
        b.slots.shape[1] >= 1 and b.role == "weight" and b.dst.size and int(graph.group_of(b.dst.flat[0])) in wanted
        for b in graph.edges
    )
