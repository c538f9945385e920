"""A zoo without training: small networks with random values, whose "accuracy" falls with the size of these."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

import gmnc
from gmnc.backends.blocks import Blocks, blocks


@dataclass
class FakeZoo:
    """As `gmnc.tasks.members.Zoo`."""

    table: dict[str, np.ndarray]
    members: list[Blocks]


def network(family: str, width: int) -> nn.Module:
    # A run may be the first to ask for the zoo, after its seed was set.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(width)
        if family == "mlp":
            return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 3))
        body = [nn.Conv1d(1, width, 3), nn.BatchNorm1d(width), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()]
        return nn.Sequential(*body, nn.Linear(width, 3))


INPUTS = {"mlp": (1, 6), "cnn": (1, 1, 6)}


def fake_zoo(size: int = 60, seed: int = 0) -> FakeZoo:
    rng = np.random.default_rng(seed)
    kinds = [(f, w) for f in ("mlp", "cnn") for w in (3, 5)]
    known = {k: blocks(gmnc.from_torch(network(*k).eval(), (torch.zeros(INPUTS[k[0]]),))) for k in kinds}
    members, rows = [], []
    for _ in range(size):
        family, width = kinds[rng.integers(len(kinds))]
        tensors = known[family, width]
        scale = 10 ** rng.uniform(-1.5, 0.5)
        values = {s.name: scale * rng.standard_normal(s.shape) for s in tensors.segments}
        members.append(tensors.with_values(values))
        rows.append((family, width, 1 / (1 + scale**2)))
    names = ("family", "width", "accuracy")
    table = {name: np.array(column) for name, column in zip(names, zip(*rows, strict=True), strict=True)}
    return FakeZoo(table | {"id": np.arange(size)}, members)
