"""Embedding networks without labels: two networks of one function shall be near, those of others far (section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..ir import GmncError
from ..metanets import metanetwork
from ..metanets.layer import mlp
from .experiment import Experiment, Settings
from .inr import parts
from .population import Population, Scaled
from .records import numbers
from .training import shuffled

__all__ = ["Contrast", "Encoder", "experiment", "flipped", "info_nce", "regression"]

_NOISE = 0.02
_TEST = 0.2


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """The sum over 2 B views of the cross-entropy of finding the other view of the same item (Chen et al. 2020).

    first, second: [B, C], row i of both is of item i. Likeness is the cosine.
    """
    both = F.normalize(torch.cat([first, second]), dim=1)
    likeness = (both @ both.t() / temperature).fill_diagonal_(-torch.inf)
    other = torch.arange(len(both), device=both.device).roll(len(first))
    return F.cross_entropy(likeness, other, reduction="sum")


def flipped(population: Population, values: torch.Tensor, signs: list[torch.Tensor]) -> torch.Tensor:
    """The same functions with the signs of hidden neurons changed, as sin(-x) = -sin(x). values: [B, V].

    signs: of each hidden layer, [B, width], 1 or -1.
    """
    found = values.clone()
    for number, slot in enumerate(population.slots):
        layer, bias = divmod(number, 2)
        own = found[:, slot.start : slot.start + slot.size].view(len(values), *slot.shape)
        if layer < len(signs):
            own *= signs[layer].reshape(len(values), -1, *([1] * (len(slot.shape) - 1)))
        if layer and not bias:
            own *= signs[layer - 1][:, None]
    return found


def regression(known: torch.Tensor, answers: torch.Tensor, asked: torch.Tensor) -> torch.Tensor:
    """Answers [m, K] to embeddings [m, C], by linear regression on known [n, C] with answers [n, K]; float64."""
    mean, deviation = known.double().mean(0), known.double().std(0).clamp(min=1e-9)

    def columns(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([(rows.double() - mean) / deviation, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)

    x = columns(known)
    # A ridge of a ten-thousandth of the variance: embeddings may lie in fewer dimensions than they have.
    ridge = 1e-4 * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    return columns(asked) @ torch.linalg.solve(x.t() @ x + ridge, x.t() @ answers.double())


class Encoder(nn.Module):
    """An embedding, and the head through which the contrast sees it in training alone."""

    def __init__(self, metanet: nn.Module, population: Population, scaled: Scaled, outputs: int) -> None:
        super().__init__()
        self.metanet, self.population, self.scaled = metanet, population, scaled
        # Without the normalisation embeddings begin as nearly one vector, and the contrast ends with exactly one.
        normalised = nn.BatchNorm1d(outputs, affine=False)
        self.head = nn.Sequential(normalised, mlp(outputs, outputs, outputs, 0.0, "silu"))

    def embed(self, values: torch.Tensor) -> torch.Tensor:
        """[B, V] to [B, outputs]."""
        return self.metanet(self.population.blocks(self.scaled(values)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Seen through the head."""
        return self.head(self.embed(values))


class Contrast:
    """The task for `training.fit`: items are functions, each of which two members hold.

    A view of a function is one of its members, with signs of neurons changed at random and noise of `noise` standard
    deviations on its values. members: int64 [F, 2]. parts: numbers of functions by split. answers: float64 [F, K],
    what a linear regression shall tell from embeddings.
    """

    whole = True

    def __init__(
        self, population: Population, scaled: Scaled, members: np.ndarray, answers: np.ndarray,
        parts: Mapping[str, np.ndarray], *, seed: int, most: int, temperature: float = 0.1, noise: float = _NOISE,
    ) -> None:  # fmt: skip
        self.population, self.deviation, self.members = population, scaled.deviation.clone(), members
        self.answers, self.parts = torch.from_numpy(answers), parts
        self.seed, self.most, self.temperature, self.noise = seed, most, temperature, noise

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Shuffled; one that is less than half full is left out, as it has few others to tell apart."""
        order = shuffled(self.parts["train"], self.seed, epoch)
        found = [order[at : at + self.most] for at in range(0, len(order), self.most)]
        return [part for part in found if 2 * len(part) >= min(self.most, len(order))]

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        """Sum over both views of each function."""
        device = next(model.parameters()).device
        views = torch.cat([self._view(self.members[items, side]) for side in (0, 1)]).to(device)
        first, second = model(views).chunk(2)
        return info_nce(first, second, self.temperature), 2 * len(items)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """mse: of a linear regression, fitted on training members, on the members of the split; mean over answers."""
        known, asked = (self.embeddings(model, self.parts[name]) for name in ("train", split))
        answers, expected = (self.answers[self.parts[name]].repeat_interleave(2, 0) for name in ("train", split))
        return {"mse": float((regression(known, answers, asked) - expected).square().mean())}

    def embeddings(self, model: nn.Module, functions: np.ndarray) -> torch.Tensor:
        """Of both members of each function, in turn, [2 n, C]."""
        device = next(model.parameters()).device
        rows = self.population.values[self.members[functions].reshape(-1)]
        encoder: Any = model
        return torch.cat([encoder.embed(part.to(device)).cpu() for part in rows.split(2 * self.most)])

    def score(self, metrics: Mapping[str, float]) -> float:
        """The squared error of the regression, negated."""
        return -metrics["mse"]

    def _view(self, members: np.ndarray) -> torch.Tensor:
        values = self.population.values[members]
        widths = [slot.shape[0] for slot in self.population.slots[:-2:2]]
        signs = [torch.randint(0, 2, (len(values), width)) * 2.0 - 1 for width in widths]
        return flipped(self.population, values, signs) + self.noise * self.deviation * torch.randn_like(values)


def experiment(settings: Settings, zoo: Any) -> Experiment:
    """zoo: a `gmnc.tasks.members.Zoo` of kind ``sine``."""
    if "function" not in zoo.table:
        raise GmncError("inr-ssl needs a zoo of sines: gmnc zoo make --kind sine")
    count = len(zoo.members) // 2
    members = np.arange(2 * count).reshape(count, 2)
    if not np.array_equal(numbers(zoo.table, "function")[members], np.arange(count)[:, None].repeat(2, 1)):
        raise GmncError("inr-ssl needs the members of the zoo in their order, two for each function")
    answers = np.stack([numbers(zoo.table, name).astype(np.float64)[::2][:count] for name in "ab"], axis=1)
    functions = np.arange(count)
    tested = np.isin(functions, np.random.default_rng(0).permutation(count)[: round(_TEST * count)])
    chosen = parts(functions, tested, settings.seed)
    population = Population(zoo.members)
    scaled = Scaled(population, members[chosen["train"]].reshape(-1).tolist())
    task = Contrast(population, scaled, members, answers, chosen, seed=settings.seed, most=settings.members)
    outputs = 64
    model = Encoder(
        metanetwork(settings.model, outputs, population.like, **settings.metanet), population, scaled, outputs
    )

    def finish(trained: nn.Module, out: Path) -> dict[str, Any]:
        test, train = chosen["test"], chosen["train"]
        mean = float(np.mean((answers[test] - answers[train].mean(0)) ** 2))
        return {
            "metrics": task.evaluate(trained, "test"),
            "mean_of_training": {"mse": mean},
            "members": {name: 2 * len(items) for name, items in chosen.items()},
        }

    return Experiment(task, model, finish)
