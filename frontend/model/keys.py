"""Names under which the front end notes things in a model, and the domains of operators that only it knows."""

from __future__ import annotations

__all__ = [
    "ATTRIBUTE",
    "BODY_DOMAIN",
    "CELL_DOMAIN",
    "CONSTANT",
    "DOMAIN",
    "FUNCTION",
    "LEARNED",
    "MADE",
    "ML_DOMAIN",
    "PARAMETERS",
    "REASON",
]

DOMAIN = "gmnc"
"""Domain of the nodes that stand for what several operators compute together, or one in another form."""

BODY_DOMAIN = "gmnc.body"
"""Domain of the functions made of the bodies that the ONNX standard gives operators."""

CELL_DOMAIN = "gmnc.cell"
"""Domain of the functions that recurrent cells are written out as."""

ML_DOMAIN = "ai.onnx.ml"

CONSTANT = "gmnc.constant"
"""Key in `onnx_ir.Value.meta` of an initializer that was a Constant node: the name of that node's output."""

LEARNED = "gmnc.learned"
"""Key in `onnx_ir.Value.meta` of an initializer that the exporter lists as a parameter or a buffer."""

FUNCTION = "gmnc.function"
"""Key in `onnx_ir.Node.metadata_props` of a node that was inlined: the local function that it comes from."""

MADE = "gmnc.made"
"""Key in `onnx_ir.Value.meta` of a value that is not in the file."""

ATTRIBUTE = "gmnc.attribute"
"""Key in `onnx_ir.Value.meta` of an initializer that is an attribute: (first output of its node, attribute name)."""

PARAMETERS = "gmnc.parameters"
"""Key in `onnx_ir.Node.meta`: names of initializers that are the node's attributes, by place among further operands."""

REASON = "gmnc.reason"
"""Key in `onnx_ir.Node.meta` of a node that could not be rewritten: why, and what to do about it."""
