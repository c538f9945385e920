"""All files that gmnc writes: a reader never meets half a file, and a mapped file never changes under its reader."""

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

from ..ir import GmncError, ParameterGraph
from ..ir.files import FILES

if sys.platform != "win32":
    import fcntl

__all__ = ["make_folder", "replacing", "sources", "sweep", "target", "write_bytes", "write_json"]

_PREFIX, _SUFFIX = ".gmnc-", ".tmp"

Inputs = Iterable[str | os.PathLike[str]]


def target(path: str | os.PathLike[str], inputs: Inputs = ()) -> Path:
    """Where to write: what links lead to.

    inputs: files that are read, which an output may not replace. Raises `GmncError` if `path` is one of them under
    whatever name, is there and no regular file, or lies in no folder.
    """
    try:
        found = _status(path)
        real = Path(os.path.realpath(path))
        if not os.fspath(path):
            raise GmncError("cannot write to a file without a name")
        if found is not None and stat.S_ISDIR(found.st_mode):
            raise GmncError(f"cannot write {path}: it is a folder; give the name of a file")
        if found is not None and not stat.S_ISREG(found.st_mode):
            raise GmncError(f"cannot write {path}: it is a device or a pipe; give the name of a file")
        if not real.parent.is_dir():
            raise GmncError(f"cannot write {path}: the folder {real.parent} does not exist")
        if found is not None and any(_same(found, _status(each)) for each in inputs):
            raise GmncError(f"cannot write {path}: it is read by the same command; choose another name")
    except (OSError, ValueError) as error:
        raise _refusal(path, error) from error
    return real


@contextmanager
def replacing(path: str | os.PathLike[str], inputs: Inputs = ()) -> Iterator[Path]:
    """A temporary file to write; at the end it takes the place of what `path` leads to, with the mode of that.

    After an error nothing is left of it. What a killed process left beside `path` is removed before. inputs, and what
    is refused: see `target`. Raises `GmncError` that names `path` for whatever the system refuses, a full disk too.
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
    """See `replacing`."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: str | os.PathLike[str], value: Any, indent: int | None = None) -> None:
    """As one line, or indented; see `replacing`."""
    write_bytes(path, (json.dumps(value, indent=indent) + "\n").encode())


def make_folder(path: str | os.PathLike[str]) -> Path:
    """The folder, which is made if it is not there. Raises `GmncError` if that cannot be."""
    try:
        Path(path).mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise GmncError(f"cannot make the folder {path}: {getattr(error, 'strerror', None) or error}") from error
    return Path(path)


def sources(graph: ParameterGraph) -> tuple[str, ...]:
    """The files that a compiled graph reads its values from."""
    return tuple(getattr(graph.model, "meta", {}).get(FILES, ()))


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left in a folder."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(_PREFIX) and entry.name.endswith(_SUFFIX):
                _remove_if_left(entry.path)


@contextmanager
def _workspace(parent: Path) -> Iterator[Path]:
    """A new folder in `parent`, whatever libraries put into it; it goes with all that is in it.

    Its lock, which the system drops with the process, tells it from one that was left.
    """
    sweep(parent)
    folder, lock = _claimed(parent)
    try:
        yield folder
    finally:
        # Errors here would hide the first one; the next writer tries again.
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
            # Another process may have taken it for one that was left before it had its lock.
            if folder.is_dir():
                return folder, lock
            os.close(lock)


def _remove_if_left(folder: str) -> None:
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
    """Of the file that is there; else what the system gives to a new file, of which the umask is a part."""
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
    # What was to be copied, say, and not the file itself under its temporary name.
    named = f": {other}" if other and _PREFIX not in str(other) and str(other) != os.fspath(path) else ""
    return GmncError(f"cannot write {path}: {reason}{named}")
