"""Control flow made flat: branches and loop bodies become nodes of the main graph, which all later steps read as such.

Of a loop its body is left, once, between nodes of the domain `gmnc`:

| node | inputs | attributes | stands for |
|---|---|---|---|
| Carry | initial | | what is carried, where an iteration begins |
| Iteration | | | the number of the iteration |
| Step | x | axis, backward, loop | the entry along an axis that an iteration reads |
| Carried | carry, initial, end | | what is carried, after the last iteration |
| Stack | row, the values of Carried | axis, backward, trips | what every iteration makes, one after the other |
| While | value, deciders | | a value that depends on how many iterations there were |

`Carried` closes the cycle: what an iteration makes at its end is what the next one begins with.
"""

from __future__ import annotations

from collections.abc import Mapping

import onnx_ir as ir

from .branches import branch
from .loops import loop, scan
from .shapes import Known
from .splice import Splicer

__all__ = ["flatten"]

_FORMS = {"If": branch, "Loop": loop, "Scan": scan}


def flatten(model: ir.Model, known: Mapping[ir.Value, Known], misfits: set[ir.Graph]) -> bool:
    """Rewrite, in place, each If, Loop and Scan of the main graph, the bodies of which may hold more of them.

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
