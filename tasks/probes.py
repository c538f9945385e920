"""Probes (Kofinas et al. 2024): activations of each neuron at a few learnt points, as features of its node."""

from __future__ import annotations

import torch
from torch import nn

from .population import Population
from .siren import layer_outputs

__all__ = ["Probes"]


class Probes(nn.Module):
    """Maps values of networks [B, V] to node features [B N, width]; 0 for nodes that are no neuron of a layer.

    Args:
        population: Plain chains, see `Siren`.
        count: Number of learnt points, uniform in [-1, 1] at initialisation.
        width: Of the features.
    """

    nodes: torch.Tensor

    def __init__(self, population: Population, count: int, width: int) -> None:
        super().__init__()
        self.population = population
        weights = [segment for segment in population.segments if len(segment.shape) == 2]
        self.points = nn.Parameter(torch.rand(count, weights[0].shape[1]) * 2 - 1)
        self.read = nn.Linear(count, width)
        layout = population.like.layout
        written = {block.value: layout.dst[block.dst : block.dst + block.n] for block in layout}
        nodes = torch.cat([written[segment.start] for segment in weights]).long()
        self.register_buffer("nodes", nodes, persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[B, V] to [B N, width]."""
        seen = torch.cat(layer_outputs(self.population.tensors(values), self.points), dim=2)
        own = self.read(seen.transpose(1, 2))
        nodes = own.new_zeros(len(values), self.population.like.num_nodes, own.shape[2])
        return nodes.index_copy(1, self.nodes, own).flatten(0, 1)
