"""The networks of a zoo as tensors: each architecture is lowered once, and the values of members are cached."""

from __future__ import annotations

import hashlib
import warnings
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import overload

import numpy as np
import onnx
import torch

from .. import __version__
from ..backends import store
from ..backends.blocks import Blocks, blocks
from ..files.fields import integer, mapping, read_json, table, text, word
from ..files.reading import FileState, MappedFile
from ..files.writing import make_folder, replacing, write_json
from ..frontend import compile
from ..ir import GmncError, LoadError, ParameterGraph
from .progress import OnProgress
from .zoo import read_index

__all__ = ["Zoo"]

_CACHE = "cache"


@dataclass(frozen=True, slots=True)
class _Cached:
    """The cached values.

    Attributes:
        flat: float32 [V], the `Blocks.values` of all members end to end, memory-mapped.
        starts: int64 [n + 1], the bounds of each member's values.
    """

    flat: np.ndarray
    starts: np.ndarray


class Zoo(Sequence[Blocks]):
    """The members of a zoo by number: `zoo[i]` is a `Blocks` on the CPU.

    Attributes:
        folder: Folder of the zoo.
        table: Columns of the index, one entry per member.
        state: A digest that changes with the members and with gmnc.
        cache: Folder of results that are valid for one `state`.
    """

    def __init__(
        self, folder: Path, table: dict[str, np.ndarray], cached: _Cached, state: str, blocks: dict[str, Blocks]
    ) -> None:
        self.folder, self.table, self.state, self.cache = folder, table, state, folder / _CACHE
        self._cached, self._blocks = cached, blocks

    @classmethod
    def open(cls, folder: str | Path, limit: int | None = None, on_progress: OnProgress | None = None) -> Zoo:
        """Open a zoo that `gmnc zoo make` wrote.

        The first call lowers the networks and writes a cache into the folder, which is valid until they or gmnc change.

        Args:
            folder: Folder of the zoo.
            limit: Open only this many members, the first ones.
            on_progress: Called after each member that is read.

        Returns:
            The zoo.

        Raises:
            GmncError: The folder is not a finished zoo, or a network is not of the architecture in the index.
        """
        folder = Path(folder)
        table = read_index(folder)
        table = {name: column[:limit] for name, column in table.items()}
        cache = folder / _CACHE
        # One per limit, so that opening a few members keeps the cache of all.
        stem = cache / f"first-{len(table['id'])}"
        state = _state(folder, table)
        cached, shared = _load(stem, state), dict[str, Blocks]()
        if cached is None:
            make_folder(cache)
            shared = _fill(folder, table, stem, state, on_progress or (lambda *_: None))
            cached = _load(stem, state)
        assert cached is not None
        return cls(folder, table, cached, state, shared)

    def __len__(self) -> int:
        return len(self.table["id"])

    @property
    def members(self) -> Sequence[Blocks]:
        """The zoo itself, as a sequence of `Blocks`."""
        return self

    @overload
    def __getitem__(self, at: int) -> Blocks: ...
    @overload
    def __getitem__(self, at: slice) -> list[Blocks]: ...
    def __getitem__(self, at: int | slice) -> Blocks | list[Blocks]:
        if isinstance(at, slice):
            return [self[i] for i in range(*at.indices(len(self)))]
        at = self._number(at)
        start, end = self._cached.starts[at : at + 2]
        values = torch.from_numpy(self._cached.flat[start:end].copy())
        return replace(self._template(at), values=values)

    def values(self, at: int) -> dict[str, np.ndarray]:
        """The values of a member.

        Args:
            at: Number of the member.

        Returns:
            Each parameter that has edges, by name.
        """
        flat = self[at].values.numpy()
        segments = self._template(self._number(at)).segments
        return {s.name: flat[s.start : s.start + s.size].reshape(s.shape) for s in segments}

    def path(self, at: int) -> Path:
        """The ONNX file of a member.

        Args:
            at: Number of the member.

        Returns:
            Its path.
        """
        return self.folder / str(self.table["file"][self._number(at)])

    def _number(self, at: int) -> int:
        if not -len(self) <= at < len(self):
            raise IndexError(f"member {at} of a zoo of {len(self)}")
        return int(at) % len(self)

    def _template(self, at: int) -> Blocks:
        """The `Blocks` that members of an architecture share."""
        name = str(self.table["architecture"][at])
        if name not in self._blocks:
            self._blocks[name] = blocks(store.load(self.cache / _graph_file(name)), dtype=torch.float32)
        return self._blocks[name]


def _graph_file(architecture: str) -> str:
    return f"{architecture}.safetensors"


