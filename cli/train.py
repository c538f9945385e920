"""`gmnc train`: train a metanetwork on a zoo."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from .options import Device, Json, Quiet
from .session import errors_to_exit_codes, note, output, print_json, progress_bar

if TYPE_CHECKING:
    from ..tasks import Experiment, OnProgress, Options, Settings

__all__ = ["Metanet", "SplitName", "TaskName", "train_metanetwork"]


class TaskName(StrEnum):
    """The task."""

    accuracy = "accuracy"
    inr_edit = "inr-edit"
    inr_ssl = "inr-ssl"


class Metanet(StrEnum):
    """The metanetwork, see `gmnc.metanets.metanetwork`; none reads no parameters (with --probes)."""

    gmn = "gmn"
    deepsets = "deepsets"
    statnn = "statnn"
    dmc = "dmc"
    nfn = "nfn"
    none = "none"


class SplitName(StrEnum):
    """The split into training, validation and test members; see `gmnc.tasks.accuracy.SPLITS`."""

    full = "full"
    tenth = "tenth"
    width = "width"
    family = "family"


Task = Annotated[TaskName, typer.Argument(help="The task to train on.", show_default=False)]
ZooFolder = Annotated[
    Path, typer.Option("--zoo", metavar="DIR", help="Folder of a zoo, as written by gmnc zoo make.", show_default=False)
]
RunFolder = Annotated[
    Path,
    typer.Option(
        "--out", "-o", metavar="RUN", help="Folder of the run; an existing run is resumed.", show_default=False
    ),
]
Model = Annotated[Metanet, typer.Option(help="The metanetwork; none reads no parameters (with --probes).")]
Split = Annotated[SplitName, typer.Option(help="Split of the zoo into training, validation and test members.")]
HeldOut = Annotated[str, typer.Option(metavar="FAMILY", help="The test family, with --split family.")]
Seed = Annotated[int, typer.Option(metavar="S", min=0, help="Seed of the weights and of the order of members.")]
Epochs = Annotated[
    int, typer.Option(metavar="N", min=1, help="Largest number of epochs; the learning rate decays to 0 over them.")
]
LearningRate = Annotated[float, typer.Option(metavar="X", min=0.0, help="Peak learning rate.")]
WeightDecay = Annotated[float, typer.Option(metavar="X", min=0.0, help="Weight decay of AdamW, on matrices only.")]
Patience = Annotated[
    int,
    typer.Option(metavar="N", min=0, help="Stop after this many epochs without a better validation score; 0: never."),
]
Limit = Annotated[int, typer.Option(metavar="N", min=0, help="Use only the first N members of the zoo; 0: all.")]
Examples = Annotated[int, typer.Option(metavar="N", min=0, help="Train on only N of the training members; 0: all.")]
Probes = Annotated[
    int, typer.Option(metavar="N", min=0, help="Also read each network's outputs for N generated images (accuracy).")
]
Edges = Annotated[
    int, typer.Option(metavar="N", min=1, help="Largest number of edges in a batch, which bounds the memory.")
]
Members = Annotated[int, typer.Option(metavar="N", min=1, help="Largest number of members in a batch.")]
Option = Annotated[
    list[str] | None,
    typer.Option(
        "--option",
        metavar="NAME=VALUE",
        help="Option of the metanetwork, as in hidden_channels=64. Repeatable.",
        show_default=False,
    ),
]
PredictorFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help="Also write a predictor for gmnc predict here (accuracy, gmn).", show_default=False
    ),
]


def train_metanetwork(
    task: Task,
    zoo: ZooFolder,
    out: RunFolder,
    model: Model = Metanet.gmn,
    split: Split = SplitName.full,
    held_out: HeldOut = "",
    seed: Seed = 0,
    epochs: Epochs = 60,
    lr: LearningRate = 2e-3,
    weight_decay: WeightDecay = 0.01,
    patience: Patience = 0,
    limit: Limit = 0,
    examples: Examples = 0,
    probes: Probes = 0,
    edges: Edges = 200_000,
    members: Members = 32,
    option: Option = None,
    predictor: PredictorFile = None,
    device: Device = "auto",
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Train a metanetwork on a zoo; RUN gets a checkpoint, a log and result.json with the test metrics.

    Example: gmnc train accuracy --zoo zoo --out run --epochs 60 --seed 0
    """
    with errors_to_exit_codes():
        from ..tasks import Options, Settings

        if predictor is not None:
            _check_predictor(predictor, task, model, probes, zoo, out)
        settings = Settings(
            task.value, str(zoo), model.value, split.value, held_out, seed, limit, edges, members,
            _options(option), examples, probes,
        )  # fmt: skip
        options = Options(epochs, lr, weight_decay, patience=patience, seed=seed)
        result = _train(settings, options, out, predictor, device, quiet)
    if result is None:
        return
    if json:
        print_json({k: v for k, v in result.items() if k not in ("history", "predictions")})
    else:
        _print(result)
    note(f"wrote {out}", quiet)


