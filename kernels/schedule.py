"""Which program of the fused kernel does which edges, and which of its partial sums belong together.

A block of at least a few rows and columns is cut into *dense* programs: one keeps a strip of columns (source and slot)
and walks down rows (destinations), so that what a column takes from its source is read once, its sum stays in
registers, and only one row of numbers per strip and destination is a partial sum. All other edges are *flat*: one
program takes a run of them and keeps one partial sum for each. Partial sums are rows of one array, added up in a fixed
order, so that the bits are the same each time.

Per edge of a dense program with C columns and R rows, states of width W in 2 bytes and sums in 4, that is 2 / C + 2 / R
of a pass over the edge state to write partial sums, and as much to read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .layout import Block, Layout

__all__ = ["Geometry", "Piece", "Sums", "pack", "schedule", "unpack"]

LONGEST = 256
"""Partial sums that one program adds up at most; longer sums take a second step."""
FLAT = 1 << 18
"""Flat edges whose partial sums are kept at a time."""


class Geometry(NamedTuple):
    """columns, rows: of a dense program. tiles: of `columns` edges each, that a flat program goes through at most."""

    columns: int
    rows: int
    tiles: int


class Sums(NamedTuple):
    """Rows to add up, for each of T targets (nodes or types), in at most two steps.

    order: int32 [Q], rows of partial sums, those of one target together. starts: int32 [C + 1], where runs of `order`
    start that one program adds up. targets: int32 [T + 1], where the runs of a target start.
    """

    order: torch.Tensor
    starts: torch.Tensor
    targets: torch.Tensor


class Piece(NamedTuple):
    """Programs that run together, and what their partial sums add up to.

    dense: int64 [P, 6]: block, batch entry, first row, first column, where its partial sums by row and by column start.
    flat: int64 [F, 4]: block, first edge within it, number of edges, where its partial sums start.
    block: int32 [Q], of each partial sum. dst, src, type: how they add up. parts: Q.
    """

    dense: torch.Tensor
    flat: torch.Tensor
    block: torch.Tensor
    dst: Sums
    src: Sums
    type: Sums
    parts: int


def schedule(layout: Layout, nodes: int, types: int, geometry: Geometry) -> list[Piece]:
    """Every edge in exactly one program; at least one piece, and at most `FLAT` flat edges in each."""
    blocks = [(number, block) for number, block in enumerate(layout) if block.size]
    dense = [(number, block) for number, block in blocks if _is_dense(block)]
    runs: list[list[tuple[int, Block, int, int]]] = [[]]
    room = FLAT
    for number, block in blocks:
        first = block.size if _is_dense(block) else 0
        while first < block.size:
            if not room:
                runs.append([])
                room = FLAT
            count = min(room, block.size - first)
            runs[-1].append((number, block, first, count))
            first, room = first + count, room - count
    return [_piece(layout, dense if i == 0 else [], run, (nodes, types), geometry) for i, run in enumerate(runs)]


def pack(pieces: Sequence[Piece]) -> tuple[list[torch.Tensor], list[int]]:
    """The pieces as a flat list of tensors, and of numbers, as operations of torch take them."""
    tensors = [t for p in pieces for t in (p.dense, p.flat, p.block, *p.dst, *p.src, *p.type)]
    return tensors, [p.parts for p in pieces]


def unpack(tensors: Sequence[torch.Tensor], sizes: Sequence[int]) -> list[Piece]:
    """The pieces that `pack` took apart."""
    step = len(tensors) // len(sizes)
    pieces = []
    for i, parts in enumerate(sizes):
        dense, flat, block, *sums = tensors[i * step : (i + 1) * step]
        pieces.append(Piece(dense, flat, block, Sums(*sums[:3]), Sums(*sums[3:6]), Sums(*sums[6:]), parts))
    return pieces


def _is_dense(block: Block) -> bool:
    """Whether keeping columns pays: a strip is wide enough to fill, and long enough for its sums to be few."""
    return block.k * block.s >= 32 and block.n >= 4


def _piece(
    layout: Layout,
    dense: Sequence[tuple[int, Block]],
    runs: Sequence[tuple[int, Block, int, int]],
    sizes: tuple[int, int],
    geometry: Geometry,
) -> Piece:
    """Tables of programs, and for each partial sum the node or type that it belongs to."""
    at = 0
    programs, flat = [torch.zeros(0, 6, dtype=torch.int64)], [torch.zeros(0, 4, dtype=torch.int64)]
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
        flat.append(torch.stack([torch.full_like(starts, number), first + starts, lengths, at + starts], dim=1))
        dst, src, types = layout.ids(block)
        for side, ids in (("dst", dst[:, :, None, None]), ("src", src[:, None, :, None]), ("type", types[:, None])):
            ends[side].append((at, ids.expand(block.shape).reshape(-1)[first : first + count]))
        counts.append((number, count))
        at += count
    device = layout.dst.device
    numbers, lengths = torch.tensor(counts, dtype=torch.int64).reshape(-1, 2).T
    return Piece(
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
    """Programs of one block: for each batch entry and strip of rows, neighbouring columns follow one another."""
    down, across = cuts
    b, i, j = (t.reshape(-1) for t in torch.meshgrid(*map(torch.arange, (block.b, down, across)), indexing="ij"))
    row, column = i * geometry.rows, j * geometry.columns
    by_row = parts[0] + (b * across + j) * block.n + row
    by_column = parts[1] + (b * down + i) * block.k * block.s + column
    return torch.stack([torch.full_like(b, number), b, row, column, by_row, by_column], dim=1)


def _sums(ends: Sequence[tuple[int, torch.Tensor]], count: int, device: torch.device) -> Sums:
    """How to add up rows for `count` targets; ends: (first row, the target of it and of those that follow)."""
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
