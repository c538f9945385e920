"""Reading a store: the schema of its header and tables, and the graph built from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, get_args

import ml_dtypes
import numpy as np

from ..files.fields import Check, FieldError, flag, integer, listed, mapping, maybe, one_of, row, table, text
from ..files.reading import MappedFile
from ..ir import (
    AccountEntry,
    EdgeBlock,
    GmncError,
    LinkBlock,
    NodeGroup,
    NodeKind,
    OpaqueOp,
    Origin,
    Parameter,
    ParameterGraph,
    ParameterView,
    Port,
    Problem,
    Via,
)

__all__ = ["HEADER", "LONGEST_HEADER", "TABLES", "Tensors", "graph_of"]

LONGEST_HEADER = 100_000_000
"""Largest header in bytes, the limit of safetensors."""

_BROADCAST = 1 << 24
"""Largest total number of elements in broadcast arrays, which take no space in the file."""
_MAX_DEPTH = 8
_LARGEST = 1 << 62
_DTYPES = {
    np.dtype(kind).name: np.dtype(kind)
    for kind in (
        *(np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64, np.float16),
        *(np.float32, np.float64, np.complex64, np.complex128, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn),
        *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz, ml_dtypes.float8_e8m0fnu),
        *(ml_dtypes.int4, ml_dtypes.uint4, ml_dtypes.int2, ml_dtypes.uint2, ml_dtypes.float4_e2m1fn),
        *(ml_dtypes.float6_e2m3fn, ml_dtypes.float6_e3m2fn),
    )
}
"""Dtypes of parameters and constants."""

_count = integer(most=_LARGEST)
_SIZES = listed(_count, most=32)

HEADER = mapping(lambda entry: entry)
"""Schema of a safetensors header: tensor entries by name, and metadata."""
_TENSOR = table({"dtype": text, "shape": _SIZES, "data_offsets": row(_count, _count)})


def _attribute(value: Any, depth: int = 0) -> Any:
    """Check a via's attribute value."""
    if value is None or isinstance(value, bool | float):
        return value
    if isinstance(value, int):
        return integer(-(2**63), 2**64)(value)
    if isinstance(value, str):
        return text(value)
    if isinstance(value, dict):
        return table({"bytes": _hexadecimal})(value)
    if not isinstance(value, list) or depth == _MAX_DEPTH:
        raise FieldError("an attribute value", value)
    return [_attribute(entry, depth + 1) for entry in value]


def _hexadecimal(value: Any) -> str:
    try:
        bytes.fromhex(text(value))
    except ValueError:
        raise FieldError("hexadecimal bytes", value) from None
    return text(value)


def _reference(axes: int) -> Check[list[Any]]:
    """A reference to an array: its offset, its stored shape (1 for broadcast axes), and its shape."""
    sizes = listed(_count, axes, axes)

    def check(value: Any) -> list[Any]:
        offset, stored, shape = row(_count, sizes, sizes)(value)
        if any(once not in (1, size) for once, size in zip(stored, shape, strict=True)):
            raise FieldError("a shape that the stored array broadcasts to", shape)
        return [offset, stored, shape]

    return check


_vector, _matrix, _block = _reference(1), _reference(2), _reference(4)
_four = listed(_count, 4, 4)
_steps = listed(integer(-_LARGEST, _LARGEST), 4, 4)
_parameter = row(text, _SIZES, one_of(*_DTYPES), one_of(*get_args(Origin)))
_port = row(text, _vector, _vector)

TABLES = table(
    {
        "version": integer(2, most=2),
        "name": text,
        "groups": listed(row(one_of(*NodeKind), *[integer()] * 3, *[text] * 3)),
        "edges": listed(
            table(
                {
                    "dst": _matrix,
                    "src": _matrix,
                    "slots": _matrix,
                    "via": _matrix,
                    "view": row(text, _count, _four, _steps, maybe(_block)),
                    "rest": row(text, flag, flag, text),
                }
            )
        ),
        "links": listed(row(_vector, _vector, _vector, maybe(_vector), maybe(_matrix), text, text)),
        "vias": listed(
            row(
                text,
                listed(row(text, _attribute)),
                listed(integer()),
                listed(integer()),
                listed(integer(0, 2**63)),
                least=4,
            )
        ),
        "parameters": listed(_parameter),
        "constants": listed(_parameter),
        "account": listed(row(text, _count, text)),
        "inputs": listed(_port),
        "outputs": listed(_port),
        "opaque": listed(row(*[text] * 4)),
        "unsupported": listed(row(text, text, integer(-1), text, text, text, text, least=5)),
    },
    {"paired": maybe(_vector)},
)
"""Schema of a store's tables. Whether ids are in range is left to `ParameterGraph.check`."""


