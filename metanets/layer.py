"""One layer of a graph metanetwork: edges, then nodes, then the global feature."""

from __future__ import annotations

import torch
from torch import nn

from ..backends.blocks import Blocks
from ..kernels import Layout, Terms, edge_update
from .options import HIDDEN_ACTIVATIONS

__all__ = ["Edges", "Layer", "State", "mean_by_graph", "mlp"]

State = tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]
"""Nodes [N, width], edges [rows, D], and the global feature [G, width] or None."""


class Edges(nn.Module):
    """New edge states and the messages to both ends.

    Their hidden layers are one, of width `hidden`; its part of an end is computed once per node, that of the type once
    per type.
    """

    def __init__(self, width: int, edge_in: int, hidden: int, global_node: bool, activation: str) -> None:
        super().__init__()
        self.activation, self.residual = activation, edge_in == width
        self.of_dst = nn.Linear(width, hidden)
        self.of_src, self.of_type = (nn.Linear(width, hidden, bias=False) for _ in range(2))
        self.of_graph = nn.Linear(width, hidden, bias=False) if global_node else None
        self.w_in = nn.Parameter(torch.empty(edge_in, hidden))
        self.w_out = nn.Parameter(torch.empty(hidden, width))
        self.b_out = nn.Parameter(torch.zeros(width))
        for weight in (self.w_in, self.w_out):
            nn.init.kaiming_uniform_(weight.t(), a=5**0.5)

    def forward(
        self, state: State, types: torch.Tensor, graph: Blocks, layout: Layout, kernel: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Edges [E, width], and sums over in-edges and over out-edges [N, hidden]."""
        return self.update(state[1], self.terms(state, types, graph), layout, kernel)

    def terms(self, state: State, types: torch.Tensor, graph: Blocks) -> Terms:
        """What the update needs besides the edges; their state is not looked at."""
        nodes, _, shared = state
        of_dst = self.of_dst(nodes)
        if self.of_graph is not None:
            of_dst = of_dst + self.of_graph(shared)[graph.node_graph]
        return Terms(of_dst, self.of_src(nodes), self.of_type(types), self.w_in, self.w_out, self.b_out)

    def update(
        self, edges: torch.Tensor, terms: Terms, layout: Layout, kernel: str
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The same of edges and terms alone."""
        return edge_update(
            edges, terms, layout, activation=self.activation, residual=self.residual, dtype=edges.dtype, kernel=kernel
        )


class Layer(nn.Module):
    """Update of edges, nodes and the global feature (arXiv 2312.04501, section 2.2, with messages both ways)."""

    def __init__(
        self, width: int, edge_in: int, hidden: int, reverse: bool, global_node: bool, norm: bool, dropout: float,
        activation: str, on_edges: str, by_group: bool,
    ) -> None:  # fmt: skip
        super().__init__()
        self.reverse, self.by_group = reverse, by_group
        self.edges = Edges(width, edge_in, hidden, global_node, on_edges)
        self.sums = nn.LayerNorm(hidden * (1 + reverse)) if norm else nn.Identity()
        self.nodes = mlp(width + hidden * (1 + reverse) + width * global_node, hidden, width, dropout, activation)
        self.norm = nn.LayerNorm(width) if norm else nn.Identity()
        self.shared = mlp(2 * width + hidden, hidden, width, dropout, activation) if global_node else None

    def forward(self, state: State, types: torch.Tensor, graph: Blocks, layout: Layout, kernel: str) -> State:
        """types: [T, width]. layout: how the edges are read."""
        edges, into, out = self.edges(state, types, graph, layout, kernel)
        nodes, shared = self.after(state, into, out, graph)
        return nodes, edges, shared

    def after(
        self, state: State, into: torch.Tensor, out: torch.Tensor, graph: Blocks
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Nodes and global feature, given the sums over in-edges and out-edges [N, hidden]."""
        nodes, _, shared = state
        messages = self.sums(torch.cat([into, out], dim=1) if self.reverse else into)
        own = [nodes, messages] if shared is None else [nodes, messages, shared[graph.node_graph]]
        nodes = self.norm(nodes + self.nodes(torch.cat(own, dim=1)))
        if shared is not None and self.shared is not None:
            pooled = (mean_by_graph(x, graph, self.by_group) for x in (nodes, into))
            shared = shared + self.shared(torch.cat([shared, *pooled], dim=1))
        return nodes, shared


def mean_by_graph(nodes: torch.Tensor, graph: Blocks, by_group: bool) -> torch.Tensor:
    """Mean over the nodes of each graph, or over the means of its groups, [G, C]."""
    shared = nodes * graph.node_share.to(nodes)[:, None] if by_group else nodes
    total = nodes.new_zeros(graph.num_graphs, nodes.shape[1]).index_add(0, graph.node_graph, shared)
    if by_group:
        return total
    # Not by bincount, for which a GPU waits; in float32, as bfloat16 cannot count.
    ones = torch.ones(len(nodes), device=nodes.device)
    count = ones.new_zeros(graph.num_graphs).index_add(0, graph.node_graph, ones).clamp(min=1)
    return total / count.to(total)[:, None]


def mlp(inputs: int, hidden: int, outputs: int, dropout: float, activation: str) -> nn.Sequential:
    """Two layers."""
    function = dict(zip(HIDDEN_ACTIVATIONS, (nn.ReLU, nn.SiLU, nn.Tanh), strict=True))[activation]
    return nn.Sequential(nn.Linear(inputs, hidden), function(), nn.Dropout(dropout), nn.Linear(hidden, outputs))
