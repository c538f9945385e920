"""How far a layer's outputs and gradients are from float64, found in pieces of bounded size."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import inf

import checkout  # noqa: F401
import torch

from gmnc.kernels import Layout, Terms, edge_update

__all__ = ["error_of_gradients", "error_of_outputs", "pieces"]

_LIMIT = 1 << 21


def error_of_outputs(found: tuple[torch.Tensor, ...], e: torch.Tensor, terms: Terms, layout: Layout) -> float:
    """Of the outputs of an `edge_update`: the largest difference, relative to the largest entry."""
    exact = Terms(*(t.detach().double() for t in terms))

    def of_piece(rows: slice, part: Layout) -> tuple[torch.Tensor, ...]:
        with torch.no_grad():
            return _update(e.detach()[rows].double(), exact, part)

    return _error(found, of_piece, layout, inf)


def error_of_gradients(
    found: tuple[torch.Tensor, ...], weights: tuple[torch.Tensor, ...], e: torch.Tensor, terms: Terms, layout: Layout
) -> float:
    """Of the gradients of `e` and the terms, of the outputs times `weights`: the root mean square of the difference.

    Not the largest: a slope of relu is 0 or 1, and where its argument is near 0 rounding decides.
    """
    exact = Terms(*(t.detach().double().requires_grad_() for t in terms))
    by_node = [w.double() for w in weights[1:]]

    def of_piece(rows: slice, part: Layout) -> tuple[torch.Tensor, ...]:
        state = e.detach()[rows].double().requires_grad_()
        outputs = _update(state, exact, part)
        return torch.autograd.grad(outputs, [state, *exact], [weights[0][rows].double(), *by_node])

    return _error(found, of_piece, layout, 2)


def _error(
    found: tuple[torch.Tensor, ...],
    of_piece: Callable[[slice, Layout], tuple[torch.Tensor, ...]],
    layout: Layout,
    order: float,
) -> float:
    """Norm of the difference relative to that of what is exact, the largest of all tensors.

    The first tensor is one row for each edge, the others are sums over edges. order: of the norm; inf: the largest.
    """
    rows_apart, rows_size = [], []
    sums = [torch.zeros_like(t, dtype=torch.float64) for t in found[1:]]
    for rows, part in pieces(layout):
        own, *more = of_piece(rows, part)
        rows_apart.append(_norm(found[0].detach()[rows].double() - own, order))
        rows_size.append(_norm(own, order))
        for total, value in zip(sums, more, strict=True):
            total += value
    ratios = [_norm(torch.stack(rows_apart), order) / _norm(torch.stack(rows_size), order)]
    for one, total in zip(found[1:], sums, strict=True):
        ratios.append(_norm(one.detach().double() - total, order) / _norm(total, order))
    return float(torch.stack(ratios).max())


def _norm(a: torch.Tensor, order: float) -> torch.Tensor:
    return torch.linalg.vector_norm(a.flatten(), order)


def pieces(layout: Layout, limit: int = _LIMIT) -> Iterator[tuple[slice, Layout]]:
    """Rows of edges, and the layout of them alone, which reads them from row 0 on."""
    for piece in layout.chunks(limit):
        yield slice(piece.start, piece.start + piece.layout.edges), piece.layout.dense


def _update(e: torch.Tensor, terms: Terms, layout: Layout) -> tuple[torch.Tensor, ...]:
    return edge_update(e, terms, layout, activation="relu", residual=True, kernel="reference")