def _state(folder: Path, table: dict[str, np.ndarray]) -> str:
    """A digest of the networks, the index and the compiler."""
    digest = hashlib.sha256(__version__.encode())
    for file, architecture in zip(table["file"], table["architecture"], strict=True):
        path = folder / str(file)
        if not path.exists():
            raise GmncError(f"{path}: a network of the zoo is missing; run `gmnc zoo make` again")
        found = FileState.of(path)
        digest.update(f"{file} {architecture} {found.size} {found.modified}\n".encode())
    for room in ("ir", "frontend", "backends"):
        for path in sorted((Path(__file__).parent.parent / room).rglob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


_CACHED = table({"state": text, "sums": mapping(integer(most=2**32), word)})
"""The description of the cache; sums: checksums of its files, by name."""


def _load(stem: Path, state: str) -> _Cached | None:
    """The cached values; None if there are none, if they are stale, or, with a warning, if they are damaged."""
    about = stem.with_suffix(".json")
    if not about.exists():
        return None
    try:
        found = read_json(about, _CACHED)
        if found["state"] != state:
            return None
        if any(_sum(stem.with_name(name)) != found["sums"].get(name) for name in (*_arrays(stem), *found["sums"])):
            raise ValueError
        flat, starts = (np.load(stem.with_name(name), mmap_mode="r") for name in _arrays(stem))
    except (OSError, ValueError, LoadError):
        warnings.warn(f"{about}: the cache of the zoo is damaged and will be rebuilt", stacklevel=2)
        return None
    return _Cached(flat, starts)


def _arrays(stem: Path) -> tuple[str, str]:
    """File names of the arrays of `_Cached`."""
    return f"{stem.name}.npy", f"{stem.name}-starts.npy"


def _sum(path: Path) -> int:
    """A checksum of a file."""
    return zlib.crc32(MappedFile(path).data)


def _fill(
    folder: Path, table: dict[str, np.ndarray], stem: Path, state: str, on_progress: OnProgress
) -> dict[str, Blocks]:
    """Write the cache; returns the tensors of each architecture."""
    stem.with_suffix(".json").unlink(missing_ok=True)
    found: dict[int, np.ndarray] = {}
    shared: dict[str, Blocks] = {}
    for architecture, numbers in _by_architecture(table).items():
        template = None
        for number in numbers:
            path = folder / str(table["file"][number])
            model = _read(path)
            if template is None:
                template = _Template.of(path, model)
                shared[architecture] = template.shared
                store.save(template.graph, stem.parent / _graph_file(architecture), values=True)
            found[number] = template.values(path, model)
            on_progress("networks", len(found), len(table["file"]))
    flat = [found[number] for number in range(len(found))]
    names = _arrays(stem)
    for name, array in zip(names, (np.concatenate(flat), np.cumsum([0, *map(len, flat)])), strict=True):
        with replacing(stem.with_name(name)) as temporary, temporary.open("wb") as file:
            np.save(file, array)
    sums = {name: _sum(stem.with_name(name)) for name in (*names, *map(_graph_file, shared))}
    write_json(stem.with_suffix(".json"), {"state": state, "sums": sums})
    return shared


def _by_architecture(table: dict[str, np.ndarray]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for number, architecture in enumerate(table["architecture"]):
        found.setdefault(str(architecture), []).append(number)
    return found


def _read(path: Path) -> onnx.ModelProto:
    try:
        return onnx.load(path)
    except Exception as error:
        raise GmncError(f"{path}: not an ONNX file ({error}); delete it and run `gmnc zoo make` again") from error


@dataclass(frozen=True, slots=True)
class _Template:
    """One network of an architecture.

    Attributes:
        graph: Its parameter graph.
        shared: Its tensors, which members share but for the values.
        starts: For each initializer, the index of its first element in the flat values; empty if some values are
            computed from others, so that every member has to be lowered.
        rest: Digest of the model without the values of these initializers, equal for all members.
    """

    graph: ParameterGraph
    shared: Blocks
    starts: dict[str, int]
    rest: str

    @staticmethod
    def of(path: Path, model: onnx.ModelProto) -> _Template:
        """The template of a model that was read from `path`."""
        graph = compile(path)
        shared = blocks(graph, dtype=torch.float32)
        stored = all(graph.parameters[s.name].origin == "initializer" for s in shared.segments)
        starts = {s.name: s.start for s in shared.segments} if stored else {}
        return _Template(graph, shared, starts, _rest(model, starts))

    def values(self, path: Path, model: onnx.ModelProto) -> np.ndarray:
        """The `Blocks.values` of a member, float32 [V]; raises `GmncError` if it is of another architecture."""
        if not self.starts:
            own = blocks(compile(path), dtype=torch.float32)
            if [replace(s, graph=0) for s in own.segments] != list(self.shared.segments):
                raise GmncError(_other(path))
            return own.values.numpy()
        if _rest(model, self.starts) != self.rest:
            raise GmncError(_other(path))
        flat = self.shared.values.numpy().copy()
        for tensor in model.graph.initializer:
            start = self.starts.get(tensor.name)
            if start is not None:
                try:
                    array = onnx.numpy_helper.to_array(tensor)
                except ValueError as error:
                    raise GmncError(f"{path}: tensor {tensor.name!r} is damaged ({error}); delete the file") from error
                flat[start : start + array.size] = array.reshape(-1)
        return flat


def _other(path: Path) -> str:
    return f"{path}: not of the architecture in the index; delete the file and run `gmnc zoo make` again"


def _rest(model: onnx.ModelProto, starts: dict[str, int]) -> str:
    """A digest of the model without the values of the initializers in `starts`."""
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    for tensor in bare.graph.initializer:
        if tensor.name in starts:
            for field in ("raw_data", "float_data", "double_data", "int32_data", "int64_data"):
                tensor.ClearField(field)
    return hashlib.sha256(bare.SerializeToString(deterministic=True)).hexdigest()
