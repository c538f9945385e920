"""The store: a parameter graph in one safetensors file, memory-mapped and without pickle.

The file holds three structure tensors (`structure/int32`, `structure/int64`, `structure/pinned`), the values as
`parameter/<name>` and `constant/<name>`, and in its metadata, under the key `gmnc`, a JSON text with the version, the
tables, and the location of each array of the graph in a structure tensor. Any safetensors reader opens it.
"""

from __future__ import annotations

import json
import os
from dataclasses import astuple
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

from ..files.fields import FieldError, integer, parsed, table, text
from ..files.reading import MappedFile
from ..files.writing import replacing
from ..ir import GmncError, GraphError, LoadError, ParameterGraph
from .store_reading import HEADER, LONGEST_HEADER, TABLES, Tensors, graph_of

__all__ = ["SUFFIX", "VERSION", "is_store", "load", "save"]

VERSION = 2
"""Version of the file format, the only one that `load` reads."""

SUFFIX = ".safetensors"
"""File name suffix of a store."""

_KEY = "gmnc"
_NATIVE = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Dtypes of safetensors besides NumPy's."""


def save(graph: ParameterGraph, path: str | os.PathLike[str], values: bool = True) -> None:
    """Write a graph to a store.

    Values are streamed from the memory-mapped model. `graph.model` is not stored, so nothing can be written back to
    ONNX from the loaded graph.

    Args:
        graph: The graph.
        path: File to write, by convention `*.safetensors`.
        values: Store the values of parameters and constants, and not the structure alone.

    Raises:
        GmncError: The file cannot be written, or the graph reads its values from it.
    """
    pools = _Pools()
    tables = _tables(graph, pools)
    tensors: dict[str, np.ndarray] = {
        "structure/int32": pools.joined("int32"),
        "structure/int64": pools.joined("int64"),
        "structure/pinned": graph.pinned,
    }
    if values:
        for prefix, table in (("parameter", graph.parameters), ("constant", graph.constants)):
            tensors |= {f"{prefix}/{name}": _storable(p.load()) for name, p in table.items()}
    specs = {
        name: TensorSpec(dtype=a.dtype.name, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes)
        for name, a in tensors.items()
    }
    with replacing(path, graph.files) as temporary:
        serialize_file(specs, temporary, metadata={_KEY: json.dumps(tables)})


def load(path: str | os.PathLike[str]) -> ParameterGraph:
    """Load a graph from a store.

    Args:
        path: A file that `save` wrote.

    Returns:
        The graph, whose arrays are read-only copies and whose values are views of the memory-mapped file. It has no
        `model`. Reading its values raises `GmncError` if they were not stored, or if the file has changed since.

    Raises:
        LoadError: The file is missing, is no store, is damaged, or has another format version.
    """
    file = MappedFile(path)
    found, start = _header(file)
    if not found:
        raise LoadError(f"{path}: not a gmnc store, or a truncated one; `gmnc compile MODEL.onnx -o {path}` writes one")
    try:
        header = parsed(found, HEADER, str(path))
        tables = _checked(table({_KEY: text})(header.get("__metadata__"))[_KEY], str(path))
        graph = graph_of(tables, Tensors.of(file, start, header))
        graph.check()
    except (FieldError, GraphError) as error:
        raise LoadError(f"{path}: damaged gmnc store ({error}); write it again with `gmnc compile`") from error
    return graph


def is_store(path: str | os.PathLike[str]) -> bool:
    """Check whether a file is a store, of any version, complete or truncated.

    Args:
        path: Any file.

    Returns:
        Whether it is one; False if it cannot be read.
    """
    try:
        return bool(_header(MappedFile(path))[0])
    except LoadError:
        return False


