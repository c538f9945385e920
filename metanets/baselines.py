"""Baselines: metanetworks that read the parameters and little or nothing of the graph."""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import torch
from torch import nn
from torch.nn import functional as F

from ..backends.blocks import Blocks
from ..ir import GmncError
from .encode import RELATIVE_FEATURES, NodeEncoder, TypeEncoder, finite, parameter_tensors, value_features
from .layer import mlp

__all__ = ["DMC", "DeepSets", "StatNN", "statistics"]

_QUANTILES = (0.0, 0.25, 0.5, 0.75, 1.0)
_NUMBERS = 8


class DeepSets(nn.Module):
    """The parameters as a set (Zaheer et al. 2017), each with the features of its edge and its two ends.

    One row per edge, and layers x + f(A x + B mean(x)) with the mean over all parameters of the network. Heads and
    encoders of values, nodes and types are those of `GMN` in the experiments; there are no messages.

    Args:
        out_channels: Width of the output.
        head: See `GMNConfig`.
        hidden_channels: Width of all layers.
        num_layers: Number of layers.
        value_features: Features per parameter value.
        relative: Add features of a value relative to its tensor.
        dropout: Probability, in the last MLP.
        act: Activation of the last MLP.
        hash_buckets: Rows of the embedding tables of operator tokens.
        op_embedding_std: Standard deviation of those embeddings at initialisation.
    """

    def __init__(
        self,
        out_channels: int = 1,
        *,
        head: str = "invariant",
        hidden_channels: int = 64,
        num_layers: int = 3,
        value_features: int = 10,
        relative: bool = True,
        dropout: float = 0.0,
        act: str = "silu",
        hash_buckets: int = 4096,
        op_embedding_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.head, self.value_features, self.relative = head, value_features, relative
        width = hidden_channels
        self.encode_nodes = NodeEncoder(width, hash_buckets, op_embedding_std)
        self.encode_types = TypeEncoder(width, hash_buckets, op_embedding_std)
        self.of_value = nn.Linear(value_features + RELATIVE_FEATURES * relative, width)
        self.of_dst, self.of_src = (nn.Linear(width, width, bias=False) for _ in range(2))
        self.own = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.shared = nn.ModuleList(nn.Linear(width, width, bias=False) for _ in range(num_layers))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(num_layers))
        self.last = mlp(width, width, out_channels, dropout, act)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """Read one graph or a batch.

        Args:
            graph: The networks, of any architecture.

        Returns:
            [G, out_channels]; with the equivariant head [E, out_channels], 0 for edges without a parameter.
        """
        at = _parameter_edges(graph)
        nodes, types = self.encode_nodes(graph), self.encode_types(graph)
        rows = graph.rows()[:, 0].to(nodes.dtype)
        values = self.of_value(value_features(rows, graph, self.value_features, self.relative))
        x = values.index_select(0, at.rows) + types.index_select(0, at.types)
        x = x + self.of_dst(nodes).index_select(0, at.dst) + self.of_src(nodes).index_select(0, at.src)
        for own, shared, norm in zip(self.own, self.shared, self.norms, strict=True):
            y = norm(x)
            mean = _mean(y, at.graph, graph.num_graphs)
            x = x + F.silu(own(y) + shared(mean).index_select(0, at.graph))
        if self.head == "invariant":
            return self.last(_mean(x, at.graph, graph.num_graphs))
        found = self.last(x)
        return found.new_zeros(graph.num_edges, found.shape[1]).index_copy(0, at.edge, found)


class StatNN(nn.Module):
    """Statistics of each parameter tensor: mean, variance and quantiles (Unterthiner et al. 2020), through an MLP.

    Layers of different architectures do not correspond, so the MLP gets the statistics twice: side by side in the order
    of the graph, up to `max_tensors` of them, and as the mean of an MLP of each together with its role and depth.

    Args:
        out_channels: Width of the output.
        hidden_channels: Width of all layers.
        max_tensors: Number of parameter tensors that are read side by side; further ones are in the mean only.
        dropout: Probability, in the MLPs.
        act: Activation of the MLPs.
        hash_buckets: See `GMNConfig`.
        op_embedding_std: See `GMNConfig`.
    """

    def __init__(
        self,
        out_channels: int = 1,
        *,
        hidden_channels: int = 128,
        max_tensors: int = 32,
        dropout: float = 0.0,
        act: str = "silu",
        hash_buckets: int = 4096,
        op_embedding_std: float = 0.0,
    ) -> None:
        super().__init__()
        self.max_tensors, width = max_tensors, hidden_channels
        self.encode_nodes = NodeEncoder(width, hash_buckets, op_embedding_std)
        self.encode_types = TypeEncoder(width, hash_buckets, op_embedding_std)
        self.of_tensor, self.of_all = nn.Linear(_NUMBERS, width), nn.Linear(max_tensors * _NUMBERS, width)
        self.each = mlp(width, width, width, dropout, act)
        self.norm = nn.LayerNorm(2 * width)
        self.last = nn.Sequential(mlp(2 * width, width, width, dropout, act), nn.SiLU())
        self.out = nn.Linear(width, out_channels)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """Read one graph or a batch.

        Args:
            graph: The networks, of any architecture.

        Returns:
            [G, out_channels].
        """
        kind = self.of_tensor.weight.dtype
        numbers, of_graph, position = statistics(graph)
        numbers = (torch.log1p(10 * numbers.abs()) * torch.sign(numbers)).to(kind)
        dst, types = _first_edges(graph)
        about = self.encode_types(graph)[types] + self.encode_nodes(graph)[dst]
        each = _mean(self.each(F.silu(self.of_tensor(numbers) + about)), of_graph, graph.num_graphs)
        side_by_side = numbers.new_zeros(graph.num_graphs, self.max_tensors, _NUMBERS)
        kept = position < self.max_tensors
        side_by_side[of_graph[kept], position[kept]] = numbers[kept]
        return self.out(self.last(self.norm(torch.cat([each, self.of_all(side_by_side.flatten(1))], dim=1))))


