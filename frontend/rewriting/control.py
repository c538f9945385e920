"""Flattening of control flow: the bodies of If, Loop and Scan become nodes of the main graph.

The body of a loop is inlined once, between Carry, Iteration and Step nodes and a LoopEnd (see `dialect`).
"""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir

from ..errors import Unsupported
from ..inference.shapes import ValueInfo
from ..model.keys import DOMAIN, REASON
from ..model.traversal import reads
from .branches import branch
from .editor import GraphEditor
from .loops import loop, scan

__all__ = ["FORMS", "flatten"]

FORMS = {"If": branch, "Loop": loop, "Scan": scan}


def flatten(
    model: onnx_ir.Model,
    known: dict[onnx_ir.Value, ValueInfo],
    misfits: set[onnx_ir.Graph],
    keep: Callable[[onnx_ir.Node], bool],
) -> bool:
    """Flatten each If, Loop and Scan of the main graph in place; their bodies may contain further ones.

    Nodes that depend on a rewritten one wait for the next iteration, when shapes are inferred anew. Nodes that cannot
    be flattened stay, with a `REASON`.

    Args:
        model: A normalised model.
        known: The result of `shapes.infer`; gains the new values.
        misfits: The branches that cannot run on these shapes.
        keep: Whether a node stays, since it has a rule that is not built in.

    Returns:
        Whether any node was rewritten.
    """
    if not any(node.op_type in FORMS for node in model.graph):
        return False
    editor = GraphEditor(model.graph, known, misfits)
    changed, stale = False, set[onnx_ir.Value]()
    for node in list(model.graph):
        if not stale.isdisjoint(reads(node)):
            stale.update(node.outputs)
        elif node.op_type in FORMS and not node.domain and not keep(node) and _flattened(editor, node):
            stale.update(v for v in editor.replaced if node.op_type != "If" or editor.may_be_refined(v))
            model.graph.remove(node)
            model.graph.opset_imports[DOMAIN] = 1
            changed = True
    return changed


def _flattened(editor: GraphEditor, node: onnx_ir.Node) -> bool:
    """Flatten a node if its form allows; returns whether it did."""
    editor.replaced.clear()
    try:
        FORMS[node.op_type](editor, node)
    except Unsupported as problem:
        node.meta[REASON] = problem.reason, problem.hint
        return False
    return True
