"""Bodies of control flow spliced into the main graph: nodes moved or copied under free names."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir

from .order import walk
from .shapes import Known

__all__ = ["Splicer", "origin"]


class Splicer:
    """Moves bodies into `graph` and makes nodes there.

    known: shapes and data of values. misfits: branches that cannot run on these shapes.
    """

    def __init__(self, graph: ir.Graph, known: Mapping[ir.Value, Known], misfits: set[ir.Graph]) -> None:
        self.graph = graph
        self.known = known
        self.misfits = misfits
        self.loops = sum(node.op_type == "LoopEnd" for node in graph)
        self._names = {v.name for v in (*graph.inputs, *graph.initializers.values())}
        self._names.update(o.name for node in graph for o in node.outputs)
        self._nodes = {node.name for node in walk(graph)}

    def data(self, value: ir.Value | None) -> np.ndarray | None:
        """The numbers of a value, where they are known."""
        entry = None if value is None else self.known.get(value)
        return None if entry is None else entry.data

    def number(self, value: ir.Value | None) -> int | None:
        """The one whole number that a value is, where it is known."""
        data = self.data(value)
        return None if data is None or data.size != 1 else int(data.reshape(-1)[0])

    def move(self, body: ir.Graph, before: ir.Node) -> None:
        """The nodes of a body, in their order, into the graph; its inputs must be replaced already."""
        nodes = list(body)
        body.outputs.clear()
        body.remove(nodes)
        for node in nodes:
            node.name = self._free(node.name or node.op_type, self._nodes)
            for output in node.outputs:
                output.name = output.name and self._free(output.name, self._names)
        self.graph.insert_before(before, nodes)

    def add(
        self, before: ir.Node, op: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None,
        outputs: Sequence[str] = (), domain: str = "",
    ) -> Sequence[ir.Value]:  # fmt: skip
        """A new node before another one; its outputs, named `outputs` or after that node."""
        stem = before.name or before.op_type
        count = max(len(outputs), 1)
        values = [ir.Value(name=n if n or outputs else self._free(f"{stem}.{op.lower()}", self._names))
                  for n in (outputs or [""] * count)]  # fmt: skip
        node = ir.Node(
            domain, op, inputs, ir.convenience.convert_attributes(attributes or {}), outputs=values,
            name=self._free(f"{stem}.{op.lower()}", self._nodes),
        )  # fmt: skip
        node.metadata_props.update(before.metadata_props)
        self.graph.insert_before(before, node)
        return values

    def literal(self, stem: str, numbers: np.ndarray) -> ir.Value:
        """A constant of whole numbers, as an initializer of the main graph."""
        name = self._free(stem, self._names)
        tensor = ir.tensor(numbers, name=name)
        value = ir.Value(name=name, shape=ir.Shape(numbers.shape), type=ir.TensorType(tensor.dtype), const_value=tensor)
        self.graph.register_initializer(value)
        return value

    def deliver(self, node: ir.Node, index: int, value: ir.Value) -> None:
        """`value` is the output `index` of `node`, under that output's name."""
        output = node.outputs[index]
        if not output.name:
            return
        name, output.name = output.name, f"{output.name}.replaced"
        [same] = self.add(node, "Identity", [value], outputs=[name])
        same.type, same.shape = output.type, output.shape
        output.replace_all_uses_with(same, replace_graph_outputs=True)

    def _free(self, stem: str, taken: set[str | None]) -> str:
        name, number = stem, 1
        while name in taken:
            name, number = f"{stem}_{number}", number + 1
        taken.add(name)
        return name


def origin(value: ir.Value) -> ir.Value:
    """The value that Identity nodes hand on."""
    while (node := value.producer()) is not None and node.op_type == "Identity" and not node.domain:
        source = node.inputs[0]
        if source is None:
            break
        value = source
    return value