@dataclass(frozen=True)
class Tensors:
    """The tensors of a store.

    Attributes:
        file: The store.
        spans: First byte, end and safetensors dtype of each tensor, by name.
    """

    file: MappedFile
    spans: Mapping[str, tuple[int, int, str]]

    @staticmethod
    def of(file: MappedFile, start: int, header: Mapping[str, Any]) -> Tensors:
        """Locate the tensors of a header; raises `FieldError` for one that is outside of the file."""
        spans = {}
        for name, entry in header.items():
            if name == "__metadata__":
                continue
            try:
                found = _TENSOR(entry)
                first, last = found["data_offsets"]
                if not first <= last <= len(file.array) - start:
                    raise FieldError("bytes within the file, which is truncated", [first, last])
            except FieldError as error:
                raise error.within(f".{name}") from None
            spans[name] = (start + first, start + last, found["dtype"])
        return Tensors(file, spans)

    def structure(self, name: str, dtype: np.dtype, kind: str) -> np.ndarray:
        """A read-only 1-d copy of the elements of a structure tensor of the safetensors dtype `kind`.

        Nobody checks the file before looking at an array of the graph, so that these do not stay in it.
        """
        if name not in self.spans:
            raise FieldError(f"a tensor {name!r}", list(self.spans)[:3])
        first, last, found = self.spans[name]
        if found != kind or (last - first) % dtype.itemsize:
            raise FieldError(f"{dtype.name} in the tensor {name!r}", found)
        copied = self.file.read(first, last).view(dtype)
        copied.flags.writeable = False
        return copied

    def values(self, name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        """The values of a parameter. Raises `GmncError` if they were not stored, or the file has changed."""
        if name not in self.spans:
            raise GmncError(
                f"{self.file.state.path} was saved without values: save it again with values=True to read {name!r}"
            )
        self.file.check()
        first, last, _ = self.spans[name]
        return np.asarray(self.file.array[first:last].view(dtype).reshape(shape))


@dataclass(frozen=True, slots=True, eq=False)
class _Values:
    """Reads one parameter of a store."""

    tensors: Tensors
    key: str
    shape: tuple[int, ...]
    dtype: str
    portable: ClassVar[bool] = True

    def __call__(self) -> np.ndarray:
        return self.tensors.values(self.key, self.shape, _DTYPES[self.dtype])


class _Arrays:
    """The structure arrays of a graph, as views of the tensors that hold them."""

    def __init__(self, tensors: Tensors) -> None:
        self.pools = {
            np.dtype(np.int32): tensors.structure("structure/int32", np.dtype(np.int32), "I32"),
            np.dtype(np.int64): tensors.structure("structure/int64", np.dtype(np.int64), "I64"),
        }
        self.left = _BROADCAST

    def get(self, reference: list[Any], dtype: type = np.int32) -> np.ndarray:
        offset, stored, shape = reference
        pool, size = self.pools[np.dtype(dtype)], math.prod(stored)
        self.left -= math.prod(shape) if stored != shape else 0
        if offset + size > len(pool) or self.left < 0:
            raise FieldError(f"an array within the {len(pool)} elements of its tensor", reference)
        once = pool[offset : offset + size].reshape(stored)
        return np.asarray(once if stored == shape else np.broadcast_to(once, shape))

    def maybe(self, reference: list[Any] | None, dtype: type = np.int32) -> np.ndarray | None:
        return None if reference is None else self.get(reference, dtype)


def graph_of(tables: Mapping[str, Any], tensors: Tensors) -> ParameterGraph:
    """Build the graph from checked tables. Raises `FieldError` if the tensors do not match them."""
    arrays = _Arrays(tensors)
    pinned = _booleans(tensors.structure("structure/pinned", np.dtype(np.uint8), "BOOL"))
    paired = tables.get("paired")
    return ParameterGraph(
        tables["name"],
        tuple(NodeGroup(*g) for g in tables["groups"]),
        pinned,
        tuple(_edge(e, arrays) for e in tables["edges"]),
        tuple(_link(e, arrays) for e in tables["links"]),
        tuple(Via(op, tuple((k, _decode(x)) for k, x in a), *map(tuple, rest)) for op, a, *rest in tables["vias"]),
        _numbered(tables["parameters"], "parameter", tensors),
        _numbered(tables["constants"], "constant", tensors),
        tuple(AccountEntry(*e) for e in tables["account"]),
        tuple(Port(name, arrays.get(nodes), arrays.get(via)) for name, nodes, via in tables["inputs"]),
        tuple(Port(name, arrays.get(nodes), arrays.get(via)) for name, nodes, via in tables["outputs"]),
        tuple(OpaqueOp(*o) for o in tables["opaque"]),
        tuple(Problem(*p) for p in tables["unsupported"]),
        paired=None if paired is None else arrays.get(paired).astype(bool),
    )


def _edge(entry: Mapping[str, Any], arrays: _Arrays) -> EdgeBlock:
    name, offset, shape, strides, index = entry["view"]
    view = ParameterView(name, offset, tuple(shape), tuple(strides), arrays.maybe(index, np.int64))
    role, tied, constant, node = entry["rest"]
    dst, src, slots, via = (arrays.get(entry[part]) for part in ("dst", "src", "slots", "via"))
    return EdgeBlock(dst, src, view, role, slots, via, tied, constant, node)


def _link(entry: list[Any], arrays: _Arrays) -> LinkBlock:
    dst, src, via = (arrays.get(a) for a in entry[:3])
    return LinkBlock(dst, src, entry[5], via, arrays.maybe(entry[3]), arrays.maybe(entry[4]), entry[6])


def _numbered(rows: list[list[Any]], kind: str, tensors: Tensors) -> dict[str, Parameter]:
    """Parameters or constants by name; raises `FieldError` if stored values do not have the size they need."""
    found: dict[str, Parameter] = {}
    for name, sizes, dtype, origin in rows:
        key, shape, stored = f"{kind}/{name}", tuple(sizes), _DTYPES[dtype]
        first, last, _ = tensors.spans.get(key, (0, math.prod(shape) * stored.itemsize, ""))
        if name in found or last - first != math.prod(shape) * stored.itemsize:
            raise FieldError(f"one {kind} {name!r} with the bytes of {list(shape)} {dtype}", last - first)
        found[name] = Parameter(name, shape, dtype, origin, _Values(tensors, key, shape, dtype))
    return found


def _booleans(given: np.ndarray) -> np.ndarray:
    if given.size and given.max() > 1:
        raise FieldError("booleans", int(given.max()))
    return np.asarray(given.view(bool))


def _decode(value: Any) -> object:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value
