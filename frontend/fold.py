"""Weight folding: weights that a file computes from its parameters become initializers."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx_ir

from .inference.evaluate import evaluate
from .inference.program_data import STORED
from .interpret import rule_lookup
from .model.traversal import reads
from .passes import passes_up_to, prepare
from .plan import plan
from .rewriting.editor import remove_dead
from .rules.registry import Registry

__all__ = ["folded"]


def folded(
    model: onnx_ir.Model, dims: Mapping[str, int], inputs: Mapping[str, tuple[int, ...]], rules: Registry
) -> onnx_ir.Model:
    """Replace the weights that a model computes from its parameters by initializers of the same names.

    Computations inside bodies (branches, loops, functions) and pure data movement stay.

    Args:
        model: The model; its weights are read.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        rules: The rules that it will be lowered with.

    Returns:
        A copy of the model, without the initializers that only the computations read.

    Raises:
        LoweringError: A computed weight cannot be evaluated.
    """
    network, known = prepare(model, dims, inputs, rules, passes_up_to("expand-functions"))
    find = rule_lookup(rules, network)
    constants = plan(network, known, find)
    moved = set(constants.parameters)
    for node in network.graph:
        rule = find(node)
        plain = (rule is not None and rule.moves) or node.op_type in STORED
        if plain and all(v is None or v in moved or not constants.is_constant(v) for v in node.inputs):
            moved.update(v for v in node.outputs if v in constants.computed)
    read = {v for node in network.graph if not constants.computed.issuperset(node.outputs) for v in reads(node)}
    read.update(network.graph.outputs)
    made = {
        v.name: evaluate(network, known, v)
        for v in constants.computed
        if v in read and v not in moved and v in known and known[v].dtype.startswith(("float", "bfloat"))
    }
    return _with_initializers(model, made)


def _with_initializers(model: onnx_ir.Model, made: Mapping[str | None, np.ndarray]) -> onnx_ir.Model:
    """A copy of the model in which the values of these names are initializers."""
    copy = model.clone()
    graph = copy.graph
    before = {v for v in graph.initializers.values() if v.uses()}
    for node in list(graph):
        for old in node.outputs:
            if old.name in made and not old.is_graph_output():
                tensor = onnx_ir.Tensor(np.ascontiguousarray(made[old.name]), name=old.name)
                new = onnx_ir.Value(name=old.name, const_value=tensor, shape=old.shape, type=old.type)
                new.shape, new.type = onnx_ir.Shape(tensor.shape), onnx_ir.TensorType(tensor.dtype)
                onnx_ir.convenience.replace_all_uses_with(old, new)
                old.name = f"{old.name}.computed"
                graph.initializers[tensor.name or ""] = new
                remove_dead([old])
    for value in before:
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            del graph.initializers[value.name or ""]
    return copy
