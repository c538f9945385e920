"""Networks of one architecture: one shared graph, and one matrix of values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import nn

from ..backends.blocks import Blocks, Segment, batch
from ..ir import GmncError

__all__ = ["Population", "Standardiser"]


class Population:
    """M networks of one architecture.

    Attributes:
        like: One of them.
        values: float32 [M, V], each row as in `Blocks.values`.
    """

    def __init__(self, members: Sequence[Blocks]) -> None:
        """Stack the values; raises `GmncError` unless the networks are of one architecture."""
        if not members:
            raise GmncError("a population needs at least one network")
        self.like = members[0]
        for number, member in enumerate(members):
            if member.segments != self.like.segments or member.num_edges != self.like.num_edges:
                raise GmncError(f"member {number} of the zoo has another architecture than the first: they must agree")
        if len(self.like.extra):
            raise GmncError("a population needs networks whose edges read values by strides")
        self.values = torch.stack([member.values.float() for member in members])
        self._batches: dict[tuple[int, str], Blocks] = {}

    @property
    def segments(self) -> tuple[Segment, ...]:
        """Where each parameter is in a row of `values`."""
        return self.like.segments

    def blocks(self, values: torch.Tensor) -> Blocks:
        """A batch of networks with these values [B, V]; differentiable."""
        key = (len(values), str(values.device))
        if key not in self._batches:
            self._batches[key] = batch([self.like] * len(values)).to(values.device)
        return replace(self._batches[key], values=values.reshape(-1))

    def tensors(self, values: torch.Tensor) -> dict[str, torch.Tensor]:
        """The parameters of networks with values [B, V], by name: [B, *shape]."""
        return {s.name: values[:, s.start : s.start + s.size].reshape(-1, *s.shape) for s in self.segments}

    def per_value(self, values: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
        """Mean over the edges [E, C] of each value, [B, V, C]; 0 for values without an edge."""
        found = self.blocks(values).per_value(edges)
        return found.nan_to_num(0.0).reshape(*values.shape, -1)


class Standardiser(nn.Module):
    """Standardises values by each parameter tensor's mean and standard deviation over some members."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, population: Population, members: Sequence[int]) -> None:
        super().__init__()
        own = population.values[list(members)]
        mean, deviation = torch.zeros(own.shape[1]), torch.ones(own.shape[1])
        for segment in population.segments:
            part = slice(segment.start, segment.start + segment.size)
            mean[part], deviation[part] = own[:, part].mean(), own[:, part].std(correction=0).clamp(min=1e-6)
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Standardised values; [B, V] to [B, V]."""
        return (values - self.mean) / self.deviation
