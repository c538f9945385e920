"""Checks the sizes that a caller gives against the dimensions and inputs that the model declares."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import onnx_ir

from ...ir import LoweringError
from ..model.traversal import every_node

__all__ = ["check_sizes"]

_NAME = re.compile(r"[A-Za-z_]\w*")


def check_sizes(model: onnx_ir.Model, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `LoweringError` unless each name is a dimension or an input of the model and each size an integer."""
    _check_names("dimension", dims, _dimensions(model))
    _check_names("input", inputs, (v.name or "" for v in model.graph.inputs))
    for name, size in dims.items():
        if not _is_size(size, 1):
            raise LoweringError(f"the size given for dimension {name!r} is {size!r}: give an integer of at least 1")
    for name, shape in inputs.items():
        if not isinstance(shape, tuple | list) or not all(_is_size(n, 0) for n in shape):
            raise LoweringError(f"the shape given for input {name!r} is {shape!r}: give integers, as (1, 3, 224, 224)")


def _check_names(what: str, given: Iterable[str], names: Iterable[str]) -> None:
    known = sorted(set(names))
    if unknown := sorted({str(n) for n in given} - set(known)):
        says = f"its {what}s are {known}" if known else f"it has no named {what}s"
        raise LoweringError(f"the model has no {what} {', '.join(map(repr, unknown))}; {says}")


def _dimensions(model: onnx_ir.Model) -> Iterator[str]:
    """The dimension names in the shapes of all values, including those inside expressions (``2*seq``)."""
    values = [*model.graph.inputs, *(o for node in every_node(model.graph) for o in node.outputs)]
    for value in values:
        for dim in value.shape or ():
            if isinstance(dim, onnx_ir.SymbolicDim) and dim.value:
                yield dim.value
                yield from () if dim.value.isidentifier() else _NAME.findall(dim.value)


def _is_size(size: object, least: int) -> bool:
    return hasattr(size, "__index__") and not isinstance(size, bool) and int(size) >= least
