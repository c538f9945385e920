"""Rewrites a model so that it lacks some nodes of its graph: tensors are cut, and sizes follow."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx_ir

from ...frontend import LabelledModel
from ...frontend.inference.value_info import ValueInfo
from ...ir import ParameterGraph
from .computed import computed
from .contrib import CONTRIB, attention
from .cuts import Cut, Uncuttable, cut_of, same_cut, whole
from .indexed import INDEXED
from .movement import MOVEMENT
from .operators import COMPUTING, ELEMENTWISE, PASSIVE, elementwise, is_elementwise
from .ranked import RANKED
from .step import Cuts, Step
from .stored import stored_cuts

__all__ = ["rewritten"]

_RULES = {**MOVEMENT, **INDEXED, **RANKED, **COMPUTING, "Attention": attention}
"""How nodes of a standard operator follow the cuts."""
_DROPPING = frozenset({"Add", "Sum", "Concat"})
"""Operators whose operands may vanish."""
_NAMES_MOVE = frozenset({
    "Cast", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Identity", "Slice", "Split", "Concat", "Expand",
    "Gather", "GatherElements",
})  # fmt: skip
"""Operators whose results are numbers of entries if their first operand is."""
_NAMES_READ = frozenset({"OneHot", "Equal", "GatherND", "ScatterElements", "ScatterND", "Shape", "Size"})
"""Operators that use numbers of entries as names."""


def rewritten(labelled: LabelledModel, removed: np.ndarray, block: np.ndarray) -> Cuts:
    """Rewrite the model of `labelled` in place, so that it lacks the removed nodes.

    Args:
        labelled: The model; it is modified.
        removed: bool [num_nodes], the nodes that leave its graph.
        block: int64 [num_nodes], a number for the group of positions that each node belongs to, -1 for none.

    Returns:
        The cuts of its values.

    Raises:
        Uncuttable: What is left has no shape, or an operator cannot follow; `nodes` says what is concerned.
    """
    model = labelled.model
    cuts = Cuts(
        model.graph, model.graph.opset_imports.get("", 1), dict(labelled.known), labelled.nodes, removed,
        block, stored_cuts(labelled.graph, removed),
    )  # fmt: skip
    for name in {*cuts.stored.cuts, *cuts.stored.refused}:
        parameter = labelled.graph.parameters.get(name)
        if parameter is not None and parameter.origin == "attribute":
            raise Uncuttable(f"{name!r} is stored in an attribute", _ends(labelled.graph, removed, name))
    for value in model.graph.inputs:
        cuts.of[value] = cuts.labelled(value) or whole(cuts.known[value].shape)
    read = [n for n, v in model.graph.initializers.items() if v.uses()]
    _walk(cuts, list(model.graph))
    for value in model.graph.outputs:
        cut = cuts.get(value)
        if cut is not None and cut.any:
            raise Uncuttable(f"output {value.name!r} would change its shape")
    _drop_replaced(cuts, read)
    return cuts


def _ends(graph: ParameterGraph, removed: np.ndarray, name: str) -> np.ndarray:
    """The removed nodes at the edges of a tensor."""
    ends = [x[removed[x]] for b in graph.edges if b.view.name == name for x in (b.dst, b.src)]
    return np.concatenate(ends)


def _walk(cuts: Cuts, nodes: Iterable[onnx_ir.Node]) -> None:
    for node in nodes:
        try:
            _visit(cuts, node)
        except Uncuttable as reason:
            concerned = [reason.nodes, *(cuts.removed_of(v) for v in (*node.inputs, *node.outputs))]
            nodes = np.unique(np.concatenate(concerned))
            raise Uncuttable(f"{node.op_type} node {node.name!r}: {reason.reason}", nodes, reason.ragged) from reason


def _visit(cuts: Cuts, node: onnx_ir.Node) -> None:
    outs = [cuts.labelled(v) for v in node.outputs]
    if outs and all(c is not None and c.empty for c in outs):
        cuts.of.update((v, c) for v, c in zip(node.outputs, outs, strict=True) if c is not None)
        return
    if computed(cuts, node):
        return
    step = Step(cuts, node, [cuts.get(v) for v in node.inputs], outs)
    if any(c is not None and c.empty for c in step.ins):
        if _vanishes(step):
            return
        _without_vanished(step)
        node = step.node
    named = [cuts.named[v] for v in node.inputs if v in cuts.named]
    if named and node.op_type not in (*_NAMES_MOVE, *_NAMES_READ):
        raise Uncuttable("it computes with the numbers of entries")
    if any(a.type == onnx_ir.AttributeType.GRAPH for a in node.attributes.values()):
        _control(step)
    else:
        _follow(step)
    for index, value in enumerate(step.node.inputs):
        cut = step.ins[index] if index < len(step.ins) else None
        if value is not None and cut is not None and cut.any and value.is_initializer() and value.graph is cuts.graph:
            step.node.replace_input_with(index, cuts.shortened(value, cut))
    if named and node.op_type in _NAMES_MOVE and all(np.array_equal(n, named[0]) for n in named):
        cuts.named.update(dict.fromkeys(step.node.outputs, named[0]))
    for value, found in zip(step.node.outputs, step.outs, strict=True):
        if found is not None:
            cuts.of[value] = found


def _follow(step: Step) -> None:
    """Apply the rule of the operator, if anything around the node is cut."""
    if not any(c is not None and c.any for c in (*step.ins, *step.outs)):
        step.outs = [
            c or (whole(step.all.known[v].shape) if v in step.all.known else None)
            for c, v in zip(step.outs, step.node.outputs, strict=True)
        ]
        return
    op, domain = step.node.op_type, step.node.domain
    rule = _RULES.get(op) if domain in ("", "ai.onnx") else CONTRIB.get((domain, op))
    if rule is not None:
        rule(step)
    elif op in PASSIVE and domain in ("", "ai.onnx"):
        _passive(step)
    elif op in ELEMENTWISE and domain in ("", "ai.onnx") and is_elementwise(step):
        elementwise(step)
    else:
        raise Uncuttable("how its sizes follow from those of its operands is not known")


def _passive(step: Step) -> None:
    for index, value in enumerate(step.node.outputs):
        if step.outs[index] is None and value in step.all.known:
            if step.node.op_type not in ("Shape", "Size"):
                raise Uncuttable("its result has no labels")
            step.outs[index] = whole(step.all.known[value].shape)


def _control(step: Step) -> None:
    """If, Loop and Scan: operands that enter a body are cut as its inputs are, results as its outputs are."""
    op, node = step.node.op_type, step.node
    bodies = [a.as_graph() for a in node.attributes.values() if a.type == onnx_ir.AttributeType.GRAPH]
    if op == "If":
        for body in bodies:
            _walk(step.all, list(body))
        for index, value in enumerate(node.outputs):
            _agree(step, index, [step.all.get(b.outputs[index]) for b in bodies], value)
        return
    if op not in ("Loop", "Scan"):
        if any(c is not None and c.any for c in (*step.ins, *step.outs)):
            raise Uncuttable("its body is not understood")
        return
    [body] = bodies
    first, scanned = (2, 0) if op == "Loop" else (0, int(step.attr("num_scan_inputs")))
    carried = len(body.inputs) - first - scanned
    other = op == "Scan" and any(any(step.attr(f"scan_{x}_axes") or ()) for x in ("input", "output"))
    if other and any(c is not None and c.any for c in (*step.ins, *step.outs)):
        raise Uncuttable("it scans along another axis than the first")
    for index, value in enumerate(body.inputs[first:], first):
        leaves = body.outputs[(1 if op == "Loop" else 0) + index - first] if index - first < carried else None
        _enter(step, index, value, leaves)
    _walk(step.all, list(body))
    skip = 1 if op == "Loop" else 0
    for index, value in enumerate(node.outputs):
        inner = step.all.get(body.outputs[skip + index])
        if inner is not None and index >= carried:
            length = step.all.known[value].shape[0] if value in step.all.known else 1
            inner = cut_of(inner.removed[None], (length, *inner.shape))
        elif inner is not None:
            entered = step.all.get(body.inputs[first + index])
            if entered is None or not same_cut(entered, inner):
                raise Uncuttable(f"carried value {body.inputs[first + index].name!r} would change its shape")
        _agree(step, index, [inner], value)


def _enter(step: Step, index: int, value: onnx_ir.Value, leaves: onnx_ir.Value | None) -> None:
    """An input of a loop's body; leaves: its value after an iteration, None if it is one entry of the operand."""
    entry = leaves is None
    have = step.ins[index] if index < len(step.ins) else None
    found = step.all.labelled(value) or (step.all.labelled(leaves) if leaves is not None else None)
    if have is None:
        if found is not None:
            step.all.of[value] = found
        return
    if found is None:
        found = cut_of(have.removed[0], have.shape[1:]) if entry else have
    step.all.of[value] = found
    step.all.known.setdefault(value, ValueInfo(found.shape, step.all.known[step.required(index)].dtype))
    step.use(index, cut_of(found.removed[None], have.shape) if entry else found)


