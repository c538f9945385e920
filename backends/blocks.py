"""The parameter graph as tensors for the kernels: values in their own layout, ids per block, no index per edge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..ir import EdgeBlock, GmncError, ParameterGraph
from ..ir.printable import counted
from ..kernels import Layout
from .coo import CooGraph, node_features
from .edge_types import edge_types
from .numbers import flat, is_whole, tensor_of
from .styles import styles
from .transfer import moved, pinned

__all__ = ["Blocks", "Slot", "batch", "blocks"]

_KEPT = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, slots=True)
class Slot:
    """Where one parameter tensor stands in `Blocks.values`: element i at `start + i`. graph: which of a batch."""

    name: str
    start: int
    shape: tuple[int, ...]
    graph: int = 0

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Blocks:
    """One graph, or several side by side, as tensors. N nodes, T edge types, Y styles, G graphs, E edges.

    layout: the edges: parameters in the order of `graph.edges`, then constants, then links.
    values: float [V]; entry 0 is the zero that links read, then come the tensors of `slots` and folded constants, each
    in its own layout. extra: int64 [X], elements of `values` that are read in an order that strides cannot say.
    slots: where each parameter that has an edge stands.
    nodes: int32 [N, 8], the first of `gmnc.backends.coo.NODE_COLUMNS`. types: int32 [T, 5]: operand, place, slot0,
    slot1, slot2 of `gmnc.backends.edge_types.TYPE_COLUMNS`.
    node_style: int32 [N], type_style: int32 [T], words: int64, style_lengths: int64 [Y]: see `gmnc.backends.styles`.
    node_graph: int64 [N], which graph a node belongs to. node_share: float64 [N], what a node counts in the mean over
    the groups of its graph: 1 / (nodes of its group x groups of its graph).
    block_graph: int64 [M], and parameter_block: bool [M], whether a block carries parameters; both on the CPU.
    num_graphs: G.
    """

    layout: Layout
    values: torch.Tensor
    extra: torch.Tensor
    slots: tuple[Slot, ...]
    nodes: torch.Tensor
    types: torch.Tensor
    node_style: torch.Tensor
    type_style: torch.Tensor
    words: torch.Tensor
    style_lengths: torch.Tensor
    node_graph: torch.Tensor
    node_share: torch.Tensor
    block_graph: torch.Tensor
    parameter_block: torch.Tensor
    num_graphs: int = 1

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.nodes)

    @property
    def num_edges(self) -> int:
        """E, links included."""
        return self.layout.edges

    def rows(self) -> torch.Tensor:
        """The edge state [rows, 1] that `layout` reads: `values`, then the extra ones."""
        values = torch.cat([self.values, self.values[self.extra]]) if len(self.extra) else self.values
        return values[:, None]

    def to(
        self, device: torch.device | torch.dtype | str | int | None = None, dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Blocks:  # fmt: skip
        """On another device, or with values of another type, as `torch.Tensor.to`; everything goes in one copy.

        dtype: of the values alone, which stay differentiable. non_blocking: for what `pin_memory` made.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        where = self.values.device if device is None else torch.device(device)
        if where != self.values.device:
            tensors = self._tensors()
            # Bytes have no gradient.
            values = tensors.pop("values").to(where, non_blocking=non_blocking) if self.values.requires_grad else None
            arrived = moved(tensors, where, non_blocking)
            arrived |= {} if values is None else {"values": values}
            return self._with(arrived).to(dtype=dtype)
        return self if dtype in (None, self.values.dtype) else replace(self, values=self.values.to(dtype))

    def pin_memory(self) -> Blocks:
        """In page-locked memory, from where `to(device, non_blocking=True)` does not wait; a `DataLoader` calls it.

        Raises `GmncError` where there is no GPU.
        """
        return self._with(pinned(self._tensors()))

    def is_pinned(self) -> bool:
        """Whether `pin_memory` made it."""
        return self.values.is_pinned()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """All that moves to a device."""
        own = {f: getattr(self, f) for f in _ON_DEVICE}
        return own | {f"layout.{f}": getattr(self.layout, f) for f in ("dst", "src", "types")}

    def _with(self, tensors: Mapping[str, torch.Tensor]) -> Blocks:
        own: dict[str, Any] = dict(tensors)
        ids = {f: own.pop(f"layout.{f}") for f in ("dst", "src", "types")}
        return replace(self, layout=replace(self.layout, **ids, _plans={}), **own)

    def __repr__(self) -> str:
        return (
            f"Blocks({counted(self.num_graphs, 'graph')}, {counted(self.num_nodes, 'node')}, "
            f"{counted(self.num_edges, 'edge')}, {counted(len(self.slots), 'parameter')}, "
            f"{str(self.values.dtype).removeprefix('torch.')} on {self.values.device})"
        )

    def with_values(self, *tensors: Mapping[str, Any]) -> Blocks:
        """Other values of the same parameters, one mapping for each graph of the batch.

        tensors: name to tensor or array of the parameter's shape, of any type and on any device; what is not named
        keeps its values. Differentiable. A module's `state_dict()` will do: whole numbers and truth values that are no
        parameter (`num_batches_tracked`, indices, masks) are passed over. Raises `GmncError` on another unknown name,
        another shape, or what holds no numbers.
        """
        if len(tensors) != self.num_graphs:
            raise GmncError(f"values for {len(tensors)} graphs, there are {self.num_graphs}")
        left = [dict(t) for t in tensors]
        parts, at = [], 0
        for slot in self.slots:
            if slot.name not in left[slot.graph]:
                continue
            value = tensor_of(left[slot.graph].pop(slot.name), slot.name)
            if tuple(value.shape) != slot.shape:
                raise GmncError(f"values for {slot.name!r}: shape {list(value.shape)}, not {list(slot.shape)}")
            parts += [self.values[at : slot.start], value.reshape(-1).to(self.values)]
            at = slot.start + slot.size
        for given, rest in zip(tensors, left, strict=True):
            # A mapping of nothing but unknown names is a mistake, whatever they hold.
            unknown = sorted(n for n, v in rest.items() if len(rest) == len(given) or not is_whole(v))
            if unknown:
                raise GmncError(f"there is no parameter {unknown[0]!r} with edges")
        return replace(self, values=torch.cat([*parts, self.values[at:]]))

    def per_parameter(self, edges: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """One tensor [*shape, C] for each parameter, by name, per graph, from one row [C] for each edge.

        edges: float [E, C]. The mean where an element has several edges; NaN where it has none.
        """
        mean = self.per_value(edges)
        found: list[dict[str, torch.Tensor]] = [{} for _ in range(self.num_graphs)]
        for slot in self.slots:
            rows = mean[slot.start : slot.start + slot.size]
            found[slot.graph][slot.name] = rows.reshape(*slot.shape, edges.shape[1])
        return found

    def per_value(self, edges: torch.Tensor) -> torch.Tensor:
        """One row for each entry of `values`, [V, C]; see `per_parameter`."""
        total = edges.new_zeros(len(self.values) + len(self.extra), edges.shape[1])
        count = edges.new_zeros(len(total), 1)
        if self.layout.small:
            _, _, _, rows, number = self.layout.single
            carries = self.layout.planned("carries", lambda: self.parameter_block.to(rows.device)[number])
            own = carries.to(edges.dtype)[:, None]
            total, count = total.index_add(0, rows, edges * own), count.index_add(0, rows, own)
        else:
            self._add(edges, total, count)
        values = len(self.values)
        total, count = (
            t[:values].index_add(0, self.extra, t[values:]) if len(self.extra) else t for t in (total, count)
        )
        return total / count.masked_fill(count == 0, torch.nan)

    def _add(self, edges: torch.Tensor, total: torch.Tensor, count: torch.Tensor) -> None:
        """Add parameter edges, and how many there are, to the rows that they read, block by block."""
        for carries, block in zip(self.parameter_block.tolist(), self.layout, strict=True):
            if carries and block.size:
                own = edges[block.edge : block.edge + block.size]
                for into, value in ((total, own), (count, own.new_ones(()).expand(len(own), 1))):
                    width = into.shape[1]
                    steps = (*(s * width for s in block.strides), 1)
                    into.as_strided((*block.shape, width), steps, block.value * width).add_(
                        value.reshape(*block.shape, width)
                    )


_ON_DEVICE = (
    "values", "extra", "nodes", "types", "node_style", "type_style", "words", "style_lengths", "node_graph",
    "node_share",
)  # fmt: skip


# So that `torch.load` takes what `torch.save` wrote of them; none of them runs anything when it is made.
torch.serialization.add_safe_globals([Blocks, CooGraph, Layout, Slot])


def blocks(graph: ParameterGraph, *, dtype: torch.dtype | None = None, links: bool = True) -> Blocks:
    """The tensors of a graph, on the CPU.

    dtype: of the values; by default that of the parameters if all that have edges share a floating type, else
    float32. links: include links (constants stay in any case).
    """
    types = edge_types(graph)
    order = [i for i, b in enumerate(graph.edges) if not b.constant]
    order += [i for i, b in enumerate(graph.edges) if b.constant]
    values, starts, slots = _values(graph, dtype)
    rows: list[list[int]] = []
    ids: dict[str, list[np.ndarray]] = {"dst": [], "src": [], "types": []}
    extra: list[np.ndarray] = []
    for i in order:
        block = graph.edges[i]
        value, steps = _reads(block, starts, len(values) + sum(map(len, extra)), extra)
        _append(rows, ids, block.shape, value, steps, block.dst, block.src, types.blocks[i])
    for link, kinds in zip(graph.links if links else (), types.links, strict=False):
        if link.size:
            shape = (link.size, 1, 1, 1)
            _append(rows, ids, shape, 0, (0, 0, 0, 0), link.dst[:, None], link.src[:, None], kinds[:, None, None])
    found = styles(graph, types)
    dst, src, kind = (torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *part])) for part in ids.values())
    edges = sum(math.prod(row[1:5]) for row in rows)
    layout = Layout(torch.tensor(rows).reshape(-1, 15), torch.ones(len(rows), 2), dst, src, kind, edges)
    carries = [not graph.edges[i].constant for i in order]
    return Blocks(
        layout=layout,
        values=values,
        extra=torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *extra])),
        slots=slots,
        nodes=torch.from_numpy(np.ascontiguousarray(node_features(graph)[:, :8])),
        types=torch.from_numpy(np.ascontiguousarray(types.rows[:, 3:])),
        node_style=torch.from_numpy(found.of_node),
        type_style=torch.from_numpy(found.of_type),
        words=torch.from_numpy(found.words),
        style_lengths=torch.from_numpy(found.lengths),
        node_graph=torch.zeros(graph.num_nodes, dtype=torch.int64),
        node_share=_shares(graph),
        block_graph=torch.zeros(len(rows), dtype=torch.int64),
        parameter_block=torch.tensor(carries + [False] * (len(rows) - len(carries)), dtype=torch.bool),
    )


