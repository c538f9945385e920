"""First features of nodes and edge types, from what the graph says of them."""

from __future__ import annotations

import math

import torch
from torch import nn

from ..backends.blocks import Blocks
from ..ir import NODE_KINDS

__all__ = ["NodeEncoder", "TypeEncoder", "spread", "waves"]

_FREQUENCIES = 8


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


class _Styles(nn.Module):
    """Bags of hashed words to vectors."""

    def __init__(self, width: int, buckets: int) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(buckets, width, mode="mean")

    def forward(self, graph: Blocks) -> torch.Tensor:
        starts = torch.cumsum(graph.style_lengths, 0) - graph.style_lengths
        return self.bag(graph.words % self.bag.num_embeddings, starts)


class NodeEncoder(nn.Module):
    """[N, width]: kind, depth, place if pinned, inputs and outputs it is of, what an output went through."""

    def __init__(self, width: int, buckets: int) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(NODE_KINDS), width)
        self.styles = _Styles(width, buckets)
        self.numbers = nn.Linear(7 * (2 * _FREQUENCIES + 1), width)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """See the class."""
        numbers = waves(graph.nodes[:, 1:]).to(self.numbers.weight.dtype)
        style = self.styles(graph)[graph.node_style.long()]
        return self.kind(graph.nodes[:, 0].long()) + style + self.numbers(numbers)


class TypeEncoder(nn.Module):
    """[T, width]: kind, role, via, operand, place and slot of an edge."""

    def __init__(self, width: int, buckets: int) -> None:
        super().__init__()
        self.styles = _Styles(width, buckets)
        self.numbers = nn.Linear(5 * (2 * _FREQUENCIES + 1), width)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """See the class."""
        numbers = waves(graph.types + 1).to(self.numbers.weight.dtype)
        return self.styles(graph)[graph.type_style.long()] + self.numbers(numbers)
