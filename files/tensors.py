"""Files of named tensors, as training leaves them: safetensors, torch checkpoints, .npz and ONNX initializers."""

from __future__ import annotations

import math
import os
import pickle
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from ..ir import LoadError
from ..ir.errors import one_line
from .fields import FieldError, integer, listed, mapping, parsed, read_json, row, table, text
from .npz import read_arrays
from .reading import FileState, MappedFile, inside

__all__ = ["read_tensors", "unwrapped"]

_STORED = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn, "F8_E5M2": ml_dtypes.float8_e5m2, "I64": np.int64, "I32": np.int32,
    "I16": np.int16, "I8": np.int8, "U64": np.uint64, "U32": np.uint32, "U16": np.uint16, "U8": np.uint8,
    "BOOL": np.bool_,
}  # fmt: skip
"""Dtypes of safetensors."""

_BYTES = {kind: np.dtype(getattr(ml_dtypes, kind)) for kind in (
    "int4", "uint4", "int2", "uint2", "float8_e4m3fnuz", "float8_e5m2fnuz", "float8_e8m0fnu", "float4_e2m1fn",
)}  # fmt: skip
"""Dtypes that safetensors lacks, one byte each."""

_LONGEST_HEADER = 100_000_000
"""Largest header in bytes, the limit of safetensors."""

_count = integer(most=1 << 62)
_HEADER = mapping(lambda entry: entry)
_TENSOR = table({"dtype": text, "shape": listed(_count, most=64), "data_offsets": row(_count, _count)})
_INDEX = table({"weight_map": mapping(text)})
_TABLES = table({"parameters": listed(row(text, listed(_count, most=64), text, text))})
_STORE = "parameter/"
"""What precedes the names of parameters in a store."""

_WRAPPERS = ("state_dict", "model_state_dict", "model", "module", "net", "network", "params", "weights")
"""Keys under which checkpoints keep the state of the model."""

_IN_FOLDER = (
    "model.safetensors.index.json", "model.safetensors", "pytorch_model.bin.index.json", "pytorch_model.bin",
)  # fmt: skip
"""Names of the weights in a folder of the Hugging Face hub, the preferred one first."""


def read_tensors(path: str | os.PathLike[str], key: str | None = None) -> dict[str, Any]:
    """Read the named tensors of a file; nothing in it is executed.

    Args:
        path: A file, by its suffix: `.safetensors` (memory-mapped; also a gmnc store, of which the parameters are
            read), `.pt`, `.pth`, `.bin` or `.ckpt` (`torch.load` with `weights_only`), `.npz`, `.onnx` (initializers
            and Constant nodes), or the `.index.json` of a sharded checkpoint; or a folder with such files under the
            names of the Hugging Face hub.
        key: Where the state is in a torch checkpoint, e.g. "ema" or "ema.shadow"; by default it is found under the
            usual keys, such as "state_dict" and "model".

    Returns:
        Arrays or, from torch checkpoints, torch tensors on the CPU, by name.

    Raises:
        LoadError: The file is missing, damaged, of an unknown suffix, or holds more than one state.
    """
    place = Path(path)
    if place.is_dir():
        place = next((place / name for name in _IN_FOLDER if (place / name).is_file()), place)
    if place.name.endswith(".index.json"):
        return _sharded(place, key)
    reader = _READERS.get(place.suffix.lower())
    if reader is None:
        known = ", ".join(_READERS)
        raise LoadError(f"{path}: cannot read values from it; the suffixes are {known} and .index.json (shards)")
    return reader(place, key)


def unwrapped(found: Any, where: str, key: str | None = None) -> dict[str, Any]:
    """The state in what a checkpoint holds.

    Args:
        found: A mapping of names to tensors or arrays, or a mapping that has one under one of the usual keys.
        where: The file, for messages.
        key: The path of the state, with dots between keys.

    Returns:
        Tensors by name; entries of a state that are no tensors are left out.

    Raises:
        LoadError: There is no state at the key, or, without one, none or several.
    """
    if key:
        held = _at(found, key)
        if held is None:
            raise LoadError(f"{where}: no tensors under {key!r}; it holds {_listed(found)}")
        return held
    if not isinstance(found, Mapping):
        raise LoadError(f"{where}: a mapping of names to tensors is needed, not a {type(found).__name__}")
    inner = {name: value for name, value in found.items() if isinstance(value, Mapping) and _holds_state(value)}
    usual = [name for name in _WRAPPERS if name in inner]
    own = _tensors(found)
    if len(usual) == 1:
        return unwrapped(inner[usual[0]], where)
    if own and not inner:
        return own
    if len(inner) == 1 and not own:
        return unwrapped(next(iter(inner.values())), where)
    if inner:
        raise LoadError(f"{where}: several states, {', '.join(map(repr, inner))}; choose one with key=NAME")
    raise LoadError(f"{where}: holds no tensors by name; it holds {_listed(found)}")


def _is_tensor(value: object) -> bool:
    return hasattr(value, "shape") and hasattr(value, "dtype")


def _tensors(found: Mapping[Any, Any]) -> dict[str, Any]:
    return {name: value for name, value in found.items() if isinstance(name, str) and _is_tensor(value)}


def _holds_state(found: Mapping[Any, Any], depth: int = 4) -> bool:
    nested = (v for k, v in found.items() if isinstance(k, str) and isinstance(v, Mapping))
    return bool(_tensors(found)) or (depth > 0 and any(_holds_state(v, depth - 1) for v in nested))


def _at(found: Any, key: str) -> dict[str, Any] | None:
    """The tensors at a path of keys, of which each may itself contain dots."""
    if not isinstance(found, Mapping):
        return None
    if isinstance(found.get(key), Mapping):
        return _tensors(found[key]) or None
    for name, value in found.items():
        if isinstance(name, str) and key.startswith(f"{name}.") and (held := _at(value, key[len(name) + 1 :])):
            return held
    return None


