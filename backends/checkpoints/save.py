"""Values of a graph's parameters as a checkpoint, under the checkpoint's own names and layouts."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import TensorSpec, serialize_file

from ...files.writing import replacing
from ...ir import GmncError, ParameterGraph
from ..values import array_of, checked
from .load import Source, entries_of, match_names
from .matching import fits, match
from .mismatch import MatchError
from .name_map import Copy, NameMap
from .noted import noted

__all__ = ["save_values"]

_NATIVE = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Dtypes of safetensors besides NumPy's."""


def save_values(
    graph: ParameterGraph,
    values: Mapping[str, Any],
    path: str | os.PathLike[str],
    *,
    names: NameMap | str | os.PathLike[str] | None = None,
    like: Source | None = None,
    key: str | None = None,
) -> None:
    """Write values of a graph's parameters as a checkpoint, the inverse of `load_values`.

    Without `names` and `like`, entries have the names of the graph's parameters; for a graph of `from_torch` these,
    with the further names of tied tensors, are those of the module's `state_dict`.

    Args:
        graph: A compiled graph.
        values: Arrays or tensors by parameter name, as `load_values` returns them; other parameters have their value of
            the graph.
        path: A file: `.safetensors`, `.pt`, `.pth` or `.bin` (a state dict), or `.npz`.
        names: The map, or a JSON file of it: entries have its names and layouts.
        like: A checkpoint: entries have its names, layouts, types and order, and what the graph does not hold
            (`num_batches_tracked`, rows of a table that the network does not read) is taken from it. Without `names`,
            and if its names are not those of the graph, it must be the one that the ONNX file was exported from.
        key: Where the state is in a torch file `like` that holds several.

    Raises:
        GmncError: A name is no parameter, a shape or type differs, the file cannot be written, or two parameters that
            are one entry differ.
        MatchError: `like` does not fit.
        LoadError: A file cannot be read.
    """
    writer = _WRITERS.get(Path(path).suffix.lower())
    if writer is None:
        raise GmncError(f"cannot write {path}: the suffixes for values are {', '.join(_WRITERS)}")
    base = {} if like is None else {n: array_of(v, n) for n, v in entries_of(like, key).items()}
    if isinstance(names, str | os.PathLike):
        names = NameMap.load(names)
    if names is None:
        names = _own_names(graph) if like is None else _names_of(graph, like, base)
    state = _state(names, _arrays(graph, values, names), base)
    inputs = [*graph.files, *([like] if isinstance(like, str | os.PathLike) and not Path(like).is_dir() else [])]
    with replacing(path, inputs) as temporary:
        writer(temporary, state)


def _names_of(graph: ParameterGraph, like: Source, base: Mapping[str, np.ndarray]) -> NameMap:
    """The map to a checkpoint: by names or, if these do not fit, also by values."""
    try:
        return match(graph, base, exported=False)
    except MatchError:
        return match_names(graph, base if isinstance(like, Mapping) else like)


def _own_names(graph: ParameterGraph) -> NameMap:
    """The map of a state with the graph's names: the parameters that have an edge, without constants of the program."""
    notes = noted(graph)
    used = {b.view.name for b in graph.edges if not b.constant} | {e.name for e in graph.account if e.where == "opaque"}
    names = (n for n in graph.parameters if (n in notes.held or n in used) and n not in notes.kept)
    shapes = {n: graph.parameters[n].shape for n in names}
    tied = {a: n for a, n in notes.tied.items() if n in shapes}
    copies = {name: (Copy.whole(name, shape),) for name, shape in shapes.items()}
    return NameMap(copies, shapes, shapes | {a: shapes[n] for a, n in tied.items()}, tied=tied)


def _arrays(graph: ParameterGraph, values: Mapping[str, Any], names: NameMap) -> dict[str, np.ndarray]:
    """The values of the map's parameters; raises `GmncError` for a value that has no place in the checkpoint."""
    for name in values:
        if name not in graph.parameters:
            raise GmncError(f"the graph has no parameter {name!r}")
        if name not in names.parameters:
            raise GmncError(f"{name!r} is a number of the program, of which the checkpoint has no entry")
    return {
        name: checked(graph.parameters[name], values[name])
        if name in values
        else np.asarray(graph.parameters[name].load())
        for name in names.parameters
    }