def _header(file: MappedFile) -> tuple[bytes, int]:
    """The JSON header of a store, as far as the file has it, and the offset of its tensors; empty if it is none."""
    size = file.state.size
    length = int.from_bytes(file.read(0, min(8, size)).tobytes(), "little")
    if size <= 8 or length > LONGEST_HEADER:
        return b"", 0
    found = file.read(8, min(8 + length, size)).tobytes()
    named = found.startswith(b"{") and f'"{_KEY}"'.encode() in found
    return (found, 8 + length) if named else (b"", 0)


def _checked(metadata: str, where: str) -> dict[str, Any]:
    """The tables of the metadata. Raises `LoadError` if they are damaged or of another version."""
    version = parsed(metadata, table({"version": integer()}), where)["version"]
    if version < VERSION:
        raise LoadError(
            f"{where}: store of version {version}, which this gmnc no longer reads: compile the model again"
        )
    if version > VERSION:
        raise LoadError(f"{where}: store of version {version}, this gmnc reads version {VERSION}: upgrade gmnc")
    return parsed(metadata, TABLES, where)


class _Pools:
    """Structure arrays, concatenated per dtype; equal arrays are stored once, broadcast axes with length 1."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {"int32": [], "int64": []}
        self._sizes = {"int32": 0, "int64": 0}
        self._known: dict[tuple[str, bytes], int] = {}

    def add(self, array: np.ndarray | None, kind: str = "int32") -> list[Any] | None:
        """Add an array; returns its reference [offset, stored shape, shape]."""
        if array is None:
            return None
        once = array[tuple(slice(0, 1) if s == 0 else slice(None) for s in array.strides)]
        once = np.asarray(once, dtype=kind, order="C")
        key = (kind, once.tobytes())
        if key not in self._known:
            self._known[key] = self._sizes[kind]
            self._parts[kind].append(once.reshape(-1))
            self._sizes[kind] += once.size
        return [self._known[key], once.shape, array.shape]

    def joined(self, kind: str) -> np.ndarray:
        return np.concatenate([np.zeros(0, dtype=kind), *self._parts[kind]])


def _tables(graph: ParameterGraph, pools: _Pools) -> dict[str, Any]:
    add = pools.add
    return {
        "version": VERSION,
        "name": graph.name,
        "groups": [astuple(g) for g in graph.groups],
        "edges": [
            {
                "dst": add(b.dst),
                "src": add(b.src),
                "slots": add(b.slots),
                "via": add(b.via),
                "view": [b.view.name, b.view.offset, b.view.shape, b.view.strides, add(b.view.index, "int64")],
                "rest": [b.role, b.tied, b.constant, b.node],
            }
            for b in graph.edges
        ],
        "links": [[*(add(a) for a in (b.dst, b.src, b.via, b.operand, b.slot)), b.role, b.node] for b in graph.links],
        "vias": [[v.op, [[k, _encode(x)] for k, x in v.attributes], v.parents, v.blocks, v.sizes] for v in graph.vias],
        "parameters": [[p.name, p.shape, p.dtype, p.origin] for p in graph.parameters.values()],
        "constants": [[p.name, p.shape, p.dtype, p.origin] for p in graph.constants.values()],
        "account": [astuple(e) for e in graph.account],
        "inputs": [[p.name, add(p.nodes), add(p.via)] for p in graph.inputs],
        "outputs": [[p.name, add(p.nodes), add(p.via)] for p in graph.outputs],
        "opaque": [astuple(o) for o in graph.opaque],
        "unsupported": [astuple(p) for p in graph.unsupported],
        "paired": None if graph.paired is None else add(graph.paired),
    }


def _storable(array: np.ndarray) -> np.ndarray:
    """The array in C order; as bytes if safetensors lacks the dtype (the tables keep shape and dtype)."""
    array = np.asarray(array, order="C")
    known = array.dtype.kind in "biuf" or array.dtype.name in _NATIVE
    return array if known else array.reshape(-1).view(np.uint8)


def _encode(value: object) -> Any:
    """A via's attribute value as JSON; tuples become lists."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple | list):
        return [_encode(v) for v in value]
    raise GmncError(f"a via attribute of type {type(value).__name__} cannot be stored: {value!r}")
