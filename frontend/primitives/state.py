"""The mutable state of a lowering: the graph under construction and the current node."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from ...ir import DEQUANTIZE, REPARAMETRIZE, GraphBuilder, Held, NodeKind, Parameter, ParameterView
from ...ir.arrays import occurrence
from ..budget import MAX_LABELS, MAX_VIAS, check_limit
from .elements import Elements, Part
from .functions import Function, FunctionVias
from .indivisible import IndivisibleGroups
from .labels import map_via, nodes_of, to_labels, vias_of
from .lineage import Lineage
from .moves import Moves
from .quantised import QuantEncoding
from .regions import single_uses
from .scales import quant_param_edges
from .traces import Traces

__all__ = ["Site", "State", "align"]


@dataclass(frozen=True, slots=True)
class Site:
    """The ONNX node being lowered.

    Attributes:
        node: Its name.
        value: The name of its first output.
        scope: Its name scope.
    """

    node: str = ""
    value: str = ""
    scope: str = ""


@dataclass(slots=True)
class State:
    """The mutable state of a lowering, passed to every primitive.

    Attributes:
        builder: The graph under construction.
        site: The current node.
        encodings: The storage of quantised parameters, by name.
        scoped: Labels that are members of scopes, once per scope (see `reductions.normalize_over`).
        moves: The moves in vias.
        functions: The elementwise steps in vias.
        traces: The functions in `Elements`.
        indivisible: Which node groups are indivisible.
        lineage: Which nodes were made alike.
    """

    builder: GraphBuilder = field(default_factory=lambda: GraphBuilder(MAX_VIAS))
    site: Site = field(default_factory=Site)
    encodings: dict[str, QuantEncoding] = field(default_factory=dict)
    scoped: list[np.ndarray] = field(default_factory=list)
    moves: Moves = field(init=False)
    functions: FunctionVias = field(init=False)
    traces: Traces = field(default_factory=Traces)
    indivisible: IndivisibleGroups = field(init=False)
    lineage: Lineage = field(init=False)
    _constant: np.ndarray | None = None

    def __post_init__(self) -> None:
        self.moves = Moves(self.builder)
        self.functions = FunctionVias(self.builder)
        self.indivisible = IndivisibleGroups(self.builder)
        self.lineage = Lineage(self.builder)

    def nodes(self, kind: str, size: int, depth: int, pinned: bool = False) -> np.ndarray:
        """Create a group of nodes at the current site; returns their ids, int32 [size]. Raises `TooLarge`."""
        check_limit(size, MAX_LABELS, "nodes")
        ids = self.builder.nodes(kind, size, depth, self.site.node, self.site.value, self.site.scope)
        if pinned:
            self.builder.pin(ids)
        return ids

    def constant_node(self) -> np.ndarray:
        """The pinned node of all numbers of the program, int32 [1]; a via says which number.

        There is one for all, so that parts that are alike stay alike when each of them reads a number.
        """
        if self._constant is None:
            self._constant = self.nodes(NodeKind.HUB, 1, 0, pinned=True)
        return self._constant

    @property
    def program_node(self) -> int:
        """The id of the constant node; -2, which is no node, if there is none yet."""
        return -2 if self._constant is None else int(self._constant[0])

    def labelled_nodes(self, kind: str, size: int, depth: int, pinned: bool = False) -> np.ndarray:
        """Create a group of nodes; returns their labels, int64 [size]."""
        return to_labels(self.nodes(kind, size, depth, pinned))

    def pin(self, labels: np.ndarray) -> None:
        """Pin the nodes of these labels."""
        self.builder.pin(nodes_of(labels))

    def pair(self, factors: Sequence[np.ndarray]) -> None:
        """Record that these label tensors belong to one value, if there are several."""
        for labels in factors if len(factors) > 1 else ():
            self.builder.pair(nodes_of(labels))

    def step(self, vias: tuple[int, ...], function: Function | None, op: str, attributes: dict[str, object]) -> int:
        """Append a step on the branches `vias` of one node; arguments as for `FunctionVias.step`."""
        if function is None:
            return self.builder.via(op, attributes.items(), vias)
        return self.moves.under(vias, lambda parents: self.functions.step(parents, function, op, attributes))

    def marked(self, labels: np.ndarray, op: str, numbers: np.ndarray) -> np.ndarray:
        """Append a step `op` with a number per entry to the vias; entries with negative numbers stay."""
        new, here = labels.copy(), (numbers >= 0) & (labels >= 0)
        marked = labels[here]
        pairs, places = np.unique(np.stack([numbers[here], vias_of(marked)]), axis=1, return_inverse=True)
        made = [self.builder.via(op, (("number", n),), (via,)) for n, via in pairs.T.tolist()]
        new[here] = to_labels(nodes_of(marked), np.array(made, dtype=np.int64)[places.reshape(-1)])
        return new

    def ordered(self, labels: np.ndarray) -> np.ndarray:
        """Pin the nodes of these labels and append each entry's position to its via."""
        self.pin(labels)
        return self.marked(labels, "Place", np.arange(labels.size).reshape(labels.shape))

    def scopes(self, labels: np.ndarray) -> np.ndarray:
        """Record one more scope for each of these distinct labels; returns how many each had before, int64."""
        earlier = np.concatenate([*self.scoped, labels])
        self.scoped.append(labels)
        return occurrence(earlier)[len(earlier) - len(labels) :]

    def depth(self, labels: np.ndarray) -> int:
        """The greatest depth among the nodes of these labels."""
        return self.builder.depth_of(nodes_of(labels))

    def links(
        self,
        dst: np.ndarray,
        src: np.ndarray,
        role: str,
        operand: np.ndarray | None = None,
        slot: np.ndarray | None = None,
    ) -> None:
        """Add links from the labels `src` to the nodes `dst`, both flat."""
        src = src.reshape(-1)
        via = src & ((1 << 24) - 1)
        self.builder.add_links(dst.reshape(-1), nodes_of(src), role, via, operand, slot, self.site.node)

    def edges(
        self,
        dst: np.ndarray,
        src: np.ndarray,
        via: np.ndarray,
        elements: Elements,
        role: str,
        slots: np.ndarray | None = None,
    ) -> int:
        """Add edges for elements.

        They form one block unless the elements come from several tensors or repeat (copies are tied). If not all are
        parameters, each slot is a block of single edges [E, 1, 1, 1]. A function of the element is the last step of
        the via, and its tables are constant blocks in parallel.

        Args:
            dst: Destinations [B, N].
            src: Sources [B, K].
            via: Vias of the sources [B, K].
            elements: The elements [B, N, K, S].
            role: The role of the edges.
            slots: Slot coordinates, int32 [S, <=3]; a running number by default.

        Returns:
            The index of the first block.
        """
        size = elements.shape[3]
        if slots is None:
            slots = np.zeros((1, 0), np.int32) if size == 1 else np.arange(size, dtype=np.int32)[:, None]
        via = np.broadcast_to(np.asarray(via, dtype=np.int32), src.shape)
        first, constant = -1, elements.arena.constant
        if (some := elements.some) is not None:
            return self._single(dst, src, via, elements, some, role, slots)
        for piece in elements.parts():
            b, n, k, s = piece.region
            to, of, sent = dst[b][:, n], src[b][:, k], via[b][:, k]
            sent = sent if constant else self._scaled(to, of, sent, piece, role)
            sent = self._reparametrized(sent, piece.trace)
            first = len(self.builder.edges) if first < 0 else first
            parts = [((slice(None),) * 4, piece.view)] if constant else single_uses(self.builder, piece.view)
            for inner, view in parts:
                ends = to[inner[0]][:, inner[1]], of[inner[0]][:, inner[2]]
                own, places = sent[inner[0]][:, inner[2]], slots[s][inner[3]]
                self.builder.add_edges(*ends, view, role, places, own, self.site.node, constant)
                for number in self.traces.tables(piece.trace):
                    view = self._table(f"{view.name}.table", piece.tables[number][inner])
                    self.builder.add_edges(*ends, view, f"{role}.table", places, own, self.site.node, constant=True)
        return max(first, 0)

    def _single(
        self, dst: np.ndarray, src: np.ndarray, via: np.ndarray, elements: Elements, some: np.ndarray, role: str,
        slots: np.ndarray,
    ) -> int:  # fmt: skip
        """Add single edges for the elements where `some` is true, slot by slot; returns the first block's index."""
        first = -1
        for slot in range(some.shape[3]):
            at = b, n, k = np.nonzero(some[..., slot])
            if len(b):
                chosen = elements.move(lambda a, at=(*at, slot): a[at].reshape(-1, 1, 1, 1))  # type: ignore[misc]
                ends = dst[b, n][:, None], src[b, k][:, None], via[b, k][:, None]
                index = self.edges(*ends, chosen, role, slots[slot : slot + 1])
                first = index if first < 0 else first
        return max(first, 0)

    def _reparametrized(self, via: np.ndarray, trace: int) -> np.ndarray:
        """The vias with a last step for the function of the element, if it is not the identity."""
        if not trace:
            return via
        items: list[tuple[str, object]] = [("function", self.traces.text(trace))]
        if self.traces.linear(trace):
            items.append(("linear", 1))
        return self._with_function(via, items)

    def _with_function(self, via: np.ndarray, items: Sequence[tuple[str, object]]) -> np.ndarray:
        """The vias with a last step for a function of the element."""
        labels = map_via(to_labels(np.zeros_like(via), via), lambda v: self.builder.via(REPARAMETRIZE, items, (v,)))
        return vias_of(labels).astype(np.int32)

    def _table(self, stem: str, table: np.ndarray) -> ParameterView:
        """Register a program table of rank 4 under a unique name, without its broadcast axes; returns its view."""
        name, number = stem, 1
        while name in self.builder.constants:
            name, number = f"{stem}_{number}", number + 1
        core = np.ascontiguousarray(table[tuple(slice(0, 1) if s == 0 else slice(None) for s in table.strides)])
        self.builder.constants[name] = Parameter(name, core.shape, str(core.dtype), "constant", Held(core))
        strides = tuple(s // core.itemsize if m > 1 else 0 for s, m in zip(core.strides, core.shape, strict=True))
        return ParameterView(name, 0, table.shape, strides)  # type: ignore[arg-type]

    def _scaled(self, dst: np.ndarray, src: np.ndarray, via: np.ndarray, piece: Part, role: str) -> np.ndarray:
        """The vias [B, K] of a block; for quantised elements, adds edges for their scales, which the vias then name."""
        encoding = self.traces.encoding(piece.trace, piece.view.name) or self.encodings.get(piece.view.name)
        if encoding is None:
            return via
        marks = encoding.marks
        blocks = quant_param_edges(self, encoding, piece.view, dst, src, via, role)
        if not blocks:
            function = f"{DEQUANTIZE}[{', '.join(f'{n}={v}' for n, v in marks.items())}]" if marks else DEQUANTIZE
            return via if piece.trace else self._with_function(via, (("function", function),))
        labels = map_via(to_labels(src, via), lambda v: self.builder.via(DEQUANTIZE, marks.items(), (v,), blocks))
        return vias_of(labels).astype(np.int32)


def align(labels: np.ndarray, letters: str, target: str) -> np.ndarray:
    """Transpose a label tensor from the axes `letters` to `target`; axes that it lacks get size 1.

    Axes that the target lacks must have size 1.
    """
    order = [letters.index(t) for t in target if t in letters]
    dropped = [i for i, t in enumerate(letters) if t not in target]
    moved = labels.transpose(order + dropped)
    sizes = iter(moved.shape)
    return moved.reshape([next(sizes) if t in letters else 1 for t in target])
