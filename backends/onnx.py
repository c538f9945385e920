"""Write-back: new values of parameters -> the same ONNX model."""

from __future__ import annotations

import difflib
import mmap
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir

from ..ir import GmncError, ParameterGraph, StorageWarning
from ..ir.files import READER, SOURCE, MappedFile
from .datafiles import Folders, copy_data, external_tensors
from .files import target, write_bytes
from .patching import Patcher
from .stored import OffGrid, plan
from .values import array_of, checked, same_bytes, values_from_edges

__all__ = ["OffGrid", "off_grid", "values_from_edges", "write"]


def write(
    graph: ParameterGraph,
    values: Mapping[str, Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    rounded: bool = False,
) -> onnx_ir.Model:
    """The model that `graph` was compiled from, with new values; saved too if `path` is given.

    values: per parameter (a name in `graph.parameters`) an array or a torch tensor of its shape, cast to its stored
    type (float to float, integer to integer). Parameters that are not named, or whose bits do not change, keep their
    bytes, and so does everything else in the model; `graph.model` itself is never changed. A module's `state_dict()`
    will do: whole numbers and truth values that the model holds nowhere (`num_batches_tracked`), or just so under the
    same name, are passed over.

    Where a value goes: into the initializer; into the Constant node that held it; into the node's attribute. A tensor
    that the model computes from these is no parameter: it is refused, with the names of its sources.

    External data stays external and keeps its offsets. Saved into another folder, a data file keeps its name unless a
    file of that name is there already; saved beside the original, unchanged data files are shared and a changed one
    is written anew. In both cases the new file is called `<model file>.data`. Without `path`, new values are in memory
    and untouched external data is read from where it is.

    A parameter that the model stores on a grid (quantised: `Parameter.storage`) is given by its numbers, and goes back
    into its stored form if scale and zero point (new ones, where they are given) can say them exactly. If not, that is
    reported as a `StorageWarning`: floats take the place of the dequantised value, or, where an operator reads the
    stored form and with `rounded`, the nearest of the grid is written. `off_grid` tells beforehand.

    Raises `GmncError`: a name that is no parameter, a wrong shape or type, numbers that the stored type cannot hold, a
    graph without its model (loaded from a store), a parameter whose place in the model cannot be told, a file that
    cannot be written.
    """
    model = graph.model
    if not isinstance(model, onnx_ir.Model):
        raise GmncError(f"{graph.name!r} has no model to write to (stores hold none): compile the ONNX file again")
    planned = plan(graph, _changed(graph, values or {}), rounded)
    for entry in planned.off:
        warnings.warn(StorageWarning(str(entry)), stacklevel=2)
    changed = bool(planned.tensors or planned.floats)
    source = _source(model)
    proto = _proto(model, source)
    patcher = Patcher(proto)
    for parameter, array in planned.tensors:
        patcher.set(parameter, array)
    for name, array in planned.floats.items():
        patcher.replace(name, array)
    folders = Folders(model)
    if path is None:
        patcher.internalise()
    else:
        path = target(path)
        moved = copy_data(proto, path, folders, patcher.external)
        _save(source if source is not None and not changed and not moved else proto, path)
    read = model.meta.get(READER, onnx_ir.from_proto)
    return _placed(read(proto), folders, None if path is None else Path(path).parent)


def off_grid(graph: ParameterGraph, values: Mapping[str, Any]) -> list[OffGrid]:
    """Which stored parameters these values (see `write`) do not fit, and what `write` would make of them."""
    return plan(graph, _changed(graph, values)).off


def _changed(graph: ParameterGraph, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values that differ from the present ones, cast to the stored types."""
    out = {}
    some = not graph.parameters.keys().isdisjoint(values)
    for name, value in values.items():
        parameter = graph.parameters.get(name)
        if parameter is None:
            # A mapping of nothing but unknown names is a mistake, whatever they hold.
            if some and _without_effect(name, value, graph):
                continue
            raise GmncError(_unknown(name, graph))
        array = checked(parameter, value)
        if not same_bytes(array, parameter.load()):
            out[name] = array
    return out


def _without_effect(name: str, value: object, graph: ParameterGraph) -> bool:
    """Whether these are whole numbers that the model has nowhere, or has already under this name."""
    array = array_of(value, name)
    if array.dtype.kind not in "iub":
        return False
    graphs = list(graph.model.graphs()) if isinstance(graph.model, onnx_ir.Model) else []
    here = [v.const_value for g in graphs for v in g.initializers.values() if v.name == name]
    made = any(v.name == name for g in graphs for n in g for v in n.outputs)
    return not made and all(t is not None and np.array_equal(t.numpy(), array) for t in here)


def _unknown(name: str, graph: ParameterGraph) -> str:
    sources = _sources(name, graph)
    if sources:
        return (
            f"{name!r} is computed in the model, from {', '.join(map(repr, sources[:4]))}: give new values of these, "
            "or compile with fold_weights=True, after which it is a parameter"
        )
    if name in graph.constants:
        return f"{name!r} is a constant of the model, not a parameter: it cannot be set"
    near = difflib.get_close_matches(name, graph.parameters, 3)
    hint = "did you mean " + " or ".join(map(repr, near)) if near else "see graph.parameters for the names"
    return f"the model has no parameter {name!r}: {hint}"


def _sources(name: str, graph: ParameterGraph) -> list[str]:
    """The parameters that a value of the model is computed from, if it is computed from them alone."""
    model = graph.model
    assert isinstance(model, onnx_ir.Model)
    waiting = [v for g in model.graphs() for n in g for v in n.outputs if v.name == name]
    found: dict[str, None] = {}
    seen = set(waiting)
    while waiting:
        value = waiting.pop()
        node = value.producer()
        if node is None and not value.is_initializer():
            return []
        if (known := value.name or "") in graph.parameters:
            found[known] = None
        inputs = [] if node is None else [v for v in node.inputs if v is not None and v not in seen]
        seen.update(inputs)
        waiting += inputs
    return list(found)


def _source(model: onnx_ir.Model) -> bytes | mmap.mmap | None:
    """The bytes of the file that the model was loaded from; None if it came from memory."""
    source = model.meta.get(SOURCE)
    if isinstance(source, MappedFile):
        source.check()
        return source.data
    return source if isinstance(source, bytes) else None


def _proto(model: onnx_ir.Model, source: bytes | mmap.mmap | None) -> onnx.ModelProto:
    """The model as it was in its file; for a model that came from memory, as onnx-ir serialises it."""
    if source is None:
        return onnx_ir.to_proto(model)
    proto = onnx.ModelProto()
    proto.ParseFromString(source[:])
    return proto


def _save(model: onnx.ModelProto | bytes | mmap.mmap, path: Path) -> None:
    try:
        data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    except ValueError as error:
        raise GmncError(f"cannot write {path}: {error} (a single ONNX file ends at 2 GB)") from error
    write_bytes(path, data)


def _placed(model: onnx_ir.Model, folders: Folders, folder: Path | None) -> onnx_ir.Model:
    """The written model; its external tensors lie in `folder`, or where they were."""
    for tensor in external_tensors(model):
        tensor.base_dir = folders.of(os.fspath(tensor.location)) if folder is None else folder
    return model
