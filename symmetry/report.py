"""Symmetries as readers see them: one family per independent factor of the group, named after the model's layers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import factorial, prod
from typing import Any

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import NodeGroup, ParameterGraph
from ..ir.printable import counted
from ..ir.vocabulary import EdgeRole, NodeKind
from .automorphism import Automorphism
from .group import Component, SymmetricGroup
from .interchange import Interchangeable, interchangeable
from .kinds import plural
from .mixing import Mixings
from .rescaling import Rescalings

__all__ = ["SymmetryFamily", "families", "group_name", "size_text"]

_MAX_NAMES = 3
_FEW = 9
"""log10 of the greatest number of symmetries that is printed as an integer."""
_LISTED_KINDS = (NodeKind.NEURON, NodeKind.INPUT)


@dataclass(frozen=True, slots=True)
class SymmetryFamily:
    """One line of the report: the nodes that one factor of the group moves together, or a node group that is fixed.

    Attributes:
        name: Names of the layers, e.g. ``conv1``.
        what: What moves, e.g. ``64 channels, free``.
        groups: Indices of the node groups, ascending.
        generators: Indices into `Symmetries.generators`; empty if the nodes do not move.
        degrees: Degrees of the symmetric groups, level by level from the innermost.
        log10_size: log10 of the number of permutations.
        exact: Whether that is the number, not a lower bound.
        signs: Number of independent sign changes whose first node is here; None unless signs were asked for.
        scales: Number of independent scales whose first node is here; None unless scales were asked for.
        orthogonal: Dimension of the groups of orthogonal matrices that mix nodes from here on; None unless asked for.
        linear: Dimension of the groups of invertible matrices that mix nodes from here on; None unless asked for.
        find: Finds the positions, on first use.
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
    orthogonal: int | None = None
    linear: int | None = None
    find: Callable[[], list[Interchangeable]] = field(default=list, repr=False, compare=False)

    @property
    def positions(self) -> list[Interchangeable]:
        """The outermost positions that may be put in any order, with the tensors and axes that an order moves.

        `permutation` of these gives the symmetry, whose `inverse()` and `@` go on with it.
        """
        return self.find()

    @property
    def dimensions(self) -> dict[str, int]:
        """The numbers of symmetries other than permutations, by the names of these attributes; of kinds asked for."""
        names = ("signs", "scales", "orthogonal", "linear")
        return {name: n for name in names if (n := getattr(self, name)) is not None}

    @property
    def summary(self) -> str:
        """The family as one line of text."""
        more = [counted(n, what) for n, what in ((self.signs, "sign"), (self.scales, "scale")) if n]
        mixed = (("orthogonal", self.orthogonal), ("linear", self.linear))
        more += [f"{counted(n, 'dimension')} of {kind} maps" for kind, n in mixed if n]
        return f"{self.name}: {', '.join([self.what, *more])}"

    def to_json(self) -> dict[str, Any]:
        """The family as JSON data, with the number of generators in place of their indices."""
        return {
            "name": self.name,
            "what": self.what,
            "groups": list(self.groups),
            "generators": len(self.generators),
            "degrees": [list(level) for level in self.degrees],
            "log10_size": round(self.log10_size, 6),
            "exact": self.exact,
            **self.dimensions,
        }


def families(
    graph: ParameterGraph,
    components: Sequence[Component],
    generators: Sequence[Automorphism],
    others: Sequence[Rescalings | Mixings],
) -> list[SymmetryFamily]:
    """One family per component, and one per fixed group of inputs or neurons, in node group order."""
    found = [_family(graph, c, generators) for c in components]
    moving = {g for f in found for g in f.groups}
    found += _unmoved(graph, moving)
    for each in others:
        found = _annotated(graph, found, each)
    return sorted(found, key=lambda f: f.groups)


def size_text(components: Sequence[Component]) -> str:
    """The order of the product of the components as text: ``4! = 24``, ``10^63.57`` or ``at least 10^5.20``."""
    exact, log10 = all(c.exact for c in components), sum(c.log10 for c in components)
    if not exact or log10 >= _FEW:
        return f"{'' if exact else 'at least '}10^{log10:,.2f}"
    degrees = [f.degree for c in components for level in c.levels for f in level]
    rest = round(10 ** sum(c.rest_log10 for c in components))
    powers = [f"({d}!)^{n}" if n > 1 else f"{d}!" for d, n in sorted(Counter(degrees).items())]
    formula = f"{' '.join(powers)} = " if rest == 1 and len(powers) <= _MAX_NAMES else ""
    return f"{formula}{prod(map(factorial, degrees)) * rest:,}"


def group_name(group: NodeGroup) -> str:
    """The name of a node group in reports: its module if the exporter recorded scopes, else the ONNX value."""
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
    return SymmetryFamily(
        name, what, tuple(groups), component.generators, degrees, component.log10, component.exact,
        find=partial(interchangeable, graph, [component], automorphisms),
    )  # fmt: skip


