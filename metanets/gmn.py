"""The graph metanetwork."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..backends.blocks import Blocks
from ..backends.from_coo import from_coo
from ..ir import GmncError
from ..kernels import Layout
from .chunked import ChunkedEdges, Update
from .config import GMNConfig
from .encode import RELATIVE_FEATURES, NodeEncoder, TypeEncoder, value_features
from .fan_in import normalised
from .layer import EdgeUpdate, Layer, State, mean_by_graph, mlp
from .readout import block_means, is_single, over_graphs, readout_tables

__all__ = ["GMN"]

_WIDER = 4
"""Width factor of the hidden layers of readout ``all``, which run once per block and cost next to nothing."""
_LEAST_VARIANCE = 1e-6


class GMN(nn.Module):
    """A graph metanetwork (Lim et al., arXiv 2312.04501): one vector per network, or one per parameter.

    ``GMN(config)`` takes a `GMNConfig`, ``GMN(out_channels=16, num_layers=4)`` builds one from these fields, and
    ``GMN(config, num_layers=4)`` replaces fields of `config`.

    Args:
        config: Hyperparameters; the default configuration if None.
        kernel: Implementation of `gmnc.kernels.edge_update`. It is not part of the configuration and is not saved.
        **options: Fields of `GMNConfig`.

    Attributes:
        config: The `GMNConfig`.
        kernel: The argument; may be changed at any time.
        edge_chunk: Initially `GMNConfig.edge_chunk`; may be changed at any time.

    Raises:
        GmncError: A field has an invalid value.
        TypeError: `GMNConfig` has no such field.
    """

    def __init__(self, config: GMNConfig | None = None, *, kernel: str = "auto", **options: Any) -> None:
        known = [f.name for f in fields(GMNConfig)]
        for name in options:
            if name not in known:
                raise TypeError(f"GMN has no option {name!r}: choose {', '.join(known)}")
        config = replace(config or GMNConfig(), **options)
        super().__init__()
        self.config, self.kernel, self.edge_chunk = config, kernel, config.edge_chunk
        width, inner = config.hidden_channels, config.inner_channels
        self.encode_nodes = NodeEncoder(width, config.hash_buckets, config.op_embedding_std)
        self.encode_types = TypeEncoder(width, config.hash_buckets, config.op_embedding_std)
        first = config.value_features + RELATIVE_FEATURES * config.relative
        inputs = [width if i else first for i in range(config.num_layers)]
        self.layers = nn.ModuleList(Layer(config, edge_in) for edge_in in inputs[:-1])
        self.edges = EdgeUpdate(config, inputs[-1])
        self.of_block: nn.Module | None = None
        read = width
        if config.readout == "all" and config.head == "invariant":
            inner = _WIDER * inner
            pooled = mlp(2 * width, inner, inner, config.dropout, config.act)
            self.of_block = nn.Sequential(nn.LayerNorm(2 * width), pooled)
            read = inner + (2 + config.global_node) * width
        self.last = mlp(read, inner, config.out_channels, config.dropout, config.act)

    @property
    def dtype(self) -> torch.dtype:
        """Type of the weights and of all computation."""
        return next(self.parameters()).dtype

    def forward(self, graph: Any, x: torch.Tensor | None = None) -> torch.Tensor:
        """Read one graph or a batch.

        Args:
            graph: `Blocks`, a result of `gmnc.backends.coo.coo`, or a PyG `Batch` of those.
            x: Further node features [N, hidden_channels], added to those of the graph.

        Returns:
            [G, out_channels], one row per graph; with the equivariant head [E, out_channels], one row per edge in the
            order of `gmnc.backends.coo.coo`, which `Blocks.per_parameter` turns into tensors of the parameters' shapes.

        Raises:
            GmncError: `graph` is something else, or is not `Blocks` but `fan_in`, `relative` or readout ``all`` is set.
        """
        given = graph if isinstance(graph, Blocks) else from_coo(graph)
        if self.edge_chunk:
            return self._by_chunks(given, x)
        state, types, layout = self.states(given, x)
        edges = self._run(self.edges, state, types, given, layout)[0]
        if self.config.head == "equivariant":
            return self.last(edges.to(self.dtype))
        means = block_means(edges, given, readout_tables(given), self.of_block is not None)
        return self.last(self.pool(means, state, given).to(self.dtype))

    def pool(self, means: torch.Tensor, state: State, graph: Blocks) -> torch.Tensor:
        """Pool block means and states into the input of the invariant head.

        Args:
            means: Mean edge state of each block with parameters [m, hidden_channels]; with readout ``all``
                [m, 2 hidden_channels], followed by the mean of squares.
            state: State before the last edge update.
            graph: The graph or batch.

        Returns:
            [G, C].

        Raises:
            GmncError: ReadoutTables ``all`` of a graph that came from single edges.
        """
        found, by_block = readout_tables(graph), self.config.fan_in
        if self.config.readout == "edges":
            return over_graphs(means, graph, found, by_block)
        if is_single(graph):
            raise GmncError("readout 'all' needs blocks: tensors of single edges do not say which edges form a block")
        nodes, _, shared = state
        assert self.of_block is not None
        means, squares = means.chunk(2, dim=1)
        deviations = (squares - means.square()).clamp(min=0).add(_LEAST_VARIANCE).sqrt()
        blocks = self.of_block(torch.cat([means, deviations], dim=1).to(self.dtype))
        parts = [over_graphs(means, graph, found, by_block), over_graphs(blocks, graph, found, by_block=True)]
        parts.append(mean_by_graph(nodes, graph, by_block))
        return torch.cat(parts if shared is None else [*parts, shared], dim=1)

    def states(self, graph: Blocks, x: torch.Tensor | None = None) -> tuple[State, torch.Tensor, Layout]:
        """Input of the last edge update.

        Args:
            graph: The graph or batch.
            x: See `forward`.

        Returns:
            The state of nodes, edges and graphs; type features [T, hidden_channels]; the layout that reads the edges.
        """
        state, types, layout = self._start(graph, x)
        for number, layer in enumerate(self.layers):
            state = self._run(layer, state, types, graph, layout)
            layout = layout if number else layout.dense
        return state, types, layout

    def _start(self, graph: Blocks, x: torch.Tensor | None) -> tuple[State, torch.Tensor, Layout]:
        """Input of the first layer, as `states` returns it."""
        if self.config.relative and is_single(graph):
            raise GmncError("relative values need blocks: tensors of single edges do not say which form a tensor")
        edges, layout = normalised(graph) if self.config.fan_in else (graph.rows(), graph.layout)
        nodes, types = self.encode_nodes(graph), self.encode_types(graph)
        nodes = nodes if x is None else nodes + x
        width = self.config.hidden_channels
        shared = nodes.new_zeros(graph.num_graphs, width) if self.config.global_node else None
        values = edges[:, 0].to(self.dtype)
        return (
            (nodes, value_features(values, graph, self.config.value_features, self.config.relative), shared),
            types,
            layout,
        )

    def _by_chunks(self, graph: Blocks, x: torch.Tensor | None) -> torch.Tensor:
        """The result of `forward`, without ever holding the states of all edges."""
        (nodes, values, shared), types, layout = self._start(graph, x)
        updates: list[Update] = []
        chunked = ChunkedEdges(values, layout, self.edge_chunk, self.kernel)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            state = nodes, values, shared
            updates.append((layer.edges, layer.edges.terms(state, types, graph)))
            nodes, shared = layer.after(state, *chunked.sums(updates), graph)
        state = nodes, values, shared
        updates.append((self.edges, self.edges.terms(state, types, graph)))
        if self.config.head == "equivariant":
            return chunked.rows(updates, lambda edges: self.last(edges.to(self.dtype)))
        found = readout_tables(graph)
        total = chunked.block_sums(updates, squares=self.of_block is not None)
        means = (total / found.divisors.to(total.dtype)[:, None]).index_select(0, found.blocks)
        return self.last(self.pool(means, state, graph).to(self.dtype))

    def _run(self, layer: nn.Module, *arguments: Any) -> Any:
        if self.config.checkpoint and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, self.kernel, use_reentrant=False)
        return layer(*arguments, self.kernel)
