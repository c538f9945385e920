"""Loads an ONNX file as an `onnx_ir.Model` with memory-mapped weights, and validates what lowering relies on."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnx_ir
from google.protobuf.message import DecodeError

from ...files.reading import MappedFile
from ...ir import LoadError
from ...ir.errors import root_cause
from ..model.gc_pause import paused
from ..model.keys import FILES, ORIGINAL, PARSER
from .external import ExternalFiles, check_entries
from .sparse_tensors import expand_sparse, is_sparse
from .wellformed import check_graphs, check_names, check_tensor, wrong_size
from .wire import PagedFile, WireError, skeleton

__all__ = ["MappedTensor", "MessageTensor", "load", "replace_tensors"]

# The location that `skeleton` writes for tensors in the model file itself; no such file is ever opened.
_HERE = "gmnc:this-file"


def load(source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model) -> onnx_ir.Model:
    """Load and validate a model, with its weights left in the file.

    Args:
        source: A path, or a model in memory. An `onnx_ir.Model` is validated and returned itself.

    Returns:
        The model. Weights in the file are `onnx_ir.LazyTensor`s over one memory map; those in files beside it are
        `onnx_ir.ExternalTensor`s.

    Raises:
        LoadError: The file is unreadable, truncated or not ONNX; external data is missing, too short or outside of
            the model's folder; or the graph is invalid (a cycle, an undefined value, a duplicate name, no import of
            the default opset).
    """
    with paused():
        if isinstance(source, onnx_ir.Model):
            where = source.graph.name or "model"
            files = ExternalFiles(where, None)
            replace_tensors(source, partial(_keep, files))
            own = source.meta[FILES][:1] if isinstance(source.meta.get(ORIGINAL), MappedFile) else ()
            source.meta[FILES] = (*own, *files.states)
            check_graphs(source, where, sort=False)
            return source
        if isinstance(source, onnx.ModelProto):
            where = source.graph.name or "ModelProto"
            model = _deserialize(source, where)
            replace_tensors(model, partial(_keep_own, ExternalFiles(where, "")))
            if is_sparse(source):
                # onnx-ir has no sparse tensors: write-back takes them from these bytes.
                model.meta[ORIGINAL] = source.SerializeToString()
        else:
            where = os.fspath(source)
            model = _load_file(Path(where), where)
        check_graphs(model, where, sort=True)
    return model


def _load_file(path: Path, where: str) -> onnx_ir.Model:
    data = MappedFile(where)
    with path.open("rb") as file:
        proto = _parse(PagedFile(file.fileno()), where)
    model = _deserialize(proto, where)
    files = ExternalFiles(where, str(path.absolute().parent))

    def place(tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
        if isinstance(tensor, onnx_ir.ExternalTensor) and tensor.location == _HERE:
            return _mapped(tensor, data, where)
        return _keep_own(files, tensor)

    replace_tensors(model, place)
    # Write-back starts from these bytes, which hold what onnx-ir drops.
    model.meta[ORIGINAL] = data
    model.meta[FILES] = (data.state.absolute(), *files.states)
    return model


def _parse(data: PagedFile, where: str) -> onnx.ModelProto:
    """Parse the model without its weights; where the wire reader fails, parse everything, which copies the weights."""
    proto = onnx.ModelProto()
    try:
        try:
            proto.ParseFromString(skeleton(data, _HERE))
        except WireError:
            proto.ParseFromString(data[:])
    except DecodeError as error:
        raise LoadError(f"{where}: not an ONNX model, or truncated; export or download it again") from error
    if not proto.HasField("graph"):
        raise LoadError(f"{where}: not an ONNX model: it has no graph")
    return proto


def _deserialize(proto: onnx.ModelProto, where: str) -> onnx_ir.Model:
    proto = expand_sparse(proto, where)
    check_names(proto.graph, where)
    check_entries(proto, where)
    proto = _without_map_types(proto)
    try:
        with _quiet("onnx_ir"):
            model = onnx_ir.from_proto(proto)
    except Exception as error:
        raise LoadError(f"{where}: not a readable ONNX model: {root_cause(error)}") from error
    model.meta[PARSER] = partial(_deserialize, where=where)
    return model


def _without_map_types(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Drop map types (of a classifier's ZipMap output), which onnx-ir cannot represent."""

    def has_map(info: onnx.ValueInfoProto) -> bool:
        return info.type.HasField("map_type") or info.type.sequence_type.elem_type.HasField("map_type")

    if not any(map(has_map, (*proto.graph.input, *proto.graph.output))):
        return proto
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for info in (*copy.graph.input, *copy.graph.output, *copy.graph.value_info):
        if has_map(info):
            info.ClearField("type")
    return copy


