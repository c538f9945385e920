"""The baselines: what they read, what does not change them, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pytest
import torch
from support.exports import Compiled
from support.tiers import first
from torch import nn

import gmnc
from gmnc.backends.blocks import Blocks, batch, blocks
from gmnc.ir import GmncError, ParameterGraph
from gmnc.metanets import DMC, NFN, DeepSets, StatNN, statistics

SMALL: dict[str, Callable[[Blocks], nn.Module]] = {
    "deepsets": lambda _: DeepSets(out_channels=3, hidden_channels=8, hash_buckets=64),
    "statnn": lambda _: StatNN(out_channels=3, hidden_channels=8, hash_buckets=64),
    "dmc": lambda _: DMC(out_channels=3, length=1024, hidden_channels=4),
    "nfn": lambda like: NFN(out_channels=3, like=like, hidden_channels=8),
}


@pytest.fixture(autouse=True)
def _repeatable() -> None:
    torch.manual_seed(0)


@cache
def siren(width: int = 7, seed: int = 0) -> ParameterGraph:
    class Siren(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.c = nn.Linear(2, width), nn.Linear(width, width), nn.Linear(width, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.c(torch.sin(self.b(torch.sin(self.a(x)))))

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return gmnc.from_torch(Siren().eval(), (torch.zeros(5, 2),))


@cache
def cnn() -> ParameterGraph:
    body = [nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return gmnc.from_torch(nn.Sequential(*body, nn.Linear(5, 10)).eval(), (torch.zeros(1, 1, 8, 8),))


def permuted(graph: ParameterGraph, tensors: Blocks, seed: int) -> Blocks:
    """With the network's parameters moved by one of its symmetries."""
    values = {n: p.load() for n, p in graph.parameters.items()}
    kept = {s.name for s in tensors.segments}
    moved = gmnc.symmetries(graph).sample(np.random.default_rng(seed)).apply(values)
    return tensors.with_values({n: v for n, v in moved.items() if n in kept})


@pytest.mark.parametrize("name", first(2, SMALL))
def test_one_row_per_network_alone_and_in_batches(name: str) -> None:
    members = [blocks(siren(width, seed)) for seed, width in enumerate((5, 7, 5))]
    model = SMALL[name](members[0]).eval()
    together = model(batch(members))
    assert together.shape == (3, 3)
    for one, row in zip(members, together, strict=True):
        assert torch.allclose(model(one)[0], row, atol=1e-5)
    assert not torch.allclose(together[0], together[2], atol=1e-6)


@pytest.mark.parametrize("name", ["deepsets", "statnn", "nfn"])
@pytest.mark.parametrize("make", [siren, cnn])
def test_symmetries_of_the_network_keep_the_output(name: str, make: Callable[[], ParameterGraph]) -> None:
    graph = make()
    tensors = blocks(graph)
    model = SMALL[name](tensors).eval()
    moved = permuted(graph, tensors, 5)
    assert not torch.equal(moved.values, tensors.values)
    assert torch.allclose(model(tensors), model(moved), atol=1e-5)


@pytest.mark.parametrize("name", ["deepsets", "statnn", "dmc"])
def test_any_network_is_taken_and_every_parameter_learns(name: str, compiled: Compiled) -> None:
    members = batch([blocks(compiled(n)) for n in ("resnet", "vit", "llama")])
    model = SMALL[name](members)
    model(members).square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    "make",
    [
        lambda like: DeepSets(out_channels=2, head="equivariant", hidden_channels=8, hash_buckets=64),
        lambda like: NFN(out_channels=2, like=like, head="equivariant", hidden_channels=8),
    ],
)
def test_outputs_per_parameter_permute_with_the_parameters(make: Callable[[Blocks], nn.Module]) -> None:
    graph = siren()
    tensors = blocks(graph)
    model = make(tensors).eval()
    moved = permuted(graph, tensors, 1)
    first, second = (t.per_parameter(model(t))[0] for t in (tensors, moved))
    automorphism = gmnc.symmetries(graph).sample(np.random.default_rng(1))
    for channel in range(2):
        expected = automorphism.apply({n: v[..., channel].detach().numpy() for n, v in first.items()})
        for name, value in second.items():
            assert np.allclose(
                value[..., channel].detach(), expected.get(name, first[name][..., channel].detach()), atol=1e-5
            )
    both = batch([tensors, moved])
    for one, of_batch in zip((first, second), both.per_parameter(model(both)), strict=True):
        assert all(torch.allclose(one[n], of_batch[n], atol=1e-5) for n in one)


def test_statistics_are_those_of_numpy() -> None:
    members = batch([blocks(siren(5)), blocks(cnn())])
    numbers, of_graph, place = statistics(members)
    assert of_graph.tolist() == [0] * 6 + [1] * 6
    assert place.tolist() == [*range(6), *range(6)]
    for segment, row in zip(members.segments, numbers.numpy(), strict=True):
        own = members.values[segment.start : segment.start + segment.size].double().numpy()
        expected = [own.mean(), own.std(), *np.quantile(own, [0, 0.25, 0.5, 0.75, 1]), np.log(segment.size)]
        assert np.allclose(row, expected, rtol=1e-12, atol=1e-12)


def test_deepsets_see_values_roles_and_no_connections() -> None:
    """Swapping the two entries of one weight changes what the network computes; parameters as a set do not see it."""
    graph = siren(5)
    tensors, model = blocks(graph), DeepSets(out_channels=1, hidden_channels=8, hash_buckets=64)
    weight = graph.parameters["b.weight"].load().copy()
    weight[[0, 0], [0, 1]] = weight[[0, 0], [1, 0]]
    assert torch.allclose(model(tensors), model(tensors.with_values({"b.weight": weight})), atol=1e-6)
    assert not torch.allclose(model(tensors), model(tensors.with_values({"b.weight": 2 * weight})), atol=1e-6)


def test_nfn_refuses_what_is_no_chain(compiled: Compiled) -> None:
    for name in ("resnet", "vit", "deepsets"):
        with pytest.raises(GmncError, match="NFN takes"):
            NFN(out_channels=1, like=blocks(compiled(name)))
    with pytest.raises(GmncError, match="NFN was made for layers"):
        NFN(out_channels=1, like=blocks(siren()))(blocks(cnn()))


def test_dmc_cuts_and_pads() -> None:
    tensors = blocks(siren(40))
    model = DMC(out_channels=1, length=256, hidden_channels=4).eval()
    last = {"c.bias": torch.full((1,), 9.0)}
    assert torch.equal(model(tensors), model(tensors.with_values(last)))
    wide = DMC(out_channels=1, length=2048, hidden_channels=4).eval()
    assert not torch.equal(wide(tensors), wide(tensors.with_values(last)))
    with pytest.raises(GmncError, match="not divisible"):
        DMC(out_channels=1, length=1000)
