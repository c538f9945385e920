"""The same network written in another order: nodes, initializers, operands that may trade places."""

from __future__ import annotations

import numpy as np
import onnx

COMMUTATIVE = {"Add", "Mul", "Sum", "Max", "Min", "And", "Or", "Xor", "Mean"}


def reordered(model: onnx.ModelProto, seed: int) -> onnx.ModelProto:
    """A copy whose nodes come in a random topological order."""
    rng = np.random.default_rng(seed)
    made = onnx.ModelProto()
    made.CopyFrom(model)
    nodes = [_copied(n) for n in made.graph.node]
    maker = {name: number for number, node in enumerate(nodes) for name in node.output if name}
    needs = [{maker[name] for name in _reads(node) if name in maker} for node in nodes]
    left, order = set(range(len(nodes))), list[int]()
    while left:
        order.append(int(rng.choice(sorted(i for i in left if not needs[i] & left))))
        left.remove(order[-1])
    for node in nodes:
        if node.op_type in COMMUTATIVE and not node.domain:
            node.input[:] = rng.permutation(list(node.input)).tolist()
    weights = [_copied(t) for t in made.graph.initializer]
    del made.graph.node[:], made.graph.initializer[:]
    made.graph.node.extend(nodes[i] for i in order)
    made.graph.initializer.extend(weights[i] for i in rng.permutation(len(weights)))
    return made


def _copied(message: onnx.NodeProto | onnx.TensorProto) -> onnx.NodeProto | onnx.TensorProto:
    made = type(message)()
    made.CopyFrom(message)
    return made


def _reads(node: onnx.NodeProto) -> set[str]:
    """Names that a node or its subgraphs read."""
    found = set(node.input)
    for attribute in node.attribute:
        for graph in [attribute.g, *attribute.graphs]:
            found |= {o.name for o in graph.output}.union(*map(_reads, graph.node))
    return found
