"""The parameter graph as tensors for the kernels: values in their own layout, ids per block, no index per edge."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from ..ir import GmncError, ParameterGraph
from ..ir.printable import counted
from ..kernels import COLUMN, Block, Layout, block_table
from .block_rows import append_block, row_and_strides
from .coo import CooGraph, node_features
from .edge_types import edge_types
from .numbers import flat, is_integer, tensor_of
from .op_tokens import op_tokens
from .transfer import to_device, to_pinned_memory

__all__ = ["Blocks", "Segment", "batch", "blocks"]

_FLOATS = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True, slots=True)
class Segment:
    """The contiguous elements of one parameter tensor in `Blocks.values`.

    Attributes:
        name: Name of the parameter.
        start: Index of its first element; element i is at `start + i`.
        shape: Shape of the parameter.
        graph: Number of the graph in a batch.
    """

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
    """One graph, or several side by side, as tensors: N nodes, T edge types, M blocks of E edges, G graphs.

    Attributes:
        layout: The edges: parameters in the order of `graph.edges`, then constants, then links.
        values: float [V]. Entry 0 is the zero that links read; then come the tensors of `segments` and the constants,
            each in its own layout.
        extra: int64 [X], elements of `values` that are read in an order that strides cannot express.
        segments: Where each parameter that has an edge is in `values`.
        nodes: int32 [N, 8], the first columns of `gmnc.backends.coo.NODE_COLUMNS`.
        types: int32 [T, 5], the columns operand, place, slot0, slot1, slot2 of
            `gmnc.backends.edge_types.TYPE_COLUMNS`.
        node_op_bag: int32 [N], the bag of operator tokens of each node; see `gmnc.backends.op_tokens`.
        type_op_bag: int32 [T], the bag of each edge type.
        op_tokens: int64, the hashed tokens of all bags, end to end.
        op_bag_sizes: int64 [Y], number of tokens of each bag.
        node_graph: int64 [N], the graph of each node.
        node_share: float64 [N], weight of a node in the mean over the groups of its graph:
            1 / (nodes of its group x groups of its graph).
        block_graph: int64 [M] on the CPU, the graph of each block.
        parameter_block: bool [M] on the CPU, whether a block carries parameters.
        num_graphs: G.
        edgeless: For each graph, names of parameters that no edge carries, so that `with_values` passes over them.
    """

    layout: Layout
    values: torch.Tensor
    extra: torch.Tensor
    segments: tuple[Segment, ...]
    nodes: torch.Tensor
    types: torch.Tensor
    node_op_bag: torch.Tensor
    type_op_bag: torch.Tensor
    op_tokens: torch.Tensor
    op_bag_sizes: torch.Tensor
    node_graph: torch.Tensor
    node_share: torch.Tensor
    block_graph: torch.Tensor
    parameter_block: torch.Tensor
    num_graphs: int = 1
    edgeless: tuple[tuple[str, ...], ...] = ()

    @property
    def num_nodes(self) -> int:
        """N."""
        return len(self.nodes)

    @property
    def num_edges(self) -> int:
        """E, links included."""
        return self.layout.edges

    def rows(self) -> torch.Tensor:
        """The edge state that `layout` row_and_strides.

        Returns:
            [V + X, 1]: `values`, then those at `extra`.
        """
        values = torch.cat([self.values, self.values[self.extra]]) if len(self.extra) else self.values
        return values[:, None]

    def to(
        self, device: torch.device | torch.dtype | str | int | None = None, dtype: torch.dtype | None = None,
        non_blocking: bool = False,
    ) -> Blocks:  # fmt: skip
        """Move to another device, in one copy, or convert the values, as `torch.Tensor.to` does.

        Args:
            device: Target device, or the dtype.
            dtype: New dtype of the values only, which stay differentiable.
            non_blocking: Copy asynchronously from pinned memory, as in `torch.Tensor.to`.

        Returns:
            The moved tensors, or this object if nothing changes.
        """
        if isinstance(device, torch.dtype):
            device, dtype = None, device
        where = self.values.device if device is None else torch.device(device)
        if where != self.values.device:
            tensors = self._tensors()
            # Bytes have no gradient.
            values = tensors.pop("values").to(where, non_blocking=non_blocking) if self.values.requires_grad else None
            arrived = to_device(tensors, where, non_blocking)
            arrived |= {} if values is None else {"values": values}
            return self._with(arrived).to(dtype=dtype)
        return self if dtype in (None, self.values.dtype) else replace(self, values=self.values.to(dtype))

    def pin_memory(self) -> Blocks:
        """Copy into page-locked memory, for `to(device, non_blocking=True)`; a `DataLoader` calls it.

        Returns:
            The copy.

        Raises:
            GmncError: There is no GPU.
        """
        return self._with(to_pinned_memory(self._tensors()))

    def is_pinned(self) -> bool:
        """Whether the tensors are in page-locked memory."""
        return self.values.is_pinned()

    def _tensors(self) -> dict[str, torch.Tensor]:
        """The tensors that move to a device."""
        own = {f: getattr(self, f) for f in _ON_DEVICE}
        return own | {f"layout.{f}": getattr(self.layout, f) for f in ("dst", "src", "types")}

    def _with(self, tensors: Mapping[str, torch.Tensor]) -> Blocks:
        own: dict[str, Any] = dict(tensors)
        ids = {f: own.pop(f"layout.{f}") for f in ("dst", "src", "types")}
        return replace(self, layout=replace(self.layout, **ids, _cache={}), **own)

    def __repr__(self) -> str:
        return (
            f"Blocks({counted(self.num_graphs, 'graph')}, {counted(self.num_nodes, 'node')}, "
            f"{counted(self.num_edges, 'edge')}, {counted(len(self.segments), 'parameter')}, "
            f"{str(self.values.dtype).removeprefix('torch.')} on {self.values.device})"
        )

    def with_values(self, *tensors: Mapping[str, Any]) -> Blocks:
        """Replace values of parameters; differentiable.

        Args:
            *tensors: One mapping per graph of the batch: name to tensor or array of the parameter's shape, of any dtype
                and on any device. Parameters that are not named keep their values. A module's `state_dict()` is fine:
                integers and booleans that are no parameters (`num_batches_tracked`, indices, masks) are ignored, and so
                are parameters without an edge.

        Returns:
            The same graphs with these values.

        Raises:
            GmncError: Any other name is unknown, a shape differs, a value is not numeric, or the number of mappings is
                not that of graphs.
        """
        if len(tensors) != self.num_graphs:
            raise GmncError(f"values for {len(tensors)} graphs, but there are {self.num_graphs}")
        left = [dict(t) for t in tensors]
        parts, at = [], 0
        for segment in self.segments:
            if segment.name not in left[segment.graph]:
                continue
            value = tensor_of(left[segment.graph].pop(segment.name), segment.name)
            if tuple(value.shape) != segment.shape:
                raise GmncError(f"values for {segment.name!r}: shape {list(value.shape)}, not {list(segment.shape)}")
            parts += [self.values[at : segment.start], value.reshape(-1).to(self.values)]
            at = segment.start + segment.size
        for own, names in zip(left, self.edgeless, strict=False):
            for name in own.keys() & set(names):
                del own[name]
        for given, rest in zip(tensors, left, strict=True):
            # A mapping of nothing but unknown names is a mistake, whatever they hold.
            unknown = sorted(n for n, v in rest.items() if len(rest) == len(given) or not is_integer(v))
            if unknown:
                raise GmncError(f"no parameter with edges is called {unknown[0]!r}")
        return replace(self, values=torch.cat([*parts, self.values[at:]]))

    def per_parameter(self, edges: torch.Tensor) -> list[dict[str, torch.Tensor]]:
        """Average one row per edge into tensors of the parameters' shapes.

        Args:
            edges: float [E, C].

        Returns:
            For each graph: parameter name to tensor [*shape, C], the mean over the edges of each element, NaN where it
            has none.
        """
        mean = self.per_value(edges)
        found: list[dict[str, torch.Tensor]] = [{} for _ in range(self.num_graphs)]
        for segment in self.segments:
            rows = mean[segment.start : segment.start + segment.size]
            found[segment.graph][segment.name] = rows.reshape(*segment.shape, edges.shape[1])
        return found

    def per_value(self, edges: torch.Tensor) -> torch.Tensor:
        """Average one row per edge into one per entry of `values`.

        Args:
            edges: float [E, C].

        Returns:
            [V, C], with the same means as `per_parameter`.
        """
        total = edges.new_zeros(len(self.values) + len(self.extra), edges.shape[1])
        count = edges.new_zeros(len(total), 1)
        if self.layout.small:
            _, _, _, rows, number = self.layout.per_edge
            carries = self.layout.cached("carries", lambda: self.parameter_block.to(rows.device)[number])
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
        """Add parameter edges and their count to the rows that they read, block by block."""
        for carries, block in zip(self.parameter_block.tolist(), self.layout, strict=True):
            if carries and block.size:
                own = edges[block.edge : block.edge + block.size]
                for target, value in ((total, own), (count, own.new_ones(()).expand(len(own), 1))):
                    width = target.shape[1]
                    strides = (*(s * width for s in block.strides), 1)
                    target.as_strided((*block.shape, width), strides, block.value * width).add_(
                        value.reshape(*block.shape, width)
                    )


_ON_DEVICE = (
    "values", "extra", "nodes", "types", "node_op_bag", "type_op_bag", "op_tokens", "op_bag_sizes", "node_graph",
    "node_share",
)  # fmt: skip


# For `torch.load(weights_only=True)`: constructing them runs no code.
torch.serialization.add_safe_globals([Blocks, CooGraph, Layout, Segment])


def blocks(graph: ParameterGraph, *, dtype: torch.dtype | None = None, links: bool = True) -> Blocks:
    """Convert a graph to tensors.

    Args:
        graph: A parameter graph.
        dtype: Dtype of the values; by default the one floating dtype of all parameters with edges, else float32.
        links: Include links; constants are included in any case.

    Returns:
        Tensors on the CPU.
    """
    types = edge_types(graph)
    order = [i for i, b in enumerate(graph.edges) if not b.constant]
    order += [i for i, b in enumerate(graph.edges) if b.constant]
    values, starts, segments = _values(graph, dtype)
    rows: list[Block] = []
    ids: dict[str, list[np.ndarray]] = {"dst": [], "src": [], "types": []}
    extra: list[np.ndarray] = []
    for i in order:
        block = graph.edges[i]
        value, strides = row_and_strides(block, starts, len(values) + sum(map(len, extra)), extra)
        append_block(rows, ids, block.shape, value, strides, block.dst, block.src, types.blocks[i])
    for link, kinds in zip(graph.links if links else (), types.links, strict=False):
        if link.size:
            shape = (link.size, 1, 1, 1)
            append_block(rows, ids, shape, 0, (0, 0, 0, 0), link.dst[:, None], link.src[:, None], kinds[:, None, None])
    found = op_tokens(graph, types)
    dst, src, kind = (torch.from_numpy(np.concatenate([np.zeros(0, np.int32), *part])) for part in ids.values())
    layout = Layout(block_table(rows), torch.ones(len(rows), 2), dst, src, kind, sum(row.size for row in rows))
    carries = [not graph.edges[i].constant for i in order]
    return Blocks(
        layout=layout,
        values=values,
        extra=torch.from_numpy(np.concatenate([np.zeros(0, np.int64), *extra])),
        segments=segments,
        nodes=torch.from_numpy(np.ascontiguousarray(node_features(graph)[:, :8])),
        types=torch.from_numpy(np.ascontiguousarray(types.rows[:, 3:])),
        node_op_bag=torch.from_numpy(found.of_node),
        type_op_bag=torch.from_numpy(found.of_type),
        op_tokens=torch.from_numpy(found.tokens),
        op_bag_sizes=torch.from_numpy(found.sizes),
        node_graph=torch.zeros(graph.num_nodes, dtype=torch.int64),
        node_share=_shares(graph),
        block_graph=torch.zeros(len(rows), dtype=torch.int64),
        parameter_block=torch.tensor(carries + [False] * (len(rows) - len(carries)), dtype=torch.bool),
        edgeless=(tuple(sorted(graph.parameters.keys() - {s.name for s in segments})),),
    )


def batch(parts: Sequence[Blocks]) -> Blocks:
    """Concatenate graphs into one batch.

    Args:
        parts: Graphs or batches, of any architectures.

    Returns:
        One batch, whose graphs are in this order.

    Raises:
        GmncError: `parts` is empty.
    """
    if not parts:
        raise GmncError("a batch needs at least one graph")
    values, extra, bags, graphs = (
        [0, *itertools.accumulate(sizes)]
        for sizes in (
            [len(p.values) for p in parts],
            [len(p.extra) for p in parts],
            [len(p.op_bag_sizes) for p in parts],
            [p.num_graphs for p in parts],
        )
    )
    layouts = [
        (_shifted(p, values[i], values[-1] + extra[i]), p.num_nodes, len(p.types)) for i, p in enumerate(parts)
    ]  # fmt: skip
    segments = (
        replace(s, start=s.start + values[i], graph=s.graph + graphs[i])
        for i, p in enumerate(parts)
        for s in p.segments
    )
    return Blocks(
        layout=Layout.concatenate(layouts),
        values=torch.cat([p.values for p in parts]),
        extra=torch.cat([p.extra + values[i] for i, p in enumerate(parts)]),
        segments=tuple(segments),
        nodes=torch.cat([p.nodes for p in parts]),
        types=torch.cat([p.types for p in parts]),
        node_op_bag=torch.cat([p.node_op_bag + bags[i] for i, p in enumerate(parts)]),
        type_op_bag=torch.cat([p.type_op_bag + bags[i] for i, p in enumerate(parts)]),
        op_tokens=torch.cat([p.op_tokens for p in parts]),
        op_bag_sizes=torch.cat([p.op_bag_sizes for p in parts]),
        node_graph=torch.cat([p.node_graph + graphs[i] for i, p in enumerate(parts)]),
        node_share=torch.cat([p.node_share for p in parts]),
        block_graph=torch.cat([p.block_graph + graphs[i] for i, p in enumerate(parts)]),
        parameter_block=torch.cat([p.parameter_block for p in parts]),
        num_graphs=graphs[-1],
        edgeless=tuple(names for p in parts for names in p.edgeless or ((),) * p.num_graphs),
    )


def _shifted(part: Blocks, values: int, extra: int) -> Layout:
    """The layout with its value rows shifted: by `values`, or by `extra` for rows of `Blocks.extra`."""
    own = part.layout.blocks.clone()
    row = own[:, COLUMN.value]
    row += torch.where(row >= len(part.values), extra - len(part.values), values)
    return replace(part.layout, blocks=own)


def _values(
    graph: ParameterGraph, dtype: torch.dtype | None
) -> tuple[torch.Tensor, dict[tuple[bool, str], int], tuple[Segment, ...]]:
    """Zero and every tensor that has edges, flat; the start of each by (constant, name); the parameters' segments."""
    read = dict.fromkeys((b.constant, b.view.name) for b in sorted(graph.edges, key=lambda b: b.constant))
    tensors = {key: (graph.constants if key[0] else graph.parameters)[key[1]] for key in read}
    kinds = {p.dtype for (constant, _), p in tensors.items() if not constant}
    if dtype is None:
        dtype = _FLOATS.get(kinds.pop(), torch.float32) if len(kinds) == 1 else torch.float32
    values = torch.zeros(1 + sum(p.size for p in tensors.values()), dtype=dtype)
    starts, segments, at = {}, [], 1
    for key, parameter in tensors.items():
        values[at : at + parameter.size] = flat(parameter.load())
        starts[key] = at
        if not key[0]:
            segments.append(Segment(parameter.name, at, parameter.shape))
        at += parameter.size
    return values, starts, tuple(segments)


def _shares(graph: ParameterGraph) -> torch.Tensor:
    """See `Blocks.node_share`."""
    sizes = torch.tensor([group.size for group in graph.groups], dtype=torch.int64)
    return torch.repeat_interleave(1.0 / (sizes.double() * max((sizes > 0).sum().item(), 1)), sizes)
