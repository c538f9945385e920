"""Merges chains of an associative, commutative operator into one operator of all operands.

`(a + b) + c`, `(a + b) + (c + d)` and `Sum(a, b) + c` are one sum, however an exporter groups it, in which a, b and c
are interchangeable. Constants inside a chain (`(a + b + bias) + c`) are applied after it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import onnx_ir

from ..budget import MAX_LOWERED_OPERANDS
from ..dialect import declared
from ..inference.shapes import ValueInfo
from ..model.keys import DOMAIN
from ..model.traversal import reads
from ..primitives.functions import FUNCTIONS
from ..rules.registry import Rule
from .editor import GraphEditor, remove_dead

__all__ = ["merge_chains"]

_FAMILIES = {
    "Add": "Add", "Sum": "Add", "Sub": "Add", "Neg": "Add",
    "Mul": "Mul", "Max": "Max", "Min": "Min", "And": "And", "Or": "Or", "Xor": "Xor",
}  # fmt: skip
_SIGNED = ("Sub", "Neg")
_ON_ITS_NEURON = frozenset(FUNCTIONS) | {"Identity", "Cast", "CastLike"}


@dataclass(frozen=True, slots=True)
class _Term:
    """An operand of a chain: a value, and whether it is negated."""

    value: onnx_ir.Value
    negated: bool = False


@dataclass(slots=True)
class _Chain:
    """A chain: its operands that are activations, its constants, and the nodes between them and the last one."""

    operands: list[_Term] = field(default_factory=list)
    constants: list[_Term] = field(default_factory=list)
    inner: list[onnx_ir.Node] = field(default_factory=list)


def merge_chains(
    model: onnx_ir.Model,
    known: dict[onnx_ir.Value, ValueInfo],
    find: Callable[[onnx_ir.Node], Rule | None],
) -> int:
    """Replace, in place, chains of at least three activations by one `Chain` each.

    Intermediate values must be used once, and not be graph outputs. A function of one value (`x * sigmoid(x)`) is no
    part of a chain, nor is a constant that is applied to a single operand, such as the bias of a layer.

    Args:
        model: A normalised model.
        known: Shapes and known data of its values, which gains the new ones.
        find: The rule of a node: operators that rules from outside lower are left alone.

    Returns:
        How many chains were merged.
    """
    _fold_shapes(model.graph, known)
    _split_scatters(model.graph, known)
    _drop_zeros(model.graph, known)
    facts = _Facts(model.graph, known, find)
    if _split_gemms(model.graph, known, facts):
        facts = _Facts(model.graph, known, find)
    merged: set[onnx_ir.Node] = set()
    count = 0
    for node in reversed(list(model.graph)):
        # Constants behind a chain stay where they are.
        if node in merged or facts.joins.get(node, 0) < 2:
            continue
        chain = _collect(node, facts)
        if chain.inner:
            merged.update(chain.inner)
            _replace(node, chain, facts)
            count += 1
    if count:
        model.graph.opset_imports[DOMAIN] = 1
    return count


def _fold_shapes(graph: onnx_ir.Graph, known: dict[onnx_ir.Value, ValueInfo]) -> None:
    """Replace known sizes of values by constants, so that a value of which only the size is read is unused."""
    sized = [node for node in graph if node.op_type in ("Shape", "Size") and not node.domain]
    if not sized:
        return
    editor = GraphEditor(graph, known, set())
    for node in sized:
        [output, *_] = node.outputs
        data = known[output].data if output in known else None
        if data is not None and not output.is_graph_output():
            literal = editor.literal(f"{output.name}.known", data)
            known[literal] = known[output]
            output.replace_all_uses_with(literal)
            remove_dead([output])


def _split_scatters(graph: onnx_ir.Graph, known: dict[onnx_ir.Value, ValueInfo]) -> None:
    """Replace additions into the result of another one: both go into zeros, and their results are added up."""
    scatters = [node for node in graph if _adds_entries(node)]
    if not scatters:
        return
    editor = GraphEditor(graph, known, set())
    for node in scatters:
        data, entry = node.inputs[0], known.get(node.outputs[0])
        target = _unmoved(data)
        before = None if target is None else target.producer()
        if data is None or before is None or entry is None or not (_adds_entries(before) or before.op_type == "Add"):
            continue
        zeros = editor.literal(f"{node.name}.zeros", np.zeros(1, np.int64))
        [start] = editor.add(node, "Expand", [zeros, editor.literal(f"{node.name}.size", np.array(entry.shape))])
        known[start] = ValueInfo(entry.shape, entry.dtype, np.broadcast_to(np.zeros((), entry.dtype), entry.shape))
        [own] = editor.add(node, node.op_type, [start, *node.inputs[1:]], dict(node.attributes))
        [total] = editor.add(node, "Add", [target, own])
        known[own] = known[total] = ValueInfo(entry.shape, entry.dtype)
        editor.replace_output(node, 0, total)
        graph.remove(node, safe=True)
        remove_dead([data])


def _split_gemms(graph: onnx_ir.Graph, known: dict[onnx_ir.Value, ValueInfo], facts: _Facts) -> int:
    """Replace a Gemm that adds an activation (`addmm`) by one without and an addition; returns how many."""
    adding = [node for node in graph if _adds_activation(node, facts)]
    for node in adding:
        output, attributes = node.outputs[0], {n: a for n, a in node.attributes.items() if n != "beta"}
        gemm = onnx_ir.node("Gemm", node.inputs[:2], attributes, name=node.name)
        total = onnx_ir.node("Add", [gemm.outputs[0], node.inputs[2]], name=node.name)
        gemm.outputs[0].name = f"{output.name}/Gemm"
        for made in (gemm, total):
            made.metadata_props.update(node.metadata_props)
            known[made.outputs[0]] = known[output]
        total.outputs[0].metadata_props.update(output.metadata_props)
        onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], [gemm, total], [output], total.outputs)
    return len(adding)


def _adds_activation(node: onnx_ir.Node, facts: _Facts) -> bool:
    if node.op_type != "Gemm" or node.domain or len(node.inputs) < 3 or node.attributes.get_float("beta", 1.0) != 1:
        return False
    added, rule = node.inputs[2], facts.find(node)
    known = added is not None and node.outputs[0] in facts.known
    return known and not facts.is_constant(added) and rule is not None and not rule.foreign  # type: ignore[arg-type]


def _adds_entries(node: onnx_ir.Node) -> bool:
    scatter = node.op_type in ("ScatterND", "ScatterElements") and not node.domain
    return scatter and node.attributes.get_string("reduction", "none") == "add"


def _unmoved(value: onnx_ir.Value | None) -> onnx_ir.Value | None:
    """The value before nodes that leave it as it is."""
    while value is not None and (node := value.producer()) is not None and not node.domain:
        order = list(node.attributes.get_ints("perm", ())) or None
        if node.op_type != "Identity" and (node.op_type != "Transpose" or order is None or order != sorted(order)):
            break
        value = node.inputs[0]
    return value


def _drop_zeros(graph: onnx_ir.Graph, known: dict[onnx_ir.Value, ValueInfo]) -> None:
    """Remove additions of known zeros, with which exporters start a sum."""
    for node in list(graph):
        if node.op_type != "Add" or node.domain or node.outputs[0].is_graph_output():
            continue
        for zeros, value in (node.inputs, node.inputs[::-1]):
            entries = [known.get(v) for v in (zeros, value, node.outputs[0]) if v is not None]
            data = entries[0].data if entries and entries[0] is not None else None
            if data is None or value is None or len(entries) < 3 or entries[1] is None or entries[2] is None:
                continue
            if entries[1].shape == entries[2].shape and data.size and not np.any(data):
                node.outputs[0].replace_all_uses_with(value)
                remove_dead([node.outputs[0]])
                break


class _Facts:
    """What the pass knows of a graph, found in one walk.

    Attributes:
        known: Shapes and known data of its values.
        find: The rule of a node.
        family: The operator, by node, of nodes that may be part of a chain.
        joins: How many activations such a node combines, of nodes that combine several or apply constants to a chain.
    """

    def __init__(
        self, graph: onnx_ir.Graph, known: dict[onnx_ir.Value, ValueInfo], find: Callable[[onnx_ir.Node], Rule | None]
    ) -> None:
        self.known, self.find = known, find
        self.family: dict[onnx_ir.Node, str] = {}
        self.joins: dict[onnx_ir.Node, int] = {}
        self._constant: set[onnx_ir.Value] = set(graph.initializers.values())
        self._source: dict[onnx_ir.Value, onnx_ir.Value] = {}
        for node in graph:
            values = reads(node)
            if values and all(map(self.is_constant, values)) and not node.domain:
                self._constant.update(node.outputs)
            elif len(node.outputs) == 1:
                self._visit(node, find(node))

    def is_constant(self, value: onnx_ir.Value) -> bool:
        """Whether a value is known, or computed from constants alone."""
        entry = self.known.get(value)
        return value in self._constant or (entry is not None and entry.data is not None)

    def inner(self, value: onnx_ir.Value, family: str) -> onnx_ir.Node | None:
        """The node that makes a value if it continues a chain of this operator, else None."""
        node = value.producer()
        if node is None or node not in self.joins or self.family[node] != family or value.is_graph_output():
            return None
        return node if len(value.uses()) == 1 else None

    def _visit(self, node: onnx_ir.Node, rule: Rule | None) -> None:
        active = [v for v in node.inputs if v is not None and not self.is_constant(v)]
        output = node.outputs[0]
        single = self._on_one_value(node, active)
        if single is not None:
            self._source[output] = single
        family = _FAMILIES.get(node.op_type)
        entries = [self.known.get(v) for v in (*active, output)]
        if (
            family is None or node.domain or node.attributes or rule is None or rule.foreign or None in node.inputs
            or any(e is None or not e.dtype for e in entries) or not active
        ):  # fmt: skip
            return
        if node.op_type in _SIGNED and any(e is not None and e.dtype.startswith("uint") for e in entries):
            return
        self.family[node] = family
        if single is not None and len(active) > 1:
            return
        if len(active) > 1 or self.inner(active[0], family) is not None:
            self.joins[node] = len(active)

    def _on_one_value(self, node: onnx_ir.Node, active: Sequence[onnx_ir.Value]) -> onnx_ir.Value | None:
        """The one value, of the shape of the result, that the entries of an elementwise result are functions of."""
        if node.domain or node.op_type not in _ON_ITS_NEURON:
            return None
        sources = {self._source.get(v, v) for v in active}
        if len(sources) != 1:
            return None
        [source] = sources
        a, b = self.known.get(source), self.known.get(node.outputs[0])
        return source if a is not None and b is not None and a.shape == b.shape else None


def _collect(last: onnx_ir.Node, facts: _Facts) -> _Chain:
    """The chain that ends in a node."""
    family, chain = facts.family[last], _Chain()
    waiting = [(last, False)]
    while waiting:
        node, negated = waiting.pop()
        for place, value in enumerate(node.inputs):
            assert value is not None
            term = _Term(value, negated != (node.op_type == "Neg" or (node.op_type == "Sub" and place == 1)))
            before = facts.inner(value, family)
            if facts.is_constant(value):
                chain.constants.append(term)
            elif before is None:
                chain.operands.append(term)
            else:
                chain.inner.append(before)
                waiting.append((before, term.negated))
    return chain


def _replace(last: onnx_ir.Node, chain: _Chain, facts: _Facts) -> None:
    """Replace the last node of a chain by one operator of all operands, and then the constants."""
    graph, [old], family = last.graph, last.outputs, facts.family[last]
    assert graph is not None
    made = _Nodes(last, facts.known)
    operands = [made.add("Neg", [t.value]) if t.negated else t.value for t in chain.operands]
    while len(operands) > 1:
        parts = [operands[i : i + MAX_LOWERED_OPERANDS] for i in range(0, len(operands), MAX_LOWERED_OPERANDS)]
        operands = [made.add(declared("Chain"), p, DOMAIN, {"op": family}) if len(p) > 1 else p[0] for p in parts]
    y = operands[0]
    for term in chain.constants:
        y = made.add("Sub" if term.negated else family, [y, term.value])
    y.metadata_props.update(old.metadata_props)
    before = [v for v in last.inputs if v is not None]
    onnx_ir.convenience.replace_nodes_and_values(graph, last, [last], made.nodes, [old], [y])
    remove_dead(before)


class _Nodes:
    """Nodes of the name and with the metadata of the one that they replace, and the shapes of their values."""

    def __init__(self, replaced: onnx_ir.Node, known: dict[onnx_ir.Value, ValueInfo]) -> None:
        self.nodes: list[onnx_ir.Node] = []
        self._replaced, self._known = replaced, known

    def add(
        self, op: str, inputs: Sequence[onnx_ir.Value], domain: str = "", attributes: Mapping[str, str] | None = None
    ) -> onnx_ir.Value:
        """Add an elementwise node; returns its output."""
        old = self._replaced
        node = onnx_ir.node(op, inputs, dict(attributes or {}), domain=domain, name=old.name)
        node.metadata_props.update(old.metadata_props)
        [y] = node.outputs
        y.name = f"{old.outputs[0].name}/{op}.{len(self.nodes)}"
        shapes = {self._known[v].shape for v in inputs}
        self._known[y] = ValueInfo(np.broadcast_shapes(*shapes), self._known[old.outputs[0]].dtype)
        self.nodes.append(node)
        return y
