"""Which program of the fused kernel updates which edges, and how its partial sums are reduced.

A block with enough rows and columns is cut into *dense* programs: each keeps a strip of columns (source and slot) and
walks down rows (destinations). The source terms of a column are loaded once, its sum stays in registers, and only one
partial sum per strip and destination is written. All other edges are *flat*: a program takes a run of them and writes
one partial sum per edge. Partial sums are rows of one array and are added in a fixed order, so results are
deterministic.

For C columns, R rows, 2-byte states and 4-byte sums, a dense program writes 2 / C + 2 / R times the bytes of its edge
states as partial sums, and reads as much again.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import torch

from .layout import Block, Layout

__all__ = [
    "DENSE", "FLAT", "DenseTask", "FlatTask", "Geometry", "Launch", "Sums", "pack", "schedule", "unpack",
]  # fmt: skip

T = TypeVar("T")

LONGEST = 256
"""Largest number of partial sums that one program adds; longer sums take a second pass."""
MOST_FLAT = 1 << 18
"""Largest number of flat edges whose partial sums exist at a time."""


class Geometry(NamedTuple):
    """Sizes of programs.

    Attributes:
        columns: Columns of a dense program.
        rows: Rows of a dense program.
        tiles: Largest number of tiles, of `columns` edges each, of a flat program.
    """

    columns: int
    rows: int
    tiles: int


class Sums(NamedTuple):
    """The reduction of partial sums to T targets (nodes or types), in at most two passes.

    Attributes:
        order: int32 [Q], rows of partial sums, grouped by target.
        starts: int32 [C + 1], bounds of the runs of `order` that one program adds.
        targets: int32 [T + 1], bounds of the runs of each target.
    """

    order: torch.Tensor
    starts: torch.Tensor
    targets: torch.Tensor


class DenseTask(NamedTuple, Generic[T]):
    """The work of a dense program: a row of `Launch.dense`.

    Attributes:
        block: Number of the block.
        entry: Index along its axis B.
        row: First row.
        column: First column.
        row_sums: First of its partial sums by row.
        column_sums: First of its partial sums by column.
    """

    block: T
    entry: T
    row: T
    column: T
    row_sums: T
    column_sums: T


class FlatTask(NamedTuple, Generic[T]):
    """The work of a flat program: a row of `Launch.flat`.

    Attributes:
        block: Number of the block.
        first: First edge within the block.
        edges: Number of edges.
        sums: First of its partial sums.
    """

    block: T
    first: T
    edges: T
    sums: T


DENSE = DenseTask(*range(len(DenseTask._fields)))
FLAT = FlatTask(*range(len(FlatTask._fields)))
"""Number of each column of `Launch.dense` and of `Launch.flat`, under its name."""


class Launch(NamedTuple):
    """Programs that are launched together, and the reductions of their Q partial sums.

    Attributes:
        dense: int64 [P, 6], one `DenseTask` per row.
        flat: int64 [F, 4], one `FlatTask` per row.
        block: int32 [Q], the block of each partial sum.
        dst: Reduction to destinations.
        src: Reduction to sources.
        type: Reduction to types.
        parts: Q.
    """

    dense: torch.Tensor
    flat: torch.Tensor
    block: torch.Tensor
    dst: Sums
    src: Sums
    type: Sums
    parts: int


def schedule(layout: Layout, nodes: int, types: int, geometry: Geometry) -> list[Launch]:
    """Every edge in exactly one program; at least one launch, and at most `MOST_FLAT` flat edges in each."""
    blocks = [(number, block) for number, block in enumerate(layout) if block.size]
    dense = [(number, block) for number, block in blocks if _is_dense(block)]
    runs: list[list[tuple[int, Block, int, int]]] = [[]]
    room = MOST_FLAT
    for number, block in blocks:
        first = block.size if _is_dense(block) else 0
        while first < block.size:
            if not room:
                runs.append([])
                room = MOST_FLAT
            count = min(room, block.size - first)
            runs[-1].append((number, block, first, count))
            first, room = first + count, room - count
    return [_launch(layout, dense if i == 0 else [], run, (nodes, types), geometry) for i, run in enumerate(runs)]


def pack(launches: Sequence[Launch]) -> tuple[list[torch.Tensor], list[int]]:
    """The launches as flat lists of tensors and of integers, which custom operators take."""
    tensors = [t for each in launches for t in (each.dense, each.flat, each.block, *each.dst, *each.src, *each.type)]
    return tensors, [each.parts for each in launches]


def unpack(tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> list[Launch]:
    """The inverse of `pack`."""
    step = len(tensors) // len(sizes)
    launches = []
    for i, parts in enumerate(sizes):
        dense, flat, block, *sums = tensors[i * step : (i + 1) * step]
        launches.append(Launch(dense, flat, block, Sums(*sums[:3]), Sums(*sums[3:6]), Sums(*sums[6:]), parts))
    return launches


def _is_dense(block: Block) -> bool:
    """Whether dense programs pay off: strips are filled, and long enough to write few partial sums."""
    return block.k * block.s >= 32 and block.n >= 4


def _launch(
    layout: Layout,
    dense: Sequence[tuple[int, Block]],
    runs: Sequence[tuple[int, Block, int, int]],
    sizes: tuple[int, int],
    geometry: Geometry,
) -> Launch:
    """Tables of programs, and the node or type of each partial sum."""
    at = 0
    programs, flat = ([torch.zeros(0, len(row), dtype=torch.int64)] for row in (DENSE, FLAT))
    counts: list[tuple[int, int]] = []
    ends: dict[str, list[tuple[int, torch.Tensor]]] = {"dst": [], "src": [], "type": []}
    for number, block in dense:
        down, across = -(-block.n // geometry.rows), -(-block.k * block.s // geometry.columns)
        by_column = at + block.b * across * block.n
        programs.append(_dense(number, block, (down, across), (at, by_column), geometry))
        dst, src, types = layout.ids(block)
        each = (block.b, down, block.k, block.s)
        ends["dst"].append((at, dst[:, None].expand(-1, across, -1)))
        ends["src"].append((by_column, src[:, None, :, None].expand(each)))
        ends["type"].append((by_column, types[:, None].expand(each)))
        end = by_column + block.b * down * block.k * block.s
        counts.append((number, end - at))
        at = end
    for number, block, first, count in runs:
        starts = torch.arange(0, count, geometry.columns * geometry.tiles)
        lengths = (count - starts).clamp(max=geometry.columns * geometry.tiles)
        task = FlatTask(block=torch.full_like(starts, number), first=first + starts, edges=lengths, sums=at + starts)
        flat.append(torch.stack(task, dim=1))
        dst, src, types = layout.ids(block)
        for side, ids in (("dst", dst[:, :, None, None]), ("src", src[:, None, :, None]), ("type", types[:, None])):
            ends[side].append((at, ids.expand(block.shape).reshape(-1)[first : first + count]))
        counts.append((number, count))
        at += count
    device = layout.dst.device
    numbers, lengths = torch.tensor(counts, dtype=torch.int64).reshape(-1, 2).T
    return Launch(
        dense=torch.cat(programs).to(device),
        flat=torch.cat(flat).to(device),
        block=torch.repeat_interleave(numbers, lengths).to(torch.int32).to(device),
        dst=_sums(ends["dst"], sizes[0], device),
        src=_sums(ends["src"], sizes[0], device),
        type=_sums(ends["type"], sizes[1], device),
        parts=at,
    )


def _dense(
    number: int, block: Block, cuts: tuple[int, int], parts: tuple[int, int], geometry: Geometry
) -> torch.Tensor:
    """Programs of one block [P, 6], along B, then rows, then columns."""
    down, across = cuts
    b, i, j = (t.reshape(-1) for t in torch.meshgrid(*map(torch.arange, (block.b, down, across)), indexing="ij"))
    row, column = i * geometry.rows, j * geometry.columns
    task = DenseTask(
        block=torch.full_like(b, number),
        entry=b,
        row=row,
        column=column,
        row_sums=parts[0] + (b * across + j) * block.n + row,
        column_sums=parts[1] + (b * down + i) * block.k * block.s + column,
    )
    return torch.stack(task, dim=1)


def _sums(ends: Sequence[tuple[int, torch.Tensor]], count: int, device: torch.device) -> Sums:
    """The reduction to `count` targets; ends: (first partial sum, targets of it and of those that follow)."""
    empty = torch.zeros(0, dtype=torch.int64, device=device)
    ids = torch.cat([empty, *(t.reshape(-1).long() for _, t in ends)])
    rows = torch.cat([empty, *(torch.arange(at, at + t.numel(), device=device) for at, t in ends)])
    order = rows[torch.argsort(ids, stable=True)]
    lengths = torch.bincount(ids, minlength=count)
    runs = (-(-lengths // LONGEST)).clamp(min=1)
    targets, firsts = (torch.cat([empty.new_zeros(1), torch.cumsum(n, 0)]) for n in (runs, lengths))
    of_run = torch.repeat_interleave(torch.arange(count, device=device), runs)
    within = torch.arange(len(of_run), device=device) - targets[of_run]
    starts = torch.cat([firsts[of_run] + LONGEST * within, firsts[-1:]])
    return Sums(*(t.to(torch.int32) for t in (order, starts, targets)))
