"""Fused edge update on the GPU: one program per tile of destinations and run of sources; no atomics.

Sums that several programs share go through arrays of partial sums, one block's at a time: one row for each destination
and run, and one for each source and tile of destinations.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl

from . import programs
from .layout import Block, Layout
from .terms import Terms

__all__ = ["TUNING", "Tuning", "backward", "forward"]

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class Tuning(NamedTuple):
    """destinations x sources: edges of a tile. run: tiles of sources that one program goes through at most."""

    destinations: int
    sources: int
    run: int
    warps: int
    stages: int


TUNING: dict[tuple[str, str], Tuning] = {
    ("forward", "bfloat16"): Tuning(8, 16, 16, 4, 3),
    ("forward", "float16"): Tuning(8, 16, 16, 4, 3),
    ("forward", "float32"): Tuning(4, 16, 16, 4, 2),
    ("forward", "float64"): Tuning(4, 16, 16, 4, 1),
    ("backward", "bfloat16"): Tuning(8, 16, 32, 4, 2),
    ("backward", "float16"): Tuning(8, 16, 32, 4, 2),
    ("backward", "float32"): Tuning(4, 16, 32, 4, 1),
    ("backward", "float64"): Tuning(4, 16, 32, 4, 1),
}
"""By direction and type of the edge state."""


class _Launch(NamedTuple):
    """How one block is cut: tiles of destinations, runs of sources, tiles of sources in each run."""

    block: Block
    tiles: int
    runs: int
    per_run: int
    ids: tuple[torch.Tensor, torch.Tensor, torch.Tensor]

    @property
    def grid(self) -> tuple[int, int]:
        return self.block.b * self.tiles, self.runs

    @property
    def numbers(self) -> tuple[int, ...]:
        """What both kernels take after the pointers, up to the scales."""
        t = self.block
        steps = (t.edge, t.value, *t.strides, t.type_b, t.type_k)
        return t.n, t.k, t.s, self.tiles, self.runs, self.per_run, *steps


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool, dtype: torch.dtype
) -> Outputs:
    """See `gmnc.kernels.edge_update`."""
    nodes, width = terms.dst.shape
    e, terms = e.contiguous(), Terms(*(t.contiguous() for t in terms))
    new = e.new_empty(layout.edges, terms.w_out.shape[1], dtype=dtype)
    into, out = (terms.dst.new_zeros(nodes, width) for _ in range(2))
    options, tuning = _options("forward", e, terms, activation, residual)
    for launch in _launches(layout, tuning):
        block = launch.block
        rows = terms.dst.new_empty(block.b * block.n, launch.runs, width)
        columns = terms.dst.new_empty(block.b, launch.tiles, block.k, block.s, width)
        programs.forward[launch.grid](e, *terms, *launch.ids, new, rows, columns, *launch.numbers, **options)
        dst, src, _ = launch.ids
        into.index_add_(0, dst, rows.sum(1), alpha=block.scale_in)
        out.index_add_(0, src, columns.sum((1, 3)).view(-1, width), alpha=block.scale_out)
    return new, into, out


def backward(
    grads: Outputs, e: torch.Tensor, terms: Terms, layout: Layout, activation: str, residual: bool
) -> tuple[torch.Tensor, Terms]:
    """Gradients of `e` and of the terms, for `grads` of the three outputs. The hidden layer is computed again."""
    width = terms.dst.shape[1]
    e, terms = e.contiguous(), Terms(*(t.contiguous() for t in terms))
    by_edge = e.new_empty(layout.edges, e.shape[1])
    own = Terms(*(torch.zeros_like(t) for t in terms))
    options, tuning = _options("backward", e, terms, activation, residual)
    for launch in _launches(layout, tuning):
        block = launch.block
        count = launch.grid[0] * launch.runs
        rows = terms.dst.new_empty(block.b * block.n, launch.runs, width)
        columns = terms.dst.new_empty(block.b, launch.tiles, block.k, block.s, width)
        by_in, by_out = (terms.dst.new_empty(count, *w.shape) for w in (terms.w_in, terms.w_out))
        programs.backward[launch.grid](
            e, *terms[:5], *launch.ids, *grads, by_edge, rows, columns, by_in, by_out, *launch.numbers,
            block.scale_in, block.scale_out, **options,
        )  # fmt: skip
        dst, src, _ = launch.ids
        own.dst.index_add_(0, dst, rows.sum(1))
        by_slot = columns.sum(1)
        own.src.index_add_(0, src, by_slot.sum(2).view(-1, width))
        own.type.index_add_(0, layout.ids(block)[2].reshape(-1), by_slot.view(-1, width))
        own.w_in.add_(by_in.sum(0))
        own.w_out.add_(by_out.sum(0))
    own.b_out.add_(grads[0].sum(0, dtype=own.b_out.dtype))
    return _by_row(by_edge, e, layout), own


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


def _launches(layout: Layout, tuning: Tuning) -> Iterator[_Launch]:
    for block in layout:
        if block.size:
            tiles, columns = -(-block.n // tuning.destinations), -(-block.k * block.s // tuning.sources)
            runs = -(-columns // tuning.run)
            dst, src, _ = layout.ids(block)
            ids = (dst.reshape(-1), src.reshape(-1), layout.types[block.type :])
            yield _Launch(block, tiles, runs, -(-columns // runs), ids)


def _options(
    direction: str, e: torch.Tensor, terms: Terms, activation: str, residual: bool
) -> tuple[dict[str, Any], Tuning]:
    """Widths, padded to what matrix products take, and types."""
    (d, h), o = terms.w_in.shape, terms.w_out.shape[1]
    kind = str(e.dtype if terms.dst.dtype != torch.float64 else torch.float64).removeprefix("torch.")
    tuning = TUNING[direction, kind]
    widths = {name: max(16, triton.next_power_of_2(size)) for name, size in zip("DHP", (d, h, o), strict=True)}
    if residual:
        widths["D"] = widths["P"] = max(widths["D"], widths["P"])
    # The interpreter multiplies bfloat16 by their bit patterns.
    product = "float32" if kind == "bfloat16" and triton.knobs.runtime.interpret else kind
    options = {
        "d": d, "h": h, "o": o, **widths, "TN": tuning.destinations, "TK": tuning.sources, "NAME": activation,
        "RESIDUAL": residual, "DOT": getattr(tl, product),
        "SUM": tl.float64 if terms.dst.dtype == torch.float64 else tl.float32,
        "num_warps": tuning.warps, "num_stages": tuning.stages,
    }  # fmt: skip
    return options, tuning
