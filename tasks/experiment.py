"""One run of an experiment: what to train, and a folder with all that it was and found."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import __version__
from ..backends.fields import read_json, valid
from ..backends.files import make_folder, write_json
from ..ir import GmncError, LoadError
from . import records, training
from .parallel import rank
from .progress import OnProgress
from .zoo import ABOUT

__all__ = ["RESULT", "RUN", "Experiment", "Settings", "load_result", "run"]

RUN, RESULT = "run.json", "result.json"
"""Files of a run's folder: what was asked for; what was found."""


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is of, beside the training itself.

    split: which members train and which test. held_out: a family, for the split of that name. seed: of the weights, of
    the order of members and of the choice of validation members; test members do not depend on it. limit: so many
    members of the zoo only; 0: all. edges, members: most edges and most members of a batch. metanet: options of the
    metanetwork. examples: so many of the training members only, those of fewer among them; 0: all. probes: so many
    images to which each network's answers are read too; see `gmnc.tasks.answers`.
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
    """task and model: for `training.fit`. finish: given the trained model and the run's folder, what was found.

    The result has at least ``metrics``, of the test members, by name; `finish` may write files into the folder.
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
    """Prepare, train and finish; goes on where an earlier call for the same folder was stopped.

    Returns what is written as `RESULT`. Raises `GmncError` if the folder holds a run of other settings.
    """
    asked = {"gmnc": __version__, "settings": asdict(settings), "options": asdict(options)}
    valid(asked, records.RUN, "what was asked for")
    _refuse_other(out, asked)
    torch.manual_seed(settings.seed)
    experiment = prepare(settings)
    # Only now: a folder is not taken by settings that cannot be trained.
    _claim(out, asked)
    model = experiment.model.to(device)
    history = training.fit(experiment.task, model, options, out, on_progress=on_progress)
    model.eval()
    start = time.monotonic()
    with torch.no_grad():
        found = experiment.finish(model, out) if rank() == 0 else {}
    result = {
        **asked,
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
    """What a finished run found; raises `LoadError` if the folder holds none."""
    path = out / RESULT
    if not path.is_file():
        raise LoadError(f"{out}: no finished run of `gmnc train` ({RESULT} is missing)")
    found = read_json(path, records.result, "; not the result of a run")
    # Settings that a run of an earlier version did not have are the usual ones.
    return {**found, "settings": asdict(Settings(**found["settings"]))}


def _refuse_other(out: Path, asked: Mapping[str, Any]) -> None:
    """Raise `GmncError` if the folder holds a run of which something else was asked."""
    path = out / RUN
    if (out / ABOUT).exists():
        raise GmncError(f"{out}: is a zoo; choose another folder for the run")
    if not path.is_file():
        return
    before = read_json(path, records.RUN)
    # What a run of an earlier version was not asked is as usual.
    usual = {"settings": asdict(Settings(task="", zoo="")), "options": asdict(training.Options())}
    other = [
        name
        for part in ("settings", "options")
        for name in asked[part]
        if {**usual[part], **before.get(part, {})}[name] != asked[part][name] and name != "checkpoint_seconds"
    ]
    if other:
        raise GmncError(f"{out}: holds a run with another {', '.join(other)}; choose another folder for this one")


def _claim(out: Path, asked: Mapping[str, Any]) -> None:
    """Write what was asked for, unless it is there."""
    if rank() == 0 and not (out / RUN).is_file():
        write_json(make_folder(out) / RUN, asked, indent=1)


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name(device) if device.startswith("cuda") else "cpu"
