"""Reading the checkpoint of a run, entirely or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ..files.fields import Check, FieldError, integer, listed, mapping, number, row, table
from ..files.reading import FileState
from ..ir import GmncError, LoadError
from ..ir.errors import root_cause
from .schemas import EPOCH

__all__ = ["read_checkpoint"]


def read_checkpoint(
    path: Path, options: Mapping[str, Any], model: nn.Module, optimizer: torch.optim.Optimizer
) -> dict[str, Any]:
    """The state in a checkpoint, after loading weights and optimiser state into `model` and `optimizer`.

    Raises `GmncError` if the run had other options, and `LoadError` if it is of another network or damaged.
    """
    FileState.of(path)
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        state = _fields(model, optimizer)(found)
        _check_same_options(path, options, state["options"])
        model.load_state_dict(state["model"])
        # Hyperparameters come from the caller; they were compared above.
        optimizer.load_state_dict({**optimizer.state_dict(), "state": state["optimizer"]["state"]})
    except GmncError:
        raise
    except Exception as error:
        reason = error if isinstance(error, FieldError) else root_cause(error)
        raise LoadError(f"{path}: not of this run ({reason}); remove it, or choose another folder") from error
    return state


def _check_same_options(path: Path, options: Mapping[str, Any], before: Mapping[str, Any]) -> None:
    other = {name for name, value in options.items() if before.get(name) != value} - {"checkpoint_seconds"}
    if other:
        raise GmncError(f"{path}: from a run with another {', '.join(sorted(other))}; choose another folder")


def _fields(model: nn.Module, optimizer: torch.optim.Optimizer) -> Check[dict[str, Any]]:
    weights = _like(model.state_dict())
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    return table(
        {
            "options": mapping(lambda value: value),
            "model": weights,
            "best": weights,
            "optimizer": table({"state": lambda value: _moments(value, parameters)}),
            "history": _history,
            "step": integer(),
            "sums": row(number(), number()),
            "spent": number(0),
            "rng": listed(_like_tensor(torch.get_rng_state()), 1),
        }
    )


def _history(value: Any) -> dict[str, Any]:
    found = table({"rows": listed(EPOCH), "best": integer(-1)})(value)
    if not -1 <= found["best"] < len(found["rows"]) or (found["best"] < 0) != (not found["rows"]):
        raise FieldError("the number of a row", found["best"]).within(".best")
    return {"rows": found["rows"], "best": found["best"]}


def _like_tensor(known: torch.Tensor) -> Check[torch.Tensor]:
    def check(value: Any) -> torch.Tensor:
        if not isinstance(value, torch.Tensor) or value.shape != known.shape or value.dtype != known.dtype:
            raise FieldError(f"{known.dtype} {list(known.shape)}", getattr(value, "shape", value))
        return value

    return check


def _like(known: Mapping[str, torch.Tensor]) -> Check[dict[str, torch.Tensor]]:
    """A check for tensors of these names, shapes and dtypes."""
    expected = table({name: _like_tensor(value) for name, value in known.items()})

    def check(value: Any) -> dict[str, torch.Tensor]:
        found = expected(value)
        if len(found) != len(known):
            raise FieldError(f"{len(known)} tensors", list(found))
        return found

    return check


def _moments(value: Any, parameters: list[nn.Parameter]) -> dict[int, Any]:
    """The state of AdamW, by index of the parameter."""
    if not isinstance(value, dict) or not all(isinstance(n, int) and 0 <= n < len(parameters) for n in value):
        raise FieldError(f"an object with numbers of {len(parameters)} parameters", value)
    for at, found in value.items():
        like = _like_tensor(parameters[at])
        table({"step": _like_tensor(torch.tensor(0.0)), "exp_avg": like, "exp_avg_sq": like})(found)
    return value
