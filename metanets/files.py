"""A graph metanetwork as one file: safetensors, with its configuration in the header."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from ..files.fields import FieldError, parsed
from ..files.reading import FileState
from ..files.writing import replacing
from ..ir import GmncError, LoadError
from ..ir.errors import one_line
from .config import GMNConfig, stored_config
from .gmn import GMN

__all__ = ["header", "load", "save"]

_KEY = "gmnc.metanets.GMN"
_DTYPES = {torch.float64, torch.float32, torch.bfloat16, torch.float16}
_ADVICE = "; another version of gmnc wrote the file, or it is damaged: save it again"


def save(model: GMN, path: Path | str, more: Mapping[str, str] | None = None) -> None:
    """Write weights and configuration.

    Args:
        model: The metanetwork, on any device.
        path: A ``.safetensors`` file; an existing one is replaced.
        more: Further metadata entries.

    Raises:
        GmncError: The file cannot be written.
    """
    with replacing(Path(path)) as temporary:
        weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
        save_file(weights, temporary, {**(more or {}), _KEY: json.dumps(asdict(model.config))})


def load(path: Path | str, *, kernel: str = "auto") -> GMN:
    """Read a metanetwork that `save` wrote.

    Args:
        path: The file.
        kernel: See `GMN`.

    Returns:
        The metanetwork on the CPU, in the dtype of its weights.

    Raises:
        LoadError: The file does not exist, or holds something else.
    """
    if not Path(path).is_file():
        raise LoadError(f"{path}: no such file")
    text = header(path).get(_KEY)
    if text is None:
        raise LoadError(f"{path}: no weights of a metanetwork; write them with gmnc.metanets.save(model, path)")
    options = parsed(text, stored_config, str(path), _ADVICE)
    try:
        config = GMNConfig(**options)
        # First on the meta device: a header may ask for weights of any size.
        with torch.device("meta"):
            like = GMN(config).state_dict()
        weights = load_file(path)
        _check_weights(weights, like)
        model = GMN(config, kernel=kernel)
        model.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    except GmncError as error:
        raise LoadError(f"{path}: {error}") from error
    except (SafetensorError, FieldError, ValueError, RuntimeError) as error:
        raise LoadError(f"{path}: not the weights of a metanetwork ({one_line(error)})") from error
    return model


def _check_weights(weights: Mapping[str, torch.Tensor], like: Mapping[str, torch.Tensor]) -> None:
    """Raise `FieldError` unless `weights` has the names and shapes of `like`, all in one floating dtype."""
    if weights.keys() != like.keys():
        missing, more = sorted(like.keys() - weights.keys()), sorted(weights.keys() - like.keys())
        raise FieldError(f"the tensors of its configuration, among them {(missing or more)[0]!r}", more or "fewer")
    kinds = {value.dtype for value in weights.values()}
    if len(kinds) != 1 or not kinds <= _DTYPES:
        raise FieldError("weights of one floating type", ", ".join(map(str, kinds)))
    for name, value in weights.items():
        if value.shape != like[name].shape:
            raise FieldError(f"shape {list(like[name].shape)}", list(value.shape)).within(name)


def header(path: Path | str) -> dict[str, str]:
    """The metadata of a safetensors file.

    Args:
        path: The file.

    Returns:
        Texts by name.

    Raises:
        LoadError: It is not a safetensors file.
    """
    FileState.of(path)
    try:
        with safe_open(str(path), "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise LoadError(f"{path}: not a safetensors file ({one_line(error)})") from error
