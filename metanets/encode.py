"""Input features of values, nodes and edge types."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import nn

from ..backends.blocks import Blocks
from ..ir import NodeKind

__all__ = [
    "RELATIVE_FEATURES", "NodeEncoder", "ParameterTensors", "TypeEncoder", "finite", "fourier_features", "multiscale",
    "parameter_tensors", "relative_features", "value_features",
]  # fmt: skip

_FREQUENCIES = 8
_RATIOS = (0.3, 0.6, 1.2, 2.4)
_LARGE = 1e6
RELATIVE_FEATURES = len(_RATIOS) + 2
"""Columns of `relative_features`."""


def fourier_features(x: torch.Tensor) -> torch.Tensor:
    """Sines and cosines of numbers at 8 octaves, and signed logarithms of their magnitudes: [..., C] to [..., 17 C]."""
    scale = 2.0 ** -torch.arange(_FREQUENCIES, device=x.device, dtype=torch.float64)
    angle = (math.pi / 2) * x.double()[..., None] * scale
    size = torch.log1p(x.double().abs())[..., None] * torch.sign(x.double())[..., None]
    return torch.cat([angle.sin(), angle.cos(), size], dim=-1).flatten(-2)


def finite(values: torch.Tensor) -> torch.Tensor:
    """Values with infinities (thresholds of splits that all or no features pass) replaced by a million; NaN stays."""
    return torch.nan_to_num(values, float("nan"), _LARGE, -_LARGE)


def multiscale(values: torch.Tensor, count: int) -> torch.Tensor:
    """Odd functions of values at several scales, [V] to [V, count]: one logarithmic, the others bounded.

    They resolve values from a thousandth to thousands. A count of 1 gives the values themselves.
    """
    if count == 1:
        return values[:, None]
    octaves = 2.0 ** torch.arange(-2, count - 3, device=values.device, dtype=values.dtype)
    return torch.cat([torch.asinh(values[:, None]), torch.tanh(values[:, None] * octaves)], dim=1)


class ParameterTensors(NamedTuple):
    """The S parameter tensors of a graph or batch that have edges, and their P elements, end to end.

    Attributes:
        size: int64 [S], number of elements.
        start: int64 [S], index of the first element in `Blocks.values`.
        graph: int64 [S], the graph of each tensor.
        tensor: int64 [P], the tensor of each element.
        at: int64 [P], index of each element in `Blocks.values`.
    """

    size: torch.Tensor
    start: torch.Tensor
    graph: torch.Tensor
    tensor: torch.Tensor
    at: torch.Tensor

    def mean(self, elements: torch.Tensor) -> torch.Tensor:
        """Mean over the elements of each tensor; [P] to [S]."""
        return elements.new_zeros(len(self.size)).index_add(0, self.tensor, elements) / self.size


def parameter_tensors(graph: Blocks) -> ParameterTensors:
    """The parameter tensors of a graph or batch, cached with its layout."""
    found: ParameterTensors = graph.layout.cached("tensors", lambda: _tabulated(graph))
    return found


def _tabulated(graph: Blocks) -> ParameterTensors:
    rows = [(s.size, s.start, s.graph) for s in graph.segments if s.size]
    size, start, of_graph = torch.tensor(rows, dtype=torch.int64).reshape(-1, 3).t().contiguous()
    tensor = torch.repeat_interleave(torch.arange(len(size)), size)
    at = torch.arange(len(tensor)) + (start - (torch.cumsum(size, 0) - size))[tensor]
    return ParameterTensors(*(t.to(graph.values.device) for t in (size, start, of_graph, tensor, at)))


def relative_features(graph: Blocks) -> torch.Tensor:
    """Features of each value relative to its tensor, [rows, 6]; 0 for rows that are not of a parameter.

    Bounded functions of the ratio to the tensor's root mean square, and logarithms of that and of its size.
    """
    found = parameter_tensors(graph)
    own = finite(graph.values[found.at])
    size = (found.mean(own.square()) + 1e-12).sqrt()
    ratio = own / size[found.tensor]
    of_tensor = torch.stack([size.log(), found.size.to(size).log() / 4], dim=1)
    columns = torch.cat([torch.tanh(ratio[:, None] * r) for r in _RATIOS] + [of_tensor[found.tensor]], dim=1)
    rows = own.new_zeros(len(graph.values), RELATIVE_FEATURES).index_copy(0, found.at, columns)
    return torch.cat([rows, rows[graph.extra]]) if len(graph.extra) else rows


def value_features(values: torch.Tensor, graph: Blocks, count: int, relative: bool) -> torch.Tensor:
    """`multiscale` of values [rows] with `count` columns; if relative, `relative_features` as well."""
    found = multiscale(finite(values), count)
    return torch.cat([found, relative_features(graph).to(found)], dim=1) if relative else found


class _OpTokens(nn.Module):
    """Mean embedding of each bag of hashed operator tokens, [bags, width]."""

    def __init__(self, width: int, hash_buckets: int, std: float) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(hash_buckets, width, mode="mean")
        self.bag.weight.data.mul_(std)

    def forward(self, graph: Blocks) -> torch.Tensor:
        starts = torch.cumsum(graph.op_bag_sizes, 0) - graph.op_bag_sizes
        return self.bag(graph.op_tokens % self.bag.num_embeddings, starts)


class NodeEncoder(nn.Module):
    """Node features [N, width]: kind, depth, position if pinned, inputs and outputs, and the trace of an output."""

    def __init__(self, width: int, hash_buckets: int, op_embedding_std: float) -> None:
        super().__init__()
        self.kind = nn.Embedding(len(NodeKind), width)
        self.kind.weight.data.mul_(op_embedding_std)
        self.op_tokens = _OpTokens(width, hash_buckets, op_embedding_std)
        self.numbers = nn.Linear(7 * (2 * _FREQUENCIES + 1), width)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """[N, width]."""
        numbers = fourier_features(graph.nodes[:, 1:]).to(self.numbers.weight.dtype)
        trace = self.op_tokens(graph)[graph.node_op_bag.long()]
        return self.kind(graph.nodes[:, 0].long()) + trace + self.numbers(numbers)


class TypeEncoder(nn.Module):
    """Edge type features [T, width]: kind, role, via, operand, occurrence and slot."""

    def __init__(self, width: int, hash_buckets: int, op_embedding_std: float) -> None:
        super().__init__()
        self.op_tokens = _OpTokens(width, hash_buckets, op_embedding_std)
        self.numbers = nn.Linear(5 * (2 * _FREQUENCIES + 1), width)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """[T, width]."""
        numbers = fourier_features(graph.types + 1).to(self.numbers.weight.dtype)
        return self.op_tokens(graph)[graph.type_op_bag.long()] + self.numbers(numbers)