def batch(parts: Sequence[Blocks]) -> Blocks:
    """Several graphs side by side, as one; they may differ in every respect."""
    if not parts:
        raise GmncError("a batch needs at least one graph")
    values, extra, bags, graphs = (
        [0, *itertools.accumulate(sizes)]
        for sizes in (
            [len(p.values) for p in parts],
            [len(p.extra) for p in parts],
            [len(p.style_lengths) for p in parts],
            [p.num_graphs for p in parts],
        )
    )
    laid = [
        (_moved(p, values[i], values[-1] + extra[i]), p.num_nodes, len(p.types)) for i, p in enumerate(parts)
    ]  # fmt: skip
    slots = (
        replace(s, start=s.start + values[i], graph=s.graph + graphs[i]) for i, p in enumerate(parts) for s in p.slots
    )
    return Blocks(
        layout=Layout.concatenate(laid),
        values=torch.cat([p.values for p in parts]),
        extra=torch.cat([p.extra + values[i] for i, p in enumerate(parts)]),
        slots=tuple(slots),
        nodes=torch.cat([p.nodes for p in parts]),
        types=torch.cat([p.types for p in parts]),
        node_style=torch.cat([p.node_style + bags[i] for i, p in enumerate(parts)]),
        type_style=torch.cat([p.type_style + bags[i] for i, p in enumerate(parts)]),
        words=torch.cat([p.words for p in parts]),
        style_lengths=torch.cat([p.style_lengths for p in parts]),
        node_graph=torch.cat([p.node_graph + graphs[i] for i, p in enumerate(parts)]),
        node_share=torch.cat([p.node_share for p in parts]),
        block_graph=torch.cat([p.block_graph + graphs[i] for i, p in enumerate(parts)]),
        parameter_block=torch.cat([p.parameter_block for p in parts]),
        num_graphs=graphs[-1],
    )


