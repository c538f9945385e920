"""Schemas of the files of zoos and runs, and of the columns of an index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..files.fields import Check, FieldError, flag, integer, listed, mapping, number, table, text, word
from ..ir import GmncError

__all__ = ["ABOUT", "EPOCH", "NETWORKS", "RUN", "check_column", "index_row", "number_column", "result", "text_column"]

NETWORKS = "networks"
"""The folder of the members' files in a zoo."""

_MEMBERS = 10**6
_SHOWN = 64
_seed = integer(most=2**63 - 1)
_count = integer(most=2**62)
_measure = number(-1e100, 1e100)


def _scalar(value: Any) -> Any:
    """A boolean, a finite number or a word."""
    if isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return _measure(value)
    return word(value)


def _property(value: Any) -> Any:
    """A property of a member: a finite number or a text."""
    return text(value) if isinstance(value, str) else _scalar(value)


def _member_file(value: Any) -> str:
    """Path of a member's file, which must be in the folder of the zoo."""
    folder, _, name = text(value).partition("/")
    if folder != NETWORKS:
        raise FieldError(f"a file in {NETWORKS}/", value)
    word(name)
    return str(value)


def _maybe_word(value: Any) -> str:
    return "" if value == "" else word(value)


ABOUT = table({"kind": word, "size": integer(1, _MEMBERS), "seed": _seed}, {"gmnc": text})
"""zoo.json."""

_ROW = {"id": integer(most=_MEMBERS), "file": _member_file, "architecture": word}


def index_row(value: Any) -> dict[str, Any]:
    """A row of the index in a file of its own."""
    table(_ROW, {"family": word})(value)
    return mapping(_property, word)(value)


_SETTINGS = {
    "task": word, "zoo": text, "model": word, "split": word, "held_out": _maybe_word, "seed": _seed, "limit": _count,
    "edges": _count, "members": _count, "metanet": mapping(_scalar, word), "examples": _count, "probes": _count,
}  # fmt: skip
_OPTIONS = {
    "epochs": integer(1), "lr": number(0), "weight_decay": number(0), "warmup": number(0, 1), "clip": number(0),
    "patience": integer(), "amp": flag, "seed": _seed, "checkpoint_seconds": number(0),
}  # fmt: skip

RUN = table({}, {"gmnc": text, "settings": table({}, _SETTINGS), "options": table({}, _OPTIONS)})
"""run.json."""

EPOCH = table(
    {"epoch": integer(1), "loss": _measure, "valid": mapping(_measure, word), "score": _measure},
    {"lr": number(0), "seconds": number(0, 1e12)},
)
"""A row of a run's history."""


def _settings(value: Any) -> dict[str, Any]:
    found = table({name: _SETTINGS[name] for name in ("task", "zoo")}, _SETTINGS)(value)
    for name in found:
        if name not in _SETTINGS:
            raise FieldError(f"settings among {', '.join(_SETTINGS)}", name)
    return found


def _predictions(value: Any) -> dict[str, Any]:
    found = table({"accuracy": listed(_measure), "predicted": listed(_measure), "family": listed(word)})(value)
    if len({len(found[name]) for name in ("accuracy", "predicted", "family")}) != 1:
        raise FieldError("as many accuracies as predictions and families", found)
    return found


def _picture(value: Any) -> list[float]:
    found = listed(_measure, 1)(value)
    if math.isqrt(len(found)) ** 2 != len(found):
        raise FieldError("the pixels of a square", value)
    return found


_EDITED = table({"original": _picture, "target": _picture, "edited": _picture, "mse": _measure})

_result = table(
    {
        "settings": _settings,
        "metrics": mapping(_measure, word),
        "history": listed(EPOCH, 1),
        "parameters": _count,
        "epochs": _count,
        "best_epoch": integer(1),
        "seconds": number(0, 1e12),
    },
    {
        "options": table({}, _OPTIONS),
        "members": mapping(_count, word),
        "device": text,
        "threads": _count,
        "predictions": _predictions,
        "edited": listed(_EDITED, 1, _SHOWN),
    },
)


def result(value: Any) -> dict[str, Any]:
    """The content of result.json."""
    found = _result(value)
    if found["best_epoch"] > len(found["history"]):
        raise FieldError(f"the number of one of {len(found['history'])} epochs", found["best_epoch"]).within(
            ".best_epoch"
        )
    return found


def check_column(name: str, values: np.ndarray) -> None:
    """Raise `FieldError` unless a column of an index holds finite numbers or texts, as its name requires."""
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise FieldError("finite numbers", values[~np.isfinite(values)].tolist())
    if values.dtype.kind == "O":
        check: Check[Any] = {**_ROW, "family": word}.get(name, text)
        for value in set(map(_hashable, values.tolist())):
            check(value)
    elif values.dtype.kind not in "biuf" or name in ("file", "architecture", "family"):
        raise FieldError("texts" if name in _ROW else "numbers or texts", values.dtype.name)
    if name == "id" and not np.array_equal(values, np.arange(len(values))):
        raise FieldError("the numbers from 0 on", values.tolist())


def number_column(zoo: Mapping[str, np.ndarray], name: str, least: float = -np.inf, most: float = np.inf) -> np.ndarray:
    """A numeric column of a zoo's index; raises `GmncError` if it is missing or not within the range."""
    values = np.asarray(zoo[name]) if name in zoo else None
    if values is None or values.dtype.kind not in "biuf":
        raise GmncError(f"the zoo's index has no numeric column {name!r}: this task needs another kind of zoo")
    # Comparisons are false for NaN.
    if not ((values >= least) & (values <= most) & np.isfinite(values)).all():
        raise GmncError(f"the zoo's index: {name!r} has a value that is not a finite number from {least:g} to {most:g}")
    return values


def text_column(zoo: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """A text column of a zoo's index; raises `GmncError` if it is missing."""
    if name not in zoo or np.asarray(zoo[name]).dtype.kind not in "OU":
        raise GmncError(f"the zoo's index has no text column {name!r}: this task needs another kind of zoo")
    return np.asarray(zoo[name])


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str) else repr(type(value))