def _agree(step: Step, index: int, inner: list[Cut | None], value: onnx_ir.Value) -> None:
    """Set the cut of a result from those of the body's outputs, which must be the same."""
    out = step.outs[index]
    for cut in inner:
        if cut is not None and out is not None and (cut.any or out.any) and cut.new != out.new:
            raise Uncuttable(f"{value.name!r} would have another shape than the output of the body")
        out = out or cut
    step.outs[index] = out


def _vanishes(step: Step) -> bool:
    """Whether nothing is left of the results of a node, since nothing is left of an operand; then they are marked."""
    node, cuts = step.node, step.all
    operands = [c for v, c in zip(node.inputs, step.ins, strict=True)
                if c is not None and v is not None and not v.is_initializer() and v not in cuts.now]  # fmt: skip
    every = all(c.empty for c in operands)
    if not every and (node.op_type in _DROPPING or not is_elementwise(step)):
        return False
    if any(c is not None and not c.empty for c in step.outs):
        return False
    for value in node.outputs:
        if value in cuts.known:
            shape = cuts.known[value].shape
            cuts.of[value] = cut_of(np.ones((1,) * len(shape), bool), shape)
    return all(v in cuts.of for v in node.outputs)


def _without_vanished(step: Step) -> None:
    """Drop operands of which nothing is left."""
    node = step.node
    left = [(v, c) for v, c in zip(node.inputs, step.ins, strict=True) if c is None or not c.empty]
    if node.op_type not in _DROPPING or node.domain not in ("", "ai.onnx") or not left:
        raise Uncuttable("nothing is left of one of its operands")
    if len(left) == 1:
        step.replace("Identity", [left[0][0]])
    else:
        for index in reversed(range(len(node.inputs))):
            cut = step.ins[index]
            if cut is not None and cut.empty:
                rest = [v for i, v in enumerate(node.inputs) if i != index]
                for i, v in enumerate(rest):
                    node.replace_input_with(i, v)
                node.resize_inputs(len(rest))
                del step.ins[index]
        return
    step.ins = [c for _, c in left]


def _drop_replaced(cuts: Cuts, read: Iterable[str]) -> None:
    """Remove nodes and tensors that nothing reads any more; what takes the place of a tensor gets its name.

    read: the names of the initializers that something read before.
    """
    graph = cuts.graph
    for node in reversed(list(graph)):
        dead = all(not v.uses() and not v.is_graph_output() for v in node.outputs)
        if dead and all((c := cuts.of.get(v)) is not None and c.empty for v in node.outputs):
            graph.remove(node, safe=True)
    for name in read:
        if not graph.initializers[name].uses():
            del graph.initializers[name]
            copy = next((v for v in cuts.copies.get(name, ()) if v.uses()), None)
            if copy is not None:
                _rename(graph, copy, name)


def _rename(graph: onnx_ir.Graph, value: onnx_ir.Value, name: str) -> None:
    del graph.initializers[value.name or ""]
    value.name = name
    graph.register_initializer(value)
