"""Values of parameters: checked against what they replace, and gathered from values of edges."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from ..ir import GmncError, Parameter, ParameterGraph

if TYPE_CHECKING:
    import torch

__all__ = ["array_of", "checked", "dtype_of", "same_bytes", "values_from_edges"]


def dtype_of(name: str) -> np.dtype:
    """The NumPy type of a `Parameter.dtype`, those of ml_dtypes included."""
    return np.dtype(getattr(ml_dtypes, name, name))


def array_of(value: object, name: str) -> np.ndarray:
    """The value as an array of numbers: of a tensor of torch, on whatever device, without its gradient.

    name: of the parameter that it is for. Raises `GmncError` for what holds no numbers.
    """
    # Nothing is a tensor of a library that nobody imported.
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            return _from_torch(value)
        array = np.asarray(value)
    except (GmncError, RuntimeError, TypeError, ValueError) as error:
        raise GmncError(f"values for {name!r}: {error}") from error
    if array.dtype.kind in "OSUmM":
        raise GmncError(f"values for {name!r}: {type(value).__name__} of type {array.dtype} holds no numbers")
    return array


def _from_torch(tensor: torch.Tensor) -> np.ndarray:
    """Its numbers; the types that NumPy has not as those of ml_dtypes."""
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        raise GmncError("a tensor on the device 'meta' has no numbers")
    if tensor.layout != torch.strided or tensor.is_quantized:
        form = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        raise GmncError(f"a {form} tensor; make it a dense one of floats first")
    here: Any = tensor.detach().cpu().resolve_conj().resolve_neg()
    if not hasattr(np, kind) and hasattr(ml_dtypes, kind):
        bits = torch.int16 if here.element_size() == 2 else torch.uint8
        return np.asarray(here.contiguous().view(bits).numpy().view(dtype_of(kind)))
    return np.asarray(here.numpy())


def checked(parameter: Parameter, value: object) -> np.ndarray:
    """`value` as an array of the parameter's shape and type, in C order.

    Floats are cast between float types (rounded to nearest), integers between integer types. Raises `GmncError` on
    another shape, another kind of type, or numbers that the stored type cannot hold.
    """
    array = np.asarray(array_of(value, parameter.name), order="C")
    what = f"values for {parameter.name!r}"
    if array.shape != parameter.shape:
        raise GmncError(f"{what}: shape {list(array.shape)}, the parameter has {list(parameter.shape)}")
    kind = dtype_of(parameter.dtype)
    if array.dtype == kind:
        return array
    if _family(array.dtype) != _family(kind) or _family(kind) == "other":
        raise GmncError(f"{what}: type {array.dtype}, the parameter is stored as {parameter.dtype}; convert them first")
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(kind)
        if _family(kind) == "float":
            lost = np.isfinite(array) & ~np.isfinite(cast)
        else:
            lost = cast.astype(array.dtype) != array
    if lost.any():
        raise GmncError(f"{what}: {int(lost.sum())} of them do not fit into {parameter.dtype}")
    return cast


def same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape and type hold the same bits (so -0.0 is not 0.0, and a NaN is itself)."""
    left, right = (np.asarray(x, order="C").reshape(-1).view(np.uint8) for x in (a, b))
    return np.array_equal(left, right)


def values_from_edges(graph: ParameterGraph, edges: np.ndarray | Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """New tensors for `backends.onnx.write` from one value per edge; the mean where an element has several edges.

    edges: one array `[B, N, K, S]` per block of `graph.edges` (entries of constant blocks are not looked at), or one
    flat array in the edge order of `backends.coo.coo` (what follows the parameter edges is not looked at).
    Returns every parameter that has an edge, in its stored shape and type (integers are rounded); elements without an
    edge keep their present value. Raises `GmncError` if a length or shape is wrong.
    """
    blocks = _split(graph, edges) if isinstance(edges, np.ndarray) else edges
    if len(blocks) != len(graph.edges):
        raise GmncError(f"values for {len(blocks)} edge blocks, the graph has {len(graph.edges)}")
    sites: dict[str, list[int]] = {}
    for number, block in enumerate(graph.edges):
        if not block.constant:
            sites.setdefault(block.view.name, []).append(number)
            found = blocks[number]
            if found is None or found.shape != block.shape:
                shape = None if found is None else list(found.shape)
                raise GmncError(f"edge block {number}: values of shape {shape}, the block has {list(block.shape)}")
    return {name: _gather(graph, name, numbers, blocks) for name, numbers in sites.items()}


def _split(graph: ParameterGraph, flat: np.ndarray) -> list[np.ndarray | None]:
    need = graph.num_parameter_edges + graph.num_tied_edges
    flat = flat.reshape(-1)
    if len(flat) < need:
        raise GmncError(f"{len(flat)} edge values, the graph has {need} parameter edges")
    out: list[np.ndarray | None] = []
    at = 0
    for block in graph.edges:
        out.append(None if block.constant else flat[at : at + block.size].reshape(block.shape))
        at += 0 if block.constant else block.size
    return out


def _gather(graph: ParameterGraph, name: str, numbers: list[int], blocks: Sequence[np.ndarray | None]) -> np.ndarray:
    parameter = graph.parameters[name]
    views = [graph.edges[i].view for i in numbers]
    integer = _family(dtype_of(parameter.dtype)) != "float"
    if len(views) == 1:
        total = np.array(parameter.load())
        new = np.asarray(blocks[numbers[0]])
        parts = np.rint(new) if integer else new
        views[0].write(total, parts)
        return total
    # -0.0 is what adding leaves every float as it is, zeros of either sign included.
    total = np.full(parameter.shape, -0.0)
    count = np.zeros(parameter.shape)
    for number, view in zip(numbers, views, strict=True):
        new = np.asarray(blocks[number], dtype=np.float64)
        view.write(total, view.read(total) + new)
        view.write(count, view.read(count) + 1)
    mean = np.divide(total, count, out=total, where=count > 0)
    mean = np.where(count > 0, np.rint(mean) if integer else mean, np.asarray(parameter.load(), dtype=np.float64))
    return mean.astype(dtype_of(parameter.dtype))


def _family(kind: np.dtype) -> str:
    if kind == np.bool_:
        return "bool"
    for prefix, family in (("float", "float"), ("bfloat", "float"), ("int", "integer"), ("uint", "integer")):
        if kind.name.startswith(prefix):
            return family
    return "other"
