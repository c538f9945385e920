"""Neural functional networks (Zhou et al. 2023), from the package `nfn`, which only this module imports."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..backends.blocks import Blocks, Segment
from ..ir import GmncError
from ..kernels import Block
from .layer import mlp

__all__ = ["NFN", "chain"]


class NFN(nn.Module):
    """Layers equivariant to permutations of neurons, for plain chains of dense or convolutional layers.

    Args:
        out_channels: Width of the output.
        like: A network of the kind to be read. It determines the number of layers and the sizes of kernels, inputs and
            outputs, but not the hidden widths.
        head: See `GMNConfig`.
        hidden_channels: Width of all layers.
        num_layers: Number of layers.
        dropout: Probability, in the MLP of the invariant head.

    Raises:
        GmncError: `like` is not such a chain, or the package is not installed.
    """

    def __init__(
        self,
        out_channels: int = 1,
        *,
        like: Blocks,
        head: str = "invariant",
        hidden_channels: int = 64,
        num_layers: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        width = hidden_channels
        parts, common = _library()
        self.head, self.features = head, common.WeightSpaceFeatures
        first = chain(like, 0)
        self.kind = _kind(first)
        spec = common.network_spec_from_wsfeat(self._read(like, [first]))
        encode = parts.IOSinusoidalEncoding(spec)
        channels = [encode.num_out_chan(1), *([width] * num_layers)]
        steps: list[nn.Module] = [encode]
        for before, after in pairwise(channels):
            steps += [parts.NPLinear(spec, before, after), parts.SimpleLayerNorm(spec, after), parts.TupleOp(nn.ReLU())]
        if head == "invariant":
            self.body = nn.Sequential(*steps, parts.NPPool(spec), nn.Flatten())
            pooled = width * parts.NPPool.get_num_outs(spec)
            self.last: nn.Module = mlp(pooled, 4 * width, out_channels, dropout, "relu")
        else:
            self.body, self.last = nn.Sequential(*steps), parts.NPLinear(spec, width, out_channels)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """Read one graph or a batch.

        Args:
            graph: Chains of the same kind as `like`.

        Returns:
            [G, out_channels]; with the equivariant head [E, out_channels].

        Raises:
            GmncError: A network is of a different kind.
        """
        chains = _chains(graph)
        for number, found in enumerate(chains):
            if _kind(found) != self.kind:
                raise GmncError(f"NFN was made for layers {self.kind}; network {number} has {_kind(found)}")
        groups: dict[Any, list[int]] = {}
        for number, found in enumerate(chains):
            groups.setdefault(tuple(segment.shape for segment in found), []).append(number)
        results = [self.last(self.body(self._read(graph, [chains[n] for n in numbers]))) for numbers in groups.values()]
        if self.head == "invariant":
            order = torch.tensor([n for numbers in groups.values() for n in numbers], device=graph.values.device)
            return torch.cat(results)[torch.argsort(order)]
        return _per_edge(graph, list(zip(groups.values(), results, strict=True)), chains)

    def _read(self, graph: Blocks, chains: Sequence[list[Segment]]) -> Any:
        """Weights [n, 1, out, in, ...] and biases [n, 1, out] of networks of the same shapes."""
        stacked = []
        for segments in zip(*chains, strict=True):
            rows = torch.stack([graph.values[s.start : s.start + s.size] for s in segments]).float()
            stacked.append(rows.view(len(chains), 1, *_kernel(segments[0].shape)))
        return self.features(stacked[::2], stacked[1::2])


def chain(graph: Blocks, number: int) -> list[Segment]:
    """Weight, bias, weight, bias, ... of one graph of a batch; raises `GmncError` unless it is a plain chain."""
    return _chains(graph)[number]


def _chains(graph: Blocks) -> list[list[Segment]]:
    """`chain` of each graph, in one pass over the blocks."""
    segments: list[list[Segment]] = [[] for _ in range(graph.num_graphs)]
    blocks: list[list[Block]] = [[] for _ in range(graph.num_graphs)]
    for segment in graph.segments:
        segments[segment.graph].append(segment)
    for block, of in zip(graph.layout, graph.block_graph.tolist(), strict=True):
        if block.size:
            blocks[of].append(block)
    for number, (own, sites) in enumerate(zip(segments, blocks, strict=True)):
        _check(graph, number, own, sites)
    return segments


def _check(graph: Blocks, number: int, segments: Sequence[Segment], blocks: Sequence[Block]) -> None:
    before: torch.Tensor | None = None
    if len(blocks) != len(segments) or len(segments) % 2 or not segments:
        raise GmncError(f"NFN takes chains of dense or convolutional layers; network {number} has other edges")
    at = {block.value: block for block in blocks}
    for weight, bias in zip(segments[::2], segments[1::2], strict=True):
        first, second = at.get(weight.start), at.get(bias.start)
        dense = first is not None and first.b == 1 and (first.n, first.k) == weight.shape[:2] and len(weight.shape) > 1
        if not dense or first is None or second is None or bias.shape != (first.n,):
            raise GmncError(f"NFN takes a weight and a bias for each layer; {weight.name!r}, {bias.name!r} are none")
        dst, src, _ = graph.layout.ids(first)
        onto = graph.layout.ids(second)[0].reshape(-1)
        if not torch.equal(dst[0], onto) or (before is not None and not torch.equal(src[0], before)):
            raise GmncError(f"NFN takes layers that follow one another; {weight.name!r} reads something else")
        before = dst[0]


def _kernel(shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with a second axis for one-dimensional kernels, as the package expects."""
    return (*shape, 1) if len(shape) == 3 else shape


def _kind(segments: Sequence[Segment]) -> tuple[tuple[int, ...], ...]:
    """The fixed sizes: kernels, the first weight's inputs and the last one's outputs; -1 for the others."""
    weights = [_kernel(s.shape) for s in segments[::2]]
    found = [(-1, -1, *w[2:]) for w in weights]
    found[0] = (found[0][0], weights[0][1], *found[0][2:])
    found[-1] = (weights[-1][0], *found[-1][1:])
    return tuple(found)


def _per_edge(graph: Blocks, groups: Sequence[tuple[list[int], Any]], chains: list[list[Segment]]) -> torch.Tensor:
    outputs = groups[0][1].weights[0].shape[1]
    rows = graph.values.new_zeros(len(graph.values) + len(graph.extra), outputs, dtype=torch.float32)
    where, what = [], []
    for numbers, features in groups:
        tensors = [t for pair in features for t in pair]
        for at, number in enumerate(numbers):
            for segment, tensor in zip(chains[number], tensors, strict=True):
                where.append(torch.arange(segment.start, segment.start + segment.size, device=rows.device))
                what.append(tensor[at].reshape(outputs, -1).t())
    rows = rows.index_copy(0, torch.cat(where), torch.cat(what))
    return rows[graph.layout.per_edge.row]


def _library() -> tuple[Any, Any]:
    try:
        from nfn import common, layers
    except ImportError as error:
        raise GmncError("NFN needs the package nfn, which is not installed: pip install 'gmnc[tasks]'") from error
    return layers, common
