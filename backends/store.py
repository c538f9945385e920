"""The parameter graph as one file: safetensors with a JSON header, memory-mapped, no pickle.

The file holds three tensors of structure (`structure/int32`, `structure/int64`, `structure/pinned`), the values as
`parameter/<name>` and `constant/<name>`, and in its metadata, under the key `gmnc`, a JSON text: the version, the
tables, and for each array of the graph where it lies in a structure tensor. Any safetensors reader opens it.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, TensorSpec, safe_open, serialize_file

from ..ir import (
    AccountEntry,
    EdgeBlock,
    GmncError,
    LinkBlock,
    LoadError,
    NodeGroup,
    OpaqueOp,
    Parameter,
    ParameterGraph,
    ParameterView,
    Port,
    Problem,
    Via,
)
from .files import replacing

__all__ = ["VERSION", "is_store", "load", "save"]

VERSION = 1
"""Version of the format that `save` writes and the newest that `load` reads."""

_KEY = "gmnc"
_NATIVE = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Types that safetensors knows, beside NumPy's own."""


def save(graph: ParameterGraph, path: str | os.PathLike[str], values: bool = True) -> None:
    """Write the graph, with the values of its parameters and constants unless `values` is False.

    Values stream from the (memory-mapped) model into the file. Arrays broadcast along an axis are stored once.
    `graph.model` is not stored. Raises `GmncError` if the file cannot be written.
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
    with replacing(Path(path)) as temporary:
        try:
            serialize_file(specs, temporary, metadata={_KEY: json.dumps(tables)})
        except SafetensorError as error:
            raise GmncError(f"cannot write {path}: {error}") from error


def load(path: str | os.PathLike[str]) -> ParameterGraph:
    """The graph that `save` wrote; every array is a read-only view of the mapped file.

    The graph has no `model`, so nothing can be written back from it. Raises `LoadError` if the file is missing, is no
    store, is damaged, or is of a newer version; values that were left out raise `GmncError` when they are read.
    """
    metadata = _metadata(path)
    if metadata is None:
        raise LoadError(f"{path}: not a gmnc store; write one with `gmnc compile MODEL.onnx -o {path}`")
    try:
        tables = json.loads(metadata)
        if tables["version"] > VERSION:
            raise LoadError(
                f"{path}: store of version {tables['version']}, this gmnc reads up to {VERSION}: upgrade gmnc"
            )
        graph = _graph(tables, _mapped(path), os.fspath(path))
        graph.check()
    except LoadError:
        raise
    except (KeyError, IndexError, TypeError, ValueError, GmncError) as error:
        raise LoadError(f"{path}: damaged gmnc store ({error}); write it anew with `gmnc compile`") from error
    return graph


def is_store(path: str | os.PathLike[str]) -> bool:
    """Whether the file is a store that `save` wrote (of any version); False if it cannot be read."""
    try:
        return _metadata(path) is not None
    except LoadError:
        return False


def _metadata(path: str | os.PathLike[str]) -> str | None:
    """The JSON text of a store, None if the file is something else."""
    try:
        with safe_open(path, framework="np") as file:
            return (file.metadata() or {}).get(_KEY)
    except SafetensorError:
        return None
    except OSError as error:
        raise LoadError(f"{path}: cannot be read: {error.strerror or error}") from error


def _mapped(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """Every tensor of a valid safetensors file as bytes, views of one mapping of it."""
    data = np.memmap(path, dtype=np.uint8, mode="r")
    start = 8 + int(data[:8].view("<u8")[0])
    header = json.loads(data[8:start].tobytes())
    return {
        name: data[start + entry["data_offsets"][0] : start + entry["data_offsets"][1]]
        for name, entry in header.items()
        if name != "__metadata__"
    }


class _Pools:
    """Structure arrays collected end to end per dtype; equal arrays are stored once."""

    def __init__(self) -> None:
        self._parts: dict[str, list[np.ndarray]] = {"int32": [], "int64": []}
        self._sizes = {"int32": 0, "int64": 0}
        self._known: dict[tuple[str, bytes], int] = {}

    def add(self, array: np.ndarray | None, kind: str = "int32") -> list[Any] | None:
        """Reference of an array: [offset, shape as stored, shape]; axes that are only broadcast have length 1."""
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


def _graph(tables: Mapping[str, Any], raw: Mapping[str, np.ndarray], path: str) -> ParameterGraph:
    pool = {kind: raw[f"structure/{kind}"].view(kind) for kind in ("int32", "int64")}

    def get(reference: list[Any] | None, kind: str = "int32") -> Any:
        if reference is None:
            return None
        offset, stored, shape = reference
        once = pool[kind][offset : offset + math.prod(stored)].reshape(stored)
        return np.asarray(once if stored == shape else np.broadcast_to(once, shape))

    def edge(entry: dict[str, Any]) -> EdgeBlock:
        name, offset, shape, strides, index = entry["view"]
        view = ParameterView(name, offset, tuple(shape), tuple(strides), get(index, "int64"))
        role, tied, constant, node = entry["rest"]
        arrays = (get(entry["slots"]), get(entry["via"]))
        return EdgeBlock(get(entry["dst"]), get(entry["src"]), view, role, *arrays, tied, constant, node)

    def link(entry: list[Any]) -> LinkBlock:
        dst, src, via, operand, slot = (get(a) for a in entry[:5])
        return LinkBlock(dst, src, entry[5], via, operand, slot, entry[6])

    def numbers(prefix: str) -> dict[str, Parameter]:
        return {
            name: Parameter(name, tuple(shape), dtype, origin, _loader(raw, f"{prefix}/{name}", shape, dtype, path))
            for name, shape, dtype, origin in tables[f"{prefix}s"]
        }

    return ParameterGraph(
        tables["name"],
        tuple(NodeGroup(*g) for g in tables["groups"]),
        np.asarray(raw["structure/pinned"].view(bool)),
        tuple(edge(e) for e in tables["edges"]),
        tuple(link(e) for e in tables["links"]),
        tuple(Via(op, tuple((k, _decode(x)) for k, x in a), *map(tuple, rest)) for op, a, *rest in tables["vias"]),
        numbers("parameter"),
        numbers("constant"),
        tuple(AccountEntry(*e) for e in tables["account"]),
        tuple(Port(name, get(nodes), get(via)) for name, nodes, via in tables["inputs"]),
        tuple(Port(name, get(nodes), get(via)) for name, nodes, via in tables["outputs"]),
        tuple(OpaqueOp(*o) for o in tables["opaque"]),
        tuple(Problem(*p) for p in tables["unsupported"]),
        paired=None if tables.get("paired") is None else get(tables["paired"]).astype(bool),
    )


def _loader(
    raw: Mapping[str, np.ndarray], key: str, shape: list[int], dtype: str, path: str
) -> Callable[[], np.ndarray]:
    def read() -> np.ndarray:
        if key not in raw:
            raise GmncError(f"{path} was saved without values: save it again with values=True to read {key!r}")
        return np.asarray(raw[key].view(_dtype(dtype)).reshape(shape))

    return read


def _dtype(name: str) -> np.dtype:
    return np.dtype(getattr(ml_dtypes, name, name))


def _storable(array: np.ndarray) -> np.ndarray:
    """In C order; as bytes if safetensors has no such type (the header keeps shape and type)."""
    array = np.asarray(array, order="C")
    known = array.dtype.kind in "biuf" or array.dtype.name in _NATIVE
    return array if known else array.reshape(-1).view(np.uint8)


def _encode(value: object) -> Any:
    """An attribute value for JSON; tuples become lists."""
    if isinstance(value, np.generic):
        return value.item()
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, tuple | list):
        return [_encode(v) for v in value]
    raise GmncError(f"a via attribute of type {type(value).__name__} cannot be stored: {value!r}")


def _decode(value: Any) -> object:
    if isinstance(value, list):
        return tuple(_decode(v) for v in value)
    return bytes.fromhex(value["bytes"]) if isinstance(value, dict) else value