def _state(names: NameMap, arrays: Mapping[str, np.ndarray], base: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The entries, in the order of the base if there is one."""
    parts: dict[str, list[tuple[str, Copy]]] = {}
    for name, copies in names.parameters.items():
        for copy in copies:
            parts.setdefault(copy.entry, []).append((name, copy))
    made = {entry: _entry(entry, names, found, arrays, base.get(entry)) for entry, found in parts.items()}
    made |= {entry: made[other] for entry, other in names.tied.items()}
    order = [*base, *(entry for entry in names.entries if entry not in base)]
    return {entry: made[entry] if entry in made else base[entry] for entry in order if entry in made or entry in base}


def _entry(
    entry: str, names: NameMap, parts: list[tuple[str, Copy]], arrays: Mapping[str, np.ndarray], base: np.ndarray | None
) -> np.ndarray:
    """An entry put together from parameters; elements that none of them has are those of the base."""
    shape = names.entries[entry]
    if base is not None and base.shape != shape:
        raise GmncError(f"{entry}: {list(base.shape)} in the checkpoint like, {list(shape)} in the map")
    made = np.empty(shape, np.result_type(*{arrays[name].dtype for name, _ in parts}))
    seen = np.zeros(shape, dtype=bool)
    for name, copy in parts:
        # Windows of an entry may overlap within one copy only if a table's row is read twice.
        before, window, new = copy.read(seen), copy.read(made), copy.place(arrays[name])
        differ = before & (window != new) & ~((window != window) & (new != new))
        window[...] = new
        if differ.any() or not _kept(window, new):
            raise GmncError(f"{entry}: parameters of the graph that are one entry differ, {name!r} from another")
        before[...] = True
    if not seen.all():
        if base is None:
            raise GmncError(f"{entry}: the graph lacks {int((~seen).sum())} of its elements; give like=CHECKPOINT")
        made[~seen] = base[~seen].astype(made.dtype)
    return made if base is None else _converted(entry, made, base.dtype)


def _kept(window: np.ndarray, new: np.ndarray) -> bool:
    """Whether a window that may repeat elements now has the values written to it."""
    return bool(((window == new) | ((window != window) & (new != new))).all())


def _converted(entry: str, array: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if array.dtype == dtype:
        return array
    if not fits(array.dtype, dtype.name):
        raise GmncError(f"{entry}: {array.dtype} cannot be stored as {dtype}, as in the checkpoint like")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(dtype)
        lost = np.isfinite(array) & ~np.isfinite(cast) if "float" in dtype.name else cast.astype(array.dtype) != array
    if lost.any():
        raise GmncError(f"{entry}: {int(lost.sum())} values do not fit into {dtype}, the type in the checkpoint like")
    return cast


def _safetensors(path: Path, state: Mapping[str, np.ndarray]) -> None:
    arrays = {name: np.asarray(array, order="C") for name, array in state.items()}
    for name, array in arrays.items():
        _require(name, array, array.dtype.kind in "biuf" or array.dtype.name in _NATIVE, ".safetensors")
    specs = {
        name: TensorSpec(dtype=a.dtype.name, shape=a.shape, data_ptr=a.ctypes.data, data_len=a.nbytes)
        for name, a in arrays.items()
    }
    serialize_file(specs, path, metadata={"format": "pt"})


def _npz(path: Path, state: Mapping[str, np.ndarray]) -> None:
    for name, array in state.items():
        _require(name, array, array.dtype.kind in "biuf", ".npz")
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **state)


def _torch(path: Path, state: Mapping[str, np.ndarray]) -> None:
    import torch

    tensors: dict[int, torch.Tensor] = {}
    for name, array in state.items():
        if id(array) not in tensors:
            native = array.dtype.kind in "biuf"
            _require(name, array, native or hasattr(torch, array.dtype.name), "a torch checkpoint")
            bits = array if native else array.view(np.int16 if array.dtype.itemsize == 2 else np.uint8)
            plain = torch.from_numpy(np.array(bits))
            tensors[id(array)] = plain if native else plain.view(getattr(torch, array.dtype.name))
    torch.save({name: tensors[id(array)] for name, array in state.items()}, path)


def _require(name: str, array: np.ndarray, known: bool, form: str) -> None:
    if not known:
        raise GmncError(f"{name}: {form} cannot hold {array.dtype}")


_WRITERS: dict[str, Callable[[Path, Mapping[str, np.ndarray]], None]] = {
    ".safetensors": _safetensors, ".pt": _torch, ".pth": _torch, ".bin": _torch, ".npz": _npz,
}  # fmt: skip