def _what(graph: ParameterGraph, groups: list[int], component: Component) -> str:
    noun = "channels" if _has_kernel(graph, groups) else "neurons"
    kinds = {graph.groups[g].kind for g in groups}
    listed = [g for g in groups if graph.groups[g].kind in _LISTED_KINDS]
    across = f"jointly in {len(listed)} layers" if len(listed) > 1 else "free"
    if not component.exact:
        by = counted(len(component.generators), "generator")
        return f"{by} of a group of unknown structure, at least 10^{component.log10:.2f} symmetries"
    if len(component.levels) == 1 and len(component.levels[0]) == 1:
        return f"{component.levels[0][0].degree} {noun}, {across}"
    blocks = "heads" if NodeKind.SUM in kinds else "groups" if NodeKind.REDUCE in kinds else "blocks"
    inside = "dims" if NodeKind.SUM in kinds else noun
    nesting = " x ".join(", ".join(map(str, _degrees(level))) for level in reversed(component.levels[:-1]))
    outer = " and ".join(map(str, _degrees(component.levels[-1])))
    return f"{outer} {blocks} x {nesting} {inside}, {blocks} swap jointly in {', '.join(_weights(graph, groups))}"


def _degrees(level: Sequence[SymmetricGroup]) -> list[int]:
    return sorted({f.degree for f in level})


def _weights(graph: ParameterGraph, groups: list[int]) -> list[str]:
    """Short names of the layers whose weights end in these node groups."""
    ends = (distinct(graph.group_of(e)) for b in graph.edges if b.role == EdgeRole.WEIGHT for e in (b.dst, b.src))
    wanted, layers = set(groups), []
    for dst, src in zip(ends, ends, strict=True):
        if wanted.intersection(dst.tolist()) or wanted.intersection(src.tolist()):
            layers += [group_name(graph.groups[g]) for g in dst.tolist()]
    names = list(dict.fromkeys(layers))
    prefix = _prefix(names)
    return [n[len(prefix) :].lstrip("./") or n for n in names]


def _prefix(names: Sequence[str]) -> str:
    """The module path that all names begin with."""
    parts = [re.split(r"(?<=[./])", n)[:-1] for n in names]
    common = [p[0] for p in zip(*parts, strict=False) if len(set(p)) == 1]
    return "".join(common)


def _unmoved(graph: ParameterGraph, moving: set[int]) -> Iterator[SymmetryFamily]:
    """Groups of inputs or neurons without a moving node."""
    port_groups = {}
    for word, ports in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        for port in ports:
            port_groups.update(dict.fromkeys(distinct(graph.group_of(port.nodes)).tolist(), word))
    for number, group in enumerate(graph.groups):
        if number in moving or group.kind not in _LISTED_KINDS:
            continue
        pinned = graph.pinned[group.start : group.stop].all()
        why = port_groups.get(number, "order matters") if pinned else counted(group.size, "neuron")
        why += ", no two alike" * (group.size > 1 and not pinned)
        yield SymmetryFamily(group_name(group), ("pinned, " if pinned else "") + why, (number,))


def _annotated(
    graph: ParameterGraph, families: list[SymmetryFamily], found: Rescalings | Mixings
) -> list[SymmetryFamily]:
    """The families with the number of symmetries whose first node is theirs; further families for other groups."""
    nodes, numbers = found.starts
    groups, which = np.unique(graph.group_of(nodes), return_inverse=True)
    sums = np.zeros(len(groups), dtype=np.int64)
    np.add.at(sums, which, numbers)
    none: dict[str, Any] = dict.fromkeys(families[0].dimensions if families else (), 0)
    owner = {g: i for i, family in reversed(list(enumerate(families))) for g in family.groups}
    counts = [0] * len(families)
    for number, count in zip(groups.tolist(), sums.tolist(), strict=True):
        if number not in owner:
            owner[number] = len(families)
            group = graph.groups[number]
            new = SymmetryFamily(group_name(group), counted(group.size, "value"), (number,))
            families = [*families, replace(new, **none)]
            counts.append(0)
        counts[owner[number]] += count
    numbered: list[dict[str, Any]] = [{plural(found.kind): n} for n in counts]
    return [replace(f, **n) for f, n in zip(families, numbered, strict=True)]


def _names(graph: ParameterGraph, groups: list[int]) -> str:
    """Names of the first few groups, of inputs and neurons if there are any."""
    listed = [g for g in groups if graph.groups[g].kind in _LISTED_KINDS] or groups
    names = list(dict.fromkeys(group_name(graph.groups[g]) for g in listed))
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more


def _has_kernel(graph: ParameterGraph, groups: list[int]) -> bool:
    """Whether one of these groups is the target of a weight with a kernel, as a convolution's is."""
    wanted = set(groups)
    kernels = [b for b in graph.edges if b.role == EdgeRole.WEIGHT and b.slots.shape[1] >= 1 and b.dst.size]
    return any(int(graph.group_of(b.dst.flat[0])) in wanted for b in kernels)
