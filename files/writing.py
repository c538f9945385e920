"""Atomic file writing: readers never see a partial file, and a memory-mapped file never changes."""

from __future__ import annotations

import json
import mmap
import os
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from ..ir import GmncError

if sys.platform != "win32":
    import fcntl

__all__ = ["make_folder", "replacing", "sweep", "target", "write_bytes", "write_json"]

_PREFIX, _SUFFIX = ".gmnc-", ".tmp"

Inputs = Iterable[str | os.PathLike[str]]


def target(path: str | os.PathLike[str], inputs: Inputs = ()) -> Path:
    """Resolve an output path through symbolic links, and check that it can be written.

    Args:
        path: The output file.
        inputs: Files that the same command reads, which an output must not replace.

    Returns:
        The path of the file itself.

    Raises:
        GmncError: `path` is one of the inputs (under any name), exists and is no regular file, or its folder does not
            exist.
    """
    try:
        found = _status(path)
        real = Path(os.path.realpath(path))
        if not os.fspath(path):
            raise GmncError("cannot write to an empty path")
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise GmncError(f"cannot write {path}: it is a folder; give the path of a file")
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise GmncError(f"cannot write {path}: it is a device or a pipe; give the path of a file")
        if not real.parent.is_dir():
            raise GmncError(f"cannot write {path}: the folder {real.parent} does not exist")
        if found is not None and any(_same(found, _status(each)) for each in inputs):
            raise GmncError(f"cannot write {path}: it is read by the same command; choose another name")
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    return real


@contextmanager
def replacing(path: str | os.PathLike[str], inputs: Inputs = ()) -> Iterator[Path]:
    """Write a file atomically, through a temporary file that replaces it at the end and keeps its mode.

    After an error the temporary file is removed; one left behind by a killed process is removed by the next writer.

    Args:
        path: The output file; symbolic links are followed.
        inputs: Files that the same command reads, which an output must not replace.

    Yields:
        The temporary file, to be written by the body.

    Raises:
        GmncError: `path` cannot be written (see `target`), or the system reports an error such as a full disk.
    """
    real = target(path, inputs)
    try:
        with _workspace(real.parent) as folder:
            mode = _mode(real, folder)
            yield folder / "new"
            os.chmod(folder / "new", mode)
            os.replace(folder / "new", real)
    except (OSError, SafetensorError) as error:
        raise _refusal(path, error) from error


def write_bytes(path: str | os.PathLike[str], data: bytes | memoryview | mmap.mmap) -> None:
    """Write bytes to a file atomically, see `replacing`.

    Args:
        path: The output file; symbolic links are followed.
        data: Its whole content.

    Raises:
        GmncError: The file cannot be written.
    """
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """Write JSON to a file atomically, see `replacing`.

    Args:
        path: The output file; symbolic links are followed.
        value: What `json.dumps` takes.
        indent: Spaces per level; one line by default.

    Raises:
        GmncError: The file cannot be written.
    """
    write_bytes(path, (json.dumps(value, indent=indent) + "\n").encode())


def make_folder(path: str | os.PathLike[str]) -> Path:
    """Create a folder, with its parents, unless it exists.

    Args:
        path: The folder.

    Returns:
        Its path.

    Raises:
        GmncError: It cannot be created.
    """
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise GmncError(f"cannot create the folder {path}: {getattr(error, 'strerror', None) or error}") from error
    return Path(path)


def sweep(folder: Path) -> None:
    """Remove temporary files that killed writers left in a folder.

    Args:
        folder: The folder; errors are ignored.
    """
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                _remove_if_abandoned(entry.path)


@contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """A temporary folder in `parent`, removed with its contents.

    It is locked while in use; the system releases the lock with the process, which marks the folder as abandoned.
    """
    sweep(parent)
    folder, lock = _claimed(parent)
    try:
        yield folder
    finally:
        # An error here would mask the original one; the next writer sweeps the folder.
        shutil.rmtree(folder, ignore_errors=True)
        if lock is not None:
            os.close(lock)


def _claimed(parent: Path) -> tuple[Path, int | None]:
    while True:
        folder = Path(tempfile.mkdtemp(_SUFFIX, f"{_PREFIX}{os.getpid()}-", parent))
        if sys.platform == "win32":
            return folder, None
        with suppress(FileNotFoundError):
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            # Before the lock was taken, another process may have swept the folder as abandoned.
            if folder.is_dir():
                return folder, lock
            os.close(lock)


def _remove_if_abandoned(folder: str) -> None:
    if sys.platform == "win32":
        return
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _mode(real: Path, folder: Path) -> int:
    """The mode of the present file, or that of a new file under the process's umask."""
    like = real if real.exists() else folder / "mode"
    if like != real:
        like.touch()
    return stat.S_IMODE(like.stat().st_mode)


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    try:
        return os.stat(path)
    except FileNotFoundError:
        return None


def _same(a: os.stat_result, b: os.stat_result | None) -> bool:
    return b is not None and os.path.samestat(a, b)


def _refusal(path: str | os.PathLike[str], error: Exception) -> GmncError:
    reason = getattr(error, "strerror", None) or str(error)
    other = getattr(error, "filename", None)
    # Name another file in the error (the source of a copy, say), but not the temporary file.
    named = f": {other}" if other and _PREFIX not in str(other) and str(other) != os.fspath(path) else ""
    return GmncError(f"cannot write {path}: {reason}{named}")
