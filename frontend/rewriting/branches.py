"""If nodes: the branch taken is inlined if it is known; else both are, with a choice between their outputs."""

from __future__ import annotations

import onnx_ir

from ...ir import LoweringError
from ..errors import Unsupported
from .editor import GraphEditor

__all__ = ["branch"]


def branch(editor: GraphEditor, node: onnx_ir.Node) -> None:
    """Inline the branches of an If node (since 1) before it, and replace its outputs.

    A branch that cannot run on these shapes counts as not taken.

    Raises:
        Unsupported: No branch can run on these shapes.
        LoweringError: The branches have different numbers of outputs.
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
    editor.expect_outputs(node, len(ends[0]))
    for body in bodies:
        editor.inline(body, node)
    decision = None
    for index, values in enumerate(zip(*ends, strict=True)):
        if len(values) == 1:
            editor.replace_output(node, index, values[0])
            continue
        if decision is None:
            [decision] = editor.add(node, "Squeeze", [node.inputs[0]])
        editor.replace_output(node, index, editor.choice(node, decision, *values))
