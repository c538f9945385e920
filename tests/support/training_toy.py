"""A small task for the training loop, and a script that trains on it: OUT EPOCHS [KILL_AT_LOSS]."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import distributed, nn

from gmnc.tasks import parallel, training

OPTIONS = training.Options(epochs=4, lr=1e-2, seed=3, checkpoint_seconds=0.0)


class Toy:
    """Regression of a sine. kill_at: which call of `loss` ends the process, as a kill -9 does."""

    whole_batch = False

    def __init__(self, kill_at: int = -1) -> None:
        self.x = torch.linspace(-2, 2, 50)[:, None]
        self.y, self.calls, self.kill_at = torch.sin(self.x), 0, kill_at

    def batches(self, epoch: int) -> list[np.ndarray]:
        return training.by_budget(training.shuffled(np.arange(50), 0, epoch), np.ones(50), 7, 100)

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        self.calls += 1
        if self.calls == self.kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return (model(self.x[items]) - self.y[items]).square().sum(), len(items)

    def evaluate(self, model: nn.Module, part: str) -> dict[str, float]:
        return {"mse": (model(self.x) - self.y).square().mean().item()}

    def score(self, metrics: Mapping[str, float]) -> float:
        return -metrics["mse"]


class Nothing:
    """A task that any network does."""

    whole_batch = False

    def batches(self, epoch: int) -> list[np.ndarray]:
        return [np.arange(2)]

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        return model(torch.ones(2, 200)).square().sum(), 2.0

    def evaluate(self, model: nn.Module, part: str) -> dict[str, float]:
        return {"mse": 1.0}

    def score(self, metrics: object) -> float:
        return 0.0


def network(dropout: float = 0.1) -> nn.Module:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(1, 16), nn.SiLU(), nn.Dropout(dropout), nn.Linear(16, 1))


def main(out: str, dropout: str, kill_at: str = "-1") -> None:
    with parallel.process_group():
        group = weakref.ref(distributed.group.WORLD) if distributed.is_initialized() else lambda: None
        training.fit(Toy(int(kill_at)), network(float(dropout)), OPTIONS, Path(out))
    assert group() is None, "the group of processes and its threads are still there"


if __name__ == "__main__":
    main(*sys.argv[1:])
