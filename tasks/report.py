"""Comparison of runs: mean and standard deviation over seeds, as JSON, Markdown and plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..files.writing import make_folder, replacing
from ..ir import GmncError
from ..ir.printable import printable

__all__ = ["PARTS", "Row", "curves", "edits", "markdown", "plots", "scatter", "summary", "titles", "to_json"]

PARTS = ("test", "valid")
"""Parts of a split that have metrics: ``test``, and ``valid`` at the best epoch, for choosing settings."""


@dataclass(frozen=True, slots=True)
class Row:
    """Runs that differ only in their seed.

    Attributes:
        task: Task of the runs.
        split: The split, with the held-out family if there is one.
        model: Name of the metanetwork.
        settings: Those that differ from other rows of this task, split and model, as in ``lr 0.003``.
        seeds: Seeds of the runs.
        metrics: Mean and sample standard deviation over seeds, by name.
        parameters: Number of parameters of the metanetwork.
        epochs: Mean number of epochs.
        seconds: Mean training time.
        members: Number of members by part, if the runs record it.
        device: Device on which the runs were trained.
    """

    task: str
    split: str
    model: str
    settings: str
    seeds: tuple[int, ...]
    metrics: dict[str, tuple[float, float]]
    parameters: int
    epochs: float
    seconds: float
    members: dict[str, int]
    device: str


def summary(results: Iterable[Mapping[str, Any]], of: str = "test") -> list[Row]:
    """Group runs by everything but their seed.

    Args:
        results: Results of `gmnc.tasks.run`.
        of: One of `PARTS`.

    Returns:
        Rows ordered by task, split and model.

    Raises:
        GmncError: `of` is not in `PARTS`, or two runs are the same.
    """
    if of not in PARTS:
        raise GmncError(f"unknown part {of!r}: choose {' or '.join(PARTS)}")
    groups: dict[tuple[str, str, str], dict[str, list[Mapping[str, Any]]]] = {}
    for result in results:
        own = groups.setdefault(_key(result), {})
        # The number of parameters too: defaults may have changed between runs with the same settings.
        own.setdefault(json.dumps([_chosen(result), result["parameters"]], sort_keys=True), []).append(result)
    rows = []
    for key in sorted(groups):
        runs = list(groups[key].values())
        names = _differing([_chosen(r[0]) for r in runs])
        for same in runs:
            rows.append(_row(*key, _settings_text(same[0], names), same, of))
    return rows


def _key(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """Task, split with the held-out family, and model."""
    of = result["settings"]
    return of["task"], f"{of['split']} ({of['held_out']})" if of["held_out"] else of["split"], of["model"]


def _chosen(result: Mapping[str, Any]) -> dict[str, Any]:
    """All settings of a run but its seed and folders, by name."""
    apart = ("task", "split", "held_out", "model", "seed", "zoo", "metanet", "checkpoint_seconds")
    given = {**result["settings"], **result.get("options", {})}
    found = {name: value for name, value in given.items() if name not in apart}
    return {**found, **result["settings"].get("metanet", {})}


def _differing(chosen: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names whose values differ."""
    names = dict.fromkeys(name for one in chosen for name in one)
    return [n for n in names if any(one.get(n) != chosen[0].get(n) for one in chosen)]


def _settings_text(result: Mapping[str, Any], names: Iterable[str]) -> str:
    """The settings of a run under these names, as text."""
    chosen = _chosen(result)
    return ", ".join(f"{n} {chosen[n]}" for n in names if n in chosen)


def titles(results: Sequence[Mapping[str, Any]]) -> list[str]:
    """Titles of runs.

    Args:
        results: Results of `gmnc.tasks.run`.

    Returns:
        For each run model, split, seed, and the settings that differ among runs of its task, split and model.
    """
    by_key: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for result in results:
        by_key.setdefault(_key(result), []).append(_chosen(result))
    names = {key: _differing(chosen) for key, chosen in by_key.items()}
    found = []
    for result in results:
        _, part, model = key = _key(result)
        text = _settings_text(result, names[key])
        found.append(", ".join(filter(None, (model, part, text, f"seed {result['settings']['seed']}"))))
    return found


