"""External data: files beside a model, which must lie inside its folder."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import onnx
import onnx_ir

from ...files.reading import FileState, inside
from ...ir import LoadError

__all__ = ["ExternalFiles", "by_reference", "check_entries", "guarded", "referred"]

_BODIES = (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS)
_NUMBER = re.compile(r"-?[0-9]{1,19}")


class ExternalFiles:
    """Checks external tensors against their files and sets the folder that they are read from.

    Attributes:
        where: The name of the model in messages.
        folder: The model's folder; "" for a model in memory without one; None to trust the folder of each tensor.
    """

    def __init__(self, where: str, folder: str | None) -> None:
        self.where = where
        self.folder = folder
        self._states: dict[tuple[str, str], FileState] = {}

    @property
    def states(self) -> tuple[FileState, ...]:
        """The states of the data files met so far."""
        return tuple(state.absolute() for state in self._states.values())

    def check(self, tensor: onnx_ir.ExternalTensor) -> onnx_ir.ExternalTensor:
        """Check that the bytes of a tensor exist.

        Args:
            tensor: The tensor; its folder is set to the model's.

        Returns:
            A tensor that raises when it is read after its file has changed; the tensor itself if folders are trusted.

        Raises:
            LoadError: The file is missing, too short, outside of the folder, or has an invalid name or size.
        """
        if self.folder == "":
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} is in {os.fspath(tensor.location)!r}, but a model in memory "
                "has no folder; pass the path of the .onnx file, or load the external data first"
            )
        if self.folder is not None:
            tensor.base_dir = self.folder
        folder, location = os.fspath(tensor.base_dir), os.fspath(tensor.location)
        if isinstance(location, bytes):
            raise LoadError(f"{self.where}: tensor {tensor.name!r}: its file name {location!r} is not text")
        state = self._states.get((folder, location))
        if state is None:
            state = getattr(tensor, "_state", None) or self._state(tensor.name, folder, location)
            self._states[folder, location] = state
        size = state.size
        offset = tensor.offset or 0
        length = tensor.nbytes if tensor.length is None else tensor.length
        if length < tensor.nbytes:
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} has {length} bytes of external data, "
                f"but its shape {list(tensor.shape)} of {tensor.dtype} needs {tensor.nbytes}"
            )
        if offset < 0 or length < 0:
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} has the impossible offset {offset} or length {length}; "
                "the file is damaged, export it again"
            )
        if offset + length > size:
            raise LoadError(
                f"{self.where}: tensor {tensor.name!r} ends at byte {offset + length} of external data file "
                f"{location!r}, which has {size}; the file is truncated or belongs to another model"
            )
        return tensor if self.folder is None else _Unchanged(tensor, state)

    def _state(self, name: str, folder: str, location: str) -> FileState:
        """The state of a data file; raises `LoadError` unless it lies in the folder, symbolic links resolved."""
        what = f"{self.where}: tensor {name!r}: external data file {location!r}"
        if not location:
            raise LoadError(f"{self.where}: tensor {name!r} has external data, but names no file")
        if "\0" in location:
            raise LoadError(f"{what}: not a valid file name; export the model again")
        if folder and not inside(folder, location):
            raise LoadError(f"{what} is outside of the model's folder; move it beside the model")
        path = os.path.join(folder, location)
        if not os.path.isfile(path):
            raise LoadError(f"{what} is missing; keep it beside the model")
        status = os.stat(path)
        if folder and status.st_nlink > 1:
            raise LoadError(f"{what} has several hard links, which onnx-ir refuses to map; copy the file")
        return FileState.of(path)


class _Unchanged(onnx_ir.ExternalTensor):
    """An external tensor that checks before each read that its file has not changed."""

    __slots__ = ("_state",)

    def __init__(self, tensor: onnx_ir.ExternalTensor, state: FileState) -> None:
        super().__init__(
            tensor.location, tensor.offset, tensor.length, tensor.dtype, shape=tensor.shape, name=tensor.name,
            doc_string=tensor.doc_string, metadata_props=dict(tensor.metadata_props) or None, base_dir=tensor.base_dir,
        )  # fmt: skip
        self._state = state

    def __reduce__(self) -> tuple[Any, ...]:
        return _unpickled, (by_reference(self), self._state.absolute())

    def numpy(self) -> np.ndarray:
        self._state.check(self.raw)
        return super().numpy()

    def __array__(self, dtype: Any = None) -> np.ndarray:
        self._state.check(self.raw)
        return super().__array__(dtype)

    def tobytes(self) -> bytes:
        self._state.check(self.raw)
        return super().tobytes()

    def tofile(self, file: Any) -> None:
        self._state.check(self.raw)
        super().tofile(file)


def guarded(tensor: onnx_ir.TensorProtocol, states: Iterable[FileState]) -> onnx_ir.TensorProtocol:
    """An equal tensor that raises when it is read after its file has changed.

    Args:
        tensor: Any tensor; only external ones are read from files that may change.
        states: The states of the files at loading.

    Returns:
        The tensor itself if it is guarded already or not external.
    """
    if type(tensor) is not onnx_ir.ExternalTensor:
        return tensor
    path = os.path.abspath(os.fspath(tensor.path))
    state = next((state for state in states if state.path == path), None)
    return tensor if state is None else _Unchanged(tensor, state)


class _Referred(onnx_ir.ExternalTensor):
    """An external tensor that is pickled as a reference to its file."""

    __slots__ = ()

    def __reduce__(self) -> tuple[Any, ...]:
        return referred, by_reference(self)


def by_reference(tensor: onnx_ir.ExternalTensor) -> tuple[Any, ...]:
    """The arguments with which `referred` creates the tensor again in another process: file, offset and metadata."""
    folder = os.path.abspath(os.fspath(tensor.base_dir))
    about = (tensor.name, tensor.doc_string, dict(tensor.metadata_props), folder)
    return (os.fspath(tensor.location), tensor.offset, tensor.length, tensor.dtype, tensor.shape.numpy(), *about)


def referred(
    location: str, offset: int | None, length: int | None, dtype: onnx_ir.DataType, shape: tuple[int, ...],
    name: str, doc_string: str | None, metadata: dict[str, str], folder: str,
) -> onnx_ir.ExternalTensor:  # fmt: skip
    """The external tensor of a reference made by `by_reference`."""
    return _Referred(
        location, offset, length, dtype, shape=onnx_ir.Shape(shape), name=name, doc_string=doc_string,
        metadata_props=metadata or None, base_dir=folder,
    )  # fmt: skip


def _unpickled(reference: tuple[Any, ...], state: FileState) -> _Unchanged:
    return _Unchanged(referred(*reference), state)


def check_entries(proto: onnx.ModelProto, where: str) -> None:
    """Raise `LoadError` unless offsets and lengths of external data are numbers."""
    for tensor in _tensors(proto):
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            for entry in tensor.external_data:
                if entry.key in ("offset", "length") and not _NUMBER.fullmatch(entry.value):
                    raise LoadError(
                        f"{where}: tensor {tensor.name!r}: the {entry.key} of its external data is {entry.value!r}, "
                        "not a number; export the model again"
                    )


def _tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """All tensors of a model: initializers and attributes, also in subgraphs and functions."""
    graphs = [proto.graph]
    lists = [f.node for f in proto.functions]
    while graphs or lists:
        if graphs:
            graph = graphs.pop()
            yield from graph.initializer
            for sparse in graph.sparse_initializer:
                yield from (sparse.values, sparse.indices)
            lists.append(graph.node)
            continue
        for node in lists.pop():
            for attribute in node.attribute:
                yield from (attribute.t, *attribute.tensors)
                graphs += [attribute.g, *attribute.graphs] if attribute.type in _BODIES else []
