"""A graph metanetwork as one file: safetensors, with the options that it was made with in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..backends.fields import Wrong, parsed
from ..backends.files import replacing
from ..ir import GmncError, LoadError
from ..ir.errors import one_line
from ..ir.files import FileState
from .gmn import GMN
from .options import stored_options

__all__ = ["about", "load", "save"]

_KEY = "gmnc.metanets.GMN"
_DTYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16}


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
    header = about(path).get(_KEY)
    if header is None:
        raise LoadError(f"{path}: no weights of a metanetwork; write them by gmnc.metanets.save(model, path)")
    options = parsed(header, stored_options, str(path))
    try:
        # Without memory first: a header may ask for any size.
        with torch.device("meta"):
            like = GMN(**options).state_dict()
        weights = load_file(path)
        _check_weights(weights, like)
        model = GMN(**options, kernel=kernel)
        model.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    except GmncError as error:
        raise LoadError(f"{path}: {error}") from error
    except (SafetensorError, Wrong, ValueError, RuntimeError) as error:
        raise LoadError(f"{path}: not the weights of a metanetwork ({one_line(error)})") from error
    return model


def _check_weights(weights: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> None:
    """Raise `Wrong` unless the weights are those that a metanetwork of these options has, all of one floating type."""
    if weights.keys() != like.keys():
        missing, more = sorted(like.keys() - weights.keys()), sorted(weights.keys() - like.keys())
        raise Wrong(f"the tensors that its options say, among them {(missing or more)[0]!r}", more or "fewer")
    kinds = {value.dtype for value in weights.values()}
    if len(kinds) != 1 or not kinds <= _DTYPES:
        raise Wrong("weights of one floating type", ", ".join(map(str, kinds)))
    for name, value in weights.items():
        if value.shape != like[name].shape:
            raise Wrong(f"shape {list(like[name].shape)}", list(value.shape)).within(name)


def about(path: Path | str) -> dict[str, str]:
    """What the header of a file holds beside tensors; raises `LoadError` if it is no such file."""
    FileState.of(path)
    try:
        with safe_open(str(path), "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path}: not a safetensors file ({one_line(error)})") from error
