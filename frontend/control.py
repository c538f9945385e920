"""Control flow made flat: branches become nodes of the main graph, which every later step reads as such."""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from .branches import branch
from .shapes import Known
from .splice import Splicer

__all__ = ["flatten"]

_FORMS = {"If": branch}


def flatten(model: ir.Model, known: Mapping[ir.Value, Known], misfits: set[ir.Graph]) -> bool:
    """Rewrite, in place, each If of the main graph, whose branches may hold more of them.

    known, misfits: what `shapes.infer` found. Returns whether any was; those of a form that cannot be made flat stay.
    """
    splicer = Splicer(model.graph, known, misfits)
    changed = False
    for node in list(model.graph):
        if node.op_type in _FORMS and not node.domain and _FORMS[node.op_type](splicer, node):
            model.graph.remove(node)
            changed = True
    if changed:
        model.graph.opset_imports["gmnc"] = 1
    return changed