def _row(task: str, split: str, model: str, settings: str, runs: Sequence[Mapping[str, Any]], of: str) -> Row:
    seeds = [r["settings"]["seed"] for r in runs]
    twice = sorted({s for s in seeds if seeds.count(s) > 1})
    if twice:
        raise GmncError(
            f"{task}, {split}, {model}: two runs have seed {twice[0]} and the same settings; give only one of them"
        )
    found = [r["metrics"] if of == "test" else r["history"][r["best_epoch"] - 1]["valid"] for r in runs]
    names = [n for n in found[0] if all(n in m for m in found)]
    values = {n: np.array([m[n] for m in found], dtype=np.float64) for n in names}
    return Row(
        task,
        split,
        model,
        settings,
        tuple(sorted(seeds)),
        {n: (float(v.mean()), float(v.std(ddof=1)) if len(v) > 1 else 0.0) for n, v in values.items()},
        int(runs[0]["parameters"]),
        float(np.mean([r["epochs"] for r in runs])),
        float(np.mean([r["seconds"] for r in runs])),
        dict(runs[0].get("members", {})),
        ", ".join(sorted({_device(r) for r in runs})),
    )


def _device(result: Mapping[str, Any]) -> str:
    """Name of the GPU, or number of CPU threads; empty if unknown."""
    if result.get("device") != "cpu":
        return str(result.get("device", ""))
    threads = result.get("threads", 1)
    return f"{threads} thread{'s' if threads > 1 else ''} of a CPU"