def _listed(found: Any) -> str:
    keys = [repr(str(k)) for k in found][:8] if isinstance(found, Mapping) else []
    return ", ".join(keys) if keys else f"a {type(found).__name__}"


def _sharded(path: Path, key: str | None) -> dict[str, Any]:
    places = read_json(path, _INDEX)["weight_map"]
    shards: dict[str, dict[str, Any]] = {}
    for name in dict.fromkeys(places.values()):
        if name.endswith(".index.json") or not inside(path.parent, name):
            raise LoadError(f"{path}: the shard {name!r} is not a file beside it")
        shards[name] = read_tensors(path.parent / name, key)
    missing = [name for name, shard in places.items() if name not in shards[shard]]
    if missing:
        raise LoadError(f"{path}: {places[missing[0]]} lacks {', '.join(map(repr, missing[:4]))}; download it again")
    return {name: shards[shard][name] for name, shard in places.items()}


def _safetensors(path: Path, key: str | None) -> dict[str, np.ndarray]:
    file = MappedFile(path)
    size = file.state.size
    length = int.from_bytes(file.array[:8].tobytes(), "little")
    if size < 8 or length > min(_LONGEST_HEADER, size - 8):
        raise LoadError(f"{path}: not a safetensors file, or a truncated one; make or download it again")
    header = parsed(file.array[8 : 8 + length].tobytes(), _HEADER, str(path))
    data = np.asarray(file.array)[8 + length :]
    metadata = header.pop("__metadata__", None)
    found = {}
    for name, entry in header.items():
        try:
            found[name] = _located(_TENSOR(entry), data)
        except FieldError as error:
            raise LoadError(f"{path}: {error.within(f'.{name}')}; make or download it again") from error
    if isinstance(metadata, Mapping) and "gmnc" in metadata:
        return _of_store(path, found, metadata["gmnc"])
    return found


def _located(entry: Mapping[str, Any], data: np.ndarray) -> np.ndarray:
    """A tensor of the file as a view of its bytes."""
    first, last = entry["data_offsets"]
    if entry["dtype"] not in _STORED:
        raise FieldError(f"one of {', '.join(_STORED)}", entry["dtype"])
    kind = np.dtype(_STORED[entry["dtype"]])
    if not first <= last <= len(data) or last - first != math.prod(entry["shape"]) * kind.itemsize:
        raise FieldError(f"the bytes of {entry['shape']} {kind.name} within the file", [first, last])
    return np.asarray(data[first:last].view(kind).reshape(entry["shape"]))


def _of_store(path: Path, found: Mapping[str, np.ndarray], tables: str) -> dict[str, np.ndarray]:
    """The parameters of a store; those of dtypes that safetensors lacks are stored as bytes."""
    out = {}
    for name, shape, kind, _ in parsed(text(tables), _TABLES, str(path))["parameters"]:
        array = found.get(f"{_STORE}{name}")
        if array is None:
            raise LoadError(f"{path}: a store without values; save it again with values=True")
        if array.dtype.name != kind and array.dtype == np.uint8 and kind in _BYTES and array.size == math.prod(shape):
            array = array.view(_BYTES[kind]).reshape(shape)
        out[name] = array
    return out


def _torch(path: Path, key: str | None) -> dict[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise LoadError(f"{path}: torch reads such files, and it is not installed; install torch") from error
    FileState.of(path)
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not zipfile.is_zipfile(path) and path.read_bytes()[:1] != b"\x80":
            raise LoadError(f"{path}: not a checkpoint of torch.save; make or download it again") from error
        raise LoadError(
            f"{path}: holds objects other than tensors, which are not loaded as they may run code; save "
            f"module.state_dict() instead of the module ({one_line(error)[:120]})"
        ) from error
    except Exception as error:  # damage raises anything, from EOFError to KeyError
        raise LoadError(f"{path}: not a checkpoint of torch.save ({one_line(error)[:200]})") from error
    return unwrapped(found, str(path), key)


def _npz(path: Path, key: str | None) -> dict[str, np.ndarray]:
    return read_arrays(path)


def _onnx(path: Path, key: str | None) -> dict[str, np.ndarray]:
    import onnx_ir

    FileState.of(path)
    try:
        model = onnx_ir.load(path)
    except Exception as error:  # protobuf and onnx-ir raise anything
        raise LoadError(f"{path}: not an ONNX model ({one_line(error)})") from error
    found: dict[str, np.ndarray] = {}
    for graph in model.graphs():
        tensors = [v.const_value for v in graph.initializers.values()]
        constants = [node for node in graph if node.op_type == "Constant" and "value" in node.attributes]
        named = [(t.name, t) for t in tensors if t is not None]
        named += [(node.outputs[0].name, node.attributes["value"].as_tensor()) for node in constants]
        for name, tensor in named:
            if isinstance(tensor, onnx_ir.ExternalTensor) and not inside(path.parent, tensor.location):
                raise LoadError(f"{path}: the data of {name!r} is outside of the model's folder")
            if name and tensor.dtype != onnx_ir.DataType.STRING:
                found[name] = _numbers(path, name, tensor)
    return found


def _numbers(path: Path, name: str, tensor: Any) -> np.ndarray:
    try:
        return np.asarray(tensor.numpy())
    except Exception as error:  # damage raises anything
        raise LoadError(f"{path}: cannot read {name!r} ({one_line(error)})") from error


_READERS: dict[str, Callable[[Path, str | None], dict[str, Any]]] = {
    ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch, ".bin": _torch, ".ckpt": _torch, ".npz": _npz,
    ".onnx": _onnx,
}  # fmt: skip