def replace_tensors(model: onnx_ir.Model, place: Callable[[onnx_ir.TensorProtocol], onnx_ir.TensorProtocol]) -> None:
    """Replace each tensor of the model by `place(tensor)`."""
    for graph in model.graphs():
        for value in graph.initializers.values():
            if value.const_value is not None and (new := place(value.const_value)) is not value.const_value:
                value.const_value = new
        for node in graph:
            for name, attribute in node.attributes.items():
                if attribute.type == onnx_ir.AttributeType.TENSOR and not attribute.is_ref():
                    if (new := place(attribute.value)) is not attribute.value:
                        node.attributes[name] = onnx_ir.AttrTensor(name, new, doc_string=attribute.doc_string)
                elif attribute.type == onnx_ir.AttributeType.TENSORS and not attribute.is_ref():
                    old = attribute.value
                    news = [place(t) for t in old]
                    if any(a is not b for a, b in zip(old, news, strict=True)):
                        node.attributes[name] = onnx_ir.AttrTensors(name, news, doc_string=attribute.doc_string)


class MessageTensor(onnx_ir.TensorProtoTensor):
    """A tensor in the message of the model, of which shape and data type are parsed once."""

    __slots__ = ("_dtype", "_shape", "_size")

    def __init__(self, proto: onnx.TensorProto) -> None:
        super().__init__(proto)
        self._shape, self._dtype = super().shape, super().dtype
        self._size = super().size

    # onnx-ir's own classes make these read-only too, which its protocol does not say.
    @property
    def shape(self) -> onnx_ir.Shape:  # type: ignore[override]
        """The shape."""
        return self._shape

    @property
    def dtype(self) -> onnx_ir.DataType:  # type: ignore[override]
        """The data type."""
        return self._dtype

    @property
    def size(self) -> int:
        """The number of elements."""
        return self._size


def _keep_own(files: ExternalFiles, tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
    """Validate a tensor of a model that nobody else has."""
    kept = _keep(files, tensor)
    return MessageTensor(kept.raw) if type(kept) is onnx_ir.TensorProtoTensor else kept


def _keep(files: ExternalFiles, tensor: onnx_ir.TensorProtocol) -> onnx_ir.TensorProtocol:
    """Validate a tensor, and its external file if it has one."""
    check_tensor(tensor, files.where)
    if isinstance(tensor, onnx_ir.ExternalTensor):
        return files.check(tensor)
    return tensor


class MappedTensor(onnx_ir.LazyTensor):
    """A lazy tensor over the mapped model file; pickled as the file, offset and length of its bytes."""

    __slots__ = ()


def _mapped(tensor: onnx_ir.ExternalTensor, file: MappedFile, where: str) -> MappedTensor:
    """A validated lazy tensor over the mapped model file."""
    check_tensor(tensor, where)
    offset, length = tensor.offset or 0, tensor.length or 0
    if length != tensor.nbytes or offset + length > len(file.data):
        raise LoadError(wrong_size(where, tensor, length))
    read = partial(_read, file, offset, length, tensor.dtype, tensor.shape, tensor.name)
    return MappedTensor(
        read, tensor.dtype, tensor.shape, name=tensor.name, doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )  # fmt: skip


def _read(
    file: MappedFile, offset: int, length: int, dtype: onnx_ir.DataType, shape: onnx_ir.Shape, name: str
) -> onnx_ir.TensorProtocol:
    file.check()
    if dtype.bitwidth < 8:
        packed = np.frombuffer(file.data, np.uint8, length, offset)
        return onnx_ir.PackedTensor(packed, dtype, shape=shape, name=name)
    kind = np.dtype(dtype.numpy()).newbyteorder("<")
    array = np.frombuffer(file.data, kind, length // kind.itemsize, offset).reshape(shape.numpy())
    return onnx_ir.Tensor(array, dtype, shape=shape, name=name)


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Silence a library's warnings about problems that are then reported as a `LoadError`."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
