"""Classifies constants by their uses: which are read as weights, and which are lowered like activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Set
from dataclasses import dataclass, field

import onnx_ir

from .dialect import internal_ops
from .inference.literals import is_literal
from .inference.program_data import STORED, quantised
from .inference.shapes import ValueInfo
from .model.keys import SYNTHETIC
from .model.traversal import reads
from .primitives.functions import FUNCTIONS
from .rules.registry import Rule

__all__ = ["CONTRACTIONS", "Plan", "mixed_values", "plan"]

Find = Callable[[onnx_ir.Node], Rule | None]

_RANDOM = {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "Bernoulli"}
_OF_LOOPS = internal_ops(lambda op: op.iterates)
CONTRACTIONS: Mapping[str, tuple[int, ...]] = {
    "MatMul": (0, 1), "Gemm": (0, 1), "Einsum": (0, 1), "Conv": (1,), "ConvTranspose": (1,), "Gather": (0,),
    "com.microsoft.FusedMatMul": (0, 1), "com.microsoft.FusedGemm": (0, 1), "com.microsoft.FusedConv": (1,),
    "com.microsoft.NhwcConv": (1,), "com.microsoft.Attention": (1,),
}  # fmt: skip
"""By operator: the operands that are weight matrices, both of whose axes are neurons."""


@dataclass(slots=True)
class Plan:
    """The classification of a model's constants.

    Attributes:
        parameters: The initializers whose elements are parameters, in file order.
        literals: The float initializers that are literals of the program.
        computed: Values that are computed from parameters alone.
        traced: Computed values each entry of which is a function of one stored element (moved, negated, scaled,
            masked); other computed values are lowered like activations.
        as_activations: Constants that are lowered like activations.
        activation_operands: Operands (node, index) that are read as activations; the same parameter or traced value may
            be read as a weight elsewhere.
        paired: Parameters and traced values that are lowered like activations whose rows and columns are both neurons,
            like those of a weight matrix; the number of groups for the kernel of a convolution, else 0.
        kernels: Names of constants from which the kernel of a convolution is computed, together with activations.
        shared: Names of parameters that several contractions read.
    """

    parameters: dict[onnx_ir.Value, onnx_ir.TensorProtocol] = field(default_factory=dict)
    literals: dict[onnx_ir.Value, onnx_ir.TensorProtocol] = field(default_factory=dict)
    computed: set[onnx_ir.Value] = field(default_factory=set)
    traced: set[onnx_ir.Value] = field(default_factory=set)
    as_activations: set[onnx_ir.Value] = field(default_factory=set)
    activation_operands: set[tuple[onnx_ir.Node, int]] = field(default_factory=set)
    paired: dict[onnx_ir.Value, int] = field(default_factory=dict)
    kernels: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)

    def is_weight(self, value: onnx_ir.Value | None) -> bool:
        """Whether each entry of a value is a parameter element or a function of one."""
        return value in self.parameters or value in self.traced

    @property
    def mixed(self) -> set[onnx_ir.Value]:
        """Computed values with entries that depend on several parameter elements."""
        return self.computed - self.traced

    def is_constant(self, value: onnx_ir.Value | None) -> bool:
        """Whether a value is a parameter or computed from parameters alone."""
        return value in self.parameters or value in self.computed


def plan(model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], find: Find) -> Plan:
    """Classify every constant of a model.

    Args:
        model: The model after the rewriting passes.
        known: Shapes and known data of its values.
        find: The rule of a node.

    Returns:
        The classification.
    """
    made = _with_computed(model, known, find)
    nodes = list(model.graph)
    _mark_activations(made, nodes, model.graph.outputs, known, find)
    matrices = {v: k for v, k in _matrices_among(made, nodes, known).items() if math.prod(known[v].shape) > 1}
    made.as_activations, made.activation_operands = set(), set()
    _mark_activations(made, nodes, model.graph.outputs, known, find, matrices.keys())
    made.kernels = _kernel_sources(made, nodes)
    made.shared = _shared_weights(made, nodes)
    made.paired = {v: matrices[v] for v in matrices if v in made.as_activations and made.is_weight(v)}
    return made


def mixed_values(model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], find: Find) -> set[onnx_ir.Value]:
    """The computed values with entries that depend on several parameter elements; arguments as for `plan`."""
    return _with_computed(model, known, find).mixed


def _with_computed(model: onnx_ir.Model, known: Mapping[onnx_ir.Value, ValueInfo], find: Find) -> Plan:
    """A classification of the initializers, and of the values that are computed from them."""
    made = Plan()
    stored = quantised(model.graph, find)
    for value in model.graph.initializers.values():
        tensor = value.const_value
        if SYNTHETIC in value.meta or tensor is None or tensor.size == 0:
            continue
        if not tensor.dtype.is_floating_point() and value not in stored:
            continue
        entry = known.get(value)
        numbers = is_literal(value) or (entry is not None and entry.data is not None)
        (made.literals if numbers else made.parameters)[value] = tensor
    nodes = list(model.graph)
    _mark_computed(made, nodes, known)
    _mark_traced(made, nodes, known, find)
    return made


def _mark_computed(made: Plan, nodes: list[onnx_ir.Node], known: Mapping[onnx_ir.Value, ValueInfo]) -> None:
    for node in nodes:
        inputs = reads(node)[: 1 if node.op_type == "CastLike" else None]
        constant = all(made.is_constant(v) or _is_data(v, known) for v in inputs)
        if (
            constant
            and inputs
            and node.op_type not in _RANDOM | _OF_LOOPS
            and not any(_is_data(v, known) for v in node.outputs)
        ):
            made.computed.update(node.outputs)


def _is_data(value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo]) -> bool:
    entry = known.get(value)
    return (entry is not None and entry.data is not None) or value.const_value is not None


def _mark_traced(made: Plan, nodes: list[onnx_ir.Node], known: Mapping[onnx_ir.Value, ValueInfo], find: Find) -> None:
    """Find traced values: data movement of weights, and elementwise functions of one weight."""
    same: dict[onnx_ir.Value, tuple[onnx_ir.Value, object]] = {}
    changed: set[onnx_ir.Value] = set()
    for node in nodes:
        if not node.outputs or node.outputs[0] not in made.computed:
            continue
        sources = [v for v in node.inputs if v is not None and made.is_constant(v)]
        if not all(made.is_weight(v) for v in sources) or not _keeps_type(node, sources, known):
            continue
        rule = find(node)
        if node.op_type in FUNCTIONS and not node.domain:
            # If all operands hold the same element at each position, the result is a function of that element.
            origins = {same.get(v, (v, None))[0] for v in sources}
            chosen = node.op_type == "Where" and not made.is_constant(node.inputs[0])
            if len(origins) != 1 and not chosen:
                continue
            if len(origins) == 1 and known[sources[0]].shape == known[node.outputs[0]].shape:
                same[node.outputs[0]] = origins.pop(), None
            made.traced.update(node.outputs)
            changed.update(node.outputs)
        elif rule is not None and rule.moves:
            # Scales and zero points must be read unmodified.
            quant_params = node.inputs[1:] if len(rule.weights or ()) > 1 else ()
            if changed.isdisjoint(quant_params):
                made.traced.update(node.outputs)
                changed.update(node.outputs if quant_params or not changed.isdisjoint(node.inputs) else ())


def _keeps_type(node: onnx_ir.Node, sources: list[onnx_ir.Value], known: Mapping[onnx_ir.Value, ValueInfo]) -> bool:
    """Whether the value can still be a parameter: a cast from float to integer is not traced."""
    if node.op_type not in ("Cast", "CastLike"):
        return bool(sources) and all(v in known for v in (*sources, node.outputs[0]))
    kinds = [known[v].dtype.startswith(("int", "uint", "bool")) for v in (*sources[:1], node.outputs[0]) if v in known]
    return len(kinds) == 2 and (kinds[0] or not kinds[1])


def _mark_activations(
    made: Plan,
    nodes: list[onnx_ir.Node],
    outputs: Iterable[onnx_ir.Value],
    known: Mapping[onnx_ir.Value, ValueInfo],
    find: Find,
    starts: Set[onnx_ir.Value] = frozenset(),
) -> None:
    """Walk backwards and mark the constants, and operands, that are lowered like activations.

    `starts` are traced values at which the walk stops; it stops at parameters otherwise.
    """
    made.as_activations.update(v for v in outputs if made.is_constant(v))
    for node in reversed(nodes):
        constant = bool(node.outputs) and all(v in made.computed for v in node.outputs)
        needed = not constant or any(v in made.as_activations for v in node.outputs)
        begins = constant and all(v in starts and v in made.traced for v in node.outputs)
        if not needed or begins or all(_is_data(v, known) for v in node.outputs):
            continue
        for index in _activation_operands(made, node, constant, known, find(node)):
            value = node.inputs[index]
            assert value is not None
            made.activation_operands.add((node, index))
            made.as_activations.add(value)


def _activation_operands(
    made: Plan, node: onnx_ir.Node, constant: bool, known: Mapping[onnx_ir.Value, ValueInfo], rule: Rule | None
) -> list[int]:
    """The operands of a node that are read as activations."""
    places = [i for i, v in enumerate(node.inputs) if v is not None and made.is_constant(v)]
    mixed = [i for i in places if not made.is_weight(node.inputs[i])]
    if constant and node.op_type in STORED and node.outputs[0] in made.traced:
        return mixed
    if constant and rule is not None and rule.moves and rule.weights and node.outputs[0] not in made.traced:
        return sorted({*mixed, *places[:1]})
    if rule is None:
        return places if constant else mixed
    if not constant:
        data = [] if rule.weights is None else [i for i in places if i not in rule.weights]
        return sorted({*mixed, *data})
    if rule.weights is None and node.op_type != "Einsum":
        return sorted({*mixed, *_matrices(node, places, mixed, known)})
    if node.op_type == "Concat" or rule.weights == ():
        return places
    # Program data is the activation if there is any, else a mixed operand, else the first; others are weights.
    if node.op_type in ("MatMul", "Einsum", "Gemm"):
        numbers = [v for v in node.inputs[:2] if v is not None and not made.is_constant(v)]
        return mixed or ([] if numbers else places[:1])
    data = [i for i in places if rule.weights is not None and i not in rule.weights]
    entered = node.inputs[:1] if rule.weights is not None and 0 not in rule.weights else ()
    numbers = [v for v in entered if v is not None and not made.is_constant(v)]
    return sorted({*mixed, *data}) or ([] if numbers else places[:1])


def _matrices(
    node: onnx_ir.Node, places: list[int], mixed: list[int], known: Mapping[onnx_ir.Value, ValueInfo]
) -> list[int]:
    """The weights among the operands of an elementwise operator that are not vectors along an axis of another one."""
    rank = max((len(known[v].shape) for v in node.inputs if v is not None and v in known), default=0)
    wide = {i: _long_axes(known, node.inputs[i], rank) for i in places}
    found: list[int] = []
    for i in sorted((i for i in places if i not in mixed), key=lambda i: (-len(wide[i]), i)):
        if len(wide[i]) > 1 or not any(wide[i] <= wide[j] for j in (*mixed, *found)):
            found.append(i)
    return found


def _is_matrix(made: Plan, node: onnx_ir.Node, value: onnx_ir.Value, known: Mapping[onnx_ir.Value, ValueInfo]) -> bool:
    """Whether a computed value is used as a weight matrix; queries and keys of attention have batch axes instead."""
    constant = all(v in made.computed for v in node.outputs)
    return not constant and not made.is_weight(value) and (node.op_type != "MatMul" or len(known[value].shape) == 2)


def _kernel_sources(made: Plan, nodes: list[onnx_ir.Node]) -> set[str]:
    """Names of the weights from which kernels are computed, elementwise or by data movement, with activations."""
    waiting = [n.inputs[1] for n in nodes if "Conv" in n.op_type and len(n.inputs) > 1]
    waiting = [v for v in waiting if v is not None and not made.is_constant(v)]
    seen: set[onnx_ir.Value] = set()
    while waiting:
        value = waiting.pop()
        if value is None or value in seen:
            continue
        seen.add(value)
        maker = value.producer()
        contraction = maker is not None and f"{maker.domain}.{maker.op_type}".lstrip(".") in CONTRACTIONS
        if maker is not None and not made.is_weight(value) and not contraction:
            waiting += [v for v in maker.inputs if v is not None]
    return {v.name or "" for v in seen if made.is_weight(v)}


def _shared_weights(made: Plan, nodes: list[onnx_ir.Node]) -> set[str]:
    """Names of the parameters that several contractions read, moved or not."""
    readers: dict[str, set[onnx_ir.Node]] = {}
    for node in nodes:
        for index in CONTRACTIONS.get(f"{node.domain}.{node.op_type}".lstrip("."), ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            while value is not None and made.is_weight(value) and (maker := value.producer()) is not None:
                value = maker.inputs[0] if len(maker.inputs) else None
            if value is not None and made.is_weight(value):
                readers.setdefault(value.name or "", set()).add(node)
    return {name for name, by in readers.items() if len(by) > 1}


def _long_axes(known: Mapping[onnx_ir.Value, ValueInfo], value: onnx_ir.Value | None, rank: int) -> frozenset[int]:
    """The axes of size > 1, as axes of the broadcast result."""
    shape = known[value].shape if value is not None and value in known else ()
    return frozenset(a + rank - len(shape) for a, n in enumerate(shape) if n > 1)


def _matrices_among(
    made: Plan, nodes: list[onnx_ir.Node], known: Mapping[onnx_ir.Value, ValueInfo]
) -> dict[onnx_ir.Value, int]:
    """Constants that are used as a weight matrix, directly or through computation and data movement.

    The value is the number of groups for the kernel of a convolution, else 0.
    """
    ends: list[tuple[onnx_ir.Value, int]] = []
    for node in nodes:
        for index in CONTRACTIONS.get(f"{node.domain}.{node.op_type}".lstrip("."), ()):
            value = node.inputs[index] if index < len(node.inputs) else None
            if value is None or value not in known or not made.is_constant(value):
                continue
            places = node.inputs[1] if node.op_type == "Gather" else None
            if places is not None and _is_data(places, known):
                continue
            if (node, index) not in made.activation_operands or _is_matrix(made, node, value, known):
                ends.append((value, node.attributes.get_int("group", 1) if "Conv" in node.op_type else 0))
    seen: dict[onnx_ir.Value, int] = {}
    while ends:
        value, kernel = ends.pop()
        if value not in seen:
            seen[value] = kernel
            maker = value.producer()
            stored = maker is not None and maker.op_type in STORED and value in made.traced
            if maker is not None and value in made.computed and not stored:
                ends += [(v, kernel) for v in maker.inputs if v is not None and v in known and made.is_constant(v)]
    for node in nodes:
        sources = [v for v in node.inputs if v is not None and made.is_constant(v)]
        if sources and all(v in made.traced for v in node.outputs) and all(v in seen for v in sources):
            seen.update((v, seen[sources[0]]) for v in node.outputs if v in known and v not in seen)
    return seen
