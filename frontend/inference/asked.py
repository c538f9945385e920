"""What a caller says of sizes, against what the model declares: a name that it does not know is an error."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping

import onnx_ir

from ...ir.errors import LoweringError

__all__ = ["check_asked"]

_NAME = re.compile(r"[A-Za-z_]\w*")


def check_asked(model: onnx_ir.Model, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]) -> None:
    """Raise `LoweringError` unless names of dimensions and of inputs are in the model, and sizes whole numbers."""
    _known("dimension", dims, _dimensions(model))
    _known("input", inputs, (v.name or "" for v in model.graph.inputs))
    for name, size in dims.items():
        if not _is_size(size, 1):
            raise LoweringError(f"dimension {name!r} is to be {size!r}: give a whole number of at least 1")
    for name, shape in inputs.items():
        if not isinstance(shape, tuple | list) or not all(_is_size(n, 0) for n in shape):
            raise LoweringError(f"input {name!r} is to be {shape!r}: give whole numbers, as in (1, 3, 224, 224)")


def _known(what: str, given: Iterable[str], names: Iterable[str]) -> None:
    known = sorted(set(names))
    if unknown := sorted({str(n) for n in given} - set(known)):
        says = f"its {what}s are {known}" if known else f"it has no named {what}s"
        raise LoweringError(f"the model has no {what} {', '.join(map(repr, unknown))}; {says}")


def _dimensions(model: onnx_ir.Model) -> Iterator[str]:
    """The names in the shapes of all values, those in expressions (``2*seq``) included."""
    values = [*model.graph.inputs, *(o for node in model.graph.all_nodes() for o in node.outputs)]
    for value in values:
        for dim in value.shape or ():
            if isinstance(dim, onnx_ir.SymbolicDim) and dim.value:
                yield dim.value
                yield from () if dim.value.isidentifier() else _NAME.findall(dim.value)


def _is_size(size: object, least: int) -> bool:
    return hasattr(size, "__index__") and not isinstance(size, bool) and int(size) >= least
