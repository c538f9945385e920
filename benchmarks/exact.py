"""How far a layer's outputs and gradients are from float64, found in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, replace

import checkout  # noqa: F401
import torch

from gmnc.kernels import Block, Layout, Terms, edge_update

__all__ = ["error_of_gradients", "error_of_outputs", "pieces"]

_LIMIT = 1 << 21


def error_of_outputs(found: tuple[torch.Tensor, ...], e: torch.Tensor, terms: Terms, layout: Layout) -> float:
    """Largest difference of the outputs of an `edge_update`, each relative to its largest magnitude."""
    exact = Terms(*(t.detach().double() for t in terms))
    sums = [torch.zeros_like(exact.dst) for _ in range(2)]
    worst, largest = 0.0, 0.0
    with torch.no_grad():
        for rows, part in pieces(layout):
            new, *more = _update(e.detach()[rows].double(), exact, part)
            worst = max(worst, _most(found[0][rows].double() - new))
            largest = max(largest, _most(new))
            for total, value in zip(sums, more, strict=True):
                total += value
    pairs = zip(found[1:], sums, strict=True)
    return max(worst / largest, *(_most(one.double() - total) / _most(total) for one, total in pairs))


def error_of_gradients(
    found: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...], e: torch.Tensor, terms: Terms, layout: Layout
) -> float:
    """The same of the gradients of `e` and the terms, of the outputs times `weights`."""
    exact = Terms(*(t.detach().double().requires_grad_() for t in terms))
    sums = [torch.zeros_like(t) for t in exact]
    worst, largest = 0.0, 0.0
    by_node = [w.double() for w in weights[1:]]
    for rows, part in pieces(layout):
        state = e.detach()[rows].double().requires_grad_()
        own, *more = torch.autograd.grad(
            _update(state, exact, part), [state, *exact], [weights[0][rows].double(), *by_node]
        )
        worst = max(worst, _most(found[0][rows].double() - own))
        largest = max(largest, _most(own))
        for total, value in zip(sums, more, strict=True):
            total += value
    pairs = zip(found[1:], sums, strict=True)
    return max(worst / largest, *(_most(one.double() - total) / _most(total) for one, total in pairs))


def pieces(layout: Layout, limit: int = _LIMIT) -> Iterator[tuple[slice, Layout]]:
    """Rows of edges, and the layout of them alone; at most `limit` edges, or one row of destinations."""
    for block in layout:
        for part in _cut(block, limit):
            rows = slice(part.edge, part.edge + part.size)
            alone = replace(part, edge=0, value=0)
            table = torch.tensor([astuple(alone)[:-2]])
            yield rows, Layout(table, torch.ones(1, 2), layout.dst, layout.src, layout.types, part.size)


def _cut(block: Block, limit: int) -> Iterator[Block]:
    """A dense block along b, or along n where b is 1."""
    if not block.size:
        return
    axis, count = ("b", block.b) if block.b > 1 else ("n", block.n)
    each = block.size // count
    step = max(1, limit // each)
    for first in range(0, count, step):
        part = replace(block, **{axis: min(step, count - first)}, edge=block.edge + first * each)
        if axis == "n":
            yield replace(part, dst=block.dst + first)
        else:
            yield replace(
                part,
                dst=block.dst + first * block.n,
                src=block.src + first * block.k,
                type=block.type + first * block.type_b,
            )


def _update(e: torch.Tensor, terms: Terms, layout: Layout) -> tuple[torch.Tensor, ...]:
    return edge_update(e, terms, layout, activation="relu", residual=True, kernel="reference")


def _most(x: torch.Tensor) -> float:
    return float(x.detach().abs().max()) if x.numel() else 0.0
