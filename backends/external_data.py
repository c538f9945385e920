"""External data files of a written model: shared, copied, or copied and patched; originals are never modified."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import onnx
import onnx_ir

from ..files.reading import inside
from ..files.writing import make_folder, replacing
from ..ir import GmncError
from .patching import tensors

__all__ = ["DataFolders", "copy_data", "external_tensors"]

_ALIGN = 4096
_LONGEST = 255
"""Longest file name in bytes."""


def external_tensors(model: onnx_ir.Model) -> Iterator[onnx_ir.ExternalTensor]:
    """Every external tensor of the model: initializers and attributes, including subgraphs and functions."""
    for graph in (*model.graphs(), *(f.graph for f in model.functions.values())):
        for value in graph.initializers.values():
            if isinstance(value.const_value, onnx_ir.ExternalTensor):
                yield value.const_value
        for node in graph:
            for attribute in node.attributes.values():
                if attribute.is_ref():
                    continue
                if isinstance(attribute.value, onnx_ir.ExternalTensor):
                    yield attribute.value
                elif attribute.type == onnx_ir.AttributeType.TENSORS:
                    yield from (t for t in attribute.as_tensors() if isinstance(t, onnx_ir.ExternalTensor))


class DataFolders:
    """The folders that hold the data files of a loaded model."""

    def __init__(self, model: onnx_ir.Model) -> None:
        self._tensors = list(external_tensors(model))
        self._folders = {os.fspath(t.location): Path(t.base_dir).absolute() for t in self._tensors}

    def of(self, location: str) -> Path:
        """The folder that a location is relative to. Raises `GmncError` if the location is outside of it."""
        folder = self._folders.get(location, Path.cwd())
        if not inside(folder, location):
            raise GmncError(f"external data file {location!r} is outside of the model's folder {folder}")
        return folder

    def map(self, path: Path) -> None:
        """Memory-map the loaded model's tensors in this file, so that they stay readable once it is replaced."""
        for tensor in self._tensors:
            if _same_file(path, Path(tensor.path)):
                tensor.numpy()


def copy_data(
    proto: onnx.ModelProto, path: Path, folders: DataFolders, changed: list[tuple[onnx.TensorProto, bytes]]
) -> bool:
    """Put every data file of `proto` beside `path`, with the changed tensors written into it.

    Args:
        proto: The model; locations, offsets and lengths are updated in place.
        path: Where the model will be written.
        folders: Where the present data files are.
        changed: (tensor of `proto`, its new bytes).

    Returns:
        Whether a data file was renamed, and `proto` therefore changed.

    Raises:
        GmncError: A location is outside of the model's folder, or a file cannot be written.
    """
    groups: dict[str, list[onnx.TensorProto]] = {}
    for tensor in tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            groups.setdefault(_entries(tensor)["location"], []).append(tensor)
    new = {id(tensor): data for tensor, data in changed}
    shared = {
        location
        for location, members in groups.items()
        if not any(id(t) in new for t in members)
        and _same_file(folders.of(location) / location, path.parent / location)
    }
    taken = set(shared)
    moved = False
    for location, members in groups.items():
        if location in shared:
            continue
        target = _free_location(location, path, taken)
        taken.add(target)
        make_folder((path.parent / target).parent)
        folders.map(path.parent / target)
        with replacing(path.parent / target) as temporary:
            shutil.copyfile(folders.of(location) / location, temporary)
            _patch(temporary, members, [(t, new[id(t)]) for t in members if id(t) in new])
        if target != location:
            moved = True
            for tensor in members:
                _update(tensor, location=target)
    return moved


def _same_file(a: Path, b: Path) -> bool:
    return a.exists() and b.exists() and a.samefile(b)


def _free_location(location: str, path: Path, taken: set[str]) -> str:
    """The same location, or one named after the model if it is taken or outside of the target folder."""
    own, number = _data_name(path, ".data"), 0
    # A dangling link counts as taken: writing to it would create the file that it names.
    there = os.path.lexists(path.parent / location)
    if location not in taken and inside(path.parent, location) and (location == own or not there):
        return location
    while own in taken or not inside(path.parent, own):
        number += 1
        own = _data_name(path, f".{number}.data")
    return own


def _data_name(path: Path, ending: str) -> str:
    """The name of a model's data file, or its digest where the name would be too long."""
    name = f"{path.name}{ending}"
    return name if len(os.fsencode(name)) <= _LONGEST else hashlib.sha256(name.encode()).hexdigest() + ending


def _patch(file: Path, members: list[onnx.TensorProto], patches: list[tuple[onnx.TensorProto, bytes]]) -> None:
    """Overwrite the old bytes, or append where another tensor shares them."""
    with file.open("r+b") as out:
        for tensor, data in patches:
            start, stop = _range(tensor, len(data))
            others = (_range(t, 0) for t in members if t is not tensor)
            if any(start < other_stop and other_start < stop for other_start, other_stop in others):
                start = -(-out.seek(0, os.SEEK_END) // _ALIGN) * _ALIGN
                _update(tensor, offset=str(start), length=str(len(data)))
            out.seek(start)
            out.write(data)
            _forget_checksum(tensor)


def _range(tensor: onnx.TensorProto, length: int) -> tuple[int, int]:
    entries = _entries(tensor)
    start = int(entries.get("offset", 0))
    if "length" in entries:
        return start, start + int(entries["length"])
    if not length:
        kind = onnx_ir.DataType(tensor.data_type)
        count = 1
        for n in tensor.dims:
            count *= n
        length = -(-count * kind.bitwidth // 8)
    return start, start + length


def _entries(tensor: onnx.TensorProto) -> dict[str, str]:
    entries = {e.key: e.value for e in tensor.external_data}
    if "location" not in entries:
        raise GmncError(f"tensor {tensor.name!r} is external, but has no location")
    return entries


def _update(tensor: onnx.TensorProto, **values: str) -> None:
    for key, value in values.items():
        entry = next((e for e in tensor.external_data if e.key == key), None) or tensor.external_data.add(key=key)
        entry.value = value


def _forget_checksum(tensor: onnx.TensorProto) -> None:
    for entry in [e for e in tensor.external_data if e.key == "checksum"]:
        tensor.external_data.remove(entry)
