"""First features of nodes and edge types, from what the graph says of them."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from ..backends.blocks import Blocks
from ..ir import NodeKind

__all__ = ["PROPORTIONS", "NodeEncoder", "Tensors", "TypeEncoder", "proportions", "seen", "spread", "tensors", "waves"]

_FREQUENCIES = 8
_RATIOS = (0.3, 0.6, 1.2, 2.4)
PROPORTIONS = len(_RATIOS) + 2
"""Columns of `proportions`."""


def waves(x: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of numbers at 8 octaves, and the logarithm of their size: [..., C] to [..., 17 C]."""
    scale = 2.0 ** -torch.arange(_FREQUENCIES, device=x.device, dtype=torch.float64)
    angle = (math.pi / 2) * x.double()[..., None] * scale
    size = torch.log1p(x.double().abs())[..., None] * torch.sign(x.double())[..., None]
    return torch.cat([angle.sin(), angle.cos(), size], dim=-1).flatten(-2)


def spread(values: torch.Tensor, scales: int) -> torch.Tensor:
    """Parameter values as seen at several scales, [V] to [V, scales]: one logarithmic, the others bounded; 0 stays 0.

    Values from a thousandth to thousands differ in it. One scale: the values as they are.
    """
    if scales == 1:
        return values[:, None]
    octaves = 2.0 ** torch.arange(-2, scales - 3, device=values.device, dtype=values.dtype)
    return torch.cat([torch.asinh(values[:, None]), torch.tanh(values[:, None] * octaves)], dim=1)


class Tensors(NamedTuple):
    """The S parameter tensors of a graph or batch that have edges, and their P elements, end to end.

    size, start, graph: int64 [S]. tensor: int64 [P], which one an element is of. at: int64 [P], its number in
    `Blocks.values`.
    """

    size: torch.Tensor
    start: torch.Tensor
    graph: torch.Tensor
    tensor: torch.Tensor
    at: torch.Tensor

    def mean(self, elements: torch.Tensor) -> torch.Tensor:
        """Of each tensor, given something of each element; [P] to [S]."""
        return elements.new_zeros(len(self.size)).index_add(0, self.tensor, elements) / self.size


def tensors(graph: Blocks) -> Tensors:
    """See the class; worked out once for a layout, on the host."""
    found: Tensors = graph.layout.planned("tensors", lambda: _tensors(graph))
    return found


def _tensors(graph: Blocks) -> Tensors:
    rows = [(s.size, s.start, s.graph) for s in graph.slots if s.size]
    size, start, of_graph = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).t().contiguous()
    tensor = torch.repeat_interleave(torch.arange(len(size)), size)
    at = torch.arange(len(tensor)) + (start - (torch.cumsum(size, 0) - size))[tensor]
    return Tensors(*(t.to(graph.values.device) for t in (size, start, of_graph, tensor, at)))


def proportions(graph: Blocks) -> torch.Tensor:
    """What each row of values is in its tensor, [rows, 6]; 0 for what is no parameter.

    Bounded functions of its ratio to the root mean square of all elements, and logarithms of that and of their number.
    """
    found = tensors(graph)
    own = graph.values[found.at]
    size = (found.mean(own.square()) + 1e-12).sqrt()
    ratio = own / size[found.tensor]
    of_tensor = torch.stack([size.log(), found.size.to(size).log() / 4], dim=1)
    columns = torch.cat([torch.tanh(ratio[:, None] * r) for r in _RATIOS] + [of_tensor[found.tensor]], dim=1)
    rows = own.new_zeros(len(graph.values), PROPORTIONS).index_copy(0, found.at, columns)
    return torch.cat([rows, rows[graph.extra]]) if len(graph.extra) else rows


def seen(values: torch.Tensor, graph: Blocks, scales: int, relative: bool) -> torch.Tensor:
    """Values [rows] at several scales, see `spread`; if relative also their `proportions`, as many columns more."""
    found = spread(values, scales)
    return torch.cat([found, proportions(graph).to(found)], dim=1) if relative else found


class _Styles(nn.Module):
    """Bags of hashed words to vectors."""

    def __init__(self, width: int, buckets: int, words: float) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(buckets, width, mode="mean")
        self.bag.weight.data.mul_(words)

    def forward(self, graph: Blocks) -> torch.Tensor:
        starts = torch.cumsum(graph.style_lengths, 0) - graph.style_lengths
        return self.bag(graph.words % self.bag.num_embeddings, starts)


class NodeEncoder(nn.Module):
    """[N, width]: kind, depth, place if pinned, inputs and outputs it is of, what an output went through.

    words: standard deviation of what words and kinds say before training; with 0, what it never shows says nothing.
    """

    def __init__(self, width: int, buckets: int, words: float) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(NodeKind), width)
        self.kind.weight.data.mul_(words)
        self.styles = _Styles(width, buckets, words)
        self.numbers = nn.Linear(7 * (2 * _FREQUENCIES + 1), width)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """See the class."""
        numbers = waves(graph.nodes[:, 1:]).to(self.numbers.weight.dtype)
        style = self.styles(graph)[graph.node_style.long()]
        return self.kind(graph.nodes[:, 0].long()) + style + self.numbers(numbers)


class TypeEncoder(nn.Module):
    """[T, width]: kind, role, via, operand, place and slot of an edge. words: see `NodeEncoder`."""

    def __init__(self, width: int, buckets: int, words: float) -> None:
        super().__init__()
        self.styles = _Styles(width, buckets, words)
        self.numbers = nn.Linear(5 * (2 * _FREQUENCIES + 1), width)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """See the class."""
        numbers = waves(graph.types + 1).to(self.numbers.weight.dtype)
        return self.styles(graph)[graph.type_style.long()] + self.numbers(numbers)
