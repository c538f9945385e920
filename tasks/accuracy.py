"""Predicting a network's test accuracy from its parameters (arXiv 2312.04501, section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..backends.blocks import Blocks, batch
from ..ir import GmncError
from ..metanets import GMN, metanetwork
from .experiment import Experiment, Settings
from .predictor import fit_predictor
from .probe_responses import WithProbeResponses, probe_responses, standardised
from .progress import OnProgress
from .schemas import number_column, text_column
from .training import by_budget, shuffled

__all__ = ["NONE", "SPLITS", "Accuracy", "Split", "experiment", "metrics", "split"]

SPLITS = ("full", "tenth", "width", "family")
"""Ways to split members into training, validation and test. full: 20 % test, an eighth of the others validates. tenth:
the same test members, a tenth of the others. width: narrow members train, strictly wider ones of the same architecture
family test. family: one architecture family tests."""

NONE = "none"
"""The model that reads only responses to probes and no parameters."""

_TEST, _VALID, _NARROW = 0.2, 0.125, 0.6


@dataclass(frozen=True, slots=True)
class Split:
    """Member numbers of the three parts of a split, int64, ascending.

    Attributes:
        train: Members to train on.
        valid: Members by which the best epoch is chosen.
        test: Members for the reported metrics.
    """

    train: np.ndarray
    valid: np.ndarray
    test: np.ndarray


def split(table: Mapping[str, np.ndarray], name: str, seed: int = 0, held_out: str = "", examples: int = 0) -> Split:
    """Split the members of a zoo; the test members do not depend on the seed.

    Args:
        table: Columns of the zoo's index; ``family`` and ``width`` are read.
        name: One of `SPLITS`.
        seed: Seed of the choice of training and validation members.
        held_out: The test family, for split ``family``.
        examples: Number of training members, nested for increasing numbers; 0 for all.

    Returns:
        The member numbers of each part.

    Raises:
        GmncError: Unknown split or family, an empty part, or more examples than training members.
    """
    if name not in SPLITS:
        raise GmncError(f"unknown split {name!r}: choose {', '.join(SPLITS)}")
    families = text_column(table, "family")
    if name == "family":
        if held_out not in families:
            known = ", ".join(sorted(set(families.tolist())))
            which = f"there is no {held_out!r} in this zoo" if held_out else "none is given"
            raise GmncError(f"split 'family' holds out one family, and {which}: choose with --held-out: {known}")
        test = families == held_out
    elif name == "width":
        test = _wide(families, number_column(table, "width"))
    else:
        test = np.zeros(len(families), dtype=bool)
        test[np.random.default_rng(0).permutation(len(families))[: round(_TEST * len(families))]] = True
    rest = np.random.default_rng([1, seed]).permutation(np.flatnonzero(~test))
    if name == "tenth":
        rest = rest[: round(len(rest) / 10)]
    valid = round(_VALID * len(rest))
    if examples > len(rest) - valid:
        raise GmncError(f"split {name!r}: {len(rest) - valid} members train, fewer than {examples} examples")
    train = rest[valid:][: examples or None]
    parts = [np.sort(part) for part in (train, rest[:valid], np.flatnonzero(test))]
    if not all(len(part) for part in parts):
        raise GmncError(f"split {name!r}: {len(families)} members are too few for training, validation and test")
    return Split(*parts)


def _wide(families: np.ndarray, widths: np.ndarray) -> np.ndarray:
    """The members of each family that are wider than its 60 % quantile."""
    wide = np.zeros(len(families), dtype=bool)
    for family in set(families.tolist()):
        own = families == family
        wide |= own & (widths > np.quantile(widths[own], _NARROW, method="lower"))
    return wide


def metrics(expected: np.ndarray, found: np.ndarray) -> dict[str, float]:
    """Metrics of predictions.

    Args:
        expected: True values, float64 [n].
        found: Predictions, float64 [n].

    Returns:
        ``r2``, ``tau`` (Kendall's tau-b) and ``mse``.
    """
    from scipy.stats import kendalltau

    error = float(np.mean((expected - found) ** 2))
    spread = float(np.var(expected))
    tau = float(kendalltau(expected, found).statistic) if len(expected) > 1 else 0.0
    return {"r2": 1 - error / max(spread, 1e-12), "tau": tau if np.isfinite(tau) else 0.0, "mse": error}


class Accuracy:
    """The task for `fit`: cross-entropy between accuracies and the sigmoid of the metanetwork's output.

    With several readers (see `gmnc.tasks.WithProbeResponses`) each has its own loss, and their outputs are averaged
    before the sigmoid.

    Args:
        members: The networks.
        accuracy: Accuracy of each member, [n].
        parts: The split.
        seed: Seed of the order of members.
        max_edges: Maximum number of edges in a batch.
        max_members: Maximum number of members in a batch.
        responses: Responses of each member to probes, float32 [n, P], for a model that reads them.
    """

    whole_batch = False

    def __init__(
        self,
        members: Sequence[Blocks],
        accuracy: np.ndarray,
        parts: Split,
        *,
        seed: int,
        max_edges: int,
        max_members: int,
        responses: np.ndarray | None = None,
    ) -> None:
        self.members, self.accuracy, self.parts = members, accuracy.astype(np.float64), parts
        self.responses = responses
        self.sizes = np.array([m.num_edges for m in members], dtype=np.float64)
        self.seed, self.max_edges, self.max_members = seed, max_edges, max_members

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Shuffled batches with a bounded number of edges; see `Task`.

        Args:
            epoch: From 0.

        Returns:
            Members of each batch.
        """
        return by_budget(shuffled(self.parts.train, self.seed, epoch), self.sizes, self.max_edges, self.max_members)

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        """Sum over members of the cross-entropies, averaged over readers; see `Task`.

        Args:
            model: The metanetwork.
            items: Members, int64 [n].

        Returns:
            The sum, and n.
        """
        logits = self._logits(model, items)
        expected = torch.as_tensor(self.accuracy[items]).to(logits)[:, None].expand_as(logits)
        return F.binary_cross_entropy_with_logits(logits, expected, reduction="none").mean(1).sum(), len(items)

    def predict(self, model: nn.Module, items: np.ndarray) -> np.ndarray:
        """Predicted accuracies.

        Args:
            model: The metanetwork.
            items: Members, int64 [n].

        Returns:
            float64 [n].
        """
        parts = by_budget(items, self.sizes, self.max_edges, 4 * self.max_members)
        found = [torch.sigmoid(self._logits(model, part).mean(1)).double().cpu().numpy() for part in parts]
        return np.concatenate([np.zeros(0), *found])

    def evaluate(self, model: nn.Module, part: str) -> dict[str, float]:
        """The `metrics` of a part of the split.

        Args:
            model: The metanetwork.
            part: ``train``, ``valid`` or ``test``.

        Returns:
            Metrics by name.
        """
        items = getattr(self.parts, part)
        return metrics(self.accuracy[items], self.predict(model, items))

    def score(self, metrics: Mapping[str, float]) -> float:
        """The negated squared error.

        Args:
            metrics: What `evaluate` returned.

        Returns:
            Greater is better.
        """
        return -metrics["mse"]

    def _logits(self, model: nn.Module, items: np.ndarray) -> torch.Tensor:
        """[n, readers]."""
        device = next(model.parameters()).device
        graphs = batch([self.members[i] for i in items]).to(device)
        if self.responses is None:
            return model(graphs)
        return model(graphs, torch.from_numpy(self.responses[items]).to(device))


def experiment(
    settings: Settings, zoo: Any, predictor: Path | None = None, on_progress: OnProgress | None = None
) -> Experiment:
    """Prepare the prediction of accuracies.

    Args:
        settings: What to train.
        zoo: A `Zoo` of classifiers.
        predictor: File for a `Predictor`, written at the end.
        on_progress: Called while responses to probes are computed.

    Returns:
        The experiment for `run`.

    Raises:
        GmncError: The settings contradict each other or do not fit the zoo.
    """
    if settings.model == NONE and not settings.probes:
        raise GmncError(f"--model {NONE} reads only responses to probes: choose their number with --probes")
    if settings.model == NONE and settings.metanet:
        raise GmncError(f"{NONE} takes no options, but {min(settings.metanet)!r} is given")
    accuracy = number_column(zoo.table, "accuracy", 0, 1).astype(np.float64)
    parts = split(zoo.table, settings.split, settings.seed, settings.held_out, settings.examples)
    probes = settings.probes
    responses = standardised(probe_responses(zoo, probes, on_progress), parts.train) if probes else None
    task = Accuracy(
        zoo.members, accuracy, parts, seed=settings.seed, max_edges=settings.edges, max_members=settings.members,
        responses=responses,
    )  # fmt: skip
    model = _model(settings, zoo.members[int(parts.train[0])], responses)
    with torch.no_grad():
        # Initialise the output near the mean accuracy.
        mean = float(np.clip(accuracy[parts.train].mean(), 0.01, 0.99))
        for reader in model.readers if isinstance(model, WithProbeResponses) else [model]:
            last = [m for m in reader.modules() if isinstance(m, nn.Linear)][-1]
            last.bias.fill_(float(np.log(mean / (1 - mean))))

    def finish(trained: nn.Module, out: Path) -> dict[str, Any]:
        found = task.predict(trained, parts.test)
        expected = accuracy[parts.test]
        names = text_column(zoo.table, "family")[parts.test]
        mean = metrics(expected, np.full(len(expected), accuracy[parts.train].mean()))
        families = {str(f): metrics(expected[names == f], found[names == f]) for f in sorted(set(names.tolist()))}
        if predictor is not None and isinstance(trained, GMN):
            about = {"zoo": {"members": len(accuracy)}, "split": settings.split, "metrics": metrics(expected, found)}
            fit_predictor(trained.cpu(), [zoo.members[int(i)] for i in parts.train], about).save(predictor)
        return {
            "metrics": metrics(expected, found),
            "mean_of_training": mean,
            "families": families,
            "members": {name: len(getattr(parts, name)) for name in ("train", "valid", "test")},
            "predictions": {
                "id": np.asarray(zoo.table["id"])[parts.test].tolist(),
                "family": names.tolist(),
                "accuracy": expected.tolist(),
                "predicted": np.round(found, 6).tolist(),
            },
        }

    return Experiment(task, model, finish)


def _model(settings: Settings, like: Blocks, responses: np.ndarray | None) -> nn.Module:
    """The model to train; responses: to probes, [n, P], if it reads them."""
    if responses is None:
        return metanetwork(settings.model, 1, like, **settings.metanet)
    reader = None if settings.model == NONE else metanetwork(settings.model, 1, like, **settings.metanet)
    return WithProbeResponses(reader, responses.shape[1])