def _moved(part: Blocks, values: int, extra: int) -> Layout:
    """The layout, reading values and extra rows that start elsewhere."""
    own = part.layout.blocks.clone()
    own[:, 5] += torch.where(own[:, 5] >= len(part.values), extra - len(part.values), values)
    return replace(part.layout, blocks=own)


def _values(
    graph: ParameterGraph, dtype: torch.dtype | None
) -> tuple[torch.Tensor, dict[tuple[bool, str], int], tuple[Slot, ...]]:
    """The zero and every tensor that has edges, as one flat tensor; where each starts, by (constant, name)."""
    read = dict.fromkeys((b.constant, b.view.name) for b in sorted(graph.edges, key=lambda b: b.constant))
    tensors = {key: (graph.constants if key[0] else graph.parameters)[key[1]] for key in read}
    kinds = {p.dtype for (constant, _), p in tensors.items() if not constant}
    if dtype is None:
        dtype = _KEPT.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32
    values = torch.zeros(1 + sum(p.size for p in tensors.values()), dtype=dtype)
    starts, slots, at = {}, [], 1
    for key, parameter in tensors.items():
        values[at : at + parameter.size] = flat(parameter.load())
        starts[key] = at
        if not key[0]:
            slots.append(Slot(parameter.name, at, parameter.shape))
        at += parameter.size
    return values, starts, tuple(slots)


