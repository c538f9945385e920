"""Write-back: store new parameter values in the ONNX model that a graph was compiled from."""

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

from ..files.writing import target, write_bytes
from ..ir import GmncError, ModelSource, ParameterGraph, StorageWarning
from .external_data import DataFolders, copy_data, external_tensors
from .patching import Patcher
from .values import array_of, checked, same_bytes, values_from_edges
from .write_plan import OffGrid, plan_write

__all__ = ["OffGrid", "off_grid", "serialised", "values_from_edges", "write"]


def write(
    graph: ParameterGraph,
    values: Mapping[str, Any] | None = None,
    path: str | os.PathLike[str] | None = None,
    rounded: bool = False,
) -> onnx_ir.Model:
    """Return the model that a graph was compiled from with new parameter values, and save it if `path` is given.

    Each value is written where it came from: an initializer, a Constant node or an attribute. Everything else, and
    parameters whose bits do not change, keep their bytes; `graph.model` itself is not modified.

    External data stays external at the same offsets. In another folder a data file keeps its name unless a file of
    that name exists; in the original's folder, unchanged data files are shared and a changed one is copied. A new data
    file is called `<model file>.data`. Without `path`, new values are held in memory and unchanged external data is
    read from the original files.

    A quantised parameter (`Parameter.storage`) is given by its dequantised values, and encoded with the scale and zero
    point (the new ones if given). If they cannot represent the values exactly, the dequantised value is replaced by
    floats; the values are rounded to the grid instead where an operator reads the quantised tensor, or with `rounded`.
    Either is reported as a `StorageWarning`; `off_grid` reports it without writing.

    Args:
        graph: A compiled graph.
        values: Arrays or torch tensors by parameter name, of the parameter's shape, cast to its stored dtype (float to
            float, integer to integer). A module's `state_dict()` works too: integers and booleans that the model does
            not hold (`num_batches_tracked`), or holds unchanged under that name, are ignored.
        path: File to write.
        rounded: Always round quantised parameters to their grid.

    Returns:
        The new model.

    Raises:
        GmncError: A name is no parameter (for a computed weight, the message names its sources), a shape or dtype does
            not match, values overflow the stored dtype, the graph has no model (it was loaded from a store), a
            parameter cannot be located in the model, or a file cannot be written.
        LoadError: A file of the model has changed since it was compiled.
    """
    source, patcher, changed = _patched(graph, values or {}, rounded)
    original, proto = source.original, patcher.proto
    folders = DataFolders(source.model)
    if path is None:
        patcher.internalise()
    else:
        path = target(path)
        moved = copy_data(proto, path, folders, patcher.external)
        _save(original if original is not None and not changed and not moved else proto, path)
    return _placed(source.parse(proto), folders, None if path is None else Path(path).parent)


def serialised(graph: ParameterGraph, values: Mapping[str, Any], rounded: bool = False) -> bytes:
    """Serialise the model that `write` returns, without parsing it; new values of external tensors are stored in it.

    Args:
        graph: A compiled graph.
        values: New values by parameter name, as for `write`.
        rounded: Always round quantised parameters to their grid.

    Returns:
        The bytes of the model.

    Raises:
        GmncError: As for `write`.
    """
    patcher = _patched(graph, values, rounded)[1]
    patcher.internalise()
    return patcher.proto.SerializeToString()


def off_grid(graph: ParameterGraph, values: Mapping[str, Any]) -> list[OffGrid]:
    """Report the quantised parameters whose grids cannot represent new values.

    Args:
        graph: A compiled graph.
        values: New values by parameter name, as for `write`.

    Returns:
        What `write` would warn of.

    Raises:
        GmncError: A name is no parameter, or a shape or dtype does not match.
    """
    return plan_write(graph, _changed(graph, values)).off_grid


