"""Symmetries in words: families of nodes that move together, and what does not move, named as users know them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import factorial, prod
from typing import Any

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import NodeGroup, ParameterGraph
from ..ir.printable import counted
from ..ir.vocabulary import EdgeRole, NodeKind
from .automorphism import Automorphism
from .group import Component, Factor
from .rescaling import Rescalings

__all__ = ["SymmetryFamily", "families", "group_name", "size_in_words"]

_LISTED = 3
_FEW = 9
"""log10 of how many symmetries are still given as a whole number."""
_MADE = (NodeKind.NEURON, NodeKind.INPUT)


@dataclass(frozen=True, slots=True)
class SymmetryFamily:
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
        more = [counted(n, what) for n, what in ((self.signs, "sign"), (self.scales, "scale")) if n]
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


def families(
    graph: ParameterGraph,
    components: Sequence[Component],
    generators: Sequence[Automorphism],
    rescalings: Sequence[Rescalings],
) -> list[SymmetryFamily]:
    """All symmetries in words, and the inputs and neurons that do not move, in the order of the node groups."""
    found = [_family(graph, c, generators) for c in components]
    moving = {g for f in found for g in f.groups}
    found += _unmoved(graph, moving)
    for each in rescalings:
        found = _annotated(graph, found, each)
    return sorted(found, key=lambda f: f.groups)


def size_in_words(components: Sequence[Component]) -> str:
    """How many symmetries the components make together: a whole number, with its factorials, if it has few digits."""
    exact, log10 = all(c.exact for c in components), sum(c.log10 for c in components)
    if not exact or log10 >= _FEW:
        return f"{'' if exact else 'at least '}10^{log10:,.2f}"
    degrees = [f.degree for c in components for level in c.levels for f in level]
    rest = round(10 ** sum(c.rest_log10 for c in components))
    powers = [f"({d}!)^{n}" if n > 1 else f"{d}!" for d, n in sorted(Counter(degrees).items())]
    formula = f"{' '.join(powers)} = " if rest == 1 and len(powers) <= _LISTED else ""
    return f"{formula}{prod(map(factorial, degrees)) * rest:,}"


def group_name(group: NodeGroup) -> str:
    """What a user knows a node group by: the module of its scope if the exporter left one, else the ONNX value."""
    if ": " in group.scope:
        paths = [part.split(": ", 1)[0] for part in group.scope.split("/")[:-1]]
        if paths and paths[-1]:
            return paths[-1]
    elif group.scope.strip("/"):
        return group.scope.strip("/")
    return group.value or group.node or group.kind


def _family(graph: ParameterGraph, component: Component, automorphisms: Sequence[Automorphism]) -> SymmetryFamily:
    moved = distinct(np.concatenate([automorphisms[i].src for i in component.generators]))
    groups = distinct(graph.group_of(moved)).tolist() if len(moved) else []
    degrees = tuple(tuple(f.degree for f in level) for level in component.levels)
    name, what = _names(graph, groups), _what(graph, groups, component)
    return SymmetryFamily(name, what, tuple(groups), component.generators, degrees, component.log10, component.exact)


def _what(graph: ParameterGraph, groups: list[int], component: Component) -> str:
    noun = "channels" if _has_kernel(graph, groups) else "neurons"
    kinds = {graph.groups[g].kind for g in groups}
    made = [g for g in groups if graph.groups[g].kind in _MADE]
    along = f"tied along {len(made)} layers" if len(made) > 1 else "free"
    if not component.exact:
        by = counted(len(component.generators), "generator")
        return f"{by} of no known form, at least 10^{component.log10:.2f} symmetries"
    if len(component.levels) == 1 and len(component.levels[0]) == 1:
        return f"{component.levels[0][0].degree} {noun}, {along}"
    blocks = "heads" if NodeKind.SUM in kinds else "groups" if NodeKind.REDUCE in kinds else "blocks"
    inside = "dims" if NodeKind.SUM in kinds else noun
    nesting = " x ".join(", ".join(map(str, _degrees(level))) for level in reversed(component.levels[:-1]))
    outer = " and ".join(map(str, _degrees(component.levels[-1])))
    return f"{outer} {blocks} x {nesting} {inside}, {blocks} swap with {', '.join(_weights(graph, groups))} tied"


def _degrees(level: Sequence[Factor]) -> list[int]:
    return sorted({f.degree for f in level})


def _weights(graph: ParameterGraph, groups: list[int]) -> list[str]:
    """Short names of the layers whose weights these groups are ends of."""
    ends = (distinct(graph.group_of(e)) for b in graph.edges if b.role == EdgeRole.WEIGHT for e in (b.dst, b.src))
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


def _unmoved(graph: ParameterGraph, moving: set[int]) -> Iterator[SymmetryFamily]:
    """Inputs and neurons of which none moves."""
    ports = {}
    for word, ends in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        for port in ends:
            ports.update(dict.fromkeys(distinct(graph.group_of(port.nodes)).tolist(), word))
    for number, group in enumerate(graph.groups):
        if number in moving or group.kind not in _MADE:
            continue
        pinned = graph.pinned[group.start : group.stop].all()
        why = ports.get(number, "order matters") if pinned else counted(group.size, "neuron")
        why += ", no two alike" * (group.size > 1 and not pinned)
        yield SymmetryFamily(group_name(group), ("pinned, " if pinned else "") + why, (number,))


def _annotated(graph: ParameterGraph, families: list[SymmetryFamily], found: Rescalings) -> list[SymmetryFamily]:
    """The families with how many rescalings begin in their groups; groups of no family get one where some do."""
    groups = graph.group_of(found.homes)
    owner = {g: i for i, family in reversed(list(enumerate(families))) for g in family.groups}
    counts = [0] * len(families)
    for number, count in zip(*(a.tolist() for a in np.unique(groups, return_counts=True)), strict=True):
        if number not in owner:
            owner[number] = len(families)
            group = graph.groups[number]
            signs = families[0].signs if families else None
            new = SymmetryFamily(
                group_name(group), counted(group.size, "value"), (number,), signs=None if signs is None else 0
            )
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
    kernels = [b for b in graph.edges if b.role == EdgeRole.WEIGHT and b.slots.shape[1] >= 1 and b.dst.size]
    return any(int(graph.group_of(b.dst.flat[0])) in wanted for b in kernels)