def _shares(graph: ParameterGraph) -> torch.Tensor:
    """See `Blocks.node_share`."""
    sizes = torch.tensor([group.size for group in graph.groups], dtype=torch.int64)
    return torch.repeat_interleave(1.0 / (sizes.double() * max((sizes > 0).sum().item(), 1)), sizes)


def _reads(
    block: EdgeBlock, starts: Mapping[tuple[bool, str], int], end: int, extra: list[np.ndarray]
) -> tuple[int, tuple[int, ...]]:
    """Row and steps at which a block reads. What strides (not below 0) cannot say is added to `extra`, at row `end`."""
    start = starts[block.constant, block.view.name]
    if block.view.index is None and min(block.view.strides) >= 0:
        return start + block.view.offset, block.view.strides
    _, n, k, s = block.shape
    extra.append(start + block.view.elements().reshape(-1))
    return end, (n * k * s, k * s, s, 1)


def _append(
    rows: list[list[int]], ids: dict[str, list[np.ndarray]], shape: tuple[int, ...], value: int, steps: Sequence[int],
    dst: np.ndarray, src: np.ndarray, types: np.ndarray,
) -> None:  # fmt: skip
    """One more block. types: [B or 1, K or 1, S]."""
    edge = rows[-1][0] + math.prod(rows[-1][1:5]) if rows else 0
    starts = [sum(map(len, part)) for part in ids.values()]
    b, k, s = types.shape
    by_type = [k * s if b > 1 else 0, s if k > 1 else 0]
    rows.append([edge, *shape, value, *steps, *starts, *by_type])
    for part, new in zip(ids.values(), (dst, src, types), strict=True):
        part.append(np.ascontiguousarray(new, dtype=np.int32).reshape(-1))
