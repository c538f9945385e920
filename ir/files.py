"""Files that are read: what they were when they were opened, what is inside of a folder, where a model notes them."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from .errors import LoadError

__all__ = ["CARRIED", "FILES", "READER", "SOURCE", "FileState", "MappedFile", "inside"]

SOURCE = "gmnc.source"
"""Key in the `meta` of a graph's model: the file it was loaded from, mapped, or its bytes."""

READER = "gmnc.reader"
"""Key in the `meta` of a graph's model: what parses a message that holds what onnx-ir lacks (sparse tensors)."""

CARRIED = "gmnc.carried"
"""Key in the `meta` of a graph's model: gives what is pickled in its place, whose method `open` makes it again."""

FILES = "gmnc.files"
"""Key in the `meta` of a graph's model: the paths of the files it was read from, data files included."""


@dataclass(frozen=True, slots=True)
class FileState:
    """A regular file at one time. modified: its time of modification in nanoseconds."""

    path: str
    device: int
    inode: int
    size: int
    modified: int

    @staticmethod
    def of(path: str | os.PathLike[str]) -> FileState:
        """Of the file, links followed. Raises `LoadError` if there is none, or it is no regular file."""
        try:
            return _state(os.fspath(path), os.stat(path))
        except (OSError, ValueError) as error:
            raise LoadError(f"{path}: cannot read the file: {_reason(error)}") from error

    def absolute(self) -> FileState:
        """The same whatever the working folder is."""
        return replace(self, path=os.path.abspath(self.path))

    def check(self, mapped: mmap.mmap | None = None) -> None:
        """Raise `LoadError` if what would be read now is not what was there.

        mapped: a map of the file. Another file that took its place by renaming leaves the map as it was.
        """
        try:
            now = FileState.of(self.path)
        except LoadError:
            now = None
        if now == self:
            return
        elsewhere = now is None or (now.device, now.inode) != (self.device, self.inode)
        # A map of a file that lost its end kills the process where it is read.
        if mapped is not None and elsewhere and mapped.size() >= self.size:
            return
        raise LoadError(f"{self.path}: the file changed since it was read; load or compile it again")


class MappedFile:
    """A file mapped for reading. array: uint8 [size], its bytes; call `check` before what is read from them."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Raises `LoadError` if there is no file, it cannot be read, is empty, or is no regular file."""
        # Before it is opened, which for a pipe would wait for a writer.
        FileState.of(path)
        try:
            with open(path, "rb") as file:
                self.state = _state(os.fspath(path), os.fstat(file.fileno()))
                if not self.state.size:
                    raise LoadError(f"{path}: the file is empty; make or download it again")
                self.array = np.memmap(file, dtype=np.uint8, mode="r")
        except (OSError, ValueError) as error:
            raise LoadError(f"{path}: cannot read the file: {_reason(error)}") from error

    @property
    def data(self) -> mmap.mmap:
        """The map itself."""
        found: Any = self.array.base
        return found

    def check(self) -> None:
        """Raise `LoadError` if the bytes are no longer those that were mapped."""
        self.state.check(self.data)

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the bytes, but where they are.
        self.state.check()
        return _mapped_again, (self.state.absolute(),)


def _mapped_again(state: FileState) -> MappedFile:
    """The file where it was, in another process. Raises `LoadError` if it is not what it was."""
    state.check()
    return MappedFile(state.path)


def inside(folder: str | os.PathLike[str], location: str | os.PathLike[str]) -> bool:
    """Whether a relative location stays within the folder, however links lead."""
    if os.path.isabs(location):
        return False
    base = os.path.realpath(folder)
    try:
        return os.path.commonpath([os.path.realpath(os.path.join(base, location)), base]) == base
    except ValueError:
        return False


def _state(path: str, found: os.stat_result) -> FileState:
    if not stat.S_ISREG(found.st_mode):
        what = "a folder" if stat.S_ISDIR(found.st_mode) else "a device or a pipe"
        raise LoadError(f"{path}: is {what}, not a file")
    return FileState(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def _reason(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
