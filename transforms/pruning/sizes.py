"""The check that all shapes of a rewritten model are what the cuts of its values say."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir

from ...frontend import LabelledModel, installed
from ...frontend.inference.shapes import infer
from ...frontend.interpret import rule_lookup
from ...ir import GmncError
from .cuts import Uncuttable
from .step import Cuts

__all__ = ["check_sizes"]


def check_sizes(
    labelled: LabelledModel, cuts: Cuts, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]]
) -> None:
    """Bring the recorded shapes of a rewritten model up to date, and infer them all again.

    Args:
        labelled: The rewritten model.
        cuts: The cuts of its values.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of inputs by name.

    Raises:
        Uncuttable: A value has another shape than its cut says.
    """
    graph = labelled.model.graph
    for value, cut in cuts.of.items():
        if cut.any and value.shape is not None and len(value.shape) == len(cut.new):
            pairs = zip(value.shape, cut.shape, cut.new, strict=True)
            value.shape = onnx_ir.Shape([n if m != n and isinstance(d, int) else d for d, m, n in pairs])
    sizes = {v.name or "": labelled.known[v].shape for v in graph.inputs if v in labelled.known}
    try:
        shapes = infer(labelled.model, dims, {**sizes, **inputs}, rule_lookup(installed(), labelled.model))
    except GmncError as error:
        raise Uncuttable(f"the shapes that are left contradict each other: {error}") from error
    for value, cut in cuts.of.items():
        found = shapes.get(value)
        if not cut.empty and found is not None and found.shape != cut.new and value not in cuts.now:
            raise Uncuttable(
                f"value {value.name!r} would have the shape {list(found.shape)} in place of {list(cut.new)}",
                cuts.removed_of(value),
            )
