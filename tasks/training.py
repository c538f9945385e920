"""The training loop: any task, in one process or several; a killed run resumes with bit-identical results."""

from __future__ import annotations

import io
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import nn

from ..files.writing import make_folder, write_bytes
from ..ir import GmncError, LoadError
from .checkpoint import read_checkpoint
from .parallel import all_reduce_gradients, all_reduce_sum, broadcast_value, broadcast_weights, rank, shard, world_size
from .progress import OnProgress

__all__ = ["CHECKPOINT", "LOG", "History", "Options", "Task", "by_budget", "fit", "learning_rate", "shuffled"]

CHECKPOINT, LOG = "checkpoint.pt", "log.jsonl"
"""Files of a run's folder: the state to resume from, and one line of JSON per epoch."""


class Task(Protocol):
    """Data, loss and metrics of a training run; items are numbered.

    Attributes:
        whole_batch: Whether the loss depends on a batch as a whole, so that processes cannot split one.
    """

    whole_batch: bool

    def batches(self, epoch: int) -> Sequence[np.ndarray]:
        """The batches of an epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            The items of each step, int64; they depend on the epoch and the task's seed only.
        """
        ...

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        """The loss of a batch.

        Args:
            model: The model, in training mode.
            items: Items of the batch, int64 [n].

        Returns:
            The sum of the loss, a scalar, and its number of terms; training minimises their ratio.
        """
        ...

    def evaluate(self, model: nn.Module, part: str) -> dict[str, float]:
        """Metrics on a part of the split.

        Args:
            model: The model, in evaluation mode and without gradients.
            part: ``train``, ``valid`` or ``test``.

        Returns:
            Metrics by name.
        """
        ...

    def score(self, metrics: Mapping[str, float]) -> float:
        """The score by which the best epoch is chosen.

        Args:
            metrics: What `evaluate` returned.

        Returns:
            Greater is better.
        """
        ...


@dataclass(frozen=True, slots=True)
class Options:
    """Hyperparameters of training.

    Attributes:
        epochs: Number of passes over the training items.
        lr: Peak learning rate.
        weight_decay: Weight decay of AdamW, on matrices only.
        warmup: Fraction of the run in which the learning rate rises linearly; then it falls to 0 as a cosine.
        clip: Maximum norm of the gradient.
        patience: Epochs without a better score on ``valid`` after which training stops; 0: never.
        amp: Use autocast with bfloat16.
        seed: Seed of dropout and of all other random numbers that a model or a loss draws from torch.
        checkpoint_seconds: Time between checkpoints within an epoch; there is always one after each epoch.
    """

    epochs: int = 50
    lr: float = 1e-3
    weight_decay: float = 0.01
    warmup: float = 0.05
    clip: float = 1.0
    patience: int = 0
    amp: bool = False
    seed: int = 0
    checkpoint_seconds: float = 60.0


