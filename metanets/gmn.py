"""The graph metanetwork."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from ..backends.blocks import Blocks
from ..backends.from_coo import from_coo
from ..ir import GmncError
from ..kernels import Layout
from .encode import PROPORTIONS, NodeEncoder, TypeEncoder, seen
from .layer import Edges, Layer, State, mean_by_graph, mlp
from .options import check_options
from .stream import Step, Stream, with_squares

__all__ = ["GMN", "HEADS", "READOUTS", "scaled"]

HEADS, READOUTS = ("invariant", "equivariant"), ("edges", "all")
_WIDER = 4
"""Hidden layers after the edges, which cost next to nothing, are so many times as wide with readout ``all``."""
_LEAST_VARIANCE = 1e-6


class GMN(nn.Module):
    """A graph metanetwork: parameter graphs in, one vector per network or one per parameter out.

    head: ``invariant`` gives [G, outputs], one row per graph of a batch: the mean over parameter edges, through an MLP.
    ``equivariant`` gives [E, outputs], one row per edge in the order of `gmnc.backends.coo.coo`, of which
    `Blocks.per_parameter` makes tensors of the parameters' shapes.
    width: of all states. hidden: of all hidden layers (default: width). layers: how many; the last one updates edges
    only. reverse: sum messages into both ends of an edge. global_node: one more feature, which all edges and nodes of a
    graph read and write. norm: LayerNorm on nodes and sums. edge_activation: where edges are updated (default:
    activation). fan_in: weights times their number of sources, sums divided by it, and means by block and by group of
    nodes: then duplicating neurons, with the weights divided, keeps the output. scales: at how many scales values are
    seen (see `gmnc.metanets.encode.spread`). relative: values are also seen in proportion to their tensor (see
    `gmnc.metanets.encode.proportions`). readout: what the invariant head gets; ``all`` adds to the mean over edges that
    of an MLP of each block's mean and standard deviation, the mean over nodes and the global feature. recompute: keep
    only states between layers, and compute each layer again in the backward pass. stream: keep no edge states at all,
    but compute them again from the values in each layer and in the backward pass, so many edges at a time (0: do not);
    L layers cost as much as L (L + 1) / 2. buckets: rows of the tables of hashed words. words: standard deviation of
    what words say before training; with 0 one that training never shows says nothing, and networks that have it are
    read better. kernel: see `gmnc.kernels.edge_update`; it is no part of the state dict. Attribute `options`: all of
    these but the kernel.
    """

    def __init__(
        self,
        outputs: int = 1,
        *,
        head: str = "invariant",
        width: int = 64,
        hidden: int | None = None,
        layers: int = 3,
        reverse: bool = True,
        global_node: bool = False,
        norm: bool = True,
        dropout: float = 0.0,
        activation: str = "silu",
        edge_activation: str | None = None,
        fan_in: bool = False,
        scales: int = 1,
        relative: bool = False,
        readout: str = "edges",
        recompute: bool = False,
        stream: int = 0,
        buckets: int = 4096,
        words: float = 1.0,
        kernel: str = "auto",
    ) -> None:
        self.options = {n: v for n, v in locals().items() if n not in ("self", "__class__", "kernel")}
        check_options(self.options)
        super().__init__()
        if head not in HEADS:
            raise GmncError(f"there is no head {head!r}: choose {' or '.join(HEADS)}")
        if readout not in READOUTS:
            raise GmncError(f"there is no readout {readout!r}: choose {' or '.join(READOUTS)}")
        if layers < 1:
            raise GmncError("a metanetwork needs at least one layer")
        if fan_in and relative:
            raise GmncError("relative values depend on how wide a network is: choose fan_in or relative")
        self.head, self.fan_in, self.recompute, self.stream, self.kernel = head, fan_in, recompute, stream, kernel
        self.width, self.global_node, self.readout = width, global_node, readout
        self.scales, self.relative = scales, relative
        hidden = hidden or width
        self.encode_nodes, self.encode_types = NodeEncoder(width, buckets, words), TypeEncoder(width, buckets, words)
        inputs = [width if i else scales + PROPORTIONS * relative for i in range(layers)]
        on_edges = edge_activation or activation
        self.layers = nn.ModuleList(
            Layer(width, inputs[i], hidden, reverse, global_node, norm, dropout, activation, on_edges, fan_in)
            for i in range(layers - 1)
        )
        self.edges = Edges(width, inputs[-1], hidden, global_node, on_edges)
        self.of_block: nn.Module | None = None
        read, wide = width, hidden
        if readout == "all" and head == "invariant":
            wide = _WIDER * hidden
            self.of_block = nn.Sequential(nn.LayerNorm(2 * width), mlp(2 * width, wide, wide, dropout, activation))
            read = wide + (2 + global_node) * width
        self.last = mlp(read, wide, outputs, dropout, activation)

    @property
    def dtype(self) -> torch.dtype:
        """Of the weights, and of all that is computed."""
        return next(self.parameters()).dtype

    def forward(self, graph: Any, x: torch.Tensor | None = None) -> torch.Tensor:
        """graph: `Blocks` (one graph or a batch), or what `gmnc.backends.coo.coo` gives, or a PyG `Batch` of that.

        x: [N, width], further features of nodes, added to what the graph says of them.
        """
        given = graph if isinstance(graph, Blocks) else from_coo(graph)
        if self.stream:
            return self._streamed(given, x)
        state, types, layout = self.states(given, x)
        edges = self._run(self.edges, state, types, given, layout)[0]
        if self.head == "equivariant":
            return self.last(edges.to(self.dtype))
        means = _block_means(edges, given, _plan(given), self.of_block is not None)
        return self.last(self.read(means, state, given).to(self.dtype))

    def read(self, means: torch.Tensor, state: State, graph: Blocks) -> torch.Tensor:
        """What the invariant head gets of the edges' means over blocks and the state before the last edges, [G, C].

        means: [m, width], with readout ``all`` [m, 2 width]: of the edges, then of their squares.
        """
        plan = _plan(graph)
        if self.readout == "edges":
            return _over_graphs(means, graph, plan, self.fan_in)
        if _single(graph):
            raise GmncError("readout 'all' needs blocks: tensors of single edges do not say what is one block")
        nodes, _, shared = state
        assert self.of_block is not None
        means, squares = means.chunk(2, dim=1)
        deviations = (squares - means.square()).clamp(min=0).add(_LEAST_VARIANCE).sqrt()
        blocks = self.of_block(torch.cat([means, deviations], dim=1).to(self.dtype))
        found = [_over_graphs(means, graph, plan, self.fan_in), _over_graphs(blocks, graph, plan, by_block=True)]
        found.append(mean_by_graph(nodes, graph, self.fan_in))
        return torch.cat(found if shared is None else [*found, shared], dim=1)

    def states(self, graph: Blocks, x: torch.Tensor | None = None) -> tuple[State, torch.Tensor, Layout]:
        """What the last update of edges gets: nodes, edges and global feature; types [T, width]; how edges are read."""
        state, types, layout = self._start(graph, x)
        for number, layer in enumerate(self.layers):
            state = self._run(layer, state, types, graph, layout)
            layout = layout if number else layout.dense
        return state, types, layout

    def _start(self, graph: Blocks, x: torch.Tensor | None) -> tuple[State, torch.Tensor, Layout]:
        """The same before the first layer."""
        if self.relative and _single(graph):
            raise GmncError("relative values need blocks: tensors of single edges do not say what is one tensor")
        edges, layout = scaled(graph) if self.fan_in else (graph.rows(), graph.layout)
        nodes, types = self.encode_nodes(graph), self.encode_types(graph)
        nodes = nodes if x is None else nodes + x
        shared = nodes.new_zeros(graph.num_graphs, self.width) if self.global_node else None
        values = seen(edges[:, 0].to(self.dtype), graph, self.scales, self.relative)
        return (nodes, values, shared), types, layout

    def _streamed(self, graph: Blocks, x: torch.Tensor | None) -> torch.Tensor:
        """What `forward` gives, without the state of all edges at any time."""
        (nodes, values, shared), types, layout = self._start(graph, x)
        steps: list[Step] = []
        stream = Stream(values, layout, self.stream, self.kernel)
        for layer in self.layers:
            assert isinstance(layer, Layer)
            state = nodes, values, shared
            steps.append((layer.edges, layer.edges.terms(state, types, graph)))
            nodes, shared = layer.after(state, *stream.sums(steps), graph)
        state = nodes, values, shared
        steps.append((self.edges, self.edges.terms(state, types, graph)))
        if self.head == "equivariant":
            return stream.rows(steps, lambda edges: self.last(edges.to(self.dtype)))
        plan = _plan(graph)
        total = stream.block_sums(steps, squares=self.of_block is not None)
        means = (total / plan.divisors.to(total.dtype)[:, None]).index_select(0, plan.blocks)
        return self.last(self.read(means, state, graph).to(self.dtype))

    def _run(self, layer: nn.Module, *arguments: Any) -> Any:
        if self.recompute and torch.is_grad_enabled():
            return checkpoint(layer, *arguments, self.kernel, use_reentrant=False)
        return layer(*arguments, self.kernel)


def _plan(graph: Blocks) -> _Readout:
    plan: _Readout = graph.layout.planned("readout", lambda: _readout(graph))
    return plan


class _Readout(NamedTuple):
    """What means over blocks take, worked out once for a layout; m of its M blocks carry parameters.

    sizes: edges of each of M blocks. chosen: numbers of the m blocks. On the device: divisors: float64 [M], sizes, at
    least 1. blocks: int64 [m], chosen. graph: int64 [m]. shares: float64 [2, m], of a block in the mean over the edges
    and in that over the blocks of its graph.
    """

    sizes: list[int]
    chosen: list[int]
    divisors: torch.Tensor
    blocks: torch.Tensor
    graph: torch.Tensor
    shares: torch.Tensor


def _readout(graph: Blocks) -> _Readout:
    sizes = graph.layout.blocks[:, 1:5].prod(1)
    chosen = ((sizes > 0) & graph.parameter_block).nonzero()[:, 0]
    of_graph = graph.block_graph[chosen]
    shares = []
    for weights in (sizes[chosen].double(), torch.ones(len(chosen), dtype=torch.float64)):
        total = weights.new_zeros(graph.num_graphs).index_add(0, of_graph, weights)
        shares.append(weights / total[of_graph])
    tables = (sizes.clamp(min=1).double(), chosen, of_graph, torch.stack(shares))
    return _Readout(sizes.tolist(), chosen.tolist(), *(t.to(graph.values.device) for t in tables))


def _block_means(edges: torch.Tensor, graph: Blocks, plan: _Readout, squares: bool) -> torch.Tensor:
    """Means over the edges of each block that carries parameters, [m, C]; then of their squares, if asked, [m, 2 C]."""
    kind = torch.float64 if edges.dtype == torch.float64 else torch.float32
    if graph.layout.small:
        rows = with_squares(edges.to(kind), squares)
        total = rows.new_zeros(len(plan.sizes), rows.shape[1]).index_add(0, graph.layout.single[4], rows)
        return (total / plan.divisors.to(kind)[:, None]).index_select(0, plan.blocks)
    parts = edges.split(plan.sizes)
    means = [with_squares(parts[i].to(kind), squares).mean(0) for i in plan.chosen]
    return torch.stack(means) if means else edges.new_zeros(0, (1 + squares) * edges.shape[1], dtype=kind)


def _over_graphs(means: torch.Tensor, graph: Blocks, plan: _Readout, by_block: bool) -> torch.Tensor:
    """Mean over the blocks of each graph [G, C], each as many times as it has edges unless by_block."""
    share = plan.shares[int(by_block)].to(means.dtype)[:, None]
    return means.new_zeros(graph.num_graphs, means.shape[1]).index_add(0, plan.graph, means * share)


def scaled(graph: Blocks) -> tuple[torch.Tensor, Layout]:
    """Values times their number of sources [E, 1], and a layout that divides sums by edges per node of the block."""
    if _single(graph):
        raise GmncError("fan_in needs blocks: tensors of single edges do not say how many sources a weight has")
    layout, rows = graph.layout, graph.rows().contiguous()
    divided = layout.planned("fan_in", lambda: _divided(layout))
    if layout.small:
        _, _, _, read, number = layout.single
        sources = layout.on_device[0][:, 3].to(rows.dtype)
        return rows.index_select(0, read) * sources[number][:, None], divided
    parts = [rows[:0]]
    for block in layout:
        steps = (*block.strides, 1)
        parts.append((rows[block.value :].as_strided((*block.shape, 1), steps) * block.k).reshape(-1, 1))
    return torch.cat(parts), divided


def _single(graph: Blocks) -> bool:
    """Whether it was made of tensors of single edges, which do not say what is one parameter tensor."""
    return len(graph.slots) == 0 and bool(graph.parameter_block.any())


def _divided(layout: Layout) -> Layout:
    """Reading dense edges, with sums over each block divided by its edges per node."""
    scale = []
    for block in layout:
        pairs = max(block.b * block.n * block.k, 1)
        scale.append([len(torch.unique(end)) / pairs for end in layout.ids(block)[:2]])
    # Plans of its own: as a part of those of `layout` it must not hold them.
    return replace(layout.dense, scale=torch.tensor(scale).reshape(-1, 2), _plans={})
