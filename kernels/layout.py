"""Where the edges of a graph stand in the kernels' tensors: one row of numbers per block, no index per edge."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import astuple, dataclass, field, replace
from functools import cached_property
from typing import Any, NamedTuple

import torch

__all__ = ["COLUMNS", "Block", "Layout", "Piece"]

COLUMNS = (
    "edge", "b", "n", "k", "s", "value", "value_b", "value_n", "value_k", "value_s", "dst", "src", "type", "type_b",
    "type_k",
)  # fmt: skip
"""edge: row of the first edge; edges of a block follow in C order of [b, n, k, s]. value: row of the first edge in the
input edge state, and that row's step along each axis. dst, src: where ids [b, n] and [b, k] start. type: where type ids
start, and their steps along b and k (the step along s is 1, and nothing depends on n)."""


@dataclass(frozen=True, slots=True)
class Block:
    """One row of `Layout.blocks`, field by field as in `COLUMNS`, and its two scales."""

    edge: int
    b: int
    n: int
    k: int
    s: int
    value: int
    value_b: int
    value_n: int
    value_k: int
    value_s: int
    dst: int
    src: int
    type: int
    type_b: int
    type_k: int
    scale_in: float = 1.0
    scale_out: float = 1.0

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(B, N, K, S)."""
        return self.b, self.n, self.k, self.s

    @property
    def size(self) -> int:
        """Number of edges."""
        return self.b * self.n * self.k * self.s

    @property
    def strides(self) -> tuple[int, int, int, int]:
        """Steps of the row in the input edge state, along (b, n, k, s)."""
        return self.value_b, self.value_n, self.value_k, self.value_s


