"""What a graph keeps of its model. Pickling sends data that lies in a file as a reference to the file."""

from __future__ import annotations

import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir

from ...files.reading import FileState, MappedFile
from ...ir import GmncError
from ..model.keys import FILES, ORIGINAL, PARSER
from .external import by_reference, referred
from .load import MappedTensor, load, replace_tensors

__all__ = ["LoadedModel", "TensorReader"]

_SEPARATE = "gmnc:separate"
"""The location, in a pickled model message, of tensors that are pickled separately; no such file is ever opened."""

_PICKLABLE = (
    MappedTensor, onnx_ir.ExternalTensor, onnx_ir.Tensor, onnx_ir.PackedTensor, onnx_ir.TensorProtoTensor,
    onnx_ir.StringTensor,
)  # fmt: skip
"""Tensor classes that can be pickled."""

_SMALL = 256
"""Tensors of at most so many bytes stay in the message."""


@dataclass(frozen=True, slots=True, eq=False)
class TensorReader:
    """Reads a tensor; the picklable `load` of a parameter."""

    tensor: onnx_ir.TensorProtocol
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """The array, memory-mapped if possible."""
        return self.tensor.numpy()

    def __reduce__(self) -> tuple[Any, ...]:
        return TensorReader, (_portable(self.tensor),)


class LoadedModel:
    """The model that a graph was compiled from, an `ir.ModelSource`; after unpickling it is opened on first use.

    Args:
        model: The model, or the form in which it was pickled.

    Attributes:
        states: The states at loading of the model's file, if it has one, and of its external data.
    """

    def __init__(self, model: onnx_ir.Model | _File | _Message) -> None:
        self._held = model
        # Kept here, since compiling the same model again records the states of that time in it.
        self.states: tuple[FileState, ...] = model.states if isinstance(model, _File) else model.meta.get(FILES, ())

    @property
    def model(self) -> onnx_ir.Model:
        """The model.

        Raises:
            LoadError: It was unpickled, and a file that it refers to is missing or has changed.
        """
        if not isinstance(self._held, onnx_ir.Model):
            self._held = self._held.open()
        return self._held

    @property
    def files(self) -> tuple[str, ...]:
        """Paths of the files that values are read from: the model's file, if it has one, and its external data."""
        return tuple(state.path for state in self.states)

    def check(self) -> None:
        """Check that the files of external data, which are copied as wholes, are those that were loaded.

        Raises:
            LoadError: A file is missing or has changed.
        """
        for state in self.states[isinstance(self.model.meta.get(ORIGINAL), MappedFile) :]:
            state.check()

    @property
    def original(self) -> bytes | mmap.mmap | None:
        """The serialized model as it was read, with what onnx-ir drops; None for an `onnx_ir.Model` from memory.

        Raises:
            LoadError: The file has changed.
        """
        original = self.model.meta.get(ORIGINAL)
        if isinstance(original, MappedFile):
            original.check()
            return original.data
        return original if isinstance(original, bytes) else None

    def parse(self, proto: onnx.ModelProto) -> onnx_ir.Model:
        """Convert a protobuf model in the same way as the original (which may have sparse tensors).

        Args:
            proto: The original, perhaps with new values.

        Returns:
            The model.
        """
        parser: Callable[[onnx.ModelProto], onnx_ir.Model] = self.model.meta.get(PARSER, onnx_ir.from_proto)
        return parser(proto)

    def __reduce__(self) -> tuple[Any, ...]:
        held = self._held
        return LoadedModel, (_picklable(held, self.states) if isinstance(held, onnx_ir.Model) else held,)


def _picklable(model: onnx_ir.Model, states: tuple[FileState, ...]) -> _File | _Message:
    """What is pickled instead of a model: a reference to its file, else its message and its tensors.

    Raises:
        LoadError: A file has changed since it was loaded.
        GmncError: The model cannot be serialized.
    """
    for state in states:
        state.check()
    if isinstance(model.meta.get(ORIGINAL), MappedFile):
        return _File(states)
    tensors: list[onnx_ir.TensorProtocol] = []

    def separate(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
        if tensor.nbytes <= _SMALL or tensor.dtype == onnx_ir.DataType.STRING:
            return tensor
        tensors.append(_portable(tensor))
        shape = onnx_ir.Shape(tensor.shape.numpy())
        return onnx_ir.ExternalTensor(_SEPARATE, len(tensors) - 1, 0, tensor.dtype, shape=shape, name=tensor.name or "")

    skeleton = model.clone()
    replace_tensors(skeleton, separate)
    try:
        message = onnx_ir.to_proto(skeleton).SerializeToString()
    except ValueError as error:
        raise GmncError(f"the model of this graph cannot be sent to another process: {error}") from error
    meta = {key: model.meta[key] for key in (ORIGINAL, PARSER) if key in model.meta} | {FILES: states}
    return _Message(message, tuple(tensors), meta)


@dataclass(frozen=True, slots=True)
class _File:
    """A reference to a model file, the first, and its external data files."""

    states: tuple[FileState, ...]

    def open(self) -> onnx_ir.Model:
        """Load the model; raises `LoadError` if a file is missing or has changed."""
        for state in self.states:
            state.check()
        return load(self.states[0].path)


@dataclass(frozen=True, slots=True, eq=False)
class _Message:
    """A model that was built in memory; `meta` holds the metadata that write-back needs."""

    message: bytes
    tensors: tuple[onnx_ir.TensorProtocol, ...]
    meta: Mapping[str, Any]

    def open(self) -> onnx_ir.Model:
        for state in self.meta[FILES]:
            state.check()
        proto = onnx.ModelProto()
        proto.ParseFromString(self.message)
        model = onnx_ir.from_proto(proto)

        def restore(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
            if isinstance(tensor, onnx_ir.ExternalTensor) and tensor.location == _SEPARATE:
                return self.tensors[tensor.offset or 0]
            return tensor

        replace_tensors(model, restore)
        model.meta.update(self.meta)
        return model


def _portable(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
    """The tensor if it can be pickled, else an equal one that can."""
    if type(tensor) is onnx_ir.ExternalTensor:
        return referred(*by_reference(tensor))
    if isinstance(tensor, _PICKLABLE):
        return tensor
    return onnx_ir.Tensor(np.asarray(tensor.numpy()), tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
