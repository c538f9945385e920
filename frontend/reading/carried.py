"""Pickling of models and tensors: data that lies in a file is sent as a reference to the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx_ir

from ...ir import GmncError
from ...ir.files import CARRIED, FILES, READER, SOURCE, FileState, MappedFile
from .external import by_reference, referred
from .load import MappedTensor, load, replace_tensors

__all__ = ["Numbers", "carried_model"]

_SEPARATE = "gmnc:carried"
"""The location, in a pickled model message, of tensors that are pickled separately; no such file is ever opened."""

_PICKLABLE = (
    MappedTensor, onnx_ir.ExternalTensor, onnx_ir.Tensor, onnx_ir.PackedTensor, onnx_ir.TensorProtoTensor,
    onnx_ir.StringTensor,
)  # fmt: skip
"""Tensor classes that can be pickled."""

_SMALL = 256
"""Tensors of at most so many bytes stay in the message."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """Reads a tensor; the picklable `load` of a parameter."""

    tensor: onnx_ir.TensorProtocol
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """The array, memory-mapped if possible."""
        return self.tensor.numpy()

    def __reduce__(self) -> tuple[Any, ...]:
        return Numbers, (_portable(self.tensor),)


def carried_model(model: onnx_ir.Model) -> _File | _Message:
    """What is pickled instead of a model: a reference to its file, else its message and its tensors.

    Raises:
        GmncError: The model cannot be serialized.
    """
    source = model.meta.get(SOURCE)
    if isinstance(source, MappedFile):
        source.state.check()
        others = model.meta.get(FILES, ())[1:]
        return _File(source.state.absolute(), tuple(FileState.of(path) for path in others))
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
    return _Message(message, tuple(tensors), {k: model.meta[k] for k in (SOURCE, READER, FILES) if k in model.meta})


@dataclass(frozen=True, slots=True)
class _File:
    """A reference to a model file; `others` are its external data files."""

    state: FileState
    others: tuple[FileState, ...]

    def open(self) -> onnx_ir.Model:
        """Load the model; raises `LoadError` if a file is missing or has changed."""
        for state in (self.state, *self.others):
            state.check()
        model = load(self.state.path)
        model.meta[CARRIED] = carried_model
        return model


@dataclass(frozen=True, slots=True, eq=False)
class _Message:
    """A model that was built in memory; `meta` holds the metadata that write-back needs."""

    message: bytes
    tensors: tuple[onnx_ir.TensorProtocol, ...]
    meta: Mapping[str, Any]

    def open(self) -> onnx_ir.Model:
        proto = onnx.ModelProto()
        proto.ParseFromString(self.message)
        model = onnx_ir.from_proto(proto)

        def restore(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
            if isinstance(tensor, onnx_ir.ExternalTensor) and tensor.location == _SEPARATE:
                return self.tensors[tensor.offset or 0]
            return tensor

        replace_tensors(model, restore)
        model.meta.update({**self.meta, CARRIED: carried_model})
        return model


def _portable(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
    """The tensor if it can be pickled, else an equal one that can."""
    if type(tensor) is onnx_ir.ExternalTensor:
        return referred(*by_reference(tensor))
    if isinstance(tensor, _PICKLABLE):
        return tensor
    return onnx_ir.Tensor(np.asarray(tensor.numpy()), tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