def _check_predictor(path: Path, task: TaskName, model: Metanet, probes: int, zoo: Path, out: Path) -> None:
    """Raise `GmncError` if the run cannot write a predictor to this path."""
    from ..files.writing import target
    from ..ir import GmncError

    if task != TaskName.accuracy or model != Metanet.gmn:
        raise GmncError("--predictor: only `accuracy` with `--model gmn` writes one")
    if probes:
        raise GmncError("--predictor: `gmnc predict` reads only parameters; omit --probes")
    target(path, [p for p in (*zoo.rglob("*"), *out.glob("*")) if p.is_file()])
    if path.suffix.lower() != ".safetensors":
        raise GmncError(f"cannot write {path}: the name of a predictor must end in .safetensors")


def _train(
    settings: Settings, options: Options, out: Path, predictor: Path | None, device: str, quiet: bool
) -> dict[str, Any] | None:
    """Train in one process or several; returns the result, or None in processes of other ranks than 0."""
    from ..tasks import process_group, rank, run

    def prepare(settings: Settings) -> Experiment:
        return _prepare(settings, on_progress, predictor)

    with process_group(), progress_bar(quiet or not _first(), after=0.5) as on_progress:
        result = run(prepare, settings, options, out, device=_device(device), on_progress=on_progress)
        return result if rank() == 0 else None


def _first() -> bool:
    """Whether this is the only process, or rank 0 under torchrun."""
    import os

    return os.environ.get("RANK", "0") == "0"


def _prepare(settings: Settings, on_progress: OnProgress, predictor: Path | None) -> Experiment:
    from ..ir import GmncError
    from ..tasks import Zoo, accuracy, inr_edit, inr_ssl

    if settings.task != TaskName.accuracy and settings.split != SplitName.full:
        raise GmncError(f"--split {settings.split}: {settings.task} has only the split full")
    if settings.task != TaskName.accuracy and settings.examples:
        raise GmncError(f"--examples: {settings.task} trains on all members; choose --limit")
    if settings.task != TaskName.accuracy and (settings.probes or settings.model == Metanet.none):
        raise GmncError(f"--probes and --model none: {settings.task} has none; choose accuracy")
    zoo = Zoo.open(Path(settings.zoo), limit=settings.limit or None, on_progress=on_progress)
    if settings.task == TaskName.accuracy:
        return accuracy.experiment(settings, zoo, predictor, on_progress)
    return {TaskName.inr_edit: inr_edit, TaskName.inr_ssl: inr_ssl}[TaskName(settings.task)].experiment(settings, zoo)


def _options(given: list[str] | None) -> dict[str, Any]:
    """Parse ``["hidden_channels=64", "norm=false"]`` to a mapping of numbers, booleans and strings."""
    found: dict[str, Any] = {}
    for text in given or ():
        name, sign, value = text.partition("=")
        if not name or not sign:
            raise typer.BadParameter(f"{text!r}: expected NAME=VALUE, as in dropout=0.1", param_hint="--option")
        found[name.replace("-", "_")] = _value(value)
    return found


def _value(text: str) -> Any:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _device(name: str) -> str:
    """The device; raises `GmncError` if it is not available."""
    import os

    import torch

    from ..ir import GmncError

    there = torch.cuda.is_available()
    if name == "auto":
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if there else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise GmncError(f"--device {name}: not available ({reason}); choose auto or cpu") from error
    return name


def _print(result: dict[str, Any]) -> None:
    from rich import box
    from rich.table import Table

    of = result["settings"]
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("split", "model", *result["metrics"], "epochs", "seconds"):
        table.add_column(name, justify="left" if name in ("split", "model") else "right")
    numbers = [f"{value:.4f}" for value in result["metrics"].values()]
    table.add_row(of["split"], of["model"], *numbers, str(result["epochs"]), f"{result['seconds']:.0f}")
    output().print(table)
