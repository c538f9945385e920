"""Read .npz and .npy files from untrusted sources."""

from __future__ import annotations

import os
import zipfile

import numpy as np

from ..ir import LoadError
from .reading import FileState

__all__ = ["LARGEST", "read_array", "read_arrays"]

LARGEST = 1 << 30
"""Largest total size of the arrays in bytes; compressed, the file may be a thousand times smaller."""


def read_arrays(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Read the named arrays of an .npz file.

    Args:
        path: A file that `numpy.savez` or `numpy.savez_compressed` wrote.

    Returns:
        Arrays by name.

    Raises:
        LoadError: The file is missing, is no .npz file, or holds more than `LARGEST` bytes.
    """
    FileState.of(path)
    try:
        with zipfile.ZipFile(path) as packed:
            size = sum(entry.file_size for entry in packed.infolist())
        if size <= LARGEST:
            with np.load(path, allow_pickle=False) as file:
                return {name: file[name] for name in file.files}
    except Exception as error:  # damage raises anything, from zipfile.BadZipFile to MemoryError
        raise LoadError(f"{path}: not an .npz file; write it with numpy.savez(path, NAME=array)") from error
    raise LoadError(f"{path}: {size:,} bytes of arrays, the limit is {LARGEST:,}")


def read_array(path: str | os.PathLike[str]) -> np.ndarray:
    """Read the array of a .npy file.

    Args:
        path: A file that `numpy.save` wrote.

    Returns:
        The array.

    Raises:
        LoadError: The file is missing, is no .npy file, or holds more than `LARGEST` bytes.
    """
    FileState.of(path)
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if isinstance(found, np.ndarray) and found.nbytes <= LARGEST:
            return np.array(found)
    except Exception as error:  # damage raises anything, from ValueError to MemoryError
        raise LoadError(f"{path}: not a .npy file; write it with numpy.save(path, array)") from error
    raise LoadError(f"{path}: not a .npy file of at most {LARGEST:,} bytes")
