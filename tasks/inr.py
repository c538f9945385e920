"""Editing: a metanetwork changes a network's parameters to dilate the picture it represents (section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..backends.files import make_folder
from ..backends.onnx import write
from ..frontend import compile
from ..ir import GmncError
from ..metanets import GMN, metanetwork
from .experiment import Experiment, Settings
from .fields import pixels
from .images import SIZE
from .population import Population, Scaled
from .probes import Probes
from .records import numbers
from .siren import grid, render
from .training import shuffled

__all__ = ["Dilation", "Editor", "dilated", "experiment", "on_disk", "parts"]

_VALID = 0.1
_SHOWN = 8
_PROBES = 64
"""Default of gmn; the other metanetworks have no node features."""


def dilated(pictures: torch.Tensor) -> torch.Tensor:
    """Dilate pictures.

    Args:
        pictures: [B, S * S], row by row.

    Returns:
        The maximum of each pixel and its eight neighbours, [B, S * S].
    """
    square = pictures.reshape(len(pictures), 1, SIZE, SIZE)
    return F.max_pool2d(square, 3, stride=1, padding=1).reshape(pictures.shape)


class Editor(nn.Module):
    """Maps values theta [B, V] to theta + gamma * metanet(theta).

    Args:
        metanet: Maps a graph to one number per edge.
        population: The networks to edit.
        scaled: Standardises values.
        gamma: Initial step size, learnt per parameter tensor, in its standard deviations.
        probes: Number of `Probes`, which only a `GMN` reads.
    """

    tensor: torch.Tensor

    def __init__(
        self, metanet: nn.Module, population: Population, scaled: Scaled, gamma: float = 0.1, probes: int = 0
    ) -> None:
        super().__init__()
        self.metanet, self.scaled, self.population = metanet, scaled, population
        self.gamma = nn.Parameter(torch.full((len(population.segments),), gamma))
        self.probes: Probes | None = None
        if probes:
            if not isinstance(metanet, GMN):
                raise GmncError("probes are node features, which only gmn takes")
            self.probes = Probes(population, probes, metanet.config.hidden_channels)
        tensor = torch.zeros(population.values.shape[1], dtype=torch.int64)
        for number, segment in enumerate(population.segments):
            tensor[segment.start : segment.start + segment.size] = number
        self.register_buffer("tensor", tensor, persistent=False)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Edit networks.

        Args:
            values: Parameters of B networks, [B, V].

        Returns:
            The edited values, [B, V].
        """
        given = self.scaled(values)
        graphs = self.population.blocks(given)
        found = self.metanet(graphs, self.probes(values)) if self.probes is not None else self.metanet(graphs)
        change = self.population.per_value(given, found)[..., 0]
        return values + self.gamma[self.tensor] * self.scaled.deviation * change


class Dilation:
    """The task for `fit`: squared error between renderings of edited networks and the dilated pictures.

    Args:
        population: The M networks.
        images: float32 [M, S * S], the picture of each member.
        parts: Numbers of members by split.
        seed: Of the order of members.
        most: Maximum number of members in a batch.
    """

    whole = False

    def __init__(
        self, population: Population, images: np.ndarray, parts: Mapping[str, np.ndarray], *, seed: int, most: int
    ) -> None:
        self.population, self.parts, self.seed, self.most = population, parts, seed, most
        self.targets, self.points = dilated(torch.from_numpy(images)), grid(SIZE)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Shuffled batches, all of one size but the last; see `Task`.

        Args:
            epoch: From 0.

        Returns:
            Members of each batch.
        """
        order = shuffled(self.parts["train"], self.seed, epoch)
        return [order[at : at + self.most] for at in range(0, len(order), self.most)]

    def loss(self, model: nn.Module, items: np.ndarray) -> tuple[torch.Tensor, float]:
        """Compute the training loss; see `Task`.

        Args:
            model: The editing network, an `Editor`.
            items: Numbers of members, int64 [n].

        Returns:
            The sum over members of the mean squared error over pixels, and the number of members.
        """
        return self.errors(model, items).sum(), len(items)

    def errors(self, model: nn.Module, items: np.ndarray) -> torch.Tensor:
        """Compare edited networks with their targets.

        Args:
            model: The editing network, an `Editor`.
            items: Numbers of members, int64 [n].

        Returns:
            Mean squared error of each edited member, [n].
        """
        device = next(model.parameters(), self.points).device
        edited = model(self.population.values[items].to(device))
        seen = render(self.population.tensors(edited), self.points.to(device))[..., 0]
        return (seen - self.targets[items].to(device)).square().mean(1)

    def evaluate(self, model: nn.Module, split: str) -> dict[str, float]:
        """Measure a split; see `Task`.

        Args:
            model: The editing network, an `Editor`.
            split: Name of the split.

        Returns:
            The metric ``mse``, the mean over members and pixels.
        """
        items = self.parts[split]
        found = [self.errors(model, items[at : at + self.most]) for at in range(0, len(items), self.most)]
        return {"mse": float(torch.cat(found).double().mean())}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Rate metrics; see `Task`.

        Args:
            metrics: What `evaluate` returns.

        Returns:
            The negated squared error.
        """
        return -metrics["mse"]


