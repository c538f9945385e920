"""Task inr-edit: a metanetwork edits a SIREN to dilate the image it represents (arXiv 2312.04501, section 5.2)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from ..backends.onnx import write
from ..files.writing import make_folder
from ..frontend import compile
from ..ir import GmncError
from ..metanets import GMN, metanetwork
from .experiment import Experiment, Settings
from .images import SIZE
from .neural_fields import pixels
from .population import Population, Standardiser
from .probes import Probes
from .schemas import number_column
from .siren import pixel_grid, render
from .training import shuffled

__all__ = ["Dilation", "Editor", "dilated", "edit_files", "experiment", "split_groups"]

_VALID = 0.1
_SHOWN = 8
_PROBES = 64
"""Default number of probes for gmn; the other metanetworks have no node features."""


def dilated(images: torch.Tensor) -> torch.Tensor:
    """Dilate images.

    Args:
        images: [B, S * S], row by row.

    Returns:
        The maximum of each pixel and its eight neighbours, [B, S * S].
    """
    square = images.reshape(len(images), 1, SIZE, SIZE)
    return F.max_pool2d(square, 3, stride=1, padding=1).reshape(images.shape)


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
        self, metanet: nn.Module, population: Population, scaled: Standardiser, gamma: float = 0.1, probes: int = 0
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
    """The task for `fit`: squared error between renderings of edited networks and the dilated images.

    Args:
        population: The M networks.
        images: float32 [M, S * S], the image of each member.
        parts: Member numbers of ``train``, ``valid`` and ``test``.
        seed: Seed of the order of members.
        max_members: Maximum number of members in a batch.
    """

    whole_batch = False

    def __init__(
        self,
        population: Population,
        images: np.ndarray,
        parts: Mapping[str, np.ndarray],
        *,
        seed: int,
        max_members: int,
    ) -> None:
        self.population, self.parts, self.seed, self.max_members = population, parts, seed, max_members
        self.targets, self.points = dilated(torch.from_numpy(images)), pixel_grid(SIZE)

    def batches(self, epoch: int) -> list[np.ndarray]:
        """Shuffled batches, all of one size but the last; see `Task`.

        Args:
            epoch: From 0.

        Returns:
            Members of each batch.
        """
        order = shuffled(self.parts["train"], self.seed, epoch)
        return [order[at : at + self.max_members] for at in range(0, len(order), self.max_members)]

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

    def evaluate(self, model: nn.Module, part: str) -> dict[str, float]:
        """Compute the metrics of a part of the split; see `Task`.

        Args:
            model: The editing network, an `Editor`.
            part: ``train``, ``valid`` or ``test``.

        Returns:
            The metric ``mse``, the mean over members and pixels.
        """
        items = self.parts[part]
        found = [self.errors(model, items[at : at + self.max_members]) for at in range(0, len(items), self.max_members)]
        return {"mse": float(torch.cat(found).double().mean())}

    def score(self, metrics: Mapping[str, float]) -> float:
        """Rate metrics; see `Task`.

        Args:
            metrics: What `evaluate` returns.

        Returns:
            The negated squared error.
        """
        return -metrics["mse"]


def split_groups(group: np.ndarray, tested: np.ndarray, seed: int) -> dict[str, np.ndarray]:
    """Split members by whole groups; a tenth of the groups without test members validates.

    Args:
        group: int64 [M], the group of each member.
        tested: bool [M], the test members.
        seed: Seed of the choice of validation members.

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
    """Prepare the experiment inr-edit.

    Args:
        settings: What to train.
        zoo: A `Zoo` of kind ``inr``.

    Returns:
        The experiment for `run`.

    Raises:
        GmncError: The zoo is of another kind or too small, or an option has an invalid value.
    """
    if "image" not in zoo.table:
        raise GmncError("inr-edit needs a zoo of images: gmnc zoo make --kind inr")
    images = pixels()[0]
    image = number_column(zoo.table, "image", 0, len(images) - 1).astype(np.int64)
    chosen = split_groups(image, number_column(zoo.table, "test") == 1, settings.seed)
    population = Population(zoo.members)
    task = Dilation(population, images[image], chosen, seed=settings.seed, max_members=settings.members)
    options = dict(settings.metanet)
    probes = options.pop("probes", _PROBES if settings.model == "gmn" else 0)
    if not isinstance(probes, int) or probes < 0:
        raise GmncError(f"probes: a number of points of at least 0, not {probes!r}")
    metanet = metanetwork(settings.model, 1, population.like, "equivariant", **options)
    model = Editor(metanet, population, Standardiser(population, chosen["train"].tolist()), probes=probes)

    def finish(trained: nn.Module, out: Path) -> dict[str, Any]:
        shown = chosen["test"][:_SHOWN]
        files = [Path(zoo.folder) / str(zoo.table["file"][i]) for i in shown]
        return {
            "metrics": task.evaluate(trained, "test"),
            "no_op": task.evaluate(nn.Identity(), "test"),
            "constant": _constant(task),
            "members": {name: len(items) for name, items in chosen.items()},
            "edited": edit_files(task, trained, shown, files, out / "edited"),
        }

    return Experiment(task, model, finish)


def _constant(task: Dilation) -> dict[str, float]:
    """Test error of the best affine map of rendered pixels, fitted on training members."""
    seen = render(task.population.tensors(task.population.values), task.points)[..., 0].double()
    train, test = task.parts["train"], task.parts["test"]
    columns = torch.stack([seen[train].flatten(), torch.ones(seen[train].numel(), dtype=torch.float64)], dim=1)
    fitted = torch.linalg.lstsq(columns, task.targets[train].double().reshape(-1, 1)).solution[:, 0]
    return {"mse": float((fitted[0] * seen[test] + fitted[1] - task.targets[test]).square().mean())}


def edit_files(
    task: Dilation, model: nn.Module, items: np.ndarray, files: list[Path], folder: Path
) -> list[dict[str, Any]]:
    """Edit members, write them back to ONNX, and render the files in ONNX Runtime.

    Args:
        task: The task, with the population and the target images.
        model: The `Editor`.
        items: Members, int64 [n].
        files: Their ONNX files.
        folder: Folder for the edited files.

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
    """The outputs of a file at points [P, inputs] in ONNX Runtime, [P]."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: points})[0][:, 0]
