"""Control flow made flat: branches and loop bodies become nodes of the main graph, which all later steps read as such.

Of a loop its body is left, once, between nodes of the domain `gmnc`:

| node | inputs | attributes | stands for |
|---|---|---|---|
| Carry | initial | | what is carried, where an iteration begins |
| Iteration | | | the number of the iteration |
| Step | x | axis, backward, loop | the entry along an axis that an iteration reads |
| LoopEnd | carries, initials, ends, rows, deciders | axes, backward, trips | what is carried at the end; stacked rows |

`LoopEnd` closes the cycles: what an iteration makes at its end is what the next one begins with. The deciders are what
says how many iterations there are, and its results depend on them.
"""

from __future__ import annotations

import onnx_ir

from ..errors import Unsupported
from ..inference.shapes import Known
from ..model.keys import REASON
from ..model.traversal import reads
from .branches import branch
from .editor import GraphEditor
from .loops import loop, scan

__all__ = ["flatten"]

_FORMS = {"If": branch, "Loop": loop, "Scan": scan}


def flatten(model: onnx_ir.Model, known: dict[onnx_ir.Value, Known], misfits: set[onnx_ir.Graph]) -> bool:
    """Rewrite, in place, each If, Loop and Scan of the main graph, the bodies of which may hold more of them.

    known, misfits: what `shapes.infer` found. Returns whether any was; those of a form that cannot be made flat stay,
    with a `REASON`. What depends on one of which more may be known afterwards is left for the next time.
    """
    editor = GraphEditor(model.graph, known, misfits)
    changed, stale = False, set[onnx_ir.Value]()
    for node in list(model.graph):
        if not stale.isdisjoint(reads(node)):
            stale.update(node.outputs)
        elif node.op_type in _FORMS and not node.domain and _is_flat(editor, node):
            stale.update(v for v in editor.delivered if node.op_type != "If" or editor.is_vague(v))
            model.graph.remove(node)
            model.graph.opset_imports["gmnc"] = 1
            changed = True
    return changed


def _is_flat(editor: GraphEditor, node: onnx_ir.Node) -> bool:
    """Whether a node could be made flat; if so, that is done."""
    editor.delivered.clear()
    try:
        _FORMS[node.op_type](editor, node)
    except Unsupported as problem:
        node.meta[REASON] = problem.reason, problem.hint
        return False
    return True
