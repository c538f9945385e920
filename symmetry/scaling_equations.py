"""The linear equations on scales (or signs) of a network's values that leave the outputs unchanged.

Every signal (a node's value after some via) is multiplied by a factor 2^x, or (-1)^x for signs, with an unknown x. In
logarithms everything is linear: a step of degree d says y = d x, a residual addition x = y = z, a product z = x + y, an
output x = 0. An ordinary weight gives no equation, since its own change, target minus source, absorbs any factors
(Neyshabur, Salakhutdinov, Srebro 2015, for layers of ReLUs); a shared one must change alike at all sites. The solution
space is the group of scale (or sign) symmetries.
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from ..ir.arrays import distinct
from ..ir.graph import EdgeBlock, LinkBlock, ParameterGraph, Via
from ..ir.vocabulary import DEQUANTIZE, REPARAMETRIZE, Combine, EdgeRole, LinkRole, NodeKind
from .homogeneity import attachment, branches, couples, degree, links
from .linear import System, Term
from .sharing import share
from .signals import Signals

__all__ = ["Gain", "ScalingEquations"]

Gain = list[tuple[Term, int]]
"""((coefficients, unknowns), axis) terms whose sum is the change of each parameter of an edge block, as a logarithm.

Both arrays are [B, N] for axis 1, where the target contributes, and [B, K] for axis 2, where the source does.
"""

_FLOATS = ("float16", "bfloat16", "float32", "float64")
_WEIGHTS = (EdgeRole.WEIGHT, EdgeRole.RECURRENT, EdgeRole.EMBEDDING, EdgeRole.PEEPHOLE)
_TERMS = (EdgeRole.BIAS, EdgeRole.POSITION, EdgeRole.SOURCE)
_ALIKE = (LinkRole.SUM, LinkRole.SHARED, LinkRole.REDUCE, LinkRole.INITIAL)
_CELL = (LinkRole.GATE, LinkRole.STATE, LinkRole.RESET, LinkRole.RECURRENT)


class ScalingEquations:
    """The equations of a graph, for signs or for scales.

    signals: the first unknowns of the system are their changes. gains: by edge block; a block without terms does not
    change.
    """

    def __init__(self, graph: ParameterGraph, sign: bool) -> None:
        self.graph, self.sign = graph, sign
        self.signals = Signals(graph)
        self.system = System(self.signals.size, binary=sign)
        self.gains: list[Gain] = [[] for _ in graph.edges]
        self._produced = np.zeros(graph.num_nodes, dtype=bool)
        self._unchanged = np.zeros(graph.num_nodes, dtype=bool)
        self._attached = np.zeros(self.signals.size, dtype=bool)
        self._sources = _of_kind(graph, NodeKind.PARAM)
        self._scoped = _scoped(graph)
        for number, block in enumerate(graph.edges):
            self._block(number, block)
        self._links()
        for via in self.signals.nodes_by_via:
            self._step(via)
        share(graph, self.system, self.gains)
        self._fix()

    def _block(self, number: int, block: EdgeBlock) -> None:
        if not block.size:
            return
        terms: Gain
        if (self.signals.hub_block[block.dst] >= 0).all():
            terms = [((1.0, block.dst.astype(np.int64)), 1)]
            self._produced[block.dst] = True
        elif self._sources[block.src].all() and block.src.shape[1] == 1:
            terms = self._vector(number, block)
        elif block.role in _WEIGHTS:
            self._produced[block.dst] = True
            sources = self.signals.ids(block.src, self.signals.value[block.via])
            terms = [((1.0, block.dst.astype(np.int64)), 1), ((-1.0, sources), 2)]
        else:
            # Among these are matrices of which weights are computed, between nodes of their rows and of their columns.
            self._unchanged[block.dst] = True
            self._unchanged[block.src] = True
            return
        if self._absorbs(block):
            self.gains[number] = terms
        elif all(side == 1 for _, side in terms):
            self.system.zero_sum(*(term for term, _ in terms))
        else:
            self.system.equal(block.dst, block.dst[:, :1])
            self.system.equal(terms[1][0][1], block.dst[:, :1])

    def _absorbs(self, block: EdgeBlock) -> bool:
        """Whether the parameters of a block can absorb a factor: floats, with at most a linear function on the edge.

        Those of quantised tensors cannot, as they are rounded to a grid of fixed steps and range.
        """
        if block.constant or self.graph.parameters[block.view.name].dtype not in _FLOATS:
            return False
        return all(self._is_linear(via) for via in distinct(block.via).tolist())

    def _is_linear(self, via: int) -> bool:
        """Whether an edge of this via multiplies by a constant times its parameter."""
        entry = self.graph.vias[via]
        if entry.op == REPARAMETRIZE:
            return bool(dict(entry.attributes).get("linear")) and self._is_linear(entry.parents[0])
        roles = (self.graph.edges[number].role for number in entry.blocks)
        return entry.op != DEQUANTIZE or not any("." in role for role in roles)

    def _vector(self, number: int, block: EdgeBlock) -> Gain:
        """The terms of parameters attached to their targets (biases, norm vectors), as the step that does so declares.

        A parameter that no via names is a term of a sum if its role says so, and fixes its target otherwise.
        """
        dst = block.dst.astype(np.int64)
        before, after = np.zeros(dst.shape), np.zeros(dst.shape)
        new = np.zeros(dst.shape, dtype=np.int64)
        values = self.signals.target[block.via]
        for via in distinct(values).tolist():
            here = (values == via).any(axis=1)
            outgoing = self.signals.after.get((number, via))
            if outgoing is None:
                before[here] = block.role in _TERMS
                self._produced[dst[here]] = True
                self._unchanged[dst[here]] |= block.role not in _TERMS
                continue
            law = attachment(self.graph.vias[outgoing], self.sign)
            before[here], after[here] = law.coefficients(block.role) if law else (0, 0)
            new[here] = self.signals.ids(dst[here], outgoing)
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
            self._produced[link.dst] = True
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
            system.equal_sum(dst, src)
        elif law is Combine.QUOTIENT and link.operand is not None:
            system.equal_sum(dst, src, np.where(link.operand == 0, 1.0, -1.0))
        elif link.role == LinkRole.SCOPE:
            system.zero(dst)
            self._scope(link, src)
        elif link.role == LinkRole.LENGTH:
            system.zero(src)
        else:
            system.zero(src)
            system.zero(dst)

    def _hub(self, link: LinkBlock) -> None:
        """The equations between a shared parameter's hub and the neurons that use it."""
        system, hubs = self.system, link.src.astype(np.int64)
        outgoing = self.signals.after_hub(link)
        before, after = self.signals.ids(link.dst, link.via), self.signals.ids(link.dst, outgoing)
        for number, via in set(zip(self.signals.hub_block[hubs].tolist(), outgoing.tolist(), strict=True)):
            here = (self.signals.hub_block[hubs] == number) & (outgoing == via)
            role = self.graph.edges[number].role
            if not via:
                self._unchanged[link.dst[here]] |= role not in _TERMS
                self._unchanged[hubs[here]] |= role not in _TERMS
                self._produced[link.dst[here]] = True
                system.equal(hubs[here], before[here])
                continue
            law = attachment(self.graph.vias[via], self.sign)
            x, y = law.coefficients(role) if law else (0, 0)
            self._attached[after[here]] = True
            system.zero_sum((1.0, hubs[here]), (-float(x), before[here]), (-float(y), after[here]))

    def _cell(self, cell: list[LinkBlock]) -> None:
        """The equations of the units of a recurrent cell.

        A state that is read or reset is a product with its gate. Otherwise the last gate and the carried state are
        terms of one sum, and the other gates, which multiply them, must keep their scale.
        """
        ends = [(link.role, link.dst.astype(np.int64), self.signals.ids(link.src, link.via)) for link in cell]
        if any(role in (LinkRole.STATE, LinkRole.RESET) for role, _, _ in ends):
            self.system.equal_sum(*(np.concatenate([e[i] for e in ends]) for i in (1, 2)))
            return
        gates = [i for i, (role, _, _) in enumerate(ends) if role == LinkRole.GATE]
        for i, (_, dst, src) in enumerate(ends):
            if i in gates[:-1]:
                self.system.zero(src)
            else:
                self.system.equal(dst, src)

    def _step(self, via: int) -> None:
        """The equations between signals before and after the last step of a via."""
        system, entry, nodes = self.system, self.graph.vias[via], self.signals.nodes_by_via[via]
        new = self.signals.ids(nodes, via)
        old = [self.signals.ids(nodes, parent) for parent in entry.parents]
        if entry.blocks:
            law = attachment(entry, self.sign)
            if law is None:
                system.zero(np.concatenate([new, old[0]]))
            elif law.unchanged:
                system.equal(new, old[0])
            else:
                system.zero(new[~self._attached[new]])
            return
        counts = branches(entry, self.sign) if len(old) > 1 else None
        power = degree(entry, self.sign) if len(old) == 1 else None
        if counts is not None:
            if counts:
                system.zero_sum((-1.0, new), *((float(t), o) for t, o in zip(counts, old, strict=True)))
            else:
                for branch in old:
                    system.equal(new, branch)
        elif power is None:
            system.zero(np.concatenate([new, *old]))
        else:
            system.zero_sum((-1.0, new), (power, old[0]))
            if couples(entry, self.sign) and "parts" not in dict(entry.attributes):
                group = self.graph.group_of(nodes)
                first = np.searchsorted(group, group)
                system.equal(old[0], old[0][first])

    def _scope(self, link: LinkBlock, src: np.ndarray) -> None:
        """The equations of the members of a scope, over which something normalises; fixed if it is not known what."""
        vias = distinct(link.via).tolist()
        laws = {v: self._scoped.get(_before_move(self.graph, v), []) for v in vias}
        free = [v for v in vias if laws[v] and all(degree(step, self.sign) is not None for step in laws[v])]
        self.system.zero(src[~np.isin(link.via, free)])
        here = np.isin(link.via, [v for v in vias if any(couples(step, self.sign) for step in laws[v])])
        order = np.argsort(link.dst[here], kind="stable")
        scopes, members = link.dst[here][order], src[here][order]
        self.system.equal(members, members[np.searchsorted(scopes, scopes)])

    def _fix(self) -> None:
        """Fix the outputs, pinned and paired nodes, and nodes that no parameter or link produces."""
        graph = self.graph
        still = self._unchanged | graph.pinned | (graph.paired if graph.paired is not None else True)
        self.system.zero(np.flatnonzero(still[self.signals.node]))
        self.system.zero(np.flatnonzero(~self._produced))
        for port in graph.outputs:
            self.system.zero(self.signals.ids(port.nodes, port.via))


def _scoped(graph: ParameterGraph) -> dict[int, list[Via]]:
    """The steps that normalise over a part of the neurons, by the via of what they normalise, without its last move."""
    found: dict[int, list[Via]] = defaultdict(list)
    for via in graph.vias:
        if "parts" in dict(via.attributes):
            found[_before_move(graph, via.parents[0])].append(via)
    return found


def _before_move(graph: ParameterGraph, via: int) -> int:
    """The via without a last move: a step on one entry comes before the move, the link of a member after it."""
    entry = graph.vias[via]
    return entry.parents[0] if via and entry.op == "Move" else via


def _of_kind(graph: ParameterGraph, kind: str) -> np.ndarray:
    """Boolean mask [num_nodes] of the nodes of this kind."""
    mask = np.zeros(graph.num_nodes, dtype=bool)
    for group in graph.groups:
        mask[group.start : group.stop] = group.kind == kind
    return mask