class Piece(NamedTuple):
    """A run of a layout's edges.

    start: its first edge. layout: of these edges alone, numbered from 0, which read the values of all. numbers: for
    each block of `layout`, the number of the block that it is a part of.
    """

    start: int
    layout: Layout
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Layout:
    """Dense bipartite blocks of edges over shared node and type tables.

    blocks: int64 [M, 15] on the CPU, `COLUMNS`. scale: float32 [M, 2] on the CPU, what sums over in-edges and over
    out-edges of each block are multiplied by. dst, src, types: int32 ids, flat, on the device of the edge states.
    edges: number of edges.
    """

    blocks: torch.Tensor
    scale: torch.Tensor
    dst: torch.Tensor
    src: torch.Tensor
    types: torch.Tensor
    edges: int
    _plans: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # Tables and plans, some of them as long as the edges, are made anew where it arrives.
        return Layout, (self.blocks, self.scale, self.dst, self.src, self.types, self.edges)

    def __repr__(self) -> str:
        return f"Layout({len(self.blocks)} blocks, {self.edges} edges, on {self.dst.device})"

    @cached_property
    def _rows(self) -> tuple[Block, ...]:
        pairs = zip(self.blocks.tolist(), self.scale.tolist(), strict=True)
        return tuple(Block(*row, *scale) for row, scale in pairs)

    @cached_property
    def dense(self) -> Layout:
        """The same edges, reading an edge state [edges, D] that an earlier `edge_update` wrote."""
        blocks = self.blocks.clone()
        _, n, k, s = self.blocks[:, 1:5].T
        blocks[:, 5] = blocks[:, 0]
        blocks[:, 6:10] = torch.stack([n * k * s, k * s, s, torch.ones_like(s)], dim=1)
        # The plans, which hang on shapes and ids alone, are shared.
        dense = replace(self, blocks=blocks)
        if "single" in self.__dict__:
            rows = torch.arange(self.edges, device=self.dst.device)
            dense.__dict__["single"] = (*self.single[:3], rows, self.single[4])
        return dense

    def pieces(self, limit: int) -> tuple[Piece, ...]:
        """All edges in order, at most `limit` in a piece, or one row of destinations of a block if that has more."""
        return self.planned(("pieces", limit), lambda: tuple(self._cut(limit)))

    def _cut(self, limit: int) -> Iterator[Piece]:
        run: list[tuple[int, Block]] = []
        size = 0
        for number, block in enumerate(self):
            for part in _parts(block, limit):
                if run and size + part.size > limit:
                    yield self._piece(run, size)
                    run, size = [], 0
                run.append((number, part))
                size += part.size
        if run:
            yield self._piece(run, size)

    def _piece(self, run: Sequence[tuple[int, Block]], size: int) -> Piece:
        numbers, parts = zip(*run, strict=True)
        start = parts[0].edge
        rows = torch.tensor([astuple(replace(part, edge=part.edge - start))[:-2] for part in parts])
        scale = self.scale[list(numbers)]
        return Piece(start, replace(self, blocks=rows, scale=scale, edges=size, _plans={}), numbers)

    @property
    def small(self) -> bool:
        """Whether an index for each edge costs less than a few operations for each block: many blocks of few edges."""
        return self.edges < min(1024 * len(self.blocks), 2**18)

    @cached_property
    def on_device(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`blocks` and `scale` where the ids are."""
        return self.blocks.to(self.dst.device), self.scale.to(self.dst.device)

    @cached_property
    def scaled(self) -> bool:
        """Whether any sum is multiplied by anything but 1."""
        return bool((self.scale != 1).any())

    def planned(self, key: Hashable, plan: Callable[[], Any]) -> Any:
        """What a kernel works out once from the shapes of blocks and the ids; kept under `key`."""
        if key not in self._plans:
            self._plans[key] = plan()
        return self._plans[key]

    @cached_property
    def single(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What each edge reads, int64 [edges] each: dst, src, type, value row, block."""
        table = self.blocks.to(self.dst.device)
        number = torch.repeat_interleave(
            torch.arange(len(table), device=table.device), table[:, 1:5].prod(1), output_size=self.edges
        )
        # One contiguous row for each column of the table: what follows reads each several times.
        columns = table.T.contiguous().index_select(1, number)
        edge, _, n, k, s, value, of_b, of_n, of_k, of_s, dst, src, kind, kind_b, kind_k = columns.unbind(0)
        rest = torch.arange(self.edges, device=table.device) - edge
        rest, at_s = _divided(rest, s)
        rest, at_k = _divided(rest, k)
        at_b, at_n = _divided(rest, n)
        rows = value + at_b * of_b + at_n * of_n + at_k * of_k + at_s * of_s
        to, at, types = (
            ids[row].long()
            for ids, row in (
                (self.dst, dst + at_b * n + at_n),
                (self.src, src + at_b * k + at_k),
                (self.types, kind + at_b * kind_b + at_k * kind_k + at_s),
            )
        )
        return to, at, types, rows, number

    def to(self, device: torch.device | str) -> Layout:
        """With the ids on another device."""
        ids = {f: getattr(self, f).to(device) for f in ("dst", "src", "types")}
        return replace(self, **ids, _plans={})

    def ids(self, block: Block) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """dst [B, N], src [B, K] and types [B, K, S] (a broadcast view) of one block."""
        b, n, k, s = block.shape
        dst = self.dst[block.dst : block.dst + b * n].view(b, n)
        src = self.src[block.src : block.src + b * k].view(b, k)
        # From a slice: an offset given to as_strided would be counted from the start of the storage.
        types = self.types[block.type :].as_strided((b, k, s), (block.type_b, block.type_k, 1))
        return dst, src, types

    @staticmethod
    def concatenate(parts: Sequence[tuple[Layout, int, int]]) -> Layout:
        """Several layouts side by side, over one edge state; each comes with its number of nodes and of types."""
        blocks, dst, src, types = [], [], [], []
        edges = nodes = kinds = 0
        starts = torch.zeros(3, dtype=torch.int64)
        for layout, num_nodes, num_types in parts:
            own = layout.blocks.clone()
            own[:, 0] += edges
            own[:, 10:13] += starts
            blocks.append(own)
            dst.append(layout.dst + nodes)
            src.append(layout.src + nodes)
            types.append(layout.types + kinds)
            starts = starts + torch.tensor([len(layout.dst), len(layout.src), len(layout.types)])
            edges, nodes, kinds = edges + layout.edges, nodes + num_nodes, kinds + num_types
        scale = torch.cat([layout.scale for layout, *_ in parts])
        return Layout(torch.cat(blocks), scale, torch.cat(dst), torch.cat(src), torch.cat(types), edges)


def _divided(number: torch.Tensor, by: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quotient and remainder of integers from 0, with one division."""
    quotient = number // by
    return quotient, number - quotient * by


def _parts(block: Block, limit: int) -> Iterator[Block]:
    """A block cut along b, then along n, until a part has at most `limit` edges."""
    if block.size <= limit or block.b == block.n == 1:
        if block.size:
            yield block
        return
    along_b = block.b > 1
    count = block.b if along_b else block.n
    each = block.size // count
    step = max(1, limit // each)
    for first in range(0, count, step):
        edge, took = block.edge + first * each, min(step, count - first)
        if along_b:
            part = replace(
                block, edge=edge, b=took, value=block.value + first * block.value_b, dst=block.dst + first * block.n,
                src=block.src + first * block.k, type=block.type + first * block.type_b,
            )  # fmt: skip
            yield from _parts(part, limit)
        else:
            yield replace(block, edge=edge, n=took, value=block.value + first * block.value_n, dst=block.dst + first)
