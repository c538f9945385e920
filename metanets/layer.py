"""One layer of a graph metanetwork: edges, then nodes, then the global state."""

from __future__ import annotations

import torch
from torch import nn

from ..backends.blocks import Blocks
from ..kernels import Layout, Terms, edge_update
from .config import NODE_ACTIVATIONS, GMNConfig

__all__ = ["EdgeUpdate", "Layer", "State", "mean_by_graph", "mlp"]

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Nodes [N, hidden_channels], edges [rows, D], and the global state [G, hidden_channels] or None."""


class EdgeUpdate(nn.Module):
    """New edge states and the messages to both ends, from one hidden layer.

    The part of the hidden layer that depends on an end is computed once per node, that on the type once per type.
    """

    def __init__(self, config: GMNConfig, edge_in: int) -> None:
        super().__init__()
        width, inner = config.hidden_channels, config.inner_channels
        self.activation, self.residual = config.edge_act or config.act, edge_in == width
        self.of_dst = nn.Linear(width, inner)
        self.of_src, self.of_type = (nn.Linear(width, inner, bias=False) for _ in range(2))
        self.of_graph = nn.Linear(width, inner, bias=False) if config.global_node else None
        self.w_in = nn.Parameter(torch.empty(edge_in, inner))
        self.w_out = nn.Parameter(torch.empty(inner, width))
        self.b_out = nn.Parameter(torch.zeros(width))
        for weight in (self.w_in, self.w_out):
            nn.init.kaiming_uniform_(weight.t(), a=5**0.5)

    def forward(
        self, state: State, types: torch.Tensor, graph: Blocks, layout: Layout, kernel: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """New edge states [E, hidden_channels], and sums over in-edges and over out-edges [N, inner_channels]."""
        return self.update(state[1], self.terms(state, types, graph), layout, kernel)

    def terms(self, state: State, types: torch.Tensor, graph: Blocks) -> Terms:
        """Operands of the update other than the edge states."""
        nodes, _, shared = state
        of_dst = self.of_dst(nodes)
        if self.of_graph is not None:
            of_dst = of_dst + self.of_graph(shared)[graph.node_graph]
        return Terms(of_dst, self.of_src(nodes), self.of_type(types), self.w_in, self.w_out, self.b_out)

    def update(
        self, edges: torch.Tensor, terms: Terms, layout: Layout, kernel: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The outputs of `forward`, from edge states [rows, D] and terms."""
        return edge_update(
            edges, terms, layout, activation=self.activation, residual=self.residual, dtype=edges.dtype, kernel=kernel
        )


class Layer(nn.Module):
    """Update of edges, nodes and the global state (arXiv 2312.04501, section 2.2, with messages both ways)."""

    def __init__(self, config: GMNConfig, edge_in: int) -> None:
        super().__init__()
        width, inner, norm = config.hidden_channels, config.inner_channels, config.norm
        messages = inner * (1 + config.reverse)
        self.reverse, self.by_group = config.reverse, config.fan_in
        self.edges = EdgeUpdate(config, edge_in)
        self.sums = nn.LayerNorm(messages) if norm else nn.Identity()
        self.nodes = mlp(width + messages + width * config.global_node, inner, width, config.dropout, config.act)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.shared = mlp(2 * width + inner, inner, width, config.dropout, config.act) if config.global_node else None

    def forward(self, state: State, types: torch.Tensor, graph: Blocks, layout: Layout, kernel: str) -> State:
        """The next state; types: [T, hidden_channels], layout: how the edges are read."""
        edges, in_sum, out_sum = self.edges(state, types, graph, layout, kernel)
        nodes, shared = self.after(state, in_sum, out_sum, graph)
        return nodes, edges, shared

    def after(
        self, state: State, in_sum: torch.Tensor, out_sum: torch.Tensor, graph: Blocks
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Node and global states, given the sums over in-edges and out-edges [N, inner_channels]."""
        nodes, _, shared = state
        messages = self.sums(torch.cat([in_sum, out_sum], dim=1) if self.reverse else in_sum)
        own = [nodes, messages] if shared is None else [nodes, messages, shared[graph.node_graph]]
        nodes = self.norm(nodes + self.nodes(torch.cat(own, dim=1)))
        if shared is not None and self.shared is not None:
            pooled = (mean_by_graph(x, graph, self.by_group) for x in (nodes, in_sum))
            shared = shared + self.shared(torch.cat([shared, *pooled], dim=1))
        return nodes, shared


def mean_by_graph(nodes: torch.Tensor, graph: Blocks, by_group: bool) -> torch.Tensor:
    """Mean over the nodes of each graph, or over the means of its groups, [G, C]."""
    shared = nodes * graph.node_share.to(nodes)[:, None] if by_group else nodes
    total = nodes.new_zeros(graph.num_graphs, nodes.shape[1]).index_add(0, graph.node_graph, shared)
    if by_group:
        return total
    # bincount would synchronise with the GPU; float32, as bfloat16 cannot count.
    ones = torch.ones(len(nodes), device=nodes.device)
    count = ones.new_zeros(graph.num_graphs).index_add(0, graph.node_graph, ones).clamp(min=1)
    return total / count.to(total)[:, None]


def mlp(inputs: int, hidden: int, outputs: int, dropout: float, act: str) -> nn.Sequential:
    """A multilayer perceptron: linear, activation, dropout, linear.

    Args:
        inputs: Width of the input.
        hidden: Width between the two linear layers.
        outputs: Width of the output.
        dropout: Probability.
        act: One of `NODE_ACTIVATIONS`.

    Returns:
        The four modules in sequence.
    """
    function = dict(zip(NODE_ACTIVATIONS, (nn.ReLU, nn.SiLU, nn.Tanh), strict=True))[act]
    return nn.Sequential(nn.Linear(inputs, hidden), function(), nn.Dropout(dropout), nn.Linear(hidden, outputs))
