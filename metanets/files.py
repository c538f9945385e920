"""A graph metanetwork as one file: safetensors, with the options that it was made with in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..backends.files import replacing
from ..ir import LoadError
from ..ir.errors import one_line
from .gmn import GMN

__all__ = ["about", "load", "save"]

_KEY = "gmnc.metanets.GMN"


def save(model: GMN, path: Path | str, more: Mapping[str, str] | None = None) -> None:
    """Write the weights, the options, and `more` in the header. Raises `GmncError` if the file cannot be written."""
    with replacing(Path(path)) as temporary:
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, temporary, {**(more or {}), _KEY: json.dumps(model.options)})


def load(path: Path | str, *, kernel: str = "auto") -> GMN:
    """The metanetwork that `save` wrote, on the CPU, in the dtype of its weights.

    Raises `LoadError`, which names the file, if there is none or if it holds something else.
    """
    if not Path(path).is_file():
        raise LoadError(f"{path}: no such file")
    try:
        with safe_open(str(path), "pt") as file:
            header = (file.metadata() or {}).get(_KEY)
        if header is None:
            raise LoadError(f"{path}: no weights of a metanetwork; write them by gmnc.metanets.save(model, path)")
        weights = load_file(path)
        model = GMN(**json.loads(header), kernel=kernel)
        model.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    except (SafetensorError, TypeError, ValueError, KeyError, RuntimeError, StopIteration) as error:
        raise LoadError(f"{path}: not the weights of a metanetwork ({one_line(error)})") from error
    return model


def about(path: Path | str) -> dict[str, str]:
    """What the header of a file holds beside tensors; raises `LoadError` if it is no such file."""
    try:
        with safe_open(str(path), "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path}: not a safetensors file ({one_line(error)})") from error
