"""Parameter values: converted and checked against the parameter, or gathered from edge values."""

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
    """The NumPy dtype of a `Parameter.dtype`, including those of ml_dtypes."""
    return np.dtype(getattr(ml_dtypes, name, name))


def array_of(value: object, name: str) -> np.ndarray:
    """Convert a value to an array of numbers; a torch tensor is detached and copied from its device.

    Args:
        value: A torch tensor, or anything that `numpy.asarray` takes.
        name: The parameter it is for, for messages.

    Returns:
        The array; dtypes that NumPy lacks are those of ml_dtypes.

    Raises:
        GmncError: The value holds no numbers, or is a sparse, quantised or meta tensor.
    """
    # No value is a torch tensor unless torch has been imported.
    torch = sys.modules.get("torch")
    try:
        if torch is not None and isinstance(value, torch.Tensor):
            return _from_torch(value)
        array = np.asarray(value)
    except (GmncError, RuntimeError, TypeError, ValueError) as error:
        raise GmncError(f"values for {name!r}: {error}") from error
    if array.dtype.kind in "OSUmM":
        raise GmncError(f"values for {name!r}: {type(value).__name__} of dtype {array.dtype} holds no numbers")
    return array


def _from_torch(tensor: torch.Tensor) -> np.ndarray:
    """The elements of a tensor; dtypes that NumPy lacks become those of ml_dtypes."""
    import torch

    kind = str(tensor.dtype).removeprefix("torch.")
    if tensor.is_meta:
        raise GmncError("a tensor on the meta device holds no numbers")
    if tensor.layout != torch.strided or tensor.is_quantized:
        form = "quantised" if tensor.is_quantized else str(tensor.layout).removeprefix("torch.")
        raise GmncError(f"a {form} tensor; convert it to a dense float tensor first")
    here: Any = tensor.detach().cpu().resolve_conj().resolve_neg()
    if not hasattr(np, kind) and hasattr(ml_dtypes, kind):
        bits = torch.int16 if here.element_size() == 2 else torch.uint8
        return np.asarray(here.contiguous().view(bits).numpy().view(dtype_of(kind)))
    return np.asarray(here.numpy())


def checked(parameter: Parameter, value: object) -> np.ndarray:
    """Check a new value of a parameter and cast it to the stored dtype.

    Args:
        parameter: The parameter.
        value: A torch tensor, or anything that `numpy.asarray` takes.

    Returns:
        An array of the parameter's shape and dtype, in C order. Floats are cast between float dtypes (round to
        nearest), integers between integer dtypes.

    Raises:
        GmncError: The shape or the kind of dtype differs, or values overflow the stored dtype.
    """
    array = np.asarray(array_of(value, parameter.name), order="C")
    what = f"values for {parameter.name!r}"
    if array.shape != parameter.shape:
        raise GmncError(f"{what}: shape {list(array.shape)}, the parameter has {list(parameter.shape)}")
    kind = dtype_of(parameter.dtype)
    if array.dtype == kind:
        return array
    if _dtype_kind(array.dtype) != _dtype_kind(kind) or _dtype_kind(kind) == "other":
        raise GmncError(
            f"{what}: dtype {array.dtype}, the parameter is stored as {parameter.dtype}; convert them first"
        )
    with np.errstate(over="ignore", invalid="ignore"):
        cast = array.astype(kind)
        if _dtype_kind(kind) == "float":
            lost = np.isfinite(array) & ~np.isfinite(cast)
        else:
            lost = cast.astype(array.dtype) != array
    if lost.any():
        raise GmncError(f"{what}: {int(lost.sum())} of them do not fit into {parameter.dtype}")
    return cast


def same_bytes(a: np.ndarray, b: np.ndarray) -> bool:
    """Whether two arrays of one shape and dtype have equal bits: -0.0 differs from 0.0, a NaN equals itself."""
    left, right = (np.asarray(x, order="C").reshape(-1).view(np.uint8) for x in (a, b))
    return np.array_equal(left, right)


def values_from_edges(graph: ParameterGraph, edges: np.ndarray | Sequence[np.ndarray | None]) -> dict[str, np.ndarray]:
    """Convert edge values to parameter values, which `write` takes.

    Args:
        graph: A compiled graph.
        edges: One array [B, N, K, S] per block of `graph.edges` (those of constant blocks are ignored), or one flat
            array in the edge order of `gmnc.backends.coo.coo` (entries after the parameter edges are ignored).

    Returns:
        Every parameter that has an edge, in its stored shape and dtype: the mean over the edges of each element,
        rounded for integers. Elements without an edge keep their present value.

    Raises:
        GmncError: A length or shape does not match.
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
    integer = _dtype_kind(dtype_of(parameter.dtype)) != "float"
    if len(views) == 1:
        total = np.array(parameter.load())
        new = np.asarray(blocks[numbers[0]])
        parts = np.rint(new) if integer else new
        views[0].write(total, parts)
        return total
    # -0.0 is the neutral element of float addition: x + -0.0 is x, even for x = -0.0.
    total = np.full(parameter.shape, -0.0)
    count = np.zeros(parameter.shape)
    for number, view in zip(numbers, views, strict=True):
        new = np.asarray(blocks[number], dtype=np.float64)
        view.write(total, view.read(total) + new)
        view.write(count, view.read(count) + 1)
    mean = np.divide(total, count, out=total, where=count > 0)
    mean = np.where(count > 0, np.rint(mean) if integer else mean, np.asarray(parameter.load(), dtype=np.float64))
    return mean.astype(dtype_of(parameter.dtype))


def _dtype_kind(kind: np.dtype) -> str:
    if kind == np.bool_:
        return "bool"
    for prefix, found in (("float", "float"), ("bfloat", "float"), ("int", "integer"), ("uint", "integer")):
        if kind.name.startswith(prefix):
            return found
    return "other"
