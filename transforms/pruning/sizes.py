"""Sizes that the network computes: found wrong by inferring all shapes again, and overwritten."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir

from ...frontend import LabelledModel
from ...frontend.inference.shapes import ValueInfo, infer
from ...ir import GmncError
from .cuts import Uncuttable
from .step import Cuts, Pending

__all__ = ["settle_sizes"]

Shapes = Mapping[onnx_ir.Value, ValueInfo]


def settle_sizes(
    labelled: LabelledModel, cuts: Cuts, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]
) -> None:
    """Make all shapes of a rewritten model what the cuts say, and keep numbers that were computed from sizes.

    Most shape arithmetic adapts by itself. Where it does not (a literal stands for a number of channels), the entries
    concerned are overwritten. A number that enters the computation (1 / sqrt of the size of a head) stays what it was.

    Args:
        labelled: The rewritten model.
        cuts: The cuts of its values.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of inputs by name.

    Raises:
        Uncuttable: A value has another shape than its cut says.
    """
    model = labelled.model
    _record_shapes(cuts)
    sizes = {v.name or "": labelled.known[v].shape for v in model.graph.inputs if v in labelled.known}
    shapes = None
    try:
        shapes = infer(model, dims, {**sizes, **inputs})
        fits = not _misfits(cuts, shapes) and all(_holds(p, shapes) for p in cuts.pending)
    except GmncError:
        fits = False
    if not fits:
        for pending in cuts.pending:
            _overwrite(cuts, pending)
        try:
            shapes = infer(model, dims, {**sizes, **inputs})
        except GmncError as error:
            raise Uncuttable(f"the shapes that are left contradict each other: {error}") from error
    assert shapes is not None
    for value, new, old in _misfits(cuts, shapes)[:1]:
        raise Uncuttable(f"value {value.name!r} would have the shape {list(old)} in place of {list(new)}", _concerned(cuts, value))
    _keep_numbers(cuts, shapes)


def _concerned(cuts: Cuts, value: onnx_ir.Value) -> np.ndarray:
    factors = cuts.nodes.get(value.name or "", ())
    return np.concatenate([np.zeros(0, np.int64), *(f[(f >= 0) & cuts.removed[f]] for f in factors)])


def _record_shapes(cuts: Cuts) -> None:
    """Bring the shapes that the file records for values up to date."""
    for value, cut in cuts.of.items():
        if cut.any and value.shape is not None and len(value.shape) == len(cut.new):
            pairs = zip(value.shape, cut.shape, cut.new, strict=True)
            value.shape = onnx_ir.Shape([n if m != n and isinstance(d, int) else d for d, m, n in pairs])


def _misfits(cuts: Cuts, shapes: Shapes) -> list[tuple[onnx_ir.Value, tuple[int, ...], tuple[int, ...]]]:
    """(value, the shape that its cut says, the shape that it has) where these differ."""
    pairs = ((v, c.new, shapes.get(v)) for v, c in cuts.of.items() if not c.empty)
    return [(v, new, found.shape) for v, new, found in pairs if found is not None and found.shape != new]


def _holds(pending: Pending, shapes: Shapes) -> bool:
    value = pending.node.inputs[pending.index]
    entry = None if value is None else shapes.get(value)
    if entry is None or entry.data is None:
        return False
    flat = np.asarray(entry.data).reshape(-1)
    return all(flat[at] == number for at, number in pending.numbers.items())


def _overwrite(cuts: Cuts, pending: Pending) -> None:
    """Put a Where in front of a computed operand that sets some of its entries."""
    node, value = pending.node, pending.node.inputs[pending.index]
    assert value is not None and node.graph is not None
    entry = cuts.known[value]
    mask, numbers = np.zeros(entry.shape, bool), np.zeros(entry.shape, np.int64)
    for at, number in pending.numbers.items():
        mask.reshape(-1)[at], numbers.reshape(-1)[at] = True, number
    stem = f"{node.name}_{pending.index}"
    operands = [cuts.initializer(mask, f"{stem}_cut"), cuts.initializer(numbers.astype(entry.dtype), f"{stem}_sizes"), value]
    made = onnx_ir.Node("", "Where", operands, name=f"{stem}_where", num_outputs=1)
    made.outputs[0].name = f"{stem}_where"
    node.graph.insert_before(node, made)
    node.replace_input_with(pending.index, made.outputs[0])


def _keep_numbers(cuts: Cuts, shapes: Shapes) -> None:
    """Floats that were computed from sizes that have changed become constants."""
    for node in list(cuts.graph):
        for value in node.outputs:
            old, new = cuts.known.get(value), shapes.get(value)
            if old is None or new is None or old.data is None or new.data is None or "float" not in old.dtype:
                continue
            if old.data.shape == new.data.shape and not np.array_equal(old.data, new.data, equal_nan=True):
                made = cuts.initializer(np.array(old.data), f"{value.name}_kept")
                onnx_ir.convenience.replace_all_uses_with(value, made, replace_graph_outputs=False)
