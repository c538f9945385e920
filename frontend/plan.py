"""Reading constants by where they end: which parameters start a stream, and which are weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import onnx_ir as ir

from .inference.literals import is_literal
from .inference.program_data import STORED, quantised
from .inference.shapes import Known
from .registry import Rule
from .rewriting.expand import is_body
from .rewriting.order import reads

__all__ = ["Plan", "plan"]

Find = Callable[[ir.Node], Rule | None]

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
_OF_LOOPS = {"Carry", "Step", "LoopEnd"}


@dataclass(frozen=True, slots=True)
class Plan:
    """What the constants of a model are.

    parameters: the initializers whose elements are parameters, in file order. literals: float initializers that are
    numbers of the program. computed: values computed from parameters alone. streams: constants (parameters or
    computed) that enter a data slot and so are lowered like activations. filled: tensors that ConstantOfShape makes in
    the place of weights (models without their numbers).
    """

    parameters: dict[ir.Value, ir.TensorProtocol]
    literals: dict[ir.Value, ir.TensorProtocol]
    computed: set[ir.Value]
    streams: set[ir.Value]
    filled: set[ir.Value]


def plan(model: ir.Model, known: Mapping[ir.Value, Known], find: Find) -> Plan:
    """Classify every constant of the model."""
    parameters: dict[ir.Value, ir.TensorProtocol] = {}
    literals: dict[ir.Value, ir.TensorProtocol] = {}
    stored = quantised(model.graph, find)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if tensor is None or tensor.size == 0 or not (tensor.dtype.is_floating_point() or value in stored):
            continue
        entry = known.get(value)
        numbers = is_literal(value) or (entry is not None and entry.data is not None)
        (literals if numbers else parameters)[value] = tensor
    nodes = list(model.graph)
    computed = _computed(nodes, parameters, known)
    roots = {v for v in model.graph.outputs if v in parameters or v in computed}
    moved = _moved(nodes, parameters, computed, find)
    # What an operator's body computes from its operands has no place in the file, where it could be put.
    roots |= {v for node in nodes if is_body(node) for v in node.outputs if v in computed and v not in moved}
    streams = _streams(nodes, roots, parameters, computed, moved, known, find)
    return Plan(parameters, literals, computed, streams, _filled(nodes, known, find))


def _filled(nodes: list[ir.Node], known: Mapping[ir.Value, Known], find: Find) -> set[ir.Value]:
    """Float tensors of ConstantOfShape, and what data movement makes of them."""
    filled: set[ir.Value] = set()
    for node in nodes:
        entry = known.get(node.outputs[0]) if node.outputs else None
        if entry is None or entry.data is None or not entry.dtype.startswith(("float", "bfloat")):
            continue
        rule = find(node)
        if node.op_type == "ConstantOfShape" or (rule is not None and rule.moves and node.inputs[0] in filled):
            filled.update(node.outputs)
    return filled


def _computed(
    nodes: list[ir.Node], parameters: Mapping[ir.Value, ir.TensorProtocol], known: Mapping[ir.Value, Known]
) -> set[ir.Value]:
    computed: set[ir.Value] = set()
    for node in nodes:
        inputs = reads(node)[: 1 if node.op_type == "CastLike" else None]
        constant = all(v in parameters or v in computed or _is_data(v, known) for v in inputs)
        if (
            constant
            and inputs
            and node.op_type not in _RANDOM | _OF_LOOPS
            and not any(_is_data(v, known) for v in node.outputs)
        ):
            computed.update(node.outputs)
    return computed


def _is_data(value: ir.Value, known: Mapping[ir.Value, Known]) -> bool:
    entry = known.get(value)
    return (entry is not None and entry.data is not None) or value.const_value is not None


def _streams(
    nodes: list[ir.Node],
    roots: set[ir.Value],
    parameters: Mapping[ir.Value, ir.TensorProtocol],
    computed: set[ir.Value],
    moved: set[ir.Value],
    known: Mapping[ir.Value, Known],
    find: Find,
) -> set[ir.Value]:
    """Walk backwards: a constant in a data slot is a stream as the roots are, and so is what it was computed from."""
    streams = set(roots)
    for node in reversed(nodes):
        constant = bool(node.outputs) and all(v in computed for v in node.outputs)
        if (constant and not any(v in streams for v in node.outputs)) or all(_is_data(v, known) for v in node.outputs):
            continue
        rule = find(node)
        candidates = [(i, v) for i, v in enumerate(node.inputs) if v is not None and (v in parameters or v in computed)]
        if constant:
            streams.update(_carriers(node, candidates, moved, rule))
        elif rule is not None:
            streams.update(v for i, v in candidates if _is_data_slot(node, i, v, rule, moved, known))
    return streams


def _moved(
    nodes: list[ir.Node], parameters: Mapping[ir.Value, ir.TensorProtocol], computed: set[ir.Value], find: Find
) -> set[ir.Value]:
    """Parameters and what pure data movement makes of them."""
    moved = set(parameters)
    for node in nodes:
        if node.outputs and node.outputs[0] in computed:
            rule = find(node)
            sources = [v for v in node.inputs if v is not None and (v in computed or v in parameters)]
            if rule is not None and rule.moves and all(v in moved for v in sources):
                moved.update(node.outputs)
    return moved


def _carriers(
    node: ir.Node, candidates: list[tuple[int, ir.Value]], moved: set[ir.Value], rule: Rule | None
) -> list[ir.Value]:
    """The operands of a constant op that the stream runs through; the others are its weights.

    Stored numbers start their stream where the tensor of numbers is made.
    """
    if node.op_type in STORED:
        return []
    if rule is None or node.op_type == "Concat":
        return [v for _, v in candidates]
    first = [v for _, v in candidates[:1]]
    if node.op_type in ("MatMul", "Einsum") or rule.weights is None:
        made = [v for _, v in candidates if v not in moved]
        return made or first
    return [v for i, v in candidates if i not in rule.weights] or first


def _is_data_slot(
    node: ir.Node, index: int, value: ir.Value, rule: Rule, moved: set[ir.Value], known: Mapping[ir.Value, Known]
) -> bool:
    if rule.weights is not None and index not in rule.weights:
        return True
    if node.op_type != "MatMul" or value in moved or value not in known:
        return False
    return index == 0 or len(known[value].shape) > 2