def parts(group: np.ndarray, tested: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Numbers of members by split, with whole groups in each; a tenth of the groups that do not test validates.

    Args:
        group: int64 [M].
        tested: bool [M], the test members.
        seed: Of the choice of validation members.

    Returns:
        Members of ``train``, ``valid`` and ``test``, int64.

    Raises:
        GmncError: A part is empty.
    """
    groups = np.random.default_rng([1, seed]).permutation(np.unique(group[~tested]))
    valid = ~tested & np.isin(group, groups[: max(1, round(_VALID * len(groups)))])
    found = {"train": ~tested & ~valid, "valid": valid, "test": tested}
    if not all(chosen.any() for chosen in found.values()):
        raise GmncError(f"{len(group)} members are too few for training, validation and test: make a larger zoo")
    return {name: np.flatnonzero(chosen) for name, chosen in found.items()}


def experiment(settings: Settings, zoo: Any) -> Experiment:
    """Prepare the editing of pictures.

    Args:
        settings: What to train.
        zoo: A `Zoo` of kind ``inr``.

    Returns:
        The experiment for `run`.

    Raises:
        GmncError: The zoo is of another kind or too small, or an option has an invalid value.
    """
    if "image" not in zoo.table:
        raise GmncError("inr-edit needs a zoo of pictures: gmnc zoo make --kind inr")
    images = pixels()[0]
    image = numbers(zoo.table, "image", 0, len(images) - 1).astype(np.int64)
    chosen = parts(image, numbers(zoo.table, "test") == 1, settings.seed)
    population = Population(zoo.members)
    task = Dilation(population, images[image], chosen, seed=settings.seed, most=settings.members)
    options = dict(settings.metanet)
    probes = options.pop("probes", _PROBES if settings.model == "gmn" else 0)
    if not isinstance(probes, int) or probes < 0:
        raise GmncError(f"probes: a number of points of at least 0, not {probes!r}")
    metanet = metanetwork(settings.model, 1, population.like, "equivariant", **options)
    model = Editor(metanet, population, Scaled(population, chosen["train"].tolist()), probes=probes)

    def finish(trained: nn.Module, out: Path) -> dict[str, Any]:
        shown = chosen["test"][:_SHOWN]
        files = [Path(zoo.folder) / str(zoo.table["file"][i]) for i in shown]
        return {
            "metrics": task.evaluate(trained, "test"),
            "no_op": task.evaluate(nn.Identity(), "test"),
            "constant": _constant(task),
            "members": {name: len(items) for name, items in chosen.items()},
            "edited": on_disk(task, trained, shown, files, out / "edited"),
        }

    return Experiment(task, model, finish)


def _constant(task: Dilation) -> dict[str, float]:
    """Test error of the best affine map of rendered pixels, fitted on training members."""
    seen = render(task.population.tensors(task.population.values), task.points)[..., 0].double()
    train, test = task.parts["train"], task.parts["test"]
    columns = torch.stack([seen[train].flatten(), torch.ones(seen[train].numel(), dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(columns, task.targets[train].double().reshape(-1, 1)).solution[:, 0]
    return {"mse": float((fitted[0] * seen[test] + fitted[1] - task.targets[test]).square().mean())}


def on_disk(
    task: Dilation, model: nn.Module, items: np.ndarray, files: list[Path], folder: Path
) -> list[dict[str, Any]]:
    """Edit members, write them back to ONNX, and render the files by ONNX Runtime.

    Args:
        task: The pictures.
        model: The editor.
        items: Members, int64 [n].
        files: Their ONNX files.
        folder: Where edited files go.

    Returns:
        For each member: ``member``, ``file``, ``mse``, and the pixels of ``original``, ``target`` and ``edited``.
    """
    make_folder(folder)
    device = next(model.parameters(), task.points).device
    with torch.no_grad():
        edited = model(task.population.values[items].to(device)).cpu()
    tensors = {name: t.numpy() for name, t in task.population.tensors(edited).items()}
    found = []
    for at, (member, file) in enumerate(zip(items.tolist(), files, strict=True)):
        path = folder / file.name
        write(compile(file), {name: t[at] for name, t in tensors.items()}, path)
        before, after = (_rendered(f, task.points.numpy()) for f in (file, path))
        target = task.targets[member].numpy()
        shown = {"original": before, "target": target, "edited": after}
        found.append(
            {
                "member": member,
                "file": f"{folder.name}/{path.name}",
                "mse": float(np.mean((after - target) ** 2)),
                **{name: np.round(p.astype(np.float64), 4).tolist() for name, p in shown.items()},
            }
        )
    return found


def _rendered(file: Path, points: np.ndarray) -> np.ndarray:
    """Output of a file at points [P, inputs] by ONNX Runtime, [P]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: points})[0][:, 0]
