"""Fused edge update on the GPU: two launches over all blocks, and one or two for each kind of sum; no atomics.

`gmnc.kernels.schedule` says what a program does and how partial sums add up.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from . import programs
from .layout import COLUMNS, Layout
from .schedule import Geometry, Piece, Sums, pack, schedule, unpack
from .terms import Terms

__all__ = ["TUNING", "Tuning", "backward", "fits", "forward", "plan"]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Plan = tuple[list[torch.Tensor], list[int]]
Scaling = tuple[torch.Tensor, torch.Tensor, int]
"""Of partial sums: the block of each, the scales of blocks, and which of the two."""


class Tuning(NamedTuple):
    """geometry: what a program does. forward, backward: (warps, stages) of a dense program."""

    geometry: Geometry
    forward: tuple[int, int]
    backward: tuple[int, int]


TUNING: dict[tuple[str, int], Tuning] = {
    ("bfloat16", 64): Tuning(Geometry(32, 256, 32), (4, 3), (4, 3)),
    ("bfloat16", 128): Tuning(Geometry(32, 256, 32), (8, 2), (8, 2)),
    ("float16", 64): Tuning(Geometry(32, 256, 32), (4, 3), (4, 2)),
    ("float16", 128): Tuning(Geometry(32, 256, 32), (8, 2), (8, 2)),
    ("float32", 64): Tuning(Geometry(32, 256, 32), (4, 2), (4, 1)),
    ("float64", 64): Tuning(Geometry(32, 256, 32), (8, 1), (8, 1)),
}
"""By type of the products (that of the edge state, or float64 for terms in float64) and the largest width of states and
hidden layers. Wider matrices do not fit into what the warps of a program share. `benchmarks/tune.py` finds a row."""
_ADDED = 32
"""Partial sums that a program adds up at a time."""


def plan(e: torch.Tensor, terms: Terms, layout: Layout) -> Plan:
    """What is worked out once for a layout: its tables on the device, then those of programs and of sums.

    The first number is 1 if sums are scaled.
    """
    geometry = _tuning(e, terms).geometry
    sizes = len(terms.dst), len(terms.type)
    tensors, parts = layout.planned(("triton", geometry, sizes), lambda: pack(schedule(layout, *sizes, geometry)))
    return [*layout.on_device, *tensors], [int(layout.scaled), *parts]


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, planned: Plan, activation: str, residual: bool, dtype: torch.dtype
) -> Outputs:
    """See `gmnc.kernels.edge_update`."""
    e, terms = e.contiguous(), Terms(*(t.contiguous() for t in terms))
    new = e.new_empty(layout.edges, terms.w_out.shape[1], dtype=dtype)
    into, out = torch.empty_like(terms.dst), torch.empty_like(terms.dst)
    options, tuning = _options(e, terms, activation, residual)
    (blocks, scale, *tables), (scaled, *counts) = planned
    for number, piece in enumerate(unpack(tables, counts)):
        parts = _parts(piece, terms)
        for run, tasks, (warps, stages) in _launches("forward", piece, tuning):
            run[(len(tasks),)](
                e, *terms, layout.dst, layout.src, layout.types, new, parts, tasks, blocks, *_sizes(terms),
                **options, num_warps=warps, num_stages=stages,
            )  # fmt: skip
        for side, (sums, result) in enumerate(((piece.dst, into), (piece.src, out))):
            _add_up(parts, sums, result, number > 0, (piece.block, scale, side) if scaled else None)
    return new, into, out


def backward(
    grads: Outputs, e: torch.Tensor, terms: Terms, layout: Layout, planned: Plan, activation: str, residual: bool,
    wanted: bool,
) -> tuple[torch.Tensor, Terms]:  # fmt: skip
    """Gradients of `e` (if wanted) and of the terms. The hidden layer is computed again."""
    e, terms = e.contiguous(), Terms(*(t.contiguous() for t in terms))
    by_edge = e.new_empty(layout.edges, e.shape[1])
    ends = Terms(*(torch.empty_like(t) for t in terms[:3]), *(torch.zeros_like(t) for t in terms[3:]))
    options, tuning = _options(e, terms, activation, residual)
    kept = options["DOT"] if tuning.geometry.columns * options["H"] > 64 * 64 else options["SUM"]
    (blocks, scale, *tables), (_, *counts) = planned
    for number, piece in enumerate(unpack(tables, counts)):
        parts = _parts(piece, terms)
        for run, tasks, (warps, stages) in _launches("backward", piece, tuning):
            matrices = [parts.new_empty(len(tasks), *w.shape) for w in terms[3:]]
            run[(len(tasks),)](
                e, *terms[:5], layout.dst, layout.src, layout.types, *grads, by_edge, parts, *matrices, tasks, blocks,
                scale, *_sizes(terms), **options, KEPT=kept, num_warps=warps, num_stages=stages,
            )  # fmt: skip
            for total, each in zip(ends[3:], matrices, strict=True):
                total.add_(each.sum(0))
        for sums, result in ((piece.dst, ends.dst), (piece.src, ends.src), (piece.type, ends.type)):
            _add_up(parts, sums, result, number > 0, None)
    return (_by_row(by_edge, e, layout) if wanted else by_edge), ends


def _launches(direction: str, piece: Piece, tuning: Tuning) -> list[tuple[Any, torch.Tensor, tuple[int, int]]]:
    """Programs that have something to do: (program, its tasks, (warps, stages))."""
    found = (
        (getattr(programs, f"{direction}_dense"), piece.dense, getattr(tuning, direction)),
        (getattr(programs, f"{direction}_flat"), piece.flat, (getattr(tuning, direction)[0], 1)),
    )
    return [launch for launch in found if len(launch[1])]


def _add_up(parts: torch.Tensor, sums: Sums, result: torch.Tensor, add: bool, scaling: Scaling | None) -> None:
    """Sums into `result`, in one step or two."""
    width = parts.shape[1]
    block, scale, side = scaling or (parts, parts, 0)
    options = {"H": triton.next_power_of_2(width), "T": _ADDED, "SUM": _summed(parts), "num_warps": 1}
    runs, targets = len(sums.starts) - 1, len(sums.targets) - 1
    if not targets:
        return
    first = (parts, sums.order, sums.starts, block, scale, side)
    ordered = {"ORDERED": True, "SCALED": scaling is not None}
    if runs == targets:
        programs.add_up[(runs,)](*first, result, width, **ordered, ADD=add, **options)
        return
    each = parts.new_empty(runs, width)
    programs.add_up[(runs,)](*first, each, width, **ordered, ADD=False, **options)
    second = (each, sums.order, sums.targets, block, scale, side, result, width)
    programs.add_up[(targets,)](*second, ORDERED=False, SCALED=False, ADD=add, **options)


def _by_row(by_edge: torch.Tensor, e: torch.Tensor, layout: Layout) -> torch.Tensor:
    """Gradients of the rows that edges read, from one for each edge."""
    if torch.equal(layout.blocks[:, 5:10], layout.dense.blocks[:, 5:10]) and len(e) == layout.edges:
        return by_edge
    grad, width = torch.zeros_like(e), e.shape[1]
    for block in layout:
        if not block.size:
            continue
        value = by_edge[block.edge : block.edge + block.size].view(*block.shape, width)
        repeated = [axis for axis, step in enumerate(block.strides) if step == 0]
        into = grad.as_strided((*block.shape, width), (*(t * width for t in block.strides), 1), block.value * width)
        for axis in repeated:
            into, value = into.narrow(axis, 0, 1), value.sum(axis, keepdim=True)
        into += value
    return grad


def _parts(piece: Piece, terms: Terms) -> torch.Tensor:
    kind = torch.float64 if terms.dst.dtype == torch.float64 else torch.float32
    return terms.dst.new_empty(piece.parts, terms.dst.shape[1], dtype=kind)


def _summed(parts: torch.Tensor) -> tl.dtype:
    return tl.float64 if parts.dtype == torch.float64 else tl.float32


def _sizes(terms: Terms) -> tuple[int, int, int]:
    return (*terms.w_in.shape, terms.w_out.shape[1])


def _kind(e: torch.Tensor, terms: Terms) -> str:
    return str(e.dtype if terms.dst.dtype != torch.float64 else torch.float64).removeprefix("torch.")


def fits(e: torch.Tensor, terms: Terms) -> bool:
    """Whether there is a row of `TUNING` for these types and widths."""
    return any(kind == _kind(e, terms) and max(_sizes(terms)) <= width for kind, width in TUNING)


def _tuning(e: torch.Tensor, terms: Terms) -> Tuning:
    """The row of the smallest width that is enough. Raises `ValueError` if none is."""
    kind, widest = _kind(e, terms), max(_sizes(terms))
    widths = [width for name, width in TUNING if name == kind and width >= widest]
    if not widths:
        raise ValueError(f"the triton kernel takes no {kind} states of width {widest}: choose auto, or flat")
    return TUNING[kind, min(widths)]


def _options(e: torch.Tensor, terms: Terms, activation: str, residual: bool) -> tuple[dict[str, Any], Tuning]:
    """Widths, padded to what matrix products take (one number per edge is none), and types."""
    (d, h), o = terms.w_in.shape, terms.w_out.shape[1]
    kind, tuning = _kind(e, terms), _tuning(e, terms)
    widths = {name: max(16, triton.next_power_of_2(size)) for name, size in zip("DHP", (d, h, o), strict=True)}
    if residual:
        widths["D"] = widths["P"] = max(widths["D"], widths["P"])
    elif d == 1:
        widths["D"] = 1
    # The interpreter multiplies bfloat16 by their bit patterns.
    interpreted = not isinstance(programs.forward_dense, triton.JITFunction)
    product = "float32" if kind == "bfloat16" and interpreted else kind
    options = {
        **widths, "TC": tuning.geometry.columns, "R": tuning.geometry.rows, "COLUMNS": len(COLUMNS),
        "NAME": activation, "RESIDUAL": residual, "DOT": getattr(tl, product),
        "SUM": tl.float64 if terms.dst.dtype == torch.float64 else tl.float32,
    }  # fmt: skip
    return options, tuning
