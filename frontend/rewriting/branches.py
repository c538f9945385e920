"""If: the branch that is taken, where that is known; else both, and a choice between what they make."""

from __future__ import annotations

import onnx_ir

from ...ir import LoweringError
from ..errors import Unsupported
from .editor import GraphEditor

__all__ = ["branch"]


def branch(editor: GraphEditor, node: onnx_ir.Node) -> None:
    """Splice the branches of an If node in before it (If since 1).

    A branch that cannot run on the present shapes is as good as one that is not taken; raises `Unsupported` if the only
    one is.
    """
    bodies = [node.attributes[name].as_graph() for name in ("then_branch", "else_branch")]
    condition = editor.number(node.inputs[0])
    if condition is not None:
        bodies = bodies[:1] if condition else bodies[1:]
    bodies = [body for body in bodies if body not in editor.misfits]
    if not bodies:
        raise Unsupported(
            "the branch that is taken does not fit these shapes", "give concrete sizes with --dim or --input"
        )
    ends = [list(body.outputs) for body in bodies]
    if any(len(values) != len(ends[0]) for values in ends):
        raise LoweringError(f"node {node.name!r} (If): its branches have different numbers of outputs; export it again")
    editor.expect(node, len(ends[0]))
    for body in bodies:
        editor.move(body, node)
    decision = None
    for index, values in enumerate(zip(*ends, strict=True)):
        if len(values) == 1:
            editor.deliver(node, index, values[0])
            continue
        if decision is None:
            [decision] = editor.add(node, "Squeeze", [node.inputs[0]])
        editor.deliver(node, index, editor.choice(node, decision, *values))