class DMC(nn.Module):
    """A one-dimensional CNN on the concatenated parameters (Eilertsen et al. 2020), cut or padded to `length`.

    Args:
        out_channels: Width of the output.
        length: Number of parameters that are read.
        hidden_channels: Channels of the first stage; each further one has twice as many.
        num_stages: Number of stages: two convolutions and a pooling of 4.
        dropout: Probability, in the last MLP.

    Raises:
        GmncError: `length` cannot be divided by 4 once per stage.
    """

    def __init__(
        self,
        out_channels: int = 1,
        *,
        length: int = 8192,
        hidden_channels: int = 16,
        num_stages: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if length % 4**num_stages:
            raise GmncError(f"DMC: a length of {length} is not divisible by 4 in each of {num_stages} stages")
        self.length = length
        channels = [1, *(hidden_channels * 2**i for i in range(num_stages))]
        parts: list[nn.Module] = []
        for before, after in pairwise(channels):
            for inputs in (before, after):
                conv = nn.Conv2d(inputs, after, (1, 5), padding=(0, 2), bias=False)
                # Conv2d, as Conv1d has no channels-last format, which halves the time on a CPU.
                conv.weight.data = conv.weight.data.contiguous(memory_format=torch.channels_last)
                parts += [conv, nn.BatchNorm2d(after), nn.ReLU(inplace=True)]
            parts.append(nn.MaxPool2d((1, 4)))
        self.body = nn.Sequential(*parts, nn.AdaptiveAvgPool2d((1, 8)), nn.Flatten())
        head = mlp(8 * channels[-1], 256, 256, dropout, "relu")
        self.last = nn.Sequential(head, nn.ReLU(), nn.Linear(256, out_channels))

    def forward(self, graph: Blocks) -> torch.Tensor:
        """Read one graph or a batch.

        Args:
            graph: The networks, of any architecture.

        Returns:
            [G, out_channels].
        """
        rows = graph.values.new_zeros(graph.num_graphs, self.length)
        filled = [0] * graph.num_graphs
        for segment in graph.segments:
            at = filled[segment.graph]
            count = min(segment.size, self.length - at)
            rows[segment.graph, at : at + count] = graph.values[segment.start : segment.start + count]
            filled[segment.graph] += count
        return self.last(self.body(rows[:, None, None].to(next(self.parameters()).dtype)))


class _Edges(NamedTuple):
    """The P edges with a parameter: number, ends, type, row of the values, and graph; int [P] each."""

    edge: torch.Tensor
    dst: torch.Tensor
    src: torch.Tensor
    types: torch.Tensor
    rows: torch.Tensor
    graph: torch.Tensor


def _parameter_edges(graph: Blocks) -> _Edges:
    dst, src, types, rows, block = graph.layout.per_edge
    edge = graph.parameter_block.to(dst.device)[block].nonzero()[:, 0]
    of_graph = graph.block_graph.to(dst.device)[block[edge]]
    return _Edges(edge, dst[edge], src[edge], types[edge], rows[edge], of_graph)


def _mean(rows: torch.Tensor, of_graph: torch.Tensor, graphs: int) -> torch.Tensor:
    """Mean of the rows of each graph, [G, C]."""
    total = rows.new_zeros(graphs, rows.shape[1]).index_add(0, of_graph, rows)
    return total / torch.bincount(of_graph, minlength=graphs).clamp(min=1)[:, None]


def statistics(graph: Blocks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Statistics of each of the S parameter tensors that have edges.

    Args:
        graph: One graph or a batch.

    Returns:
        Statistics float64 [S, 8]: mean, standard deviation, the quantiles 0, 1/4, 1/2, 3/4 and 1, and the logarithm of
        the size; the graph of each tensor, int64 [S]; its position in that graph, int64 [S].
    """
    found = parameter_tensors(graph)
    size, own = found.size, finite(graph.values.detach().double())[found.at]
    mean = found.mean(own)
    deviation = found.mean((own - mean[found.tensor]).square()).sqrt()
    order = torch.argsort(own, stable=True)
    ranked = own[order[torch.argsort(found.tensor[order], stable=True)]]
    columns, first = [mean, deviation], torch.cumsum(size, 0) - size
    for q in _QUANTILES:
        at = first + q * (size - 1).double()
        below = at.floor().long()
        above = torch.minimum(below + 1, first + size - 1)
        columns.append(torch.lerp(ranked[below], ranked[above], at - below))
    numbers = torch.stack([*columns, size.double().log()], dim=1)
    if not len(size):
        return numbers, found.graph, found.graph
    count = torch.bincount(found.graph, minlength=graph.num_graphs)
    before = (torch.cumsum(count, 0) - count)[found.graph]
    return numbers, found.graph, torch.arange(len(size), device=size.device) - before


def _first_edges(graph: Blocks) -> tuple[torch.Tensor, torch.Tensor]:
    """Destination and type of the first edge of each parameter tensor; int64 [S] each."""
    starts = parameter_tensors(graph).start
    dst, _, types, _, _ = graph.layout.per_edge
    at = _parameter_edges(graph)
    row = at.rows.clone()
    extra = row >= len(graph.values)
    row[extra] = graph.extra[row[extra] - len(graph.values)]
    segment = torch.searchsorted(starts, row, right=True) - 1
    edge = torch.full((len(starts),), len(dst), dtype=torch.int64, device=row.device)
    edge = edge.scatter_reduce(0, segment, at.edge, "amin")
    return dst[edge], types[edge]
