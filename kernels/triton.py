"""Fused edge update on the GPU: two launches over all blocks, and one or two per kind of sum; no atomics.

`gmnc.kernels.schedule` assigns edges to programs and partial sums to reductions.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from . import programs
from .layout import Layout
from .schedule import Geometry, Launch, Sums, pack, schedule, unpack
from .terms import Terms

__all__ = ["TUNING", "Tuning", "backward", "fits", "forward", "plan"]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]
Plan = tuple[list[torch.Tensor], list[int]]
Scaling = tuple[torch.Tensor, torch.Tensor, int]
"""Scaling of partial sums: the block of each, the scales of all blocks, and the column of these to use."""


class Tuning(NamedTuple):
    """Launch parameters.

    Attributes:
        geometry: Sizes of programs.
        forward: (warps, stages) of a dense program in the forward pass.
        backward: (warps, stages) in the backward pass.
    """

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
"""Key: dtype of the products (that of the edge states, or float64 if the terms are) and the largest width of states and
hidden layers. Wider matrices do not fit into shared memory. `benchmarks/tune.py` finds a row."""
_ADDED = 32
"""Partial sums that a program adds at a time."""


def plan(e: torch.Tensor, terms: Terms, layout: Layout) -> Plan:
    """Tables of a layout on the device, then those of programs and sums; the first number is 1 if sums are scaled."""
    geometry = _tuning(e, terms).geometry
    sizes = len(terms.dst), len(terms.type)
    tensors, parts = layout.cached(("triton", geometry, sizes), lambda: pack(schedule(layout, *sizes, geometry)))
    return [*layout.on_device, *tensors], [int(layout.scaled), *parts]


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, plan: Plan, activation: str, residual: bool, dtype: torch.dtype
) -> Outputs:
    """Compute `gmnc.kernels.edge_update`."""
    e, terms = e.contiguous(), Terms(*(t.contiguous() for t in terms))
    new = e.new_empty(layout.edges, terms.w_out.shape[1], dtype=dtype)
    in_sum, out_sum = torch.empty_like(terms.dst), torch.empty_like(terms.dst)
    options, tuning = _options(e, terms, activation, residual)
    (blocks, scale, *tables), (scaled, *counts) = plan
    for number, launch in enumerate(unpack(tables, counts)):
        parts = _parts(launch, terms)
        for run, tasks, (warps, stages) in _programs("forward", launch, tuning):
            run[(len(tasks),)](
                e, *terms, layout.dst, layout.src, layout.types, new, parts, tasks, blocks, *_sizes(terms),
                **options, num_warps=warps, num_stages=stages,
            )  # fmt: skip
        for side, (sums, result) in enumerate(((launch.dst, in_sum), (launch.src, out_sum))):
            _add_up(parts, sums, result, number > 0, (launch.block, scale, side) if scaled else None)
    return new, in_sum, out_sum


def backward(
    grads: Outputs, e: torch.Tensor, terms: Terms, layout: Layout, plan: Plan, activation: str, residual: bool,
    need_grad_e: bool,
) -> tuple[torch.Tensor, Terms]:  # fmt: skip
    """Gradients of `e` (if `need_grad_e`) and of the terms; recomputes the hidden layer."""
    e, terms = e.contiguous(), Terms(*(t.contiguous() for t in terms))
    by_edge = e.new_empty(layout.edges, e.shape[1])
    ends = Terms(*(torch.empty_like(t) for t in terms[:3]), *(torch.zeros_like(t) for t in terms[3:]))
    options, tuning = _options(e, terms, activation, residual)
    kept = options["DOT"] if tuning.geometry.columns * options["H"] > 64 * 64 else options["SUM"]
    (blocks, scale, *tables), (_, *counts) = plan
    for number, launch in enumerate(unpack(tables, counts)):
        parts = _parts(launch, terms)
        for run, tasks, (warps, stages) in _programs("backward", launch, tuning):
            matrices = [parts.new_empty(len(tasks), *w.shape) for w in terms[3:]]
            run[(len(tasks),)](
                e, *terms[:5], layout.dst, layout.src, layout.types, *grads, by_edge, parts, *matrices, tasks, blocks,
                scale, *_sizes(terms), **options, KEPT=kept, num_warps=warps, num_stages=stages,
            )  # fmt: skip
            for total, each in zip(ends[3:], matrices, strict=True):
                total.add_(each.sum(0))
        for sums, result in ((launch.dst, ends.dst), (launch.src, ends.src), (launch.type, ends.type)):
            _add_up(parts, sums, result, number > 0, None)
    return (_by_row(by_edge, e, layout) if need_grad_e else by_edge), ends


def _programs(direction: str, launch: Launch, tuning: Tuning) -> list[tuple[Any, torch.Tensor, tuple[int, int]]]:
    """Programs with at least one task: (program, tasks, (warps, stages))."""
    found = (
        (getattr(programs, f"{direction}_dense"), launch.dense, getattr(tuning, direction)),
        (getattr(programs, f"{direction}_flat"), launch.flat, (getattr(tuning, direction)[0], 1)),
    )
    return [run for run in found if len(run[1])]


def _add_up(parts: torch.Tensor, sums: Sums, result: torch.Tensor, add: bool, scaling: Scaling | None) -> None:
    """Reduce partial sums into `result`, in one pass or two."""
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
    """Gradients of the rows that edges read, from one per edge."""
    if layout.reads_dense and len(e) == layout.edges:
        return by_edge
    grad, width = torch.zeros_like(e), e.shape[1]
    for block in layout:
        if not block.size:
            continue
        value = by_edge[block.edge : block.edge + block.size].view(*block.shape, width)
        repeated = [axis for axis, step in enumerate(block.strides) if step == 0]
        target = grad.as_strided((*block.shape, width), (*(t * width for t in block.strides), 1), block.value * width)
        for axis in repeated:
            target, value = target.narrow(axis, 0, 1), value.sum(axis, keepdim=True)
        target += value
    return grad


def _parts(launch: Launch, terms: Terms) -> torch.Tensor:
    kind = torch.float64 if terms.dst.dtype == torch.float64 else torch.float32
    return terms.dst.new_empty(launch.parts, terms.dst.shape[1], dtype=kind)


def _summed(parts: torch.Tensor) -> tl.dtype:
    return tl.float64 if parts.dtype == torch.float64 else tl.float32


def _sizes(terms: Terms) -> tuple[int, int, int]:
    return (*terms.w_in.shape, terms.w_out.shape[1])


def _kind(e: torch.Tensor, terms: Terms) -> str:
    return str(e.dtype if terms.dst.dtype != torch.float64 else torch.float64).removeprefix("torch.")


def fits(e: torch.Tensor, terms: Terms) -> bool:
    """Whether `TUNING` has a row for these types and widths."""
    return any(kind == _kind(e, terms) and max(_sizes(terms)) <= width for kind, width in TUNING)


def _tuning(e: torch.Tensor, terms: Terms) -> Tuning:
    """The row of the smallest sufficient width; raises `ValueError` if there is none."""
    kind, widest = _kind(e, terms), max(_sizes(terms))
    widths = [width for name, width in TUNING if name == kind and width >= widest]
    if not widths:
        raise ValueError(f"the triton kernel has no {kind} program for states of width {widest}: choose auto or flat")
    return TUNING[kind, min(widths)]


def _options(e: torch.Tensor, terms: Terms, activation: str, residual: bool) -> tuple[dict[str, Any], Tuning]:
    """Widths, padded to the sizes of tensor-core products (a width of 1 needs none), and types."""
    (d, h), o = terms.w_in.shape, terms.w_out.shape[1]
    kind, tuning = _kind(e, terms), _tuning(e, terms)
    widths = {name: max(16, triton.next_power_of_2(size)) for name, size in zip("DHP", (d, h, o), strict=True)}
    if residual:
        widths["D"] = widths["P"] = max(widths["D"], widths["P"])
    elif d == 1:
        widths["D"] = 1
    # The interpreter multiplies the bit patterns of bfloat16.
    interpreted = not isinstance(programs.forward_dense, triton.JITFunction)
    product = "float32" if kind == "bfloat16" and interpreted else kind
    options = {
        **widths, "TC": tuning.geometry.columns, "R": tuning.geometry.rows,
        "NAME": activation, "RESIDUAL": residual, "DOT": getattr(tl, product),
        "SUM": tl.float64 if terms.dst.dtype == torch.float64 else tl.float32,
    }  # fmt: skip
    return options, tuning
