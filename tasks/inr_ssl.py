"""Task inr-ssl: contrastive embeddings of SIRENs, close for two networks of one function (arXiv 2312.04501, 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..ir import GmncError
from ..metanets import metanetwork, mlp
from .experiment import Experiment, Settings
from .inr_edit import split_groups
from .population import Population, Standardiser
from .schemas import number_column
from .training import shuffled

__all__ = ["Contrast", "Encoder", "experiment", "flipped", "info_nce", "regression"]

_NOISE = 0.02
_TEST = 0.2


def info_nce(first: torch.Tensor, second: torch.Tensor, temperature: float) -> torch.Tensor:
    """InfoNCE (Chen et al. 2020): cross-entropy of finding the other view of an item, summed over 2 B views.

    Args:
        first: Embeddings [B, C] of one view of each item.
        second: Embeddings [B, C] of the other view.
        temperature: Divides cosine similarities.

    Returns:
        A scalar.
    """
    both = F.normalize(torch.cat([first, second]), dim=1)
    similarity = (both @ both.t() / temperature).fill_diagonal_(-torch.inf)
    other = torch.arange(len(both), device=both.device).roll(len(first))
    return F.cross_entropy(similarity, other, reduction="sum")


def flipped(population: Population, values: torch.Tensor, signs: list[torch.Tensor]) -> torch.Tensor:
    """Flip signs of hidden neurons, which preserves the functions, as sin(-x) = -sin(x).

    Args:
        population: The networks' population.
        values: Parameters [B, V].
        signs: For each hidden layer [B, width], 1 or -1.

    Returns:
        [B, V].
    """
    found = values.clone()
    for number, segment in enumerate(population.segments):
        layer, bias = divmod(number, 2)
        own = found[:, segment.start : segment.start + segment.size].view(len(values), *segment.shape)
        if layer < len(signs):
            own *= signs[layer].reshape(len(values), -1, *([1] * (len(segment.shape) - 1)))
        if layer and not bias:
            own *= signs[layer - 1][:, None]
    return found


def regression(known: torch.Tensor, targets: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """Linear regression from embeddings to targets.

    Args:
        known: Embeddings [n, C].
        targets: Their targets [n, K].
        queries: Embeddings [m, C].

    Returns:
        Predicted targets of `queries`, float64 [m, K].
    """
    mean, deviation = known.double().mean(0), known.double().std(0).clamp(min=1e-9)

    def columns(rows: torch.Tensor) -> torch.Tensor:
        return torch.cat([(rows.double() - mean) / deviation, torch.ones(len(rows), 1, dtype=torch.float64)], dim=1)

    x = columns(known)
    # A small ridge, as embeddings may lie in a subspace.
    ridge = 1e-4 * len(x) * torch.eye(x.shape[1], dtype=torch.float64)
    return columns(queries) @ torch.linalg.solve(x.t() @ x + ridge, x.t() @ targets.double())


class Encoder(nn.Module):
    """An embedding, and the projection head of the contrastive loss.

    Args:
        metanet: Maps a graph to [G, outputs].
        population: The networks.
        scaled: Standardises values.
        outputs: Width of the embedding.
    """

    def __init__(self, metanet: nn.Module, population: Population, scaled: Standardiser, outputs: int) -> None:
        super().__init__()
        self.metanet, self.population, self.scaled = metanet, population, scaled
        # Without this normalisation embeddings start nearly equal and collapse to one vector.
        normalised = nn.BatchNorm1d(outputs, affine=False)
        self.head = nn.Sequential(normalised, mlp(outputs, outputs, outputs, 0.0, "silu"))

    def embed(self, values: torch.Tensor) -> torch.Tensor:
        """Embeddings of networks.

        Args:
            values: [B, V].

        Returns:
            [B, outputs].
        """
        return self.metanet(self.population.blocks(self.scaled(values)))

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Embed networks through the projection head.

        Args:
            values: Parameters of B networks, [B, V].

        Returns:
            [B, outputs].
        """
        return self.head(self.embed(values))