def _patched(graph: ParameterGraph, values: Mapping[str, Any], rounded: bool) -> tuple[ModelSource, Patcher, bool]:
    """The source of a graph, a patcher that has set the new values in a copy of its model, and whether any differ."""
    source = graph.source
    if source is None:
        raise GmncError(
            f"{graph.name!r} has no model to write to (a store does not hold it): compile the ONNX file again"
        )
    source.check()
    plan = plan_write(graph, _changed(graph, values), rounded)
    for entry in plan.off_grid:
        warnings.warn(StorageWarning(str(entry)), stacklevel=3)
    patcher = Patcher(_proto(source.model, source.original))
    for parameter, array in plan.tensors:
        patcher.set(parameter, array)
    for name, array in plan.floats.items():
        patcher.replace(name, array)
    return source, patcher, bool(plan.tensors or plan.floats)


def _changed(graph: ParameterGraph, values: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """The values whose bits differ from the present ones, cast to the stored dtypes."""
    out = {}
    some = not graph.parameters.keys().isdisjoint(values)
    for name, value in values.items():
        parameter = graph.parameters.get(name)
        if parameter is None:
            # A mapping with only unknown names is a mistake, whatever it holds.
            if some and _ignorable(name, value, graph):
                continue
            raise GmncError(_unknown(name, graph))
        array = checked(parameter, value)
        if not same_bytes(array, parameter.load()):
            out[name] = array
    return out


def _ignorable(name: str, value: object, graph: ParameterGraph) -> bool:
    """Whether the value holds integers or booleans that the model lacks, or has unchanged under this name."""
    array = array_of(value, name)
    if array.dtype.kind not in "iub":
        return False
    graphs = [] if graph.source is None else list(graph.source.model.graphs())
    here = [v.const_value for g in graphs for v in g.initializers.values() if v.name == name]
    computed = any(v.name == name for g in graphs for n in g for v in n.outputs)
    return not computed and all(t is not None and np.array_equal(t.numpy(), array) for t in here)


def _unknown(name: str, graph: ParameterGraph) -> str:
    sources = _sources(name, graph)
    if sources:
        return (
            f"{name!r} is computed in the model, from {', '.join(map(repr, sources[:4]))}: set these, or compile "
            "with fold_weights=True, which makes it a parameter"
        )
    if name in graph.constants:
        return f"{name!r} is a constant of the model, not a parameter, and cannot be set"
    near = difflib.get_close_matches(name, graph.parameters, 3)
    hint = "did you mean " + " or ".join(map(repr, near)) if near else "see graph.parameters for the names"
    return f"the model has no parameter {name!r}: {hint}"


def _sources(name: str, graph: ParameterGraph) -> list[str]:
    """The parameters that a value is computed from; empty if it depends on anything else."""
    graphs = [] if graph.source is None else graph.source.model.graphs()
    waiting = [v for g in graphs for n in g for v in n.outputs if v.name == name]
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


def _proto(model: onnx_ir.Model, original: bytes | mmap.mmap | None) -> onnx.ModelProto:
    """The model as parsed from its file, or, for a model from memory, as onnx-ir serialises it."""
    if original is None:
        return onnx_ir.to_proto(model)
    proto = onnx.ModelProto()
    proto.ParseFromString(original[:])
    return proto


def _save(model: onnx.ModelProto | bytes | mmap.mmap, path: Path) -> None:
    try:
        data = model.SerializeToString() if isinstance(model, onnx.ModelProto) else model
    except ValueError as error:
        raise GmncError(f"cannot write {path}: {error} (an ONNX file is limited to 2 GB)") from error
    write_bytes(path, data)


def _placed(model: onnx_ir.Model, folders: DataFolders, folder: Path | None) -> onnx_ir.Model:
    """The written model, with its external tensors in `folder`, or in their original folders if that is None."""
    for tensor in external_tensors(model):
        tensor.base_dir = folders.of(os.fspath(tensor.location)) if folder is None else folder
    return model
