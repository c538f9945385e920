"""Files of pruned models: written whole or not at all, tensors beside the model where the original had them so."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import onnx_ir

from ...backends.external_data import external_tensors
from ...files.writing import replacing, target, write_bytes
from ...ir import GmncError

__all__ = ["is_external", "save", "serialised", "written"]

_LARGEST = 1 << 30
"""Bytes of tensors above which they are stored beside the model."""


def is_external(model: onnx_ir.Model) -> bool:
    """Whether tensors are to be stored beside the model: they are now, or they are too large for the file itself."""
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    return size > _LARGEST or next(external_tensors(model), None) is not None


def save(
    model: onnx_ir.Model, path: str | os.PathLike[str], external: bool, inputs: Iterable[str | os.PathLike[str]] = ()
) -> None:
    """Write a model, and with `external` its tensors to ``<file>.data``.

    Args:
        model: The model.
        path: The file to write.
        external: Whether to store tensors beside it.
        inputs: Files that must not be replaced: those that the tensors are read from.

    Raises:
        GmncError: A file cannot be written.
    """
    reads = list(inputs)
    real = target(path, reads)
    if not external:
        write_bytes(real, serialised(model))
        return
    data = real.with_name(f"{real.name}.data")
    with replacing(real, reads) as draft, replacing(data, reads) as beside:
        # The model refers to the data file by the name that it will have.
        folder = draft.parent
        onnx_ir.save(model, folder / "whole", external_data=data.name, size_threshold_bytes=0)
        os.replace(folder / data.name, beside)
        os.replace(folder / "whole", draft)


def serialised(model: onnx_ir.Model) -> bytes:
    """The bytes of a model with all its tensors. Raises `GmncError` if they are more than 2 GB."""
    try:
        return bytes(onnx_ir.to_proto(model).SerializeToString())
    except ValueError as error:
        raise GmncError(f"the model cannot be written: {error} (an ONNX file is limited to 2 GB)") from error


def written(model: onnx_ir.Model, folder: Path, name: str) -> bytes | Path:
    """A model as a runner takes it: its bytes, or a file in a folder if it is large."""
    size = sum(v.const_value.nbytes for v in model.graph.initializers.values() if v.const_value is not None)
    if size <= _LARGEST:
        return serialised(model)
    save(model, folder / name, True)
    return folder / name
