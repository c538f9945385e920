"""Metadata keys that the front end uses in a model, and the domains of its internal operators."""

from __future__ import annotations

__all__ = [
    "ATTRIBUTE",
    "BODY_DOMAIN",
    "CELL_DOMAIN",
    "CONSTANT",
    "DOMAIN",
    "FILES",
    "FUNCTION",
    "LEARNED",
    "ML_DOMAIN",
    "ORIGINAL",
    "PARAMETERS",
    "PARSER",
    "REASON",
    "STATE",
    "SYNTHETIC",
]

DOMAIN = "gmnc"
"""Domain of the internal dialect: fused or rewritten operators."""

BODY_DOMAIN = "gmnc.body"
"""Domain of functions made from the function bodies of ONNX operators."""

CELL_DOMAIN = "gmnc.cell"
"""Domain of functions that recurrent cells are expanded to."""

ML_DOMAIN = "ai.onnx.ml"

ORIGINAL = "gmnc.original"
"""Key in `onnx_ir.Model.meta`: the mapped file that the model was loaded from, or its bytes."""

PARSER = "gmnc.parser"
"""Key in `onnx_ir.Model.meta`: the parser of messages with parts that onnx-ir lacks (sparse tensors)."""

FILES = "gmnc.files"
"""Key in `onnx_ir.Model.meta`: the state at loading of each file that it was read from, external data included."""

CONSTANT = "gmnc.constant"
"""Key in `onnx_ir.Value.meta` of an initializer that was a Constant node: the output name of that node."""

LEARNED = "gmnc.learned"
"""Key in `onnx_ir.Value.meta` of an initializer that the exporter lists as a parameter or a buffer."""

FUNCTION = "gmnc.function"
"""Key in `onnx_ir.Node.metadata_props` of an inlined node: the local function it comes from."""

SYNTHETIC = "gmnc.made"
"""Key in `onnx_ir.Value.meta` of a value that is not in the file."""

ATTRIBUTE = "gmnc.attribute"
"""Key in `onnx_ir.Value.meta` of an initializer made of an attribute: (first output of the node, attribute name)."""

PARAMETERS = "gmnc.parameters"
"""Key in `onnx_ir.Node.meta`: names of the initializers made of the node's attributes, by extra operand index."""

REASON = "gmnc.reason"
"""Key in `onnx_ir.Node.meta` of a node that could not be rewritten: the reason and a hint."""

STATE = "gmnc.state_dict"
"""Key in `onnx_ir.Model.metadata_props`, also in files: how the names of the module's state differ from the model's."""
