"""Models and their tensors on the way to another process: what lies in a file stays there."""

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

_AWAY = "gmnc:carried"
"""Where the message of a model says that a tensor lies that is pickled by itself. No such file is ever opened."""

_AS_IT_IS = (
    MappedTensor, onnx_ir.ExternalTensor, onnx_ir.Tensor, onnx_ir.PackedTensor, onnx_ir.TensorProtoTensor,
    onnx_ir.StringTensor,
)  # fmt: skip
"""Kinds of tensors that can be pickled."""

_SMALL = 256
"""Bytes of a tensor that stays in the message."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """The numbers of a tensor, as the `load` of a parameter."""

    tensor: onnx_ir.TensorProtocol
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        """The numbers, mapped where the file allows."""
        return self.tensor.numpy()

    def __reduce__(self) -> tuple[Any, ...]:
        return Numbers, (_portable(self.tensor),)


def carried_model(model: onnx_ir.Model) -> _File | _Message:
    """What is pickled in the place of a model: the file that it was read from, else its message and its tensors."""
    source = model.meta.get(SOURCE)
    if isinstance(source, MappedFile):
        source.state.check()
        others = model.meta.get(FILES, ())[1:]
        return _File(source.state.absolute(), tuple(FileState.of(path) for path in others))
    tensors: list[onnx_ir.TensorProtocol] = []

    def away(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
        if tensor.nbytes <= _SMALL or tensor.dtype == onnx_ir.DataType.STRING:
            return tensor
        tensors.append(_portable(tensor))
        shape = onnx_ir.Shape(tensor.shape.numpy())
        return onnx_ir.ExternalTensor(_AWAY, len(tensors) - 1, 0, tensor.dtype, shape=shape, name=tensor.name or "")

    skeleton = model.clone()
    replace_tensors(skeleton, away)
    try:
        message = onnx_ir.to_proto(skeleton).SerializeToString()
    except ValueError as error:
        raise GmncError(f"the model of this graph cannot be sent to another process: {error}") from error
    return _Message(message, tuple(tensors), {k: model.meta[k] for k in (SOURCE, READER, FILES) if k in model.meta})


@dataclass(frozen=True, slots=True)
class _File:
    """A model that was read from a file. others: the files of its external data."""

    state: FileState
    others: tuple[FileState, ...]

    def open(self) -> onnx_ir.Model:
        """Raises `LoadError` if the file is gone or has changed."""
        for state in (self.state, *self.others):
            state.check()
        model = load(self.state.path)
        model.meta[CARRIED] = carried_model
        return model


@dataclass(frozen=True, slots=True, eq=False)
class _Message:
    """A model that came from memory. meta: of its entries those that write-back needs."""

    message: bytes
    tensors: tuple[onnx_ir.TensorProtocol, ...]
    meta: Mapping[str, Any]

    def open(self) -> onnx_ir.Model:
        proto = onnx.ModelProto()
        proto.ParseFromString(self.message)
        model = onnx_ir.from_proto(proto)

        def back(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
            if isinstance(tensor, onnx_ir.ExternalTensor) and tensor.location == _AWAY:
                return self.tensors[tensor.offset or 0]
            return tensor

        replace_tensors(model, back)
        model.meta.update({**self.meta, CARRIED: carried_model})
        return model


def _portable(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
    """The tensor itself, if it can be pickled as it is, else one of equal numbers."""
    if type(tensor) is onnx_ir.ExternalTensor:
        return referred(*by_reference(tensor))
    if isinstance(tensor, _AS_IT_IS):
        return tensor
    return onnx_ir.Tensor(np.asarray(tensor.numpy()), tensor.dtype, name=tensor.name, doc_string=tensor.doc_string)
