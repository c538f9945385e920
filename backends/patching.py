"""Set values in a ModelProto: initializers, Constant nodes, attributes, or a constant in place of a computation."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnx_ir

from ..ir import GmncError, Parameter
from .values import same_bytes

__all__ = ["Patcher", "tensors"]

_PAYLOAD = ("raw_data", "float_data", "int32_data", "int64_data", "double_data", "uint64_data", "string_data")


_Holder = onnx.TensorProto | onnx.AttributeProto


@dataclass(frozen=True, slots=True)
class _Scope:
    """A graph and its enclosing graphs."""

    graph: onnx.GraphProto
    parent: _Scope | None


class Patcher:
    """Sets values in a model, in place.

    Attributes:
        proto: The model.
        external: (tensor, new bytes) of every changed tensor with external data, whose entry is not updated.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        self.proto = proto
        self.external: list[tuple[onnx.TensorProto, bytes]] = []
        self._scopes = list(_scopes(proto.graph, None))
        self._holders: dict[str, list[_Holder]] = defaultdict(list)
        for scope in self._scopes:
            for name, holder in _named(scope.graph):
                self._holders[name].append(holder)

    def set(self, parameter: Parameter, array: np.ndarray) -> None:
        """Write `array`, of the stored shape and dtype, to where the parameter came from.

        Raises:
            GmncError: The parameter cannot be located in the model.
        """
        if parameter.origin == "attribute" and self._set_attribute(parameter, array):
            return
        if parameter.origin == "initializer":
            holder = self._holder(parameter)
            if isinstance(holder, onnx.TensorProto):
                self._set_tensor(holder, array)
                return
            if holder is not None:
                self._set_attribute_value(holder, array)
                return
        raise GmncError(
            f"cannot locate {parameter.name!r} in the model: it is in a local function, or its node has no name; "
            "inline the functions and name the nodes before compiling"
        )

    def replace(self, value: str, array: np.ndarray) -> None:
        """Replace the computation of an ONNX value by the constant `array`.

        Raises:
            GmncError: No node of the model, or more than one, computes the value, or it is a graph output.
        """
        if not self._replaced(value, array):
            raise GmncError(
                f"cannot locate {value!r} in the model: it is in a local function; inline the functions before "
                "compiling"
            )

    def internalise(self) -> None:
        """Store the changed external tensors in the model itself."""
        for tensor, data in self.external:
            tensor.ClearField("data_location")
            tensor.ClearField("external_data")
            tensor.raw_data = data
        self.external.clear()

    def _holder(self, parameter: Parameter) -> _Holder | None:
        """The tensor or attribute that holds a parameter; None if not found."""
        found = self._holders.get(parameter.name, [])
        if not found:
            # Normalisation appends a number to a subgraph's name that is already taken.
            stem = re.sub(r"_\d+$", "", parameter.name)
            found = [f for f in self._holders.get(stem, []) if _holds(f, parameter)]
        elif len(found) > 1:
            found = [f for f in found if _holds(f, parameter)]
        if len(found) > 1:
            raise GmncError(f"{len(found)} subgraphs hold a tensor like {parameter.name!r}: rename them first")
        return found[0] if found else None

    def _set_tensor(self, tensor: onnx.TensorProto, array: np.ndarray) -> None:
        data = _bytes(tensor, array)
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            self.external.append((tensor, data))
            return
        for field in _PAYLOAD:
            tensor.ClearField(field)
        tensor.raw_data = data

    def _set_attribute(self, parameter: Parameter, array: np.ndarray) -> bool:
        output, name = parameter.place or ("", "")
        producers = [n for scope in self._scopes for n in scope.graph.node if output and output in n.output]
        found = [a for node in producers for a in node.attribute if a.name == name]
        if len(found) > 1:
            raise GmncError(f"{len(found)} subgraphs compute a value {output!r}: rename them first")
        if found:
            self._set_attribute_value(found[0], array)
        return bool(found)

    def _set_attribute_value(self, attribute: onnx.AttributeProto, array: np.ndarray) -> None:
        kind = attribute.type
        if kind == onnx.AttributeProto.TENSOR:
            self._set_tensor(attribute.t, array)
        elif kind == onnx.AttributeProto.FLOAT:
            attribute.f = float(array.item())
        elif kind == onnx.AttributeProto.INT:
            attribute.i = int(array.item())
        elif kind == onnx.AttributeProto.FLOATS:
            attribute.floats[:] = array.reshape(-1).astype(np.float32).tolist()
        elif kind == onnx.AttributeProto.INTS:
            attribute.ints[:] = array.reshape(-1).tolist()
        else:
            raise GmncError(f"attribute {attribute.name!r} holds no numbers to set")

    def _replaced(self, name: str, array: np.ndarray) -> bool:
        """Replace a value that a node computes by an initializer of the same name; False if no node computes it."""
        producers = [(s, n) for s in self._scopes for n in s.graph.node if name in n.output]
        if not producers:
            return False
        if len(producers) > 1:
            raise GmncError(f"{len(producers)} subgraphs compute a value {name!r}: rename them first")
        scope, node = producers[0]
        graph = scope.graph
        if any(o.name == name for o in graph.output):
            raise GmncError(f"{name!r} is an output of its graph and cannot be replaced by a constant")
        node.output[list(node.output).index(name)] = _fresh(f"{name}.computed", self._scopes)
        _drop(graph.value_info, name)
        graph.initializer.append(onnx_ir.to_proto(onnx_ir.Tensor(array, name=name)))
        self._sweep(scope, node)
        return True

    def _sweep(self, scope: _Scope, node: onnx.NodeProto) -> None:
        """Remove the node if it is dead, and then whatever only it used."""
        uses = _uses(self._scopes)
        pending: list[tuple[_Scope, onnx.NodeProto]] = [(scope, node)]
        while pending:
            scope, node = pending.pop()
            if any(uses[o] for o in node.output):
                continue
            inputs = Counter(i for inner in _scopes_of(node) for n in inner.graph.node for i in n.input) + Counter(
                node.input
            )
            scope.graph.node.remove(node)
            for output in node.output:
                _drop(scope.graph.value_info, output)
            uses -= inputs
            for name in inputs:
                if name and not uses[name]:
                    pending += self._orphan(scope, name)
        self._scopes = list(_scopes(self.proto.graph, None))

    def _orphan(self, scope: _Scope | None, name: str) -> list[tuple[_Scope, onnx.NodeProto]]:
        """The node that computes an unused value, if any; an unused initializer is removed right away."""
        while scope is not None:
            producer = next((n for n in scope.graph.node if name in n.output), None)
            if producer is not None:
                return [(scope, producer)]
            if all(i.name != name for i in scope.graph.input):
                _drop(scope.graph.initializer, name)
                for tensor in [t for t in scope.graph.sparse_initializer if t.values.name == name]:
                    scope.graph.sparse_initializer.remove(tensor)
                _drop(scope.graph.value_info, name)
            scope = scope.parent
        return []


def tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of the model: initializers and attributes, including subgraphs and functions."""
    for scope in _scopes(proto.graph, None):
        yield from scope.graph.initializer
        yield from (t.values for t in scope.graph.sparse_initializer)
        yield from _attribute_tensors(scope.graph.node)
    for function in proto.functions:
        yield from _attribute_tensors(function.node)
        for node in function.node:
            for scope in _scopes_of(node):
                yield from scope.graph.initializer
                yield from _attribute_tensors(scope.graph.node)


def _attribute_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    for node in nodes:
        for attribute in node.attribute:
            if (tensor := _tensor_of(attribute)) is not None:
                yield tensor
            elif attribute.type == onnx.AttributeProto.TENSORS:
                yield from attribute.tensors


def _scopes(graph: onnx.GraphProto, parent: _Scope | None) -> Iterator[_Scope]:
    scope = _Scope(graph, parent)
    yield scope
    for node in graph.node:
        yield from _scopes_of(node, scope)


def _scopes_of(node: onnx.NodeProto, parent: _Scope | None = None) -> Iterator[_Scope]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield from _scopes(attribute.g, parent)
        for graph in attribute.graphs:
            yield from _scopes(graph, parent)


def _uses(scopes: list[_Scope]) -> Counter[str]:
    """How often each name is used in all graphs; equal names in different graphs are counted together."""
    uses: Counter[str] = Counter()
    for scope in scopes:
        for node in scope.graph.node:
            uses.update(node.input)
        uses.update(o.name for o in scope.graph.output)
    return uses


def _fresh(stem: str, scopes: list[_Scope]) -> str:
    taken = {o for s in scopes for n in s.graph.node for o in n.output}
    taken |= {v.name for s in scopes for v in (*s.graph.initializer, *s.graph.input)}
    taken |= {t.values.name for s in scopes for t in s.graph.sparse_initializer}
    name, number = stem, 0
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    return name


def _named(graph: onnx.GraphProto) -> Iterator[tuple[str, _Holder]]:
    """(name, holder) of each initializer and each Constant node."""
    for tensor in (*graph.initializer, *(t.values for t in graph.sparse_initializer)):
        yield tensor.name, tensor
    for node in graph.node:
        if node.op_type == "Constant" and node.output:
            for attribute in node.attribute:
                yield node.output[0], _tensor_of(attribute) or attribute


def _tensor_of(attribute: onnx.AttributeProto) -> onnx.TensorProto | None:
    """The tensor of an attribute, or the values of its sparse tensor; None for other types."""
    if attribute.type == onnx.AttributeProto.SPARSE_TENSOR:
        return attribute.sparse_tensor.values
    return attribute.t if attribute.type == onnx.AttributeProto.TENSOR else None


def _drop(repeated: Any, name: str) -> None:
    """Remove the entries with this name from a repeated field."""
    for entry in [e for e in repeated if e.name == name]:
        repeated.remove(entry)


def _bytes(tensor: onnx.TensorProto, array: np.ndarray) -> bytes:
    return onnx_ir.Tensor(array, dtype=onnx_ir.DataType(tensor.data_type), shape=onnx_ir.Shape(tensor.dims)).tobytes()


def _holds(holder: _Holder, parameter: Parameter) -> bool:
    """Whether the holder has the values of the parameter; of an external tensor only the shape is compared."""
    if isinstance(holder, onnx.AttributeProto):
        array = np.array(onnx.helper.get_attribute_value(holder))
        return array.shape == parameter.shape and np.array_equal(array.astype(parameter.dtype), parameter.load())
    if tuple(holder.dims) != parameter.shape:
        return False
    if holder.data_location == onnx.TensorProto.EXTERNAL:
        return True
    array, own = onnx_ir.serde.deserialize_tensor(holder).numpy(), parameter.load()
    return array.dtype == own.dtype and same_bytes(array, own)
