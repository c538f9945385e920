"""Neural functional networks (Zhou et al. 2023), by the `nfn` package; the one module that imports it."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from ..backends.blocks import Blocks, Slot
from ..ir import GmncError
from ..kernels import Block
from .layer import mlp

__all__ = ["NFN", "chain"]


class NFN(nn.Module):
    """Layers that are equivariant to permutations of neurons, on plain chains of dense or convolutional layers.

    like: a network of the kind that it is made for: number of layers, sizes of kernels, inputs and outputs are fixed,
    the hidden widths are not. Raises `GmncError` where a network is no such chain, and if the package is missing.
    """

    def __init__(
        self, outputs: int = 1, *, like: Blocks, head: str = "invariant", width: int = 64, layers: int = 3,
        dropout: float = 0.0,
    ) -> None:  # fmt: skip
        super().__init__()
        parts, common = _library()
        self.head, self.features = head, common.WeightSpaceFeatures
        first = chain(like, 0)
        self.kind = _kind(first)
        spec = common.network_spec_from_wsfeat(self._read(like, [first]))
        encode = parts.IOSinusoidalEncoding(spec)
        channels = [encode.num_out_chan(1), *([width] * layers)]
        steps: list[nn.Module] = [encode]
        for before, after in pairwise(channels):
            steps += [parts.NPLinear(spec, before, after), parts.SimpleLayerNorm(spec, after), parts.TupleOp(nn.ReLU())]
        if head == "invariant":
            self.body = nn.Sequential(*steps, parts.NPPool(spec), nn.Flatten())
            self.last: nn.Module = mlp(width * parts.NPPool.get_num_outs(spec), 4 * width, outputs, dropout, "relu")
        else:
            self.body, self.last = nn.Sequential(*steps), parts.NPLinear(spec, width, outputs)

    def forward(self, graph: Blocks) -> torch.Tensor:
        """[G, outputs]; with the equivariant head [E, outputs], one row per edge."""
        chains = _chains(graph)
        for number, found in enumerate(chains):
            if _kind(found) != self.kind:
                raise GmncError(f"NFN was made for layers {self.kind}; network {number} has {_kind(found)}")
        groups: dict[Any, list[int]] = {}
        for number, found in enumerate(chains):
            groups.setdefault(tuple(slot.shape for slot in found), []).append(number)
        results = [self.last(self.body(self._read(graph, [chains[n] for n in numbers]))) for numbers in groups.values()]
        if self.head == "invariant":
            order = torch.tensor([n for numbers in groups.values() for n in numbers], device=graph.values.device)
            return torch.cat(results)[torch.argsort(order)]
        return _per_edge(graph, list(zip(groups.values(), results, strict=True)), chains)

    def _read(self, graph: Blocks, chains: Sequence[list[Slot]]) -> Any:
        """Weights [n, 1, out, in, ...] and biases [n, 1, out] of networks of the same shapes."""
        stacked = []
        for slots in zip(*chains, strict=True):
            rows = torch.stack([graph.values[s.start : s.start + s.size] for s in slots]).float()
            stacked.append(rows.view(len(chains), 1, *_kernel(slots[0].shape)))
        return self.features(stacked[::2], stacked[1::2])


def chain(graph: Blocks, number: int) -> list[Slot]:
    """Weight, bias, weight, bias, ... of one graph of a batch; raises `GmncError` if it is no plain chain of layers."""
    return _chains(graph)[number]


def _chains(graph: Blocks) -> list[list[Slot]]:
    """`chain` of each graph, in one pass over the blocks."""
    slots: list[list[Slot]] = [[] for _ in range(graph.num_graphs)]
    blocks: list[list[Block]] = [[] for _ in range(graph.num_graphs)]
    for slot in graph.slots:
        slots[slot.graph].append(slot)
    for block, of in zip(graph.layout, graph.block_graph.tolist(), strict=True):
        if block.size:
            blocks[of].append(block)
    for number, (own, sites) in enumerate(zip(slots, blocks, strict=True)):
        _check(graph, number, own, sites)
    return slots


def _check(graph: Blocks, number: int, slots: Sequence[Slot], blocks: Sequence[Block]) -> None:
    before: torch.Tensor | None = None
    if len(blocks) != len(slots) or len(slots) % 2 or not slots:
        raise GmncError(f"NFN takes chains of dense or convolutional layers; network {number} has other edges")
    at = {block.value: block for block in blocks}
    for weight, bias in zip(slots[::2], slots[1::2], strict=True):
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
    """Kernels of one dimension get a second one, as the package wants it."""
    return (*shape, 1) if len(shape) == 3 else shape


def _kind(slots: Sequence[Slot]) -> tuple[tuple[int, ...], ...]:
    """What must not differ: sizes of kernels, and the first weight's inputs and the last one's outputs."""
    weights = [_kernel(s.shape) for s in slots[::2]]
    found = [(-1, -1, *w[2:]) for w in weights]
    found[0] = (found[0][0], weights[0][1], *found[0][2:])
    found[-1] = (weights[-1][0], *found[-1][1:])
    return tuple(found)


def _per_edge(graph: Blocks, groups: Sequence[tuple[list[int], Any]], chains: list[list[Slot]]) -> torch.Tensor:
    outputs = groups[0][1].weights[0].shape[1]
    rows = graph.values.new_zeros(len(graph.values) + len(graph.extra), outputs, dtype=torch.float32)
    where, what = [], []
    for numbers, features in groups:
        tensors = [t for pair in features for t in pair]
        for at, number in enumerate(numbers):
            for slot, tensor in zip(chains[number], tensors, strict=True):
                where.append(torch.arange(slot.start, slot.start + slot.size, device=rows.device))
                what.append(tensor[at].reshape(outputs, -1).t())
    rows = rows.index_copy(0, torch.cat(where), torch.cat(what))
    return rows[graph.layout.single[3]]


def _library() -> tuple[Any, Any]:
    try:
        from nfn import common, layers
    except ImportError as error:
        raise GmncError("NFN needs the package nfn: pip install 'gmnc[tasks]'") from error
    return layers, common
