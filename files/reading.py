"""Checked reading of files: whether they changed since they were opened, and whether a path stays in its folder."""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..ir.errors import LoadError

__all__ = ["FileState", "MappedFile", "inside"]


@dataclass(frozen=True, slots=True)
class FileState:
    """The identity of a regular file at one time.

    Attributes:
        path: The path it was opened by.
        device: Device number.
        inode: Inode number.
        size: Size in bytes.
        modified: Time of modification in nanoseconds.
    """

    path: str
    device: int
    inode: int
    size: int
    modified: int

    @staticmethod
    def of(path: str | os.PathLike[str]) -> FileState:
        """The state of the file at a path, following links.

        Args:
            path: Its path.

        Returns:
            The state now.

        Raises:
            LoadError: if there is no such file, or it is not a regular file.
        """
        try:
            return _state(os.fspath(path), os.stat(path))
        except (OSError, ValueError) as error:
            raise LoadError(f"{path}: cannot read the file: {_reason(error)}") from error

    def absolute(self) -> FileState:
        """The same state with an absolute path.

        Returns:
            The state, independent of the working directory.
        """
        return replace(self, path=os.path.abspath(self.path))

    def check(self, mapped: mmap.mmap | None = None) -> None:
        """Check that reading now gives what was there.

        Args:
            mapped: A memory map of the file, if it is read through one. A file that was replaced by renaming another
                one into its place is still intact in the map.

        Raises:
            LoadError: if the file has changed.
        """
        try:
            now = FileState.of(self.path)
        except LoadError:
            now = None
        if now == self:
            return
        elsewhere = now is None or (now.device, now.inode) != (self.device, self.inode)
        # Reading a map of a file that was truncated kills the process (SIGBUS).
        if mapped is not None and elsewhere and mapped.size() >= self.size:
            return
        raise LoadError(f"{self.path}: the file changed since it was read; load or compile it again")


class MappedFile:
    """A file mapped for reading.

    Args:
        path: Its path.

    Attributes:
        state: The state of the file when it was mapped.
        array: uint8 [size], its bytes; call `check` before reading from them, or copy them with `read`.

    Raises:
        LoadError: if there is no such file, it cannot be read, is empty, or is not a regular file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        # Opening a pipe would wait for a writer.
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
        """The memory map."""
        found: Any = self.array.base
        return found

    def check(self) -> None:
        """Check that the bytes are those that were mapped.

        Raises:
            LoadError: if the file has changed.
        """
        self.state.check(self.data)

    def read(self, first: int, last: int) -> np.ndarray:
        """Copy bytes of the file, which no later change of the file can reach.

        They are read and not copied from the map: a file that is truncated meanwhile is an error and not a crash.

        Args:
            first: The first byte.
            last: One past the last byte, at most the size of the file.

        Returns:
            uint8 [last - first].

        Raises:
            LoadError: if the file has changed.
        """
        changed = LoadError(f"{self.state.path}: the file changed while it was read; load it again")
        try:
            with open(self.state.path, "rb") as file:
                if _state(self.state.path, os.fstat(file.fileno())) != self.state:
                    raise changed
                file.seek(first)
                found = np.empty(last - first, dtype=np.uint8)
                if file.readinto(found.data) != len(found):
                    raise changed
                if _state(self.state.path, os.fstat(file.fileno())) != self.state:
                    raise changed
        except OSError as error:
            raise LoadError(f"{self.state.path}: cannot read the file: {_reason(error)}") from error
        return found

    def __reduce__(self) -> tuple[Any, ...]:
        # The path is pickled and not the bytes.
        self.state.check()
        return _mapped_again, (self.state.absolute(),)


def _mapped_again(state: FileState) -> MappedFile:
    """Map the file again, in another process; raises `LoadError` if it has changed."""
    state.check()
    return MappedFile(state.path)


def inside(folder: str | os.PathLike[str], location: str | os.PathLike[str]) -> bool:
    """Whether a relative path stays inside a folder once symbolic links are resolved.

    Args:
        folder: The folder.
        location: A path relative to it, from untrusted input.

    Returns:
        False for absolute paths and for those that lead outside.
    """
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