def to_json(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Rows as JSON data.

    Args:
        rows: Rows of `summary`.

    Returns:
        One object per row, with each metric as ``{"mean": ..., "std": ...}``.
    """
    found = []
    for row in rows:
        plain = asdict(row)
        plain["metrics"] = {n: {"mean": mean, "std": std} for n, (mean, std) in row.metrics.items()}
        found.append(plain)
    return found


def markdown(rows: Sequence[Row]) -> str:
    """Rows as Markdown.

    Args:
        rows: Rows of `summary`.

    Returns:
        One table per task, one line per row.
    """
    parts = []
    for task in dict.fromkeys(row.task for row in rows):
        own = [row for row in rows if row.task == task]
        names = list(dict.fromkeys(n for row in own for n in row.metrics))
        extra = ["settings"] if any(row.settings for row in own) else []
        head = ["split", "model", *extra, *names, "seeds", "members", "parameters", "epochs", "minutes", "on"]
        lines = [_line(head), _line("---" for _ in head)]
        for row in own:
            members = " / ".join(str(row.members[k]) for k in ("train", "valid", "test") if k in row.members)
            cells = [_cell(row.metrics[n], len(row.seeds)) if n in row.metrics else "" for n in names]
            about = [len(row.seeds), members, f"{row.parameters:,}", f"{row.epochs:.0f}", f"{row.seconds / 60:.1f}"]
            lines.append(
                _line([row.split, row.model, *([row.settings] if extra else []), *cells, *map(str, about), row.device])
            )
        parts.append("\n".join([f"**{task}**", "", *lines]))
    return "\n\n".join(parts) + "\n"


def _cell(value: tuple[float, float], seeds: int) -> str:
    mean, std = value
    digits = 3 if abs(mean) >= 0.01 else 5
    return f"{mean:.{digits}f} ± {std:.{digits}f}" if seeds > 1 else f"{mean:.{digits}f}"


def _line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def plots(results: Sequence[Mapping[str, Any]], folder: Path) -> list[Path]:
    """Plot learning curves of all runs, and predictions and edits of the runs that have them.

    Args:
        results: Results of `gmnc.tasks.run`.
        folder: Folder for the PNG files.

    Returns:
        The files.
    """
    make_folder(folder)
    made = []
    titled = list(zip(results, titles(results), strict=True))
    for task in dict.fromkeys(r["settings"]["task"] for r in results):
        made.append(folder / f"{task}-curves.png")
        curves([(r, title) for r, title in titled if r["settings"]["task"] == task], made[-1])
    for result, title in titled:
        of = result["settings"]
        if "predictions" in result:
            part = f"{of['split']}-{of['held_out']}" if of["held_out"] else of["split"]
            made.append(_free_path(folder / f"{of['task']}-{part}-{of['model']}-{of['seed']}.png", made))
            scatter(result, title, made[-1])
        if "edited" in result:
            made.append(_free_path(folder / f"{of['task']}-{of['model']}-{of['seed']}.png", made))
            edits(result, made[-1])
    return made


def _free_path(path: Path, made: Sequence[Path]) -> Path:
    """The path, with a number if it is taken by a run with other settings."""
    names = [path, *(path.with_name(f"{path.stem}-{n}{path.suffix}") for n in range(2, len(made) + 2))]
    return next(name for name in names if name not in made)


def scatter(result: Mapping[str, Any], title: str, path: Path) -> None:
    """Plot predicted against true accuracy, one point per test member, coloured by family.

    Args:
        result: What `load_result` returns of a run.
        title: Title of the plot.
        path: File to write.
    """
    from matplotlib.figure import Figure

    found = result["predictions"]
    true, guess, family = (np.asarray(found[n]) for n in ("accuracy", "predicted", "family"))
    figure = Figure(figsize=(5.2, 5), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 1], [0, 1], color="0.7", linewidth=1)
    for name in sorted(set(family.tolist())):
        at = family == name
        axes.scatter(true[at], guess[at], s=10, alpha=0.7, linewidths=0, label=name)
    numbers = ", ".join(f"{n} {v:.3f}" for n, v in result["metrics"].items())
    axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="true test accuracy", ylabel="predicted", aspect="equal")
    axes.set_title(f"{title}\n{numbers}", fontsize=10)
    axes.legend(fontsize=8, frameon=False)
    _write(figure, path)


def curves(titled: Iterable[tuple[Mapping[str, Any], str]], path: Path) -> None:
    """Plot training loss and validation score by epoch, one line per run.

    Args:
        titled: Results of runs with their titles.
        path: File to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    for result, title in titled:
        rows = result["history"]
        epochs = [row["epoch"] for row in rows]
        left.plot(epochs, [row["loss"] for row in rows], linewidth=1, label=title)
        right.plot(epochs, [row["score"] for row in rows], linewidth=1)
    left.set(xlabel="epoch", ylabel="training loss")
    right.set(xlabel="epoch", ylabel="validation score")
    left.legend(fontsize=7, frameon=False)
    _write(figure, path)


def edits(result: Mapping[str, Any], path: Path) -> None:
    """Plot the images of networks before the edit, their targets, and after the edit.

    Args:
        result: What `load_result` returns of a run.
        path: File to write.
    """
    from matplotlib.figure import Figure

    shown = result["edited"]
    figure = Figure(figsize=(1.1 * len(shown) + 0.9, 3.6), layout="constrained")
    axes = figure.subplots(3, len(shown), squeeze=False)
    for row, (name, label) in enumerate((("original", "original"), ("target", "dilated"), ("edited", "edited"))):
        for column, network in enumerate(shown):
            pixels = np.array(network[name])
            side = math.isqrt(len(pixels))
            axes[row, column].imshow(pixels.reshape(side, side), cmap="gray", vmin=-1, vmax=1)
            axes[row, column].set(xticks=[], yticks=[])
        axes[row, 0].set_ylabel(label, fontsize=10)
    for column, network in enumerate(shown):
        axes[2, column].set_xlabel(f"{network['mse']:.3f}", fontsize=8)
    _write(figure, path)


def _write(figure: Any, path: Path) -> None:
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        # Names of runs and families may contain dollar signs.
        text.set_parse_math(False)
        text.set_text(printable(text.get_text(), lines=True))
    with replacing(path) as temporary:
        figure.savefig(temporary, dpi=150, format="png")
