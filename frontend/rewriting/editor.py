"""Edits a graph in place: replaces a node by others, and inlines bodies of control flow into the main graph.

New nodes are built with onnx-ir's `Tape`. A tape with a graph appends to its end, but these nodes belong before another
one, so the tapes here have no graph.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import onnx_ir
from onnx_ir.tape import Tape

from ...ir import LoweringError
from ..budget import MAX_UNROLLED_NODES
from ..dialect import declared
from ..inference.shapes import ValueInfo
from ..model.keys import DOMAIN, SYNTHETIC
from ..model.traversal import describe, every_node, reads

__all__ = ["GraphEditor", "NodeWriter", "origin", "remove_dead"]

Attributes = Mapping[str, onnx_ir.Attr | int | float | str | Sequence[int] | Sequence[float]]


class NodeWriter:
    """Builds the nodes that replace `node`; `replace` inserts them into its graph."""

    def __init__(self, node: onnx_ir.Node) -> None:
        self.node = node
        self._tape = Tape()

    def input(self, index: int) -> onnx_ir.Value | None:
        """Operand `index`, None if it is left out."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def integer(self, name: str, default: int = 0) -> int:
        """An integer attribute. Raises `LoweringError` if it is of another type."""
        return int(self._typed(name, default, onnx_ir.AttributeType.INT))

    def real(self, name: str, default: float) -> float:
        """A float attribute. Raises `LoweringError` if it is of another type."""
        return float(self._typed(name, default, onnx_ir.AttributeType.FLOAT))

    def _typed(self, name: str, default: float, kind: onnx_ir.AttributeType) -> float:
        found = self.node.attributes.get(name)
        if found is None:
            return default
        if found.type != kind:
            raise LoweringError(
                f"{describe(self.node)}: attribute {name!r} is {found.type.name}, it must be {kind.name}; "
                "export the model again"
            )
        return found.value

    def attributes_but(self, *without: str) -> dict[str, onnx_ir.Attr]:
        """The attributes of the node, except those named."""
        return {n: a for n, a in self.node.attributes.items() if n not in without}

    def add(
        self,
        op: str,
        *inputs: onnx_ir.Value | None,
        domain: str = "",
        attributes: Attributes | None = None,
        outputs: int = 1,
    ) -> list[onnx_ir.Value]:
        """Add a node.

        Returns:
            Its outputs, which are named after the first output of the replaced node.
        """
        number = len(self._tape.nodes)
        made = self._tape.op_multi_out(
            op, inputs, attributes, num_outputs=outputs, domain=domain, name=self.node.name,
            metadata_props=dict(self.node.metadata_props),
        )  # fmt: skip
        for place, value in enumerate(made):
            value.name = f"{self.node.outputs[0].name}/{op}.{number}.{place}"
            value.meta[SYNTHETIC] = True
        return list(made)

    def one(
        self, op: str, *inputs: onnx_ir.Value | None, domain: str = "", attributes: Attributes | None = None
    ) -> onnx_ir.Value:
        """Add a node with one output, which is returned."""
        return self.add(op, *inputs, domain=domain, attributes=attributes)[0]

    def internal(self, op: str, *inputs: onnx_ir.Value | None, attributes: Attributes | None = None) -> onnx_ir.Value:
        """Add a node of the dialect with one output, which is returned."""
        return self.one(declared(op), *inputs, domain=DOMAIN, attributes=attributes)

    def dequantized_operand(
        self, x: int, scale: int | None, zero: int | None, axes: Sequence[int] = ()
    ) -> onnx_ir.Value | None:
        """Operand `x` dequantised by operands `scale` and `zero` (indices); None if it is left out."""
        value = self.input(x)
        if value is None:
            return None
        quant_params = [None if i is None else self.input(i) for i in (scale, zero)]
        return self.dequantize(value, quant_params[0], quant_params[1], axes=axes)

    def dequantize(
        self,
        x: onnx_ir.Value,
        scale: onnx_ir.Value | None,
        zero: onnx_ir.Value | None,
        whole: onnx_ir.Value | None = None,
        axes: Sequence[int] = (),
    ) -> onnx_ir.Value:
        """`x` dequantised; a DynamicQuantizeLinear before it becomes one DynamicQuantize with it.

        Args:
            x: The integers.
            scale: Scale, a scalar or one per entry along `axes`; None for 1.
            zero: Zero point, likewise; None for 0.
            whole: A second scale, of the whole tensor.
            axes: The axes of `x` that scale and zero point lie along; the last ones by default.
        """
        source = x.producer()
        if source is not None and (source.op_type, source.domain) == ("DynamicQuantizeLinear", "") and whole is None:
            made = source.outputs
            if x is made[0] and scale is made[1] and zero is made[2]:
                return self.internal("DynamicQuantize", source.inputs[0])
        attributes = {"axes": tuple(axes)} if axes else {}
        return self.internal("Dequantize", x, scale, zero, whole, attributes=attributes)

    def quantize(self, x: onnx_ir.Value, scale: int, zero: int) -> onnx_ir.Value:
        """`x` quantised by operands `scale` and `zero` (indices)."""
        return self.internal("Quantize", x, self.input(scale), self.input(zero))

    def insert(self) -> None:
        """Insert the added nodes before the node, which stays."""
        assert self.node.graph is not None
        self.node.graph.insert_before(self.node, self._tape.nodes)

    def replace(self, outputs: Sequence[onnx_ir.Value]) -> None:
        """Replace the node by the added ones, and its outputs by `outputs`; nodes that become dead are removed."""
        node, graph = self.node, self.node.graph
        assert graph is not None
        old = list(node.outputs[: len(outputs)])
        before = [v for v in node.inputs if v is not None]
        for new, value in zip(outputs, old, strict=True):
            new.metadata_props.update(value.metadata_props)
            new.meta.pop(SYNTHETIC, None)
        onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], self._tape.nodes, old, list(outputs))
        remove_dead(before)