class Contrast:
    """The task for `fit`: contrastive learning; items are functions with two members each.

    A view of a function is one of its members, with random sign flips of neurons and noise on its values.

    Args:
        population: All members.
        scaled: Their standard deviations.
        members: Numbers of the members of each function, int64 [F, 2].
        targets: What a linear regression predicts from embeddings for evaluation, float64 [F, K].
        parts: Function numbers of ``train``, ``valid`` and ``test``.
        seed: Seed of the order of functions.
        max_functions: Maximum number of functions in a batch.
        temperature: See `info_nce`.
        noise: In standard deviations of each parameter tensor.
    """

    whole_batch = True

    def __init__(
        self, population: Population, scaled: Standardiser, members: np.ndarray, targets: np.ndarray,
        parts: Mapping[str, np.ndarray], *, seed: int, max_functions: int, temperature: float = 0.1,
        noise: float = _NOISE,
    ) -> None:  # fmt: skip
        self.population, self.deviation, self.members = population, scaled.deviation.clone(), members
        self.targets, self.parts = torch.from_numpy(targets), parts
        self.seed, self.max_functions, self.temperature, self.noise = seed, max_functions, temperature, noise

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Shuffle the training functions into batches; see `Task`.

        Args:
            epoch: Number of the epoch, which determines the order.

        Returns:
            Numbers of functions, batch by batch; without those less than half full, which have few negatives.
        """
        order = shuffled(self.parts["train"], self.seed, epoch)
        found = [order[at : at + self.max_functions] for at in range(0, len(order), self.max_functions)]
        return [part for part in found if 2 * len(part) >= min(self.max_functions, len(order))]

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        """Compute the training loss; see `Task`.

        Args:
            model: The encoder.
            items: Numbers of functions, int64 [n].

        Returns:
            The sum of `info_nce` over both views of each function, and their number.
        """
        device = next(model.parameters()).device
        views = torch.cat([self._view(self.members[items, side]) for side in (0, 1)]).to(device)
        first, second = model(views).chunk(2)
        return info_nce(first, second, self.temperature), 2 * len(items)

    def evaluate(self, model: nn.Module, part: str) -> dict[str, float]:
        """Compute the metrics of a part of the split; see `Task`.

        Args:
            model: The encoder.
            part: ``train``, ``valid`` or ``test``.

        Returns:
            The metric ``mse`` of a linear regression fitted on training members, mean over targets.
        """
        known, queries = (self.embeddings(model, self.parts[name]) for name in ("train", part))
        targets, expected = (self.targets[self.parts[name]].repeat_interleave(2, 0) for name in ("train", part))
        return {"mse": float((regression(known, targets, queries) - expected).square().mean())}

    def embeddings(self, model: nn.Module, functions: np.ndarray) -> torch.Tensor:
        """Embed both members of each function.

        Args:
            model: The encoder.
            functions: Numbers of functions, int64 [n].

        Returns:
            Embeddings, the two of a function in turn, [2 n, C].
        """
        device = next(model.parameters()).device
        rows = self.population.values[self.members[functions].reshape(-1)]
        encoder: Any = model
        return torch.cat([encoder.embed(part.to(device)).cpu() for part in rows.split(2 * self.max_functions)])

    def score(self, metrics: Mapping[str, float]) -> float:
        """Rate metrics; see `Task`.

        Args:
            metrics: What `evaluate` returns.

        Returns:
            The negated squared error.
        """
        return -metrics["mse"]

    def _view(self, members: np.ndarray) -> torch.Tensor:
        values = self.population.values[members]
        widths = [segment.shape[0] for segment in self.population.segments[:-2:2]]
        signs = [torch.randint(0, 2, (len(values), width)) * 2.0 - 1 for width in widths]
        return flipped(self.population, values, signs) + self.noise * self.deviation * torch.randn_like(values)


def experiment(settings: Settings, zoo: Any) -> Experiment:
    """Prepare the experiment inr-ssl.

    Args:
        settings: What to train.
        zoo: A `Zoo` of kind ``sine``.

    Returns:
        The experiment for `run`.

    Raises:
        GmncError: The zoo is of another kind or too small.
    """
    if "function" not in zoo.table:
        raise GmncError("inr-ssl needs a zoo of sines: gmnc zoo make --kind sine")
    count = len(zoo.members) // 2
    members = np.arange(2 * count).reshape(count, 2)
    if not np.array_equal(number_column(zoo.table, "function")[members], np.arange(count)[:, None].repeat(2, 1)):
        raise GmncError("inr-ssl needs the members of the zoo in their order, two for each function")
    targets = np.stack([number_column(zoo.table, name).astype(np.float64)[::2][:count] for name in "ab"], axis=1)
    functions = np.arange(count)
    tested = np.isin(functions, np.random.default_rng(0).permutation(count)[: round(_TEST * count)])
    chosen = split_groups(functions, tested, settings.seed)
    population = Population(zoo.members)
    scaled = Standardiser(population, members[chosen["train"]].reshape(-1).tolist())
    task = Contrast(population, scaled, members, targets, chosen, seed=settings.seed, max_functions=settings.members)
    outputs = 64
    model = Encoder(
        metanetwork(settings.model, outputs, population.like, **settings.metanet), population, scaled, outputs
    )

    def finish(trained: nn.Module, out: Path) -> dict[str, Any]:
        test, train = chosen["test"], chosen["train"]
        mean = float(np.mean((targets[test] - targets[train].mean(0)) ** 2))
        return {
            "metrics": task.evaluate(trained, "test"),
            "mean_of_training": {"mse": mean},
            "members": {name: 2 * len(items) for name, items in chosen.items()},
        }

    return Experiment(task, model, finish)
