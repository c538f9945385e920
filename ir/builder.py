"""Construction of a `ParameterGraph` from nodes, edge blocks, links, vias and pins; detects tied blocks."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from operator import itemgetter

import numpy as np

from .arrays import distinct
from .diagnostics import AccountEntry, OpaqueOp, Problem
from .errors import GraphError, VocabularyError
from .graph import EdgeBlock, LinkBlock, ModelSource, NodeGroup, ParameterGraph, Port, Via
from .views import Parameter, ParameterView
from .vocabulary import NodeKind, declared_step, is_added, is_edge_role, is_link_role

__all__ = ["NO_SLOT", "GraphBuilder"]

NO_SLOT = np.zeros((1, 0), dtype=np.int32)
"""Slots of a block with S = 1: one slot without coordinates."""

_KINDS = frozenset(NodeKind)
"""The step that carries the attributes of any operator."""

Box = tuple[tuple[int, int], ...]
"""(start, stop) per axis of a tensor."""


class GraphBuilder:
    """Collects the parts of a graph; `finish` freezes them.

    Node ids, group depths and via ids are final once they have been returned.

    Args:
        most_vias: The largest number of entries of the via table; beyond it, `via` raises `MemoryError`.
    """

    def __init__(self, most_vias: int = 1 << 24) -> None:
        self._most_vias = most_vias
        self.groups: list[NodeGroup] = []
        self.edges: list[EdgeBlock] = []
        self.links: list[LinkBlock] = []
        self.vias: list[Via] = [Via("")]
        self.parameters: dict[str, Parameter] = {}
        self.constants: dict[str, Parameter] = {}
        self._via_ids: dict[Via, int] = {self.vias[0]: 0}
        self._starts = np.zeros(64, dtype=np.int64)
        self._depths = np.zeros(64, dtype=np.int32)
        self.size = 0
        self._pins: list[np.ndarray] = []
        self._pairs: list[np.ndarray] = []
        self._sites: dict[str, list[ParameterView]] = defaultdict(list)
        self._boxes: dict[str, list[Box | None]] = defaultdict(list)

    def nodes(
        self, kind: str, size: int, depth: int = 0, node: str = "", value: str = "", scope: str = ""
    ) -> np.ndarray:
        """Add a node group.

        Args:
            kind: A `NodeKind`.
            size: Number of nodes.
            depth: Longest path from an input, in contractions.
            node: Name of the ONNX node.
            value: Name of the ONNX value.
            scope: The exporter's name scope.

        Returns:
            The node ids, int32 [size].

        Raises:
            VocabularyError: if `kind` is not a `NodeKind`.
        """
        if kind not in _KINDS:
            raise VocabularyError(f"{kind!r} is not a node kind: choose among {', '.join(NodeKind)}")
        count = len(self.groups)
        if count == len(self._starts):
            self._starts = np.concatenate([self._starts, np.zeros_like(self._starts)])
            self._depths = np.concatenate([self._depths, np.zeros_like(self._depths)])
        self._starts[count], self._depths[count] = self.size, depth
        self.groups.append(NodeGroup(str(kind), self.size, size, depth, node, value, scope))
        self.size += size
        return np.arange(self.size - size, self.size, dtype=np.int32)

    def group_of(self, ids: np.ndarray) -> np.ndarray:
        """The group of each node.

        Args:
            ids: Node ids, any shape.

        Returns:
            Indices into `groups`, int64 of that shape.
        """
        return np.searchsorted(self._starts[: len(self.groups)], ids, side="right") - 1

    def groups_among(self, ids: np.ndarray) -> np.ndarray:
        """The distinct groups of nodes.

        Args:
            ids: Node ids, any shape.

        Returns:
            Indices into `groups`, int64, ascending.
        """
        if ids.size == 0:
            return np.zeros(0, np.int64)
        # Ids are contiguous within a group, so the extremes often decide.
        ends = self.group_of(np.array([ids.min(), ids.max()]))
        return ends[:1] if ends[0] == ends[1] else distinct(self.group_of(ids))

    def depth_of(self, ids: np.ndarray) -> int:
        """The greatest depth among nodes.

        Args:
            ids: Node ids, any shape.

        Returns:
            The depth; 0 for no nodes.
        """
        return int(self._depths[self.groups_among(ids)].max(initial=0))

    def via(
        self,
        op: str,
        attributes: Iterable[tuple[str, object]] = (),
        parents: tuple[int, ...] = (0,),
        blocks: tuple[int, ...] = (),
        sizes: tuple[int, ...] = (),
    ) -> int:
        """The id of a via; equal entries share one id (hash-consing).

        Args:
            op: Name of a declared `Step`.
            attributes: (name, value) pairs, in any order.
            parents: Vias that the step is applied to.
            blocks: Edge blocks attached in the step.
            sizes: Grid sizes, see `Via`.

        Returns:
            The id.

        Raises:
            VocabularyError: if the step or an attribute is not declared, or an attribute is no plain value.
            MemoryError: if the table would exceed `most_vias` entries.
        """
        entry = Via(op, tuple(sorted(attributes, key=itemgetter(0))), parents, blocks, sizes)
        try:
            known = self._via_ids.get(entry)
        except TypeError:  # a list or an array has no hash
            known = None
        if known is None:
            _check_step(entry)
            if len(self.vias) >= self._most_vias:
                raise MemoryError(f"more than {self._most_vias:,} vias")
            known = self._via_ids[entry] = len(self.vias)
            self.vias.append(entry)
        return known

    def pin(self, ids: np.ndarray) -> None:
        """Pin nodes: no symmetry will move them.

        Args:
            ids: Node ids, any shape.
        """
        self._pins.append(distinct(ids))

    def pin_from(self, start: int) -> None:
        """Pin every node from `start` on.

        Args:
            start: A node id.
        """
        self.pin(np.arange(start, self.size))

    def pair(self, ids: np.ndarray) -> None:
        """Mark nodes as paired: their values vary over the nodes of a second axis too.

        Args:
            ids: Node ids, any shape.
        """
        self._pairs.append(distinct(ids))

    def add_edges(
        self,
        dst: np.ndarray,
        src: np.ndarray,
        view: ParameterView,
        role: str,
        slots: np.ndarray | None = None,
        via: np.ndarray | int = 0,
        node: str = "",
        constant: bool = False,
    ) -> int:
        """Append an edge block; it is marked tied if its elements already have edges.

        Args:
            dst: Target nodes [B, N].
            src: Source nodes [B, K].
            view: The elements [B, N, K, S].
            role: A declared edge role.
            slots: int32 [S, <=3] slot coordinates; by default 0 .. S - 1, and none for S = 1.
            via: What the sources went through, [B, K] or one id for all.
            node: Name of the ONNX node.
            constant: Whether the view is of a constant and not of a parameter.

        Returns:
            The index of the block.

        Raises:
            VocabularyError: if the role is not declared.
            GraphError: if only some of the elements already have edges; split the view at that border.
        """
        size = view.shape[3]
        if slots is None:
            slots = NO_SLOT if size == 1 else np.arange(size, dtype=np.int32)[:, None]
        if not is_edge_role(role):
            raise VocabularyError(f"edge role {role!r} is not declared: choose an EdgeRole or a declared step")
        via = np.broadcast_to(np.asarray(via, dtype=np.int32), src.shape)
        tied = not constant and self._tie(view)
        self.edges.append(
            EdgeBlock(dst.astype(np.int32, copy=False), src.astype(np.int32, copy=False), view, str(role),
                      slots, via, tied, constant, node)
        )  # fmt: skip
        return len(self.edges) - 1

    def add_links(
        self,
        dst: np.ndarray,
        src: np.ndarray,
        role: str,
        via: np.ndarray | int = 0,
        operand: np.ndarray | None = None,
        slot: np.ndarray | None = None,
        node: str = "",
    ) -> None:
        """Append a block of links src[i] -> dst[i].

        Args:
            dst: Target nodes, n in total.
            src: Source nodes, n in total.
            role: A declared link role.
            via: What the sources went through, [n] or one id for all.
            operand: int [n], operand index, for an operator that is not commutative.
            slot: int [n, <=3], position, where positions are joined.
            node: Name of the ONNX node.

        Raises:
            VocabularyError: if the role is not declared.
        """
        if not is_link_role(role):
            raise VocabularyError(f"link role {role!r} is not declared: choose a LinkRole or a declared step")
        dst, src = (np.asarray(a, dtype=np.int32).reshape(-1) for a in (dst, src))
        via = np.broadcast_to(np.asarray(via, dtype=np.int32), src.shape)
        slot = None if slot is None else np.asarray(slot, dtype=np.int32).reshape(len(src), -1)
        operand = None if operand is None else np.asarray(operand, dtype=np.int32)
        self.links.append(LinkBlock(dst, src, str(role), via, operand, slot, node))

    def used(self, name: str) -> int:
        """The number of elements of a parameter that have an edge so far.

        Args:
            name: Name of the parameter.

        Returns:
            The number, each element counted once.
        """
        return sum(v.size for v in self._sites[name])

    def views(self, name: str) -> list[ParameterView]:
        """The views of a parameter that its blocks hold so far, without those of tied blocks.

        Args:
            name: Name of the parameter.

        Returns:
            The views, which share no element.
        """
        return self._sites[name]

    def boxes(self, name: str) -> list[Box | None]:
        """The boxes of `views(name)`.

        Args:
            name: Name of the parameter.

        Returns:
            `ParameterView.box` of each view.
        """
        return self._boxes[name]

    def finish(
        self,
        name: str,
        account: Iterable[AccountEntry],
        inputs: Iterable[Port],
        outputs: Iterable[Port],
        opaque: Iterable[OpaqueOp] = (),
        unsupported: Iterable[Problem] = (),
        source: ModelSource | None = None,
    ) -> ParameterGraph:
        """Freeze into a `ParameterGraph` and check its invariants.

        Args:
            name: The model's name.
            account: Elements of parameters that are on no edge.
            inputs: The network's inputs.
            outputs: The network's outputs.
            opaque: Operators of unknown structure.
            unsupported: Diagnostics.
            source: The model that values can be written back into.

        Returns:
            The graph.

        Raises:
            GraphError: if an invariant is broken.
        """
        pinned, paired = np.zeros((2, self.size), dtype=bool)
        for mask, marked in ((pinned, self._pins), (paired, self._pairs)):
            for ids in marked:
                mask[ids] = True
        graph = ParameterGraph(
            name, tuple(self.groups), pinned, tuple(self.edges), tuple(self.links), tuple(self.vias),
            self.parameters, self.constants, tuple(account), tuple(inputs), tuple(outputs),
            tuple(opaque), tuple(unsupported), source, paired,
        )  # fmt: skip
        graph.check()
        return graph

    def _tie(self, view: ParameterView) -> bool:
        """Whether the elements already have edges; raises `GraphError` if only some have."""
        seen = self._sites[view.name]
        shape = self.parameters[view.name].shape
        box = view.box(shape)
        fresh = True
        if seen:
            boxes = self._boxes[view.name]
            if box is not None and box in boxes:
                return True
            if box is None or any(b is None or _intersect(b, box) for b in boxes):
                fresh = self._untouched(view)
        if fresh:
            seen.append(view)
            self._boxes[view.name].append(box)
        return not fresh

    def _untouched(self, view: ParameterView) -> bool:
        """Element by element: True if none of the view's elements has an edge, False if all have."""
        taken = np.zeros(self.parameters[view.name].size, dtype=bool)
        for other in self._sites[view.name]:
            taken[other.elements().reshape(-1)] = True
        hits = taken[view.elements().reshape(-1)]
        if hits.any() and not hits.all():
            raise GraphError(f"a block of {view.name!r} is only partly tied: split its view")
        return not hits.any()


def _check_step(entry: Via) -> None:
    """Raise `VocabularyError` unless the step of a via is declared and its attributes are plain values.

    Names of attributes are checked for steps that a rule from outside declares; those of others come from ONNX.
    """
    step = declared_step(entry.op)
    if step is None:
        raise VocabularyError(f"step {entry.op!r} is not declared: declare it with gmnc.ir.register_step(Step(...))")
    for name, value in entry.attributes:
        if name not in step.attributes and is_added(step):
            raise VocabularyError(
                f"step {entry.op!r} declares no attribute {name!r}: add it to the attributes of its Step"
            )
        if not _is_plain(value):
            raise VocabularyError(
                f"attribute {name!r} of step {entry.op!r} is of type {type(value).__name__}: give a number, a string, "
                "bytes, or a tuple of these"
            )


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str | bytes | np.generic)


def _intersect(a: Box, b: Box) -> bool:
    """Whether two boxes intersect."""
    return all(lo < other_hi and other_lo < hi for (lo, hi), (other_lo, other_hi) in zip(a, b, strict=True))
