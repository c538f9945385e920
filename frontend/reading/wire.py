"""A reader of the protobuf wire format that leaves weights in the file.

`skeleton` copies an ONNX file without the large payloads of its tensors: each is replaced by `external_data` entries
with its place in the file. Cost: one step per node and tensor, none per weight.

Field numbers: onnx.proto (ModelProto, GraphProto, NodeProto, AttributeProto, TensorProto, FunctionProto);
encoding: https://protobuf.dev/programming-guides/encoding/.
"""

from __future__ import annotations

import mmap
import os
from collections.abc import Mapping
from typing import overload

__all__ = ["THRESHOLD", "PagedFile", "WireError", "skeleton"]

THRESHOLD = 1024

_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5

_CHILDREN: Mapping[str, Mapping[int, str]] = {
    "model": {7: "graph", 25: "function"},
    "function": {7: "node"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "sparse": {1: "tensor"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse"},
}
# Fields of number and string lists in an attribute: such an attribute has no tensor, so its entries are skipped.
_LISTS = frozenset({7, 8, 9})
_DATA_TYPE, _RAW_DATA, _EXTERNAL_DATA, _DATA_LOCATION = 2, 9, 13, 14
# Packed repeated fields (field: data type) whose bytes are the little-endian tensor of that data type.
_PACKED = {4: 1, 10: 11}


class WireError(ValueError):
    """The bytes are not a well-formed protobuf message of the expected kind."""


class PagedFile:
    """An open file, read page by page: of a memory map, pages around each access would count as resident memory."""

    _PAGE = 4096

    def __init__(self, descriptor: int) -> None:
        """Read from the descriptor of a regular file, which must stay open."""
        self._descriptor = descriptor
        self._size = os.fstat(descriptor).st_size
        self._start = -self._PAGE
        self._page = b""

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, key: int) -> int: ...

    @overload
    def __getitem__(self, key: slice) -> bytes: ...

    def __getitem__(self, key: int | slice) -> int | bytes:
        if isinstance(key, slice):
            start, stop, _ = key.indices(self._size)
            return self._read(start, stop - start)
        if not self._start <= key < self._start + self._PAGE:
            self._start = key - key % self._PAGE
            self._page = self._read(self._start, self._PAGE)
        return self._page[key - self._start]

    def _read(self, start: int, size: int) -> bytes:
        if hasattr(os, "pread"):
            return os.pread(self._descriptor, size, start)
        os.lseek(self._descriptor, start, os.SEEK_SET)
        return os.read(self._descriptor, size)


Buffer = bytes | mmap.mmap | PagedFile


def skeleton(data: Buffer, location: str, threshold: int = THRESHOLD) -> bytes:
    """Replace tensor payloads of a serialized ModelProto by external data entries.

    Covers initializers and tensor attributes in the graph, in subgraphs and in functions.

    Args:
        data: The serialized ModelProto.
        location: The file name in the new `external_data` entries; their offset and length point into `data`.
        threshold: Payloads of at most so many bytes stay.

    Returns:
        The bytes of the smaller ModelProto.

    Raises:
        WireError: The bytes are not a message or end early.
    """
    if len(data) == 0:
        raise WireError("no bytes")
    try:
        pieces = _message(data, 0, len(data), "model", location.encode(), threshold)
    except (IndexError, RecursionError) as error:
        raise WireError("the bytes end inside a field") from error
    return data[:] if pieces is None else b"".join(pieces)


def _message(data: Buffer, start: int, stop: int, kind: str, location: bytes, threshold: int) -> list[bytes] | None:
    """The new message as pieces, or None if it does not change."""
    children = _CHILDREN[kind]
    pieces: list[bytes] = []
    copied = at = start
    while at < stop:
        begin = at
        tag, at = _tag(data, at)
        if kind == "attribute" and tag >> 3 in _LISTS:
            at = stop
            break
        if tag & 7 != _LENGTH:
            at = _skip(data, at, tag)
            continue
        size, at = _varint(data, at)
        end = at + size
        if end > stop:
            raise WireError(f"a field at byte {begin} reaches past its message")
        child = children.get(tag >> 3) if size > threshold else None
        if child is not None:
            if child == "tensor":
                body = _tensor(data, at, end, location, threshold)
            else:
                body = _message(data, at, end, child, location, threshold)
            if body is not None:
                pieces += (data[copied:begin], _encode(tag), _encode(sum(map(len, body))), *body)
                copied = end
        at = end
    if at != stop:
        raise WireError(f"a field reaches past its message at byte {stop}")
    if not pieces:
        return None
    pieces.append(data[copied:stop])
    return pieces


def _tensor(data: Buffer, start: int, stop: int, location: bytes, threshold: int) -> list[bytes] | None:
    """A TensorProto without its payload, or None if it stays (already external, several payload fields, strings)."""
    data_type = 0
    payloads: list[tuple[int, int, int, int]] = []
    at = start
    while at < stop:
        begin = at
        tag, at = _tag(data, at)
        field = tag >> 3
        if tag & 7 != _LENGTH:
            if field == _DATA_TYPE:
                data_type, _ = _varint(data, at)
            elif field == _DATA_LOCATION:
                return None
            at = _skip(data, at, tag)
            continue
        size, at = _varint(data, at)
        if at + size > stop:
            raise WireError(f"a field at byte {begin} reaches past its message")
        if field == _EXTERNAL_DATA:
            return None
        if field == _RAW_DATA or field in _PACKED:
            payloads.append((field, begin, at, at + size))
        at += size
    if at != stop:
        raise WireError(f"a field reaches past its message at byte {stop}")
    if len(payloads) != 1:
        return None
    field, begin, at, end = payloads[0]
    if end - at <= threshold or (field != _RAW_DATA and _PACKED[field] != data_type):
        return None
    entries = (b"location", location), (b"offset", b"%d" % at), (b"length", b"%d" % (end - at))
    external = b"".join(_field(_EXTERNAL_DATA, _field(1, key) + _field(2, value)) for key, value in entries)
    return [data[start:begin], data[end:stop], external, _encode(_DATA_LOCATION << 3 | _VARINT), b"\x01"]


def _varint(data: Buffer, at: int) -> tuple[int, int]:
    """The varint at byte `at`, and the byte after it."""
    byte = data[at]
    at += 1
    if byte < 0x80:
        return byte, at
    value = byte & 0x7F
    for shift in range(7, 70, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise WireError(f"a varint at byte {at} does not end")


def _tag(data: Buffer, at: int) -> tuple[int, int]:
    """The tag of the field at byte `at`, and the byte after it.

    No field has the number 0, so that a file of zeros (a download that has only reserved its space) ends here.
    """
    tag, after = _varint(data, at)
    if tag >> 3 == 0:
        raise WireError(f"the field at byte {at} has no number")
    return tag, after


def _skip(data: Buffer, at: int, tag: int) -> int:
    """The byte after a field that is not length-delimited."""
    wire = tag & 7
    if wire == _VARINT:
        return _varint(data, at)[1]
    if wire == _FIXED32:
        return at + 4
    if wire == _FIXED64:
        return at + 8
    raise WireError(f"wire type {wire} at byte {at}")


def _encode(value: int) -> bytes:
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, payload: bytes) -> bytes:
    return _encode(number << 3 | _LENGTH) + _encode(len(payload)) + payload
