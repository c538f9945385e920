"""Parameters in the attributes of `ai.onnx.ml` operators, turned into operands.

Normalisation creates an initializer for each attribute in the table below and records it in the metadata of the node,
which stays unchanged. Before lowering these initializers become extra operands of the node, so that the account, ties
and opaque operators treat them like any other weight.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx_ir

from .keys import ML_DOMAIN, PARAMETERS
from .traversal import every_node

__all__ = ["attributes_to_operands", "own_inputs", "parameters", "slot"]

# The attributes that become operands 1, 2, ... of each operator; each entry lists the attribute's alternative names.
_PARAMETERS: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "Imputer": (("imputed_value_floats",),),
    "LabelEncoder": (("values_floats", "values_tensor"), ("keys_floats", "keys_tensor")),
    "LinearClassifier": (("coefficients",), ("intercepts",)),
    "LinearRegressor": (("coefficients",), ("intercepts",)),
    "SVMClassifier": (("support_vectors",), ("coefficients",), ("rho",), ("prob_a",), ("prob_b",)),
    "SVMRegressor": (("support_vectors",), ("coefficients",), ("rho",)),
    "Scaler": (("offset",), ("scale",)),
    "TreeEnsemble": (("nodes_splits",), ("leaf_weights",), ("membership_values",), ("nodes_hitrates",)),
    "TreeEnsembleClassifier": (
        ("nodes_values", "nodes_values_as_tensor"),
        ("class_weights", "class_weights_as_tensor"),
        ("base_values", "base_values_as_tensor"),
        ("nodes_hitrates", "nodes_hitrates_as_tensor"),
    ),
    "TreeEnsembleRegressor": (
        ("nodes_values", "nodes_values_as_tensor"),
        ("target_weights", "target_weights_as_tensor"),
        ("base_values", "base_values_as_tensor"),
        ("nodes_hitrates", "nodes_hitrates_as_tensor"),
    ),
}


def parameters(node: onnx_ir.Node) -> Iterator[tuple[int, str, onnx_ir.TensorProtocol]]:
    """The parameters among the attributes of a node: non-empty lists of floats and float tensors.

    Yields:
        (index among the extra operands, attribute name, tensor).
    """
    for place, spellings in enumerate(_PARAMETERS.get(node.op_type, ()) if node.domain == ML_DOMAIN else ()):
        for name in spellings:
            tensor = _float_tensor(node, name)
            if tensor is not None:
                yield place, name, tensor
                break


def attributes_to_operands(model: onnx_ir.Model) -> int:
    """Append the initializers made of attributes to the operands of their nodes, in place; returns how many."""
    count = 0
    for node in every_node(model.graph):
        for place, name in node.meta.get(PARAMETERS, {}).items():
            value = model.graph.initializers[name]
            if value not in node.inputs:
                node.resize_inputs(max(len(node.inputs), 2 + place))
                node.replace_input_with(1 + place, value)
                count += 1
    return count


def _float_tensor(node: onnx_ir.Node, name: str) -> onnx_ir.TensorProtocol | None:
    attribute = node.attributes.get(name)
    if attribute is None or attribute.is_ref():
        return None
    if attribute.type == onnx_ir.AttributeType.FLOATS:
        tensor: onnx_ir.TensorProtocol = onnx_ir.Tensor(np.array(attribute.value, np.float32))
    elif attribute.type == onnx_ir.AttributeType.TENSOR and attribute.as_tensor().dtype.is_floating_point():
        tensor = attribute.as_tensor()
    else:
        return None
    return tensor if tensor.size else None


def slot(op: str, name: str) -> int:
    """The operand index of an attribute (by the first of its names) of an operator in the table."""
    return 1 + [spellings[0] for spellings in _PARAMETERS[op]].index(name)


def own_inputs(node: onnx_ir.Node) -> int:
    """The number of operands of the ONNX operator itself, without those made of attributes."""
    return 1 if node.meta.get(PARAMETERS) else len(node.inputs)
