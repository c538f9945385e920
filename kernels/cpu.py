"""Fused edge update on the CPU, in tiles of edges that fit into cache; no other array is as long as the edges."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from .activations import ACTIVATIONS, DERIVATIVES
from .layout import Block, Layout
from .terms import Terms

__all__ = ["backward", "forward"]

TILE = 2048
"""Edges of a tile: half a megabyte at 64 float32 features, which stays in the L2 cache."""

Outputs = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class _Tile(NamedTuple):
    """A box of a block's edges whose rows are contiguous.

    Attributes:
        b: Range along B.
        n: Range along N.
        k: Range along K.
        s: Range along S.
        shape: Lengths of these.
        row: Row of its first edge.
    """

    b: slice
    n: slice
    k: slice
    s: slice
    shape: tuple[int, int, int, int]
    row: int

    @property
    def size(self) -> int:
        b, n, k, s = self.shape
        return b * n * k * s


def forward(
    e: torch.Tensor, terms: Terms, layout: Layout, plan: object, activation: str, residual: bool, dtype: torch.dtype
) -> Outputs:
    """Compute `gmnc.kernels.edge_update`."""
    e, (nodes, width) = e.contiguous(), terms.dst.shape
    new = e.new_empty(layout.edges, terms.w_out.shape[1], dtype=dtype)
    in_sum, out_sum = (terms.dst.new_zeros(nodes, width) for _ in range(2))
    function = ACTIVATIONS[activation]
    buffer = terms.dst.new_empty(TILE, width)
    for block in layout:
        dst, src, types = layout.ids(block)
        for columns, tiles in _tiles(block):
            by_source = _by_source(terms, src, types, columns)
            sums = torch.zeros_like(by_source)
            for tile in tiles:
                state = _state(e, block, tile).to(buffer.dtype)
                hidden = function(_argument(state, terms, dst[tile.b, tile.n], by_source, tile, buffer))
                rows = new[tile.row : tile.row + tile.size]
                rows.copy_(torch.addmm(terms.b_out, hidden.view(-1, width), terms.w_out))
                if residual:
                    rows.add_(state)
                _add_rows(in_sum, dst[tile.b, tile.n], hidden.sum((2, 3)), block.scale_in)
                sums += hidden.sum(1)
            _add_rows(out_sum, src[columns.b, columns.k], sums.sum(2), block.scale_out)
    return new, in_sum, out_sum


def backward(
    grads: Outputs, e: torch.Tensor, terms: Terms, layout: Layout, plan: object, activation: str, residual: bool,
    need_grad_e: bool,
) -> tuple[torch.Tensor, Terms]:  # fmt: skip
    """Gradients of `e` (if `need_grad_e`) and of the terms; recomputes the hidden layer."""
    grad_new, grad_in, grad_out = grads
    e = e.contiguous()
    grad_e = torch.zeros_like(e)
    own = Terms(*(torch.zeros_like(t) for t in terms))
    function, slope = ACTIVATIONS[activation], DERIVATIVES[activation]
    width = terms.dst.shape[1]
    buffer = terms.dst.new_empty(TILE, width)
    for block in layout:
        dst, src, types = layout.ids(block)
        for columns, tiles in _tiles(block):
            by_source = _by_source(terms, src, types, columns)
            from_out = block.scale_out * grad_out[src[columns.b, columns.k]][:, None, :, None]
            sums = torch.zeros_like(by_source)
            for tile in tiles:
                state = _state(e, block, tile).to(buffer.dtype)
                nodes = dst[tile.b, tile.n]
                argument = _argument(state, terms, nodes, by_source, tile, buffer)
                grad_row = grad_new[tile.row : tile.row + tile.size].to(buffer.dtype)
                hidden = function(argument).view(-1, width)
                own.w_out.addmm_(hidden.t(), grad_row)
                own.b_out.add_(grad_row.sum(0))
                grad = torch.mm(grad_row, terms.w_out.t()).view(*tile.shape, width)
                grad += block.scale_in * grad_in[nodes][:, :, None, None]
                grad += from_out
                grad *= slope(argument)
                flat = grad.view(-1, width)
                own.w_in.addmm_(state.t(), flat)
                if need_grad_e:
                    grad_state = torch.mm(flat, terms.w_in.t())
                    if residual:
                        grad_state += grad_row
                    _add_state(grad_e, block, tile, grad_state)
                _add_rows(own.dst, nodes, grad.sum((2, 3)))
                sums += grad.sum(1)
            _add_rows(own.src, src[columns.b, columns.k], sums.sum(2))
            _add_rows(own.type, types[columns.b, columns.k, columns.s], sums)
    return grad_e, own


def _tiles(block: Block) -> Iterator[tuple[_Tile, Iterator[_Tile]]]:
    """Tiles of a block in groups that share their sources: (columns of the group, its tiles)."""
    b, n, k, s = block.shape
    if not block.size:
        return
    many = max(1, TILE // (n * k * s))
    columns = max(1, min(k, TILE // s))
    slots = min(s, TILE)
    for b0 in range(0, b, many):
        for k0 in range(0, k, columns):
            for s0 in range(0, s, slots):
                box = (slice(b0, min(b0 + many, b)), slice(k0, min(k0 + columns, k)), slice(s0, min(s0 + slots, s)))
                yield _box(block, box[0], slice(0, 1), *box[1:]), _column(block, *box)


def _column(block: Block, b: slice, k: slice, s: slice) -> Iterator[_Tile]:
    whole = k.stop - k.start == block.k and s.stop - s.start == block.s
    rows = max(1, TILE // (block.k * block.s)) if whole else 1
    for n0 in range(0, block.n, rows):
        yield _box(block, b, slice(n0, min(n0 + rows, block.n)), k, s)


def _box(block: Block, b: slice, n: slice, k: slice, s: slice) -> _Tile:
    starts = [part.start for part in (b, n, k, s)]
    row = ((starts[0] * block.n + starts[1]) * block.k + starts[2]) * block.s + starts[3]
    shape = (b.stop - b.start, n.stop - n.start, k.stop - k.start, s.stop - s.start)
    return _Tile(b, n, k, s, shape, block.edge + row)


def _by_source(terms: Terms, src: torch.Tensor, types: torch.Tensor, columns: _Tile) -> torch.Tensor:
    """Terms of sources and types, [b, k, s, H]."""
    b, k, s = columns.b, columns.k, columns.s
    return terms.src[src[b, k]][:, :, None] + terms.type[types[b, k, s]]


def _argument(
    state: torch.Tensor, terms: Terms, dst: torch.Tensor, by_source: torch.Tensor, tile: _Tile, buffer: torch.Tensor
) -> torch.Tensor:
    """Argument of the activation, [b, n, k, s, H]."""
    argument = torch.mm(state, terms.w_in, out=buffer[: tile.size]).view(*tile.shape, -1)
    argument += by_source[:, None]
    argument += terms.dst[dst][:, :, None, None]
    return argument


def _state(e: torch.Tensor, block: Block, tile: _Tile) -> torch.Tensor:
    """The edge states of a tile, [edges, D]; a view where the rows are contiguous."""
    return _strided(e, block, tile).reshape(-1, e.shape[1])


def _strided(e: torch.Tensor, block: Block, tile: _Tile) -> torch.Tensor:
    width = e.shape[1]
    start = block.value + sum(
        step * part.start for step, part in zip(block.strides, (tile.b, tile.n, tile.k, tile.s), strict=True)
    )
    return e[start:].as_strided((*tile.shape, width), (*(step * width for step in block.strides), 1))


def _add_state(grad: torch.Tensor, block: Block, tile: _Tile, value: torch.Tensor) -> None:
    """Add the gradient of a tile's states to that of the rows it read."""
    value = value.view(*tile.shape, -1).to(grad.dtype)
    repeated = [axis for axis, step in enumerate(block.strides) if step == 0]
    if repeated:
        value = value.sum(repeated, keepdim=True)
    target = _strided(grad, block, tile)
    for axis in repeated:
        target = target.narrow(axis, 0, 1)
    target += value


def _add_rows(total: torch.Tensor, ids: torch.Tensor, value: torch.Tensor, scale: float = 1.0) -> None:
    total.index_add_(0, ids.reshape(-1), value.reshape(-1, value.shape[-1]), alpha=scale)
