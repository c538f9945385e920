"""One run of an experiment, and the folder with its settings and results."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..files.fields import read_json, valid
from ..files.writing import make_folder, write_json
from ..ir import GmncError, LoadError
from . import schemas, training
from .parallel import rank
from .progress import OnProgress
from .zoo import ABOUT

__all__ = ["RESULT", "RUN", "Experiment", "Settings", "load_result", "run"]

RUN, RESULT = "run.json", "result.json"
"""Files of a run's folder: its settings, and its result."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run trains, and on which members.

    Attributes:
        task: Name of the task.
        zoo: Folder of the zoo.
        model: Name of the metanetwork, see `gmnc.metanets.metanetwork`.
        split: One of `gmnc.tasks.accuracy.SPLITS`.
        held_out: The test family, for split ``family``.
        seed: Seed of the weights, the order of members and the choice of validation members, but not of test members.
        limit: Use this many members of the zoo; 0 for all.
        edges: Maximum number of edges in a batch.
        members: Maximum number of members in a batch.
        metanet: Options of the metanetwork.
        examples: Use this many training members, nested for increasing numbers; 0 for all.
        probes: Also read the responses to this many images, see `gmnc.tasks.probe_responses`.
    """

    task: str
    zoo: str
    model: str = "gmn"
    split: str = "full"
    held_out: str = ""
    seed: int = 0
    limit: int = 0
    edges: int = 200_000
    members: int = 32
    metanet: dict[str, Any] = field(default_factory=dict)
    examples: int = 0
    probes: int = 0


@dataclass(frozen=True, slots=True)
class Experiment:
    """A task and a model to train on it.

    Attributes:
        task: The task, for `fit`.
        model: The model, for `fit`.
        finish: Maps the trained model and the run's folder, where it may write files, to the result, with at least
            ``metrics`` of the test members, by name.
    """

    task: training.Task
    model: nn.Module
    finish: Callable[[nn.Module, Path], dict[str, Any]]


def run(
    prepare: Callable[[Settings], Experiment],
    settings: Settings,
    options: training.Options,
    out: Path,
    *,
    device: str = "cpu",
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Prepare, train and finish; resumes an earlier call for the same folder.

    Args:
        prepare: Creates the experiment.
        settings: What to train.
        options: How to train.
        out: Folder of the run.
        device: Device to train on.
        on_progress: Called after each step.

    Returns:
        The content of `RESULT`.

    Raises:
        GmncError: The folder holds a zoo or a run of other settings, or training fails.
    """
    requested = {"gmnc": __version__, "settings": asdict(settings), "options": asdict(options)}
    valid(requested, schemas.RUN, "the settings of the run")
    _check_same_run(out, requested)
    torch.manual_seed(settings.seed)
    experiment = prepare(settings)
    # Only now, so that invalid settings do not claim a folder.
    _claim(out, requested)
    model = experiment.model.to(device)
    history = training.fit(experiment.task, model, options, out, on_progress=on_progress)
    model.eval()
    start = time.monotonic()
    with torch.no_grad():
        found = experiment.finish(model, out) if rank() == 0 else {}
    result = {
        **requested,
        "parameters": sum(p.numel() for p in model.parameters()),
        "epochs": len(history.rows),
        "best_epoch": history.best + 1,
        "seconds": round(history.seconds, 1),
        "seconds_test": round(time.monotonic() - start, 1),
        "threads": torch.get_num_threads(),
        "device": _device_name(device),
        "history": history.rows,
        **found,
    }
    if rank() == 0:
        write_json(out / RESULT, result, indent=1)
    return result


def load_result(out: Path) -> dict[str, Any]:
    """The result of a finished run.

    Args:
        out: Folder of the run.

    Returns:
        The content of `RESULT`.

    Raises:
        LoadError: The folder holds no finished run, or a damaged one.
    """
    path = out / RESULT
    if not path.is_file():
        raise LoadError(f"{out}: no finished run of `gmnc train` ({RESULT} is missing)")
    found = read_json(path, schemas.result, "; not the result of a run")
    # Settings that an earlier version did not have get their defaults.
    return {**found, "settings": asdict(Settings(**found["settings"]))}


def _check_same_run(out: Path, requested: Mapping[str, Any]) -> None:
    """Raise `GmncError` if the folder holds a zoo or a run of other settings."""
    path = out / RUN
    if (out / ABOUT).exists():
        raise GmncError(f"{out} is a zoo; choose another folder for the run")
    if not path.is_file():
        return
    before = read_json(path, schemas.RUN)
    # Settings that an earlier version did not have get their defaults.
    defaults = {"settings": asdict(Settings(task="", zoo="")), "options": asdict(training.Options())}
    other = [
        name
        for part in ("settings", "options")
        for name in requested[part]
        if {**defaults[part], **before.get(part, {})}[name] != requested[part][name] and name != "checkpoint_seconds"
    ]
    if other:
        raise GmncError(f"{out} holds a run with another {', '.join(other)}; choose another folder for this one")


def _claim(out: Path, requested: Mapping[str, Any]) -> None:
    """Write the settings, unless they are there."""
    if rank() == 0 and not (out / RUN).is_file():
        write_json(make_folder(out) / RUN, requested, indent=1)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
