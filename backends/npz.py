"""Arrays by name in a file of `numpy.savez`."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from ..ir import LoadError
from ..ir.files import FileState

__all__ = ["LARGEST", "read_arrays"]

LARGEST = 1 << 30
"""Bytes of all arrays; packed, they may be a thousandth of it."""


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The arrays. Raises `LoadError` that names the file if there is none, it holds something else, or too much."""
    FileState.of(path)
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size <= LARGEST:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except Exception as error:  # whatever the libraries make of damage, from a wrong checksum to a lack of memory
        raise LoadError(f"{path}: not a file of arrays; write it with numpy.savez(path, NAME=array)") from error
    raise LoadError(f"{path}: {size:,} bytes of arrays, more than the {LARGEST:,} that are read")
