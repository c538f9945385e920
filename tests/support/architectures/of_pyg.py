"""Architectures of `torch_geometric`: two layers of each convolution, on a small graph whose edges are an input."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from .common import Architecture, Made

__all__ = ["ARCHITECTURES"]

FEATURES, OUTPUTS = 4, 3
EDGES = [[0, 1, 2, 3, 4, 5, 1, 3], [1, 2, 3, 4, 5, 0, 4, 0]]
Layer = Callable[[Any], nn.Module]


class TwoLayers(nn.Module):
    """Two convolutions with Relu between them; `more` are what they take behind the edges."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor, edges: Tensor, *more: Tensor) -> Tensor:
        return self.second(torch.relu(self.first(x, edges, *more)), edges, *more)


def layers(first: Layer, second: Layer, types: int = 0, attributes: int = 0) -> Architecture:
    """Two layers.

    Args:
        first: Makes the first convolution from `torch_geometric.nn`.
        second: Makes the second.
        types: How many types of edges there are, if the layers take one per edge.
        attributes: How many numbers they take per edge.
    """

    def make() -> Made:
        import torch_geometric.nn

        net = TwoLayers(first(torch_geometric.nn), second(torch_geometric.nn))
        edges = torch.tensor(EDGES)
        more = (torch.arange(edges.shape[1]) % types,) if types else ()
        more += (torch.randn(edges.shape[1], attributes),) if attributes else ()
        return net, (torch.randn(6, FEATURES), edges, *more)

    return Architecture("torch_geometric", make)


def plain(kind: str, **options: Any) -> Architecture:
    """Two layers with 8 hidden channels."""
    return layers(lambda p: getattr(p, kind)(FEATURES, 8, **options), lambda p: getattr(p, kind)(8, OUTPUTS, **options))


def heads(kind: str, **options: Any) -> Architecture:
    """Three heads of 5 channels, then two heads whose mean is the output."""
    return layers(
        lambda p: getattr(p, kind)(FEATURES, 5, heads=3, **options),
        lambda p: getattr(p, kind)(15, OUTPUTS, heads=2, concat=False, **options),
    )


def perceptron(inputs: int, hidden: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, outputs))


ARCHITECTURES = {
    "gcn": plain("GCNConv"),
    "sage": plain("SAGEConv"),
    "sage_max": plain("SAGEConv", aggr="max"),
    "gat": heads("GATConv"),
    "gatv2": heads("GATv2Conv"),
    "transformer_conv": heads("TransformerConv"),
    "gin": layers(
        lambda p: p.GINConv(perceptron(FEATURES, 7, 8), train_eps=True),
        lambda p: p.GINConv(perceptron(8, 6, OUTPUTS), train_eps=True),
    ),
    "edge_conv": layers(
        lambda p: p.EdgeConv(perceptron(2 * FEATURES, 7, 8)), lambda p: p.EdgeConv(perceptron(16, 6, OUTPUTS))
    ),
    "cheb": plain("ChebConv", K=3),
    "graph_conv": plain("GraphConv"),
    "tag": plain("TAGConv", K=2),
    "sg": plain("SGConv", K=2),
    "arma": plain("ARMAConv", num_stacks=2, num_layers=2, shared_weights=True),
    "res_gated": plain("ResGatedGraphConv"),
    "le": plain("LEConv"),
    "cluster_gcn": plain("ClusterGCNConv"),
    "film": plain("FiLMConv"),
    "rgcn": layers(
        lambda p: p.FastRGCNConv(FEATURES, 8, num_relations=2),
        lambda p: p.FastRGCNConv(8, OUTPUTS, num_relations=2),
        types=2,
    ),
    "nnconv": layers(
        lambda p: p.NNConv(FEATURES, 8, perceptron(2, 6, FEATURES * 8)),
        lambda p: p.NNConv(8, OUTPUTS, perceptron(2, 5, 8 * OUTPUTS)),
        attributes=2,
    ),
    "gine": layers(
        lambda p: p.GINEConv(perceptron(FEATURES, 7, 8), edge_dim=2),
        lambda p: p.GINEConv(perceptron(8, 6, OUTPUTS), edge_dim=2),
        attributes=2,
    ),
}