@dataclass(frozen=True, slots=True)
class History:
    """The history of a run.

    Attributes:
        rows: One per epoch, with epoch (from 1), lr, loss (mean), seconds, valid (metrics) and score.
        best: Index of the row with the best score; -1 before the first epoch.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    best: int = -1

    @property
    def seconds(self) -> float:
        """Training time of all epochs."""
        return sum(row["seconds"] for row in self.rows)


def fit(task: Task, model: nn.Module, options: Options, out: Path, *, on_progress: OnProgress | None = None) -> History:
    """Train `model` in place and load the weights of the best epoch into it.

    Args:
        task: Data, loss and metrics.
        model: The model, on its device.
        options: Hyperparameters.
        out: The run's folder. If it has a checkpoint, the run resumes from it, with the same result to the bit.
        on_progress: Called after each step.

    Returns:
        One row per epoch, and the best of them.

    Raises:
        GmncError: The checkpoint is of another run, the loss is not finite, or several processes would have to split a
            batch that cannot be split.
    """
    if task.whole_batch and world_size() > 1:
        raise GmncError("the loss of this task needs the whole batch: train in one process")
    run = _Run(task, model, options, out, on_progress or (lambda *_: None))
    run.resume()
    while not run.finished():
        run.epoch()
    model.load_state_dict(run.best)
    return run.history


def learning_rate(options: Options, done: float) -> float:
    """Learning rate at the fraction `done` (0 to 1) of all epochs."""
    if done < options.warmup:
        return options.lr * max(done / options.warmup, 1e-2)
    rest = (done - options.warmup) / max(1 - options.warmup, 1e-9)
    return options.lr * 0.5 * (1 + math.cos(math.pi * min(rest, 1.0)))


def shuffled(items: np.ndarray, seed: int, epoch: int) -> np.ndarray:
    """The items in an order that depends on seed and epoch only."""
    return np.random.default_rng([seed, epoch]).permutation(items)


def by_budget(items: np.ndarray, sizes: np.ndarray, budget: float, max_items: int) -> list[np.ndarray]:
    """Cut items [n], in order, into batches of at most `max_items` items and a total size of at most `budget`.

    A single larger item is a batch of its own. sizes: of all items, indexed by item.
    """
    found: list[np.ndarray] = []
    start, total = 0, 0.0
    for at, size in enumerate(sizes[items].tolist()):
        if at > start and (total + size > budget or at - start == max_items):
            found.append(items[start:at])
            start, total = at, 0.0
        total += size
    return [*found, items[start:]] if len(items) else found


class _Run:
    """A run in progress: the state that a checkpoint holds, and its steps."""

    def __init__(self, task: Task, model: nn.Module, options: Options, out: Path, on_progress: OnProgress) -> None:
        self.task, self.model, self.options, self.out, self.on_progress = task, model, options, out, on_progress
        matrices = [p for p in model.parameters() if p.ndim > 1]
        vectors = [p for p in model.parameters() if p.ndim <= 1]
        groups = [{"params": matrices, "weight_decay": options.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW([g for g in groups if g["params"]], lr=options.lr)
        self.history, self.best = History(), _copy(model)
        self.step, self.sums, self.spent = 0, [0.0, 0.0], 0.0
        self.saved = self.started = time.monotonic()

    def finished(self) -> bool:
        """Whether all epochs are done or patience has run out."""
        done, patience = len(self.history.rows), self.options.patience
        return done >= self.options.epochs or bool(patience and done - 1 - self.history.best >= patience)

    def epoch(self) -> None:
        """Train from the current step to the end of the epoch, evaluate, and write a checkpoint."""
        number = len(self.history.rows)
        batches = self.task.batches(number)
        if not batches:
            raise GmncError("there is nothing to train on")
        if self.step >= len(batches):
            raise LoadError(f"{self.out / CHECKPOINT}: step {self.step} of {len(batches)}: from another run; remove it")
        self.started = time.monotonic() - self.spent
        self.model.train()
        for step in range(self.step, len(batches)):
            self.on_progress(f"epoch {number + 1} of {self.options.epochs}", step, len(batches))
            lr = learning_rate(self.options, (number + step / len(batches)) / self.options.epochs)
            self._update(batches[step], lr)
            self.step = step + 1
            if self.step < len(batches) and self._due():
                self._save()
        self.on_progress(f"evaluating after epoch {number + 1}", len(batches), len(batches))
        self._close(number, lr)

    def _update(self, items: np.ndarray, lr: float) -> None:
        own = shard(items)
        total, count = torch.zeros(()), 0.0
        if len(own):
            device = next(self.model.parameters()).device.type
            with torch.autocast(device, torch.bfloat16, enabled=self.options.amp):
                total, count = self.task.loss(self.model, own)
        loss, terms = all_reduce_sum(float(total.detach()), float(count))
        if not math.isfinite(loss):
            raise GmncError(f"the loss is {loss} in epoch {len(self.history.rows) + 1}: choose a lower learning rate")
        self.optimizer.zero_grad()
        if len(own):
            (total / terms).backward()
        all_reduce_gradients(self.model.parameters())
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.sums = [self.sums[0] + loss, self.sums[1] + terms]

    def _close(self, number: int, lr: float) -> None:
        """Evaluate, keep the best weights, and write log and checkpoint."""
        metrics: dict[str, float] = {}
        if rank() == 0:
            self.model.eval()
            with torch.no_grad():
                metrics = self.task.evaluate(self.model, "valid")
        metrics = broadcast_value(metrics)
        if not all(map(math.isfinite, metrics.values())):
            raise GmncError(f"in validation after epoch {number + 1}: {metrics}; choose a lower learning rate")
        score = self.task.score(metrics)
        better = self.history.best < 0 or score > self.history.rows[self.history.best]["score"]
        row = {
            "epoch": number + 1,
            "lr": lr,
            "loss": self.sums[0] / max(self.sums[1], 1e-12),
            "valid": metrics,
            "score": score,
            "seconds": round(time.monotonic() - self.started, 3),
        }
        self.history = History([*self.history.rows, row], number if better else self.history.best)
        self.best = _copy(self.model) if better else self.best
        self.step, self.sums, self.spent = 0, [0.0, 0.0], 0.0
        self._save()

    def _due(self) -> bool:
        return broadcast_value(time.monotonic() - self.saved > self.options.checkpoint_seconds)

    def _save(self) -> None:
        self.saved = time.monotonic()
        state = {
            "options": asdict(self.options),
            "model": self.model.state_dict(),
            "best": self.best,
            "optimizer": self.optimizer.state_dict(),
            "history": {"rows": self.history.rows, "best": self.history.best},
            "step": self.step,
            "sums": self.sums,
            "spent": self.saved - self.started if self.step else 0.0,
            "rng": self._rng(),
        }
        if rank() == 0:
            make_folder(self.out)
            # Via memory, as torch.save hides the operating system's error.
            buffer = io.BytesIO()
            torch.save(state, buffer)
            write_bytes(self.out / CHECKPOINT, buffer.getbuffer())
            write_bytes(self.out / LOG, "".join(json.dumps(row) + "\n" for row in self.history.rows).encode())

    def _rng(self) -> list[torch.Tensor]:
        """The state of torch's random generator in each process."""
        own = torch.get_rng_state()
        if world_size() == 1:
            return [own]
        found: list[torch.Tensor] = [torch.empty_like(own) for _ in range(world_size())]
        torch.distributed.all_gather(found, own)
        return found

    def resume(self) -> None:
        """Load the checkpoint, if there is one."""
        torch.manual_seed(self.options.seed + rank())
        broadcast_weights(self.model)
        path = self.out / CHECKPOINT
        if not path.is_file():
            return
        state = read_checkpoint(path, asdict(self.options), self.model, self.optimizer)
        self.history, self.best = History(**state["history"]), state["best"]
        self.step, self.sums, self.spent = state["step"], state["sums"], state["spent"]
        if len(state["rng"]) == world_size():
            try:
                torch.set_rng_state(state["rng"][rank()])
            except RuntimeError as error:
                raise LoadError(f"{path}: damaged state of the random generator ({error}); remove it") from error


def _copy(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
