"""The equations that scales (or signs) of a network's values obey if its outputs are to stay.

Each value is multiplied by a factor of its own: 2^x, or (-1)^x for signs. A parameter can follow, whatever its ends
do; everything else is an equation: residual additions, activations, products, shared parameters, what is fixed.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph
from ..ir.vocabulary import REPARAMETRIZE, Combine, EdgeRole, LinkRole, NodeKind
from .homogeneity import attachment, branches, couples, degree, links
from .linear import System, Term
from .sharing import share
from .signals import Signals

__all__ = ["Gain", "ScalingEquations"]

Gain = list[tuple[Term, int]]

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_WEIGHTS = (EdgeRole.WEIGHT, EdgeRole.RECURRENT, EdgeRole.EMBEDDING, EdgeRole.PEEPHOLE)
_TERMS = (EdgeRole.BIAS, EdgeRole.POSITION, EdgeRole.SOURCE)
_ALIKE = (LinkRole.SUM, LinkRole.SHARED, LinkRole.REDUCE, LinkRole.INITIAL)
_CELL = (LinkRole.GATE, LinkRole.STATE, LinkRole.RESET, LinkRole.RECURRENT)


class ScalingEquations:
    """Sets the equations up.

    signals: the first unknowns are their changes. gains: by edge block, the terms (times [B, N] or [B, K], unknowns
    likewise, side) whose sum is the change of each parameter; side 1 are terms of the targets, 2 of the sources. A
    block without terms does not change.
    """

    def __init__(self, graph: ParameterGraph, sign: bool) -> None:
        self.graph, self.sign = graph, sign
        self.signals = Signals(graph)
        self.system = System(self.signals.size, binary=sign)
        self.gains: list[Gain] = [[] for _ in graph.edges]
        self._made = np.zeros(graph.num_nodes, dtype=bool)
        self._still = np.zeros(graph.num_nodes, dtype=bool)
        self._attached = np.zeros(self.signals.size, dtype=bool)
        self._sources = _of_kind(graph, NodeKind.PARAM)
        parts = [v for v in graph.vias if "parts" in dict(v.attributes)]
        self._coupled = [v.parents[0] for v in parts if couples(v, sign)]
        self._bound = [v.parents[0] for v in parts if degree(v, sign) is None]
        for number, block in enumerate(graph.edges):
            self._block(number, block)
        self._links()
        for via in self.signals.of_via:
            self._step(via)
        share(graph, self.system, self.gains)
        self._fix()

    def _block(self, number: int, block: EdgeBlock) -> None:
        if not block.size:
            return
        terms: Gain
        if (self.signals.hub_block[block.dst] >= 0).all():
            terms = [((1.0, block.dst.astype(np.int64)), 1)]
            self._made[block.dst] = True
        elif self._sources[block.src].all() and block.src.shape[1] == 1:
            terms = self._vector(number, block)
        elif block.role in _WEIGHTS:
            self._made[block.dst] = True
            sources = self.signals.ids(block.src, self.signals.value[block.via])
            terms = [((1.0, block.dst.astype(np.int64)), 1), ((-1.0, sources), 2)]
        else:
            # Among them a matrix that is computed with, between nodes of its rows and of its columns.
            self._still[block.dst] = True
            self._still[block.src] = True
            return
        if self._follows(block):
            self.gains[number] = terms
        elif all(side == 1 for _, side in terms):
            self.system.total(*(term for term, _ in terms))
        else:
            self.system.equal(block.dst, block.dst[:, :1])
            self.system.equal(terms[1][0][1], block.dst[:, :1])

    def _follows(self, block: EdgeBlock) -> bool:
        """Whether what the edges carry can be multiplied: floats, and not by way of a function that is not linear."""
        if block.constant or self.graph.parameters[block.view.name].dtype not in _FLOATS:
            return False
        steps = (self.graph.vias[v] for v in distinct(block.via).tolist())
        return all(v.op != REPARAMETRIZE or dict(v.attributes).get("linear") for v in steps)

    def _vector(self, number: int, block: EdgeBlock) -> Gain:
        """The change of parameters straight onto neurons, by the step that attaches them; more terms follow a sum."""
        dst = block.dst.astype(np.int64)
        before, after = np.zeros(dst.shape), np.zeros(dst.shape)
        new = np.zeros(dst.shape, dtype=np.int64)
        values = self.signals.value[block.via]
        for via in distinct(values).tolist():
            here = (values == via).any(axis=1)
            step = self.signals.after.get((number, via))
            if step is None:
                before[here] = block.role in _TERMS
                self._made[dst[here]] = True
                self._still[dst[here]] |= block.role not in _TERMS
                continue
            law = attachment(self.graph.vias[step], self.sign)
            before[here], after[here] = law.amount(block.role) if law else (0, 0)
            new[here] = self.signals.ids(dst[here], step)
            self._attached[new[here]] = True
        return [((before, self.signals.ids(dst, values)), 1), ((after, new), 1)]

    def _links(self) -> None:
        cells: dict[int, list[LinkBlock]] = defaultdict(list)
        for link in self.graph.links:
            if not link.size:
                continue
            if link.role == LinkRole.HUB:
                self._hub(link)
                continue
            self._made[link.dst] = True
            if link.role in _CELL:
                cells[int(self.graph.group_of(link.dst[0]))].append(link)
            else:
                self._link(link)
        for cell in cells.values():
            self._cell(cell)

    def _link(self, link: LinkBlock) -> None:
        system, src, dst = self.system, self.signals.ids(link.src, link.via), link.dst.astype(np.int64)
        law = links(link.role, self.sign)
        if link.role in _ALIKE or law is Combine.ALIKE:
            system.equal(dst, src)
        elif link.role == LinkRole.PRODUCT or law is Combine.PRODUCT:
            system.sums(dst, src)
        elif law is Combine.QUOTIENT and link.operand is not None:
            system.sums(dst, src, np.where(link.operand == 0, 1.0, -1.0))
        elif link.role == LinkRole.SCOPE:
            system.zero(dst)
            self._scope(link, src)
        elif link.role == LinkRole.LENGTH:
            system.zero(src)
        else:
            system.zero(src)
            system.zero(dst)

    def _hub(self, link: LinkBlock) -> None:
        """A parameter that several neurons share follows each of them."""
        system, hubs = self.system, link.src.astype(np.int64)
        steps = self.signals.after_hub(link)
        before, after = self.signals.ids(link.dst, link.via), self.signals.ids(link.dst, steps)
        for number, step in set(zip(self.signals.hub_block[hubs].tolist(), steps.tolist(), strict=True)):
            here = (self.signals.hub_block[hubs] == number) & (steps == step)
            role = self.graph.edges[number].role
            if not step:
                self._still[link.dst[here]] |= role not in _TERMS
                self._still[hubs[here]] |= role not in _TERMS
                self._made[link.dst[here]] = True
                system.equal(hubs[here], before[here])
                continue
            law = attachment(self.graph.vias[step], self.sign)
            x, y = law.amount(role) if law else (0, 0)
            self._attached[after[here]] = True
            system.total((1.0, hubs[here]), (-float(x), before[here]), (-float(y), after[here]))

    def _cell(self, cell: list[LinkBlock]) -> None:
        """A unit of a recurrent cell. A state that is read or reset is multiplied by the gate; else gates multiply the
        last one, and what is carried on.
        """
        ports = [(link.role, link.dst.astype(np.int64), self.signals.ids(link.src, link.via)) for link in cell]
        if any(role in (LinkRole.STATE, LinkRole.RESET) for role, _, _ in ports):
            self.system.sums(*(np.concatenate([p[i] for p in ports]) for i in (1, 2)))
            return
        gates = [i for i, (role, _, _) in enumerate(ports) if role == LinkRole.GATE]
        for i, (_, dst, src) in enumerate(ports):
            if i in gates[:-1]:
                self.system.zero(src)
            else:
                self.system.equal(dst, src)

    def _step(self, via: int) -> None:
        """The equation between a value before and after the last step of a via."""
        system, entry, nodes = self.system, self.graph.vias[via], self.signals.of_via[via]
        new = self.signals.ids(nodes, via)
        old = [self.signals.ids(nodes, parent) for parent in entry.parents]
        if entry.blocks:
            law = attachment(entry, self.sign)
            if law is None:
                system.zero(np.concatenate([new, old[0]]))
            elif law.same:
                system.equal(new, old[0])
            else:
                system.zero(new[~self._attached[new]])
            return
        counts = branches(entry, self.sign) if len(old) > 1 else None
        power = degree(entry, self.sign) if len(old) == 1 else None
        if counts is not None:
            if counts:
                system.total((-1.0, new), *((float(t), o) for t, o in zip(counts, old, strict=True)))
            else:
                for branch in old:
                    system.equal(new, branch)
        elif power is None:
            system.zero(np.concatenate([new, *old]))
        else:
            system.total((-1.0, new), (power, old[0]))
            if couples(entry, self.sign) and "parts" not in dict(entry.attributes):
                group = self.graph.group_of(nodes)
                first = np.searchsorted(group, group)
                system.equal(old[0], old[0][first])

    def _scope(self, link: LinkBlock, src: np.ndarray) -> None:
        """Members of a part over which something normalises."""
        self.system.zero(src[np.isin(link.via, self._bound)])
        here = np.isin(link.via, self._coupled)
        order = np.argsort(link.dst[here], kind="stable")
        scopes, members = link.dst[here][order], src[here][order]
        self.system.equal(members, members[np.searchsorted(scopes, scopes)])

    def _fix(self) -> None:
        """What must not change: outputs, what nothing makes, and all that an order or a second axis depends on."""
        graph = self.graph
        still = self._still | graph.pinned | (graph.paired if graph.paired is not None else True)
        self.system.zero(np.flatnonzero(still[self.signals.node]))
        self.system.zero(np.flatnonzero(~self._made))
        for port in graph.outputs:
            self.system.zero(self.signals.ids(port.nodes, port.via))


def _of_kind(graph: ParameterGraph, kind: str) -> np.ndarray:
    """bool [num_nodes]."""
    mask = np.zeros(graph.num_nodes, dtype=bool)
    for group in graph.groups:
        mask[group.start : group.stop] = group.kind == kind
    return mask