class GraphEditor:
    """Inlines bodies into the main graph and adds nodes to it.

    Attributes:
        graph: The main graph.
        known: Shapes and known data of its values; gains those of new ones.
        misfits: Branches that cannot run on these shapes.
        loops: How many loops have been flattened.
        replaced: The values that replaced outputs since it was last cleared.
    """

    def __init__(
        self, graph: onnx_ir.Graph, known: dict[onnx_ir.Value, ValueInfo], misfits: set[onnx_ir.Graph]
    ) -> None:
        self.graph = graph
        self.known = known
        self.misfits = misfits
        self.loops = sum(node.op_type == "LoopEnd" for node in graph)
        self.opset = graph.opset_imports.get("", 1)
        self._names = {v.name for v in (*graph.inputs, *graph.initializers.values())}
        self._names.update(o.name for node in graph for o in node.outputs)
        self._nodes = {node.name for node in every_node(graph)}
        self.replaced: set[onnx_ir.Value] = set()
        self._weights: dict[onnx_ir.Value, bool] = {}
        self._numbers: dict[tuple[int, str], int] = {}

    def data(self, value: onnx_ir.Value | None) -> np.ndarray | None:
        """The data of a value, None if it is unknown."""
        entry = None if value is None else self.known.get(value)
        return None if entry is None else entry.data

    def number(self, value: onnx_ir.Value | None) -> int | None:
        """The data of a value of one element, as an integer; None if it is unknown."""
        data = self.data(value)
        return None if data is None or data.size != 1 else int(data.reshape(-1)[0])

    def have_one_type(self, one: onnx_ir.Value, other: onnx_ir.Value) -> bool:
        """Whether two values are tensors of one known shape and data type."""
        a, b = self.known.get(one), self.known.get(other)
        return a is not None and b is not None and bool(a.dtype) and (a.shape, a.dtype) == (b.shape, b.dtype)

    def is_weight(self, value: onnx_ir.Value | None) -> bool:
        """Whether a value of the main graph is a parameter, or computed from parameters alone."""
        if value is None or self.data(value) is not None:
            return False
        if value not in self._weights:
            node = value.producer()
            sources = [] if node is None else [v for v in reads(node) if self.data(v) is None]
            self._weights[value] = value.is_initializer() or (bool(sources) and all(map(self.is_weight, sources)))
        return self._weights[value]

    def is_constant(self, value: onnx_ir.Value) -> bool:
        """Whether the data of a value is known, or it is a weight."""
        return self.data(value) is not None or self.is_weight(value)

    def may_be_refined(self, value: onnx_ir.Value) -> bool:
        """Whether another inference may reveal more about a value: its shape is unknown, or its data as integers is."""
        entry = self.known.get(value)
        return entry is None or not entry.dtype or (entry.data is None and entry.dtype.startswith(("int", "bool")))

    def has_room(self, body: onnx_ir.Graph, times: int) -> bool:
        """Whether the graph stays within the budget after inlining a body so many times."""
        return len(self.graph) + times * sum(1 for _ in body.all_nodes()) <= MAX_UNROLLED_NODES

    def expect_outputs(self, node: onnx_ir.Node, results: int) -> None:
        """Raise `LoweringError` unless a node has as many outputs as its body returns."""
        if len(node.outputs) != results:
            raise LoweringError(
                f"node {node.name!r} ({node.op_type}): it has {len(node.outputs)} outputs, its body gives {results}; "
                "export the model again"
            )

    def inline(
        self, body: onnx_ir.Graph, before: onnx_ir.Node, operands: Sequence[onnx_ir.Value] = ()
    ) -> list[onnx_ir.Value]:
        """Move the nodes of a body into the graph.

        Args:
            body: The body; it is empty afterwards.
            before: The node before which they are inserted.
            operands: What replaces the inputs of the body.

        Returns:
            The values that the body returned.

        Raises:
            LoweringError: The body takes a different number of inputs.
        """
        if len(operands) != len(body.inputs):
            raise LoweringError(
                f"node {before.name!r} ({before.op_type}): its body takes {len(body.inputs)} values, "
                f"not {len(operands)}; export the model again"
            )
        new = dict(zip(body.inputs, operands, strict=True))
        outputs = [new.get(v, v) for v in body.outputs]
        body.outputs.clear()
        for old, value in new.items():
            old.replace_all_uses_with(value)
        self.move_nodes(body, list(body), before)
        return outputs

    def move_nodes(self, body: onnx_ir.Graph, nodes: Sequence[onnx_ir.Node], before: onnx_ir.Node) -> None:
        """Move some nodes of a body into the graph; their names become unique paths."""
        path = _path(before, body)
        body.remove(nodes)
        for node in nodes:
            node.name = self._free(f"{path}{node.name or node.op_type}", self._nodes)
            for output in node.outputs:
                output.name = output.name and self._free(output.name, self._names)
        self.graph.insert_before(before, nodes)

    def add(
        self, before: onnx_ir.Node, op: str, inputs: Sequence[onnx_ir.Value | None],
        attributes: Attributes | None = None, domain: str = "", count: int = 1, name: str = "",
    ) -> Sequence[onnx_ir.Value]:  # fmt: skip
        """Insert a node before another one, whose name it extends.

        Args:
            before: The node before which it is inserted; it gets its metadata.
            op: Its operator.
            inputs: Its operands.
            attributes: Its attributes.
            domain: The domain of the operator.
            count: How many outputs it has.
            name: The name of its one output.

        Returns:
            Its outputs.
        """
        stem, tape = f"{before.name}.{op.lower()}", Tape()
        outputs = [onnx_ir.Value(name=name or self._free(stem, self._names)) for _ in range(count)]
        tape.op_multi_out(
            op, inputs, attributes, outputs=outputs, domain=domain, name=self._free(stem, self._nodes),
            metadata_props=dict(before.metadata_props),
        )  # fmt: skip
        before.graph.insert_before(before, tape.nodes)  # type: ignore[union-attr]
        return outputs

    def internal(
        self, before: onnx_ir.Node, op: str, inputs: Sequence[onnx_ir.Value | None],
        attributes: Attributes | None = None, count: int = 1,
    ) -> Sequence[onnx_ir.Value]:  # fmt: skip
        """Insert a node of the dialect; arguments as for `add`."""
        return self.add(before, declared(op), inputs, attributes, domain=DOMAIN, count=count)

    def choice(
        self, before: onnx_ir.Node, decision: onnx_ir.Value | None, then: onnx_ir.Value, other: onnx_ir.Value
    ) -> onnx_ir.Value:
        """`then` where `decision` (a scalar) is true, else `other`."""
        if self.have_one_type(then, other):
            return self.add(before, "Where", [decision, then, other])[0]
        return self.internal(before, "Choice", [then, other, decision])[0]

    def literal(self, stem: str, numbers: np.ndarray) -> onnx_ir.Value:
        """Add an initializer that is not a parameter (integers, booleans, an empty tensor) to the main graph."""
        name = self._free(stem, self._names)
        return Tape(self.graph).initializer(onnx_ir.tensor(numbers, name=name))

    def unsqueezed(self, before: onnx_ir.Node, value: onnx_ir.Value, axis: int) -> onnx_ir.Value:
        """`value` with a new axis of size 1, which is axis `axis` of the result."""
        if self.opset < 13:
            return self.add(before, "Unsqueeze", [value], {"axes": [axis]})[0]
        return self.add(before, "Unsqueeze", [value, self.literal(f"{before.name}.axes", np.array([axis]))])[0]

    def replace_output(self, node: onnx_ir.Node, index: int, value: onnx_ir.Value) -> onnx_ir.Value:
        """Replace output `index` of `node` by `value`, under the name of the output; returns the new output."""
        output = node.outputs[index]
        if not output.name:
            return value
        name, output.name = output.name, f"{output.name}.replaced"
        [same] = self.add(node, "Identity", [value], name=name)
        same.type, same.shape = output.type, output.shape
        output.replace_all_uses_with(same, replace_graph_outputs=True)
        self.replaced.add(same)
        if output in self.known:
            self.known[same] = self.known[output]
        return same

    def _free(self, stem: str, taken: set[str | None]) -> str:
        name, key = stem, (id(taken), stem)
        while name in taken:
            self._numbers[key] = number = self._numbers.get(key, 0) + 1
            name = f"{stem}_{number}"
        taken.add(name)
        return name


def _path(node: onnx_ir.Node, body: onnx_ir.Graph) -> str:
    """The path of a body of `node`, a prefix of the names of its nodes."""
    bodies = {name: a.value for name, a in node.attributes.items() if a.type == onnx_ir.AttributeType.GRAPH}
    name = next((name for name, graph in bodies.items() if graph is body), next(iter(bodies)))
    return f"{node.name or node.op_type}/{name}/"


def origin(value: onnx_ir.Value) -> onnx_ir.Value:
    """The value before a chain of Identity nodes."""
    while (node := value.producer()) is not None and node.op_type == "Identity" and not node.domain:
        source = node.inputs[0]
        if source is None:
            break
        value = source
    return value


def remove_dead(values: Iterable[onnx_ir.Value]) -> None:
    """Remove the producers of these values if they are unused, and, in turn, nodes that only these used."""
    # onnx-ir's RemoveUnusedNodesPass walks the whole model and drops initializers, which the account needs.
    waiting = list(values)
    while waiting:
        node = waiting.pop().producer()
        if node is None or node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        inputs = [v for v in node.inputs if v is not None]
        node.graph.remove(node, safe=True)
        waiting += inputs
