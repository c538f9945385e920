"""Normalisation: copies the model into a form with fewer cases, with all parameters unchanged.

It inlines local functions, turns constants (nodes of any kind, initializers of subgraphs) and attributes that hold
parameters (see `attribute_weights`) into initializers of the main graph, removes initializers from the graph inputs,
sorts the nodes, removes dead ones, and names every node and value. It never merges, renames, folds or drops parameters;
unused initializers stay.

onnx-ir's passes would change parameters: where names collide, LiftSubgraphInitializersToMainGraphPass and NameFixPass
rename tensors that the caller's model shares, LiftConstantsToInitializersPass leaves constants that are outputs, and
RemoveUnusedNodesPass drops initializers and optional outputs that nothing reads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx_ir

from ...ir import LoadError
from ...ir.errors import root_cause
from ..model.attribute_weights import parameters
from ..model.gc_pause import paused
from ..model.keys import ATTRIBUTE, CONSTANT, DOMAIN, FUNCTION, LEARNED, PARAMETERS, SYNTHETIC
from ..model.opsets import import_alike
from ..model.traversal import Reads, every_node, reads, subgraphs, topological
from .calls import check_calls
from .inlining import Inliner

__all__ = ["constant_tensor", "normalise"]

_SIGNATURE = "pkg.torch.export.graph_signature.InputSpec.kind"


def normalise(model: onnx_ir.Model, keep: Callable[[onnx_ir.Function], bool] = lambda function: False) -> onnx_ir.Model:
    """A normalised copy, which shares tensors, types and shapes with `model`; that is not modified.

    Initializers that were Constant nodes get `CONSTANT` in their `meta`. If torch.onnx lists parameters and buffers,
    these get `LEARNED` and all other initializers `CONSTANT`. An initializer of a subgraph keeps its name unless the
    main graph has one of that name (then "_1", "_2", ... is appended).
    keep: local functions that are not inlined.
    Raises `LoadError` if local functions are recursive, would exceed the budget, or import opset versions in which
    their operators differ.
    """
    with paused():
        inlined = bool(model.functions)
        if inlined:
            called = check_calls(model, keep)
            try:
                model = model.clone()
                for identifier in model.functions.keys() - called:
                    # InlinePass would also inline calls within these.
                    del model.functions[identifier]
                import_alike(model, keep)
                for function in model.functions.values():
                    for node in function.all_nodes():
                        node.metadata_props[FUNCTION] = f"{function.domain}::{function.name}"
                model = Inliner()(model).model
            except (MemoryError, RecursionError):
                raise
            except Exception as error:
                raise LoadError(f"the model's functions cannot be inlined: {root_cause(error)}") from error
        copier = _Copier(model.graph, share=inlined)
        graph = copier.main()
        return onnx_ir.Model(
            graph,
            ir_version=model.ir_version,
            producer_name=model.producer_name,
            producer_version=model.producer_version,
            domain=model.domain,
            model_version=model.model_version,
            doc_string=model.doc_string,
            metadata_props=dict(model.metadata_props),
        )


class _Copier:
    """Copies one main graph with its subgraphs; `made` maps each value to its copy.

    share: whether constants with the same tensor object become one initializer, so that a function that is called twice
    has its weights once.
    """

    def __init__(self, graph: onnx_ir.Graph, share: bool) -> None:
        self.graph = graph
        self.share = share
        self.made: dict[onnx_ir.Value, onnx_ir.Value] = {}
        self.initializers: dict[str, onnx_ir.Value] = {}
        self.by_tensor: dict[int, onnx_ir.Value] = {}
        self.memo: Reads = {}
        self.numbers: dict[str, int] = {}
        self.node_names = {n.name for n in every_node(graph) if n.name}
        self.value_names = {v.name for v in graph.inputs if v.name}
        self.value_names.update(o.name for n in graph for o in n.outputs if o.name)
        self.value_names.update(graph.initializers)

    def main(self) -> onnx_ir.Graph:
        graph = self.graph
        listed = any(_SIGNATURE in v.metadata_props for v in graph.initializers.values())
        for name, value in graph.initializers.items():
            self.made[value] = self.initializers[name] = copy = _value(value)
            if listed:
                kind = value.metadata_props.get(_SIGNATURE)
                copy.meta[LEARNED if kind in ("PARAMETER", "BUFFER") else CONSTANT] = name
        inputs = [self._copy(v) for v in graph.inputs if not v.is_initializer()]
        nodes = self._nodes(graph)
        outputs = [self.made[v] for v in graph.outputs]
        return onnx_ir.Graph(
            inputs, outputs, nodes=nodes, initializers=list(self.initializers.values()), name=graph.name,
            doc_string=graph.doc_string, opset_imports=_opsets(graph.opset_imports),
        )  # fmt: skip

    def _subgraph(self, graph: onnx_ir.Graph) -> onnx_ir.Graph:
        for name, value in graph.initializers.items():
            if not value.is_graph_input():
                self._lift(value, name, value.const_value)
        inputs = [self._copy(v) for v in graph.inputs]
        nodes = self._nodes(graph)
        own = {*inputs, *(o for node in nodes for o in node.outputs)}
        outputs = []
        for value in graph.outputs:
            copy = self.made[value]
            if copy not in own:
                nodes.append(self._identity(copy))
                copy = nodes[-1].outputs[0]
            outputs.append(copy)
        return onnx_ir.Graph(inputs, outputs, nodes=nodes, name=graph.name, opset_imports=dict(graph.opset_imports))

    def _identity(self, value: onnx_ir.Value) -> onnx_ir.Node:
        """An Identity for an outer value that a body returns: a graph cannot return a value of another one."""
        name = self._name(value.name or "value")
        output = onnx_ir.Value(name=name, shape=value.shape, type=value.type)
        return onnx_ir.Node("", "Identity", [value], outputs=[output], name=name)

    def _nodes(self, graph: onnx_ir.Graph) -> list[onnx_ir.Node]:
        order = topological(graph, self.memo)
        for node in order:
            if node.op_type == "Constant" and not node.domain and node.outputs:
                tensor = constant_tensor(node)
                if tensor is not None:
                    self._lift(node.outputs[0], node.outputs[0].name or self._name("constant"), tensor, constant=True)
                    if node.metadata_props.get(FUNCTION, "").startswith(f"{DOMAIN}."):
                        self.made[node.outputs[0]].meta[SYNTHETIC] = True
        live = _live(order, graph.outputs, self.memo)
        for node in order:
            if node not in live:
                self._parameters(node, self._node_name(node))
        return [self._node(node) for node in order if node in live and node.outputs[0] not in self.made]

    def _lift(
        self, value: onnx_ir.Value, name: str, tensor: onnx_ir.TensorProtocol | None, constant: bool = False
    ) -> None:
        known = self.by_tensor.get(id(tensor)) if self.share else None
        if known is not None:
            self.made[value] = known
            return
        original = name
        if constant and value.graph is self.graph:
            pass
        elif name in self.value_names or name in self.initializers:
            name = self._name(name)
        copy = _value(value, name)
        copy.const_value = tensor
        if tensor is not None:
            copy.type = onnx_ir.TensorType(tensor.dtype)
            copy.shape = onnx_ir.Shape(tensor.shape.numpy())
            self.by_tensor[id(tensor)] = copy
        if constant:
            copy.meta[CONSTANT] = original
        self.made[value] = self.initializers[name] = copy

    def _name(self, stem: str) -> str:
        number = self.numbers.get(stem, 1)
        while (name := f"{stem}_{number}") in self.value_names or name in self.initializers:
            number += 1
        self.numbers[stem] = number + 1
        self.value_names.add(name)
        return name

    def _copy(self, value: onnx_ir.Value) -> onnx_ir.Value:
        copy = self.made[value] = _value(value)
        if copy.name is None:
            copy.name = self._name("value")
        return copy

    def _node(self, node: onnx_ir.Node) -> onnx_ir.Node:
        attributes = list(node.attributes.data.values())
        if subgraphs(node):
            attributes = [self._attribute(a) for a in attributes]
        name = self._node_name(node)
        inputs = [None if v is None else self.made[v] for v in node.inputs]
        copy = onnx_ir.Node(
            node.domain, node.op_type, inputs, attributes, overload=node.overload,
            outputs=[self._copy(v) for v in node.outputs], version=node.version, name=name,
            doc_string=node.doc_string, metadata_props=node.metadata_props,
        )  # fmt: skip
        if names := self._parameters(node, name):
            copy.meta[PARAMETERS] = names
        return copy

    def _parameters(self, node: onnx_ir.Node, name: str) -> dict[int, str]:
        """The names of initializers for attributes of a node that hold parameters, by index; created on first use."""
        if PARAMETERS in node.meta:
            known: dict[int, str] = node.meta[PARAMETERS]
            return known
        names = {}
        for place, attribute, tensor in parameters(node):
            full = f"{name}.{attribute}"
            if full in self.value_names or full in self.initializers:
                full = self._name(full)
            kind, shape = onnx_ir.TensorType(tensor.dtype), onnx_ir.Shape(tensor.shape.numpy())
            value = onnx_ir.Value(name=full, shape=shape, type=kind, const_value=tensor)
            value.meta[ATTRIBUTE] = next((o.name for o in node.outputs if o.name), ""), attribute
            self.initializers[full] = value
            names[place] = full
        return names

    def _attribute(self, attribute: onnx_ir.Attr) -> onnx_ir.Attr:
        if attribute.type == onnx_ir.AttributeType.GRAPH:
            return onnx_ir.AttrGraph(attribute.name, self._subgraph(attribute.as_graph()))
        if attribute.type == onnx_ir.AttributeType.GRAPHS:
            return onnx_ir.AttrGraphs(attribute.name, [self._subgraph(g) for g in attribute.as_graphs()])
        return attribute

    def _node_name(self, node: onnx_ir.Node) -> str:
        if node.name:
            return node.name
        number = len(self.node_names)
        while (name := f"{node.op_type}_{number}") in self.node_names:
            number += 1
        self.node_names.add(name)
        return name


def _value(value: onnx_ir.Value, name: str | None = None) -> onnx_ir.Value:
    """A copy, optionally renamed; renaming it afterwards would rename the tensor that both share."""
    copy = onnx_ir.Value(name=name or value.name, shape=value.shape, type=value.type, const_value=value.const_value)
    copy.meta.update({key: value.meta[key] for key in (CONSTANT, LEARNED, ATTRIBUTE, SYNTHETIC) if key in value.meta})
    return copy


def _opsets(imports: Mapping[str, int]) -> dict[str, int]:
    """Opset imports with the default domain under its short name."""
    return {"" if domain == "ai.onnx" else domain: version for domain, version in imports.items()}


def _live(order: list[onnx_ir.Node], outputs: Iterable[onnx_ir.Value], memo: Reads) -> set[onnx_ir.Node]:
    """The nodes that an output needs."""
    needed = set(outputs)
    live: set[onnx_ir.Node] = set()
    for node in reversed(order):
        if not needed.isdisjoint(node.outputs):
            live.add(node)
            needed.update(reads(node, memo))
    return live


def constant_tensor(node: onnx_ir.Node) -> onnx_ir.TensorProtocol | None:
    """The tensor of a Constant node; None if it is sparse or refers to an attribute of a function."""
    for name, attribute in node.attributes.items():
        if attribute.is_ref():
            continue
        if name == "value":
            return attribute.as_tensor()
        if name in ("value_int", "value_ints"):
            return onnx_ir.Tensor(np.array(attribute.value, np.int64), name=node.outputs[0].name)
        if name in ("value_float", "value_floats"):
            return onnx_ir.Tensor(np.array(attribute.value, np.float32), name=node.outputs[0].name)
        if name in ("value_string", "value_strings"):
            texts = [attribute.value] if name == "value_string" else attribute.value
            shape = onnx_ir.Shape([] if name == "value_string" else [len(texts)])
            return onnx_ir.StringTensor([t.encode() for t in texts], shape=shape, name=node.outputs[0].name)
    return None
