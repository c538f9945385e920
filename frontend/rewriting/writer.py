"""Putting nodes in the place of others, for the passes that rewrite a normalised model."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx_ir

from ...ir import LoweringError
from ..model.keys import DOMAIN, MADE
from ..model.traversal import describe

__all__ = ["Writer", "remove_dead"]

Attributes = Mapping[str, onnx_ir.Attr | int | float | str | Sequence[int] | Sequence[float]]


class Writer:
    """Makes the nodes that take the place of one."""

    def __init__(self, node: onnx_ir.Node) -> None:
        self.node = node
        self._made: list[onnx_ir.Node] = []

    def input(self, index: int) -> onnx_ir.Value | None:
        """An operand, None where it is left out."""
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

    def own(self, *without: str) -> dict[str, onnx_ir.Attr]:
        """The node's attributes but for some."""
        return {n: a for n, a in self.node.attributes.items() if n not in without}

    def add(
        self,
        op: str,
        *inputs: onnx_ir.Value | None,
        domain: str = "",
        attributes: Attributes | None = None,
        outputs: int = 1,
    ) -> list[onnx_ir.Value]:
        """A new node; its outputs, named after the present one's."""
        attrs = [a if isinstance(a, onnx_ir.Attr) else onnx_ir.convenience.convert_attribute(n, a)
                 for n, a in (attributes or {}).items()]  # fmt: skip
        node = onnx_ir.Node(domain, op, list(inputs), attrs, num_outputs=outputs, name=self.node.name)
        node.metadata_props.update(self.node.metadata_props)
        for place, value in enumerate(node.outputs):
            value.name = f"{self.node.outputs[0].name}/{op}.{len(self._made)}.{place}"
            value.meta[MADE] = True
        self._made.append(node)
        return list(node.outputs)

    def one(
        self, op: str, *inputs: onnx_ir.Value | None, domain: str = "", attributes: Attributes | None = None
    ) -> onnx_ir.Value:
        """A new node of one output."""
        return self.add(op, *inputs, domain=domain, attributes=attributes)[0]

    def dequantised(
        self, x: int, scale: int | None, zero: int | None, axes: Sequence[int] = ()
    ) -> onnx_ir.Value | None:
        """Operand x in numbers, with scale and zero point from these operands; None if it is left out."""
        value = self.input(x)
        if value is None:
            return None
        sides = [None if i is None else self.input(i) for i in (scale, zero)]
        return self.numbers(value, sides[0], sides[1], axes=axes)

    def numbers(
        self,
        x: onnx_ir.Value,
        scale: onnx_ir.Value | None,
        zero: onnx_ir.Value | None,
        whole: onnx_ir.Value | None = None,
        axes: Sequence[int] = (),
    ) -> onnx_ir.Value:
        """Dequantize; of what DynamicQuantizeLinear made, both as one."""
        source = x.producer()
        if source is not None and (source.op_type, source.domain) == ("DynamicQuantizeLinear", "") and whole is None:
            made = source.outputs
            if x is made[0] and scale is made[1] and zero is made[2]:
                return self.one("DynamicQuantize", source.inputs[0], domain=DOMAIN)
        attributes = {"axes": tuple(axes)} if axes else {}
        return self.one("Dequantize", x, scale, zero, whole, domain=DOMAIN, attributes=attributes)

    def quantised(self, x: onnx_ir.Value, scale: int, zero: int) -> onnx_ir.Value:
        """Quantize, with scale and zero point from these operands."""
        return self.one("Quantize", x, self.input(scale), self.input(zero), domain=DOMAIN)

    def replace(self, outputs: Sequence[onnx_ir.Value]) -> None:
        """Put the new nodes in the place of the node; what nothing needs any more goes."""
        node, graph = self.node, self.node.graph
        assert graph is not None
        old = list(node.outputs[: len(outputs)])
        before = [v for v in node.inputs if v is not None]
        for new, value in zip(outputs, old, strict=True):
            new.metadata_props.update(value.metadata_props)
            new.meta.pop(MADE, None)
        onnx_ir.convenience.replace_nodes_and_values(graph, node, [node], self._made, old, list(outputs))
        remove_dead(before)


def remove_dead(values: Iterable[onnx_ir.Value]) -> None:
    """Remove the nodes that make these values as far as nothing needs them any more, and what they alone needed."""
    waiting = list(values)
    while waiting:
        node = waiting.pop().producer()
        if node is None or node.graph is None or any(v.uses() or v.is_graph_output() for v in node.outputs):
            continue
        inputs = [v for v in node.inputs if v is not None]
        node.graph.remove(node, safe=True)
        waiting += inputs
