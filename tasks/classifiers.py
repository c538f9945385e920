"""A zoo of image classifiers: drawing, training and exporting its members."""

from __future__ import annotations

import math
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import onnx
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..frontend import compile
from ..ir import GmncError, ParameterGraph
from .families import ACTIVATIONS, FAMILIES, Recipe, build
from .images import SIZE, Images, digits
from .zoo import Member

__all__ = ["Classifiers", "Schedule", "draw", "template", "train"]

_BATCH = 64
_OPSET = 20


@dataclass(frozen=True, slots=True)
class Schedule:
    """How a network is trained, by AdamW on batches of 64.

    Attributes:
        learning_rate: Initial learning rate, which decays linearly to 0.
        epochs: Passes over its training images; 0 for an untrained network.
        weight_decay: Weight decay of AdamW.
        fraction: Fraction of the 4,000 training images that it sees.
    """

    learning_rate: float
    epochs: int
    weight_decay: float
    fraction: float


def draw(rng: np.random.Generator) -> tuple[Recipe, Schedule]:
    """Draw a member's hyperparameters; learning rates range from too small to learn to so large that training fails."""
    name = str(rng.choice(list(FAMILIES)))
    family = FAMILIES[name]
    recipe = Recipe(
        name,
        width=int(rng.choice(family.widths)),
        depth=int(rng.choice(family.depths)),
        norm=str(rng.choice(family.norms)),
        activation=str(rng.choice(list(ACTIVATIONS))),
        dropout=round(float(rng.uniform(0, 0.4)), 3) if rng.random() < 0.5 else 0.0,
    )
    schedule = Schedule(
        learning_rate=_log_uniform(rng, 1e-3, 6e-2),
        epochs=0 if rng.random() < 0.04 else round(_log_uniform(rng, 1, 24)),
        weight_decay=_log_uniform(rng, 1e-3, 1.0) if rng.random() < 0.5 else 0.0,
        fraction=_log_uniform(rng, 0.2, 1.0),
    )
    return recipe, schedule


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    """A log-uniform number, to four digits so that tables are readable."""
    return float(f"{math.exp(rng.uniform(math.log(low), math.log(high))):.4g}")


class Classifiers:
    """Makes the members of a zoo of kind ``classifiers``; see `gmnc.tasks.zoo.Maker`."""

    batch_size = 8

    def architecture(self, seed: int, number: int) -> str:
        """Name of a member's architecture."""
        return draw(np.random.default_rng([seed, number]))[0].architecture

    def members(self, seed: int, numbers: Sequence[int]) -> Iterator[Member]:
        """Train members, one after the other."""
        for number in numbers:
            yield _member(seed, number)


def _member(seed: int, number: int) -> Member:
    """Draw and train a member; start again from other random weights while values are not finite."""
    rng = np.random.default_rng([seed, number])
    recipe, schedule = draw(rng)
    graph = template(recipe.architecture)
    images = _images()
    while True:
        net = train(recipe, schedule, images, int(rng.integers(2**63)))
        state = {name: t.numpy() for name, t in _state(net).items()}
        logits = _logits(net, images.test_x)
        if logits.isfinite().all() and all(np.isfinite(a).all() for a in state.values()):
            break
    classes = torch.from_numpy(images.test_y)
    row = {
        **asdict(recipe),
        **asdict(schedule),
        "parameters": sum(a.size for a in state.values()),
        "accuracy": float((logits.argmax(1) == classes).double().mean()),
        "loss": float(functional.cross_entropy(logits.double(), classes)),
    }
    return Member(recipe.architecture, graph, state, row)


def train(recipe: Recipe, schedule: Schedule, images: Images, seed: int) -> nn.Module:
    """The trained network in evaluation mode; with one thread it depends on the arguments only."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = build(recipe)
        count = max(1, round(schedule.fraction * len(images.train_x)))
        chosen = torch.randperm(len(images.train_x))[:count]
        x, y = torch.from_numpy(images.train_x)[chosen], torch.from_numpy(images.train_y)[chosen]
        optimizer = torch.optim.AdamW(
            net.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay, fused=True
        )
        net.train()
        batches = [batch for _ in range(schedule.epochs) for batch in torch.randperm(count).split(_BATCH)]
        for step, batch in enumerate(batches):
            optimizer.param_groups[0]["lr"] = schedule.learning_rate * (1 - step / len(batches))
            optimizer.zero_grad()
            functional.cross_entropy(net(x[batch]), y[batch]).backward()
            optimizer.step()
    return net.eval()


@torch.no_grad()
def _logits(net: nn.Module, x: np.ndarray) -> Tensor:
    return net(torch.from_numpy(x))


@lru_cache(maxsize=1)
def _images() -> Images:
    return digits()


def _state(net: nn.Module) -> Mapping[str, Tensor]:
    """All tensors that inference reads."""
    return {name: t for name, t in net.state_dict().items() if not name.endswith("num_batches_tracked")}


@lru_cache(maxsize=4)
def template(architecture: str) -> ParameterGraph:
    """The graph of an architecture (`Recipe.architecture`), with the ONNX model that members share.

    Raises `GmncError` if a parameter of the network has no edges of its own.
    """
    family, width, depth, norm, activation = architecture.split("-")
    recipe = Recipe(family, int(width[1:]), int(depth[1:]), norm, activation)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        net = build(recipe).eval()
        for tensor in _state(net).values():
            # The exporter merges equal tensors, as biases and norms are at initialisation.
            tensor.data.uniform_(0.5, 1.5)
        graph = compile(_export(net))
    on_edges = {block.view.name for block in graph.edges}
    for name, tensor in _state(net).items():
        if name not in on_edges or graph.parameters[name].shape != tuple(tensor.shape):
            raise GmncError(f"{architecture}: the exporter lost the parameter {name!r}; use another version of torch")
    return graph


def _export(net: nn.Module) -> onnx.ModelProto:
    """The ONNX model by the TorchScript exporter, which is a hundred times faster here than the newer one."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "network.onnx"
        torch.onnx.export(
            net, (torch.zeros(2, 1, SIZE, SIZE),), path, dynamo=False, opset_version=_OPSET,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
            input_names=["image"], output_names=["logits"],
            dynamic_axes={"image": {0: "batch"}, "logits": {0: "batch"}},
        )  # fmt: skip
        return onnx.load(path)
