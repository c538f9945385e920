"""The layout of a graph's edges in the kernels' tensors: one row of numbers per block, no index per edge."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch

__all__ = ["COLUMN", "COLUMNS", "Block", "Chunk", "EdgeTable", "Layout", "block_table"]


class Block(NamedTuple):
    """A dense bipartite block of edges [B, N, K, S]: B groups of N destinations, K sources and S slots.

    All fields but the scales are a row of `Layout.blocks`.

    Attributes:
        edge: Row of the first edge; the edges of a block follow one another in C order of [B, N, K, S].
        b: B.
        n: N.
        k: K.
        s: S.
        value: Row of the first edge in the input edge state.
        value_b: Stride of that row along B.
        value_n: Stride along N.
        value_k: Stride along K.
        value_s: Stride along S.
        dst: Start in `Layout.dst` of the destinations [B, N].
        src: Start in `Layout.src` of the sources [B, K].
        type: Start in `Layout.types` of the types [B, K, S], which do not depend on N.
        type_b: Stride of the type along B.
        type_k: Stride along K; along S it is 1.
        scale_in: Factor on messages into destinations.
        scale_out: Factor on messages into sources.
    """

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
        """Strides of the row in the input edge state, along (B, N, K, S)."""
        return self.value_b, self.value_n, self.value_k, self.value_s


COLUMNS = Block._fields[:-2]
"""Names of the columns of `Layout.blocks`."""
COLUMN = Block(*range(len(COLUMNS)))
"""Number of each column of `Layout.blocks`, under its name."""
_SHAPE = slice(COLUMN.b, COLUMN.s + 1)
_READ = slice(COLUMN.value, COLUMN.value_s + 1)
_STARTS = slice(COLUMN.dst, COLUMN.type + 1)


def block_table(blocks: Sequence[Block]) -> torch.Tensor:
    """The table of a layout.

    Args:
        blocks: In the order of their edges; scales are ignored.

    Returns:
        `Layout.blocks`, int64 [M, 15].
    """
    return torch.tensor([block[: len(COLUMNS)] for block in blocks], dtype=torch.int64).reshape(-1, len(COLUMNS))


class Chunk(NamedTuple):
    """Consecutive edges of a layout.

    Attributes:
        start: The first edge.
        layout: Layout of these edges alone, numbered from 0; it reads the input edge state of all edges.
        numbers: For each block of `layout`, the number of the original block that it is part of.
    """

    start: int
    layout: Layout
    numbers: tuple[int, ...]


class EdgeTable(NamedTuple):
    """The operands of each edge, int64 [edges] each.

    Attributes:
        dst: Destination.
        src: Source.
        type: Type.
        row: Row of the input edge state.
        block: Number of the block.
    """

    dst: torch.Tensor
    src: torch.Tensor
    type: torch.Tensor
    row: torch.Tensor
    block: torch.Tensor


@dataclass(frozen=True)
class Layout:
    """Dense bipartite blocks of edges over shared node and type tables.

    Attributes:
        blocks: int64 [M, 15] on the CPU, one `Block` per row; `COLUMN` has the number of each column.
        scale: float32 [M, 2] on the CPU, `scale_in` and `scale_out` of each block.
        dst: int32, destinations of all blocks, on the device of the edge states, as are the next two.
        src: int32, sources of all blocks.
        types: int32, types of all blocks.
        edges: Number of edges.
    """

    blocks: torch.Tensor
    scale: torch.Tensor
    dst: torch.Tensor
    src: torch.Tensor
    types: torch.Tensor
    edges: int
    _cache: dict[Hashable, Any] = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Block]:
        return iter(self._rows)

    def __reduce__(self) -> tuple[Any, ...]:
        # Cached tables may be as long as the edges; the receiver makes its own.
        return Layout, (self.blocks, self.scale, self.dst, self.src, self.types, self.edges)

    def __repr__(self) -> str:
        return f"Layout({len(self.blocks)} blocks, {self.edges} edges, on {self.dst.device})"

    @cached_property
    def _rows(self) -> tuple[Block, ...]:
        pairs = zip(self.blocks.tolist(), self.scale.tolist(), strict=True)
        return tuple(Block(*row, *scale) for row, scale in pairs)

    @property
    def sizes(self) -> torch.Tensor:
        """Number of edges of each block, int64 [M] on the CPU."""
        return self.blocks[:, _SHAPE].prod(1)

    @property
    def reads_dense(self) -> bool:
        """Whether edge r reads row r of the input edge state."""
        return torch.equal(self.blocks[:, _READ], self.dense.blocks[:, _READ])

    @cached_property
    def dense(self) -> Layout:
        """The same edges, reading an edge state [edges, D] that an earlier `edge_update` wrote."""
        blocks = self.blocks.clone()
        _, n, k, s = self.blocks[:, _SHAPE].T
        one = torch.ones_like(s)
        blocks[:, _READ] = torch.stack([self.blocks[:, COLUMN.edge], n * k * s, k * s, s, one], dim=1)
        # Cached values depend on shapes and ids only, so both layouts share them.
        dense = replace(self, blocks=blocks)
        if "per_edge" in self.__dict__:
            rows = torch.arange(self.edges, device=self.dst.device)
            dense.__dict__["per_edge"] = self.per_edge._replace(row=rows)
        return dense

    def chunks(self, limit: int) -> tuple[Chunk, ...]:
        """All edges in order, cut into chunks.

        Args:
            limit: Largest number of edges of a chunk; one destination of a block is never cut.

        Returns:
            The chunks; they are cached.
        """
        return self.cached(("chunks", limit), lambda: tuple(self._cut(limit)))

    def _cut(self, limit: int) -> Iterator[Chunk]:
        run: list[tuple[int, Block]] = []
        size = 0
        for number, block in enumerate(self):
            for part in _parts(block, limit):
                if run and size + part.size > limit:
                    yield self._chunk(run, size)
                    run, size = [], 0
                run.append((number, part))
                size += part.size
        if run:
            yield self._chunk(run, size)

    def _chunk(self, run: Sequence[tuple[int, Block]], size: int) -> Chunk:
        numbers, parts = zip(*run, strict=True)
        start = parts[0].edge
        rows = block_table([part._replace(edge=part.edge - start) for part in parts])
        scale = self.scale[list(numbers)]
        return Chunk(start, replace(self, blocks=rows, scale=scale, edges=size, _cache={}), numbers)

    @property
    def small(self) -> bool:
        """Whether an index per edge is cheaper than a few operations per block: many blocks of few edges."""
        return self.edges < min(1024 * len(self.blocks), 2**18)

    @cached_property
    def on_device(self) -> tuple[torch.Tensor, torch.Tensor]:
        """`blocks` and `scale` on the device of the ids."""
        return self.blocks.to(self.dst.device), self.scale.to(self.dst.device)

    @cached_property
    def scaled(self) -> bool:
        """Whether any scale differs from 1."""
        return bool((self.scale != 1).any())

    def cached(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Compute something from shapes and ids once and cache it with the layout.

        Args:
            key: Cache key.
            make: Computes the value, on the first call with this key.

        Returns:
            The cached value.
        """
        if key not in self._cache:
            self._cache[key] = make()
        return self._cache[key]

    @cached_property
    def per_edge(self) -> EdgeTable:
        """The operands of each edge."""
        blocks = self.blocks.to(self.dst.device)
        number = torch.repeat_interleave(
            torch.arange(len(blocks), device=blocks.device), blocks[:, _SHAPE].prod(1), output_size=self.edges
        )
        # One contiguous row per column of the table, as each is read several times.
        columns = blocks.T.contiguous().index_select(1, number)
        of = SimpleNamespace(**dict(zip(COLUMNS, columns.unbind(0), strict=True)))
        rest = torch.arange(self.edges, device=blocks.device) - of.edge
        rest, at_s = _divided(rest, of.s)
        rest, at_k = _divided(rest, of.k)
        at_b, at_n = _divided(rest, of.n)
        row = of.value + at_b * of.value_b + at_n * of.value_n + at_k * of.value_k + at_s * of.value_s
        dst, src, types = (
            ids[at].long()
            for ids, at in (
                (self.dst, of.dst + at_b * of.n + at_n),
                (self.src, of.src + at_b * of.k + at_k),
                (self.types, of.type + at_b * of.type_b + at_k * of.type_k + at_s),
            )
        )
        return EdgeTable(dst, src, types, row, number)

    def to(self, device: torch.device | str) -> Layout:
        """The layout with its ids on another device.

        Args:
            device: The device of the edge states.

        Returns:
            The layout, with an empty cache.
        """
        ids = {f: getattr(self, f).to(device) for f in ("dst", "src", "types")}
        return replace(self, **ids, _cache={})

    def ids(self, block: Block) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The ids of one block.

        Args:
            block: A block of this layout.

        Returns:
            Destinations [B, N], sources [B, K] and types [B, K, S] (a broadcast view).
        """
        b, n, k, s = block.shape
        dst = self.dst[block.dst : block.dst + b * n].view(b, n)
        src = self.src[block.src : block.src + b * k].view(b, k)
        # Sliced first: as_strided counts an offset from the start of the storage.
        types = self.types[block.type :].as_strided((b, k, s), (block.type_b, block.type_k, 1))
        return dst, src, types

    @staticmethod
    def concatenate(parts: Sequence[tuple[Layout, int, int]]) -> Layout:
        """Concatenate layouts that read one edge state.

        Args:
            parts: Each layout with its number of nodes and of types; their value columns stay as they are.

        Returns:
            One layout, whose nodes, types and edges follow one another.
        """
        blocks, dst, src, types = [], [], [], []
        edges = nodes = kinds = 0
        starts = torch.zeros(3, dtype=torch.int64)
        for layout, num_nodes, num_types in parts:
            own = layout.blocks.clone()
            own[:, COLUMN.edge] += edges
            own[:, _STARTS] += starts
            blocks.append(own)
            dst.append(layout.dst + nodes)
            src.append(layout.src + nodes)
            types.append(layout.types + kinds)
            starts = starts + torch.tensor([len(layout.dst), len(layout.src), len(layout.types)])
            edges, nodes, kinds = edges + layout.edges, nodes + num_nodes, kinds + num_types
        scale = torch.cat([layout.scale for layout, *_ in parts])
        return Layout(torch.cat(blocks), scale, torch.cat(dst), torch.cat(src), torch.cat(types), edges)


def _divided(number: torch.Tensor, by: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Quotient and remainder of non-negative integers, with one division."""
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
            part = block._replace(
                edge=edge, b=took, value=block.value + first * block.value_b, dst=block.dst + first * block.n,
                src=block.src + first * block.k, type=block.type + first * block.type_b,
            )  # fmt: skip
            yield from _parts(part, limit)
        else:
            yield block._replace(edge=edge, n=took, value=block.value + first * block.value_n, dst=block.dst + first)
