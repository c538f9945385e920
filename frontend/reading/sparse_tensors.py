"""Expands sparse tensors (initializers and Constants) into nodes that scatter their values into zeros.

The tensor of values keeps the name and is the parameter; readers of the sparse tensor read `<name>/dense` instead.
The nodes are standard operators (ConstantOfShape and ScatterND, opset 11), so the expanded model still runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ...ir import LoadError
from ...ir.arrays import distinct
from ..budget import MAX_INDEXED_ELEMENTS, MAX_SPARSE_TENSORS

__all__ = ["expand_sparse", "is_sparse"]

_OPSET = 11
_NUMBERS = set(helper.get_all_tensor_dtypes()) - {onnx.TensorProto.STRING, onnx.TensorProto.UNDEFINED}
_SPARSE = onnx.AttributeProto.SPARSE_TENSOR


def is_sparse(proto: onnx.ModelProto) -> bool:
    """Whether the model holds a sparse tensor."""
    return _any(proto.graph) or any(_constants(f.node) for f in proto.functions)


def expand_sparse(proto: onnx.ModelProto, where: str) -> onnx.ModelProto:
    """The model with its sparse tensors expanded: a copy if it has any, else the model itself.

    Args:
        proto: The model.
        where: Its name in messages.

    Raises:
        LoadError: Values, indices and shape do not fit together, there are too many sparse tensors, or the opset is
            older than 11.
    """
    if not is_sparse(proto):
        return proto
    if (count := _count(proto.graph)) > MAX_SPARSE_TENSORS:
        raise LoadError(f"{where}: {count:,} sparse tensors, more than {MAX_SPARSE_TENSORS:,}; store them densely")
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    for imports in (copy.opset_import, *(f.opset_import for f in copy.functions)):
        version = next((o.version for o in imports if o.domain in ("", "ai.onnx")), _OPSET)
        if version < _OPSET:
            raise LoadError(
                f"{where}: sparse tensors need operator set {_OPSET} or later, but the model imports {version}; "
                "store them densely, or convert the model"
            )
    taken = set(_names(copy.graph)) | {n for f in copy.functions for n in _made(f.node)}
    _Writer(where, taken).graph(copy.graph, {})
    for function in copy.functions:
        _Writer(where, taken).nodes(function.node, {}, ())
    return copy


def _any(graph: onnx.GraphProto) -> bool:
    return bool(graph.sparse_initializer) or _constants(graph.node) or any(map(_any, _bodies(graph.node)))


def _count(graph: onnx.GraphProto) -> int:
    return len(graph.sparse_initializer) + sum(map(_count, _bodies(graph.node)))


def _constants(nodes: Iterable[onnx.NodeProto]) -> bool:
    return any(n.op_type == "Constant" and any(a.type == _SPARSE for a in n.attribute) for n in nodes)


def _bodies(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.GraphProto]:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield attribute.g
            yield from attribute.graphs


def _made(nodes: Iterable[onnx.NodeProto]) -> Iterator[str]:
    for node in nodes:
        yield from node.output
    for body in _bodies(nodes):
        yield from _names(body)


def _names(graph: onnx.GraphProto) -> Iterator[str]:
    for values in (graph.input, graph.initializer):
        yield from (v.name for v in values)
    yield from (t.values.name for t in graph.sparse_initializer)
    yield from _made(graph.node)


class _Writer:
    """Expands sparse tensors, graph by graph; `taken` holds all names in use."""

    def __init__(self, where: str, taken: set[str]) -> None:
        self.where = where
        self.taken = taken

    def graph(self, graph: onnx.GraphProto, outer: Mapping[str, str]) -> None:
        """Expand in place; `outer` maps sparse tensors of the enclosing graphs to their new names."""
        own = {v.name for values in (graph.input, graph.initializer) for v in values} | set(_made(graph.node))
        names = {old: new for old, new in outer.items() if old not in own}
        head: list[onnx.NodeProto] = []
        named = {t.name for t in graph.initializer}
        for tensor in graph.sparse_initializer:
            name = tensor.values.name
            if name in named:
                raise LoadError(f"{self.where}: initializer {name!r} is named twice")
            named.add(name)
            graph.initializer.append(tensor.values)
            names[name] = self._scatter(name, tensor, head)
        sparse = {t.values.name for t in graph.sparse_initializer}
        inputs = [v for v in graph.input if v.name not in sparse]
        if len(inputs) < len(graph.input):
            del graph.input[:]
            graph.input.extend(inputs)
        del graph.sparse_initializer[:]
        names = self.nodes(graph.node, names, head)
        for value in graph.output:
            if value.name in names:
                raise LoadError(
                    f"{self.where}: the sparse tensor {value.name!r} is an output of its graph; store it densely"
                )

    def nodes(self, nodes: Any, names: Mapping[str, str], head: Iterable[onnx.NodeProto]) -> dict[str, str]:
        """Expand Constants among the nodes, in place, and prepend `head`; returns `names` with those of Constants."""
        names, out = dict(names), list(head)
        for node in nodes:
            if not node.input and node.output and _constants((node,)):
                name, (attribute, *more) = node.output[0], node.attribute
                if more:
                    raise self._invalid(name, "its node has other attributes too")
                made: list[onnx.NodeProto] = []
                names[name] = self._scatter(name, attribute.sparse_tensor, made)
                values = helper.make_node("Constant", [], [name], node.name, value=attribute.sparse_tensor.values)
                out += [values, *made]
                continue
            for place, name in enumerate(node.input):
                node.input[place] = names.get(name, name)
            for body in _bodies((node,)):
                self.graph(body, names)
            out.append(node)
        kept = [_copied(n) for n in out]
        del nodes[:]
        nodes.extend(kept)
        return names

    def _scatter(self, name: str, tensor: onnx.SparseTensorProto, out: list[onnx.NodeProto]) -> str:
        """Append the nodes that scatter the values; returns the name of the dense result."""
        indices = self._indices(name, tensor)
        kind = helper.tensor_dtype_to_np_dtype(tensor.values.data_type)
        zero = onnx.TensorProto(data_type=tensor.values.data_type, dims=[1], raw_data=bytes(kind.itemsize))
        shape, zeros, places, dense = (self._fresh(f"{name}/{part}") for part in ("shape", "zeros", "places", "dense"))
        out += [
            helper.make_node("Constant", [], [shape], value=numpy_helper.from_array(np.array(tensor.dims, np.int64))),
            helper.make_node("ConstantOfShape", [shape], [zeros], value=zero),
            helper.make_node("Constant", [], [places], value=numpy_helper.from_array(indices)),
            helper.make_node("ScatterND", [zeros, places, name], [dense]),
        ]
        return dense

    def _fresh(self, name: str) -> str:
        stem, number = name, 0
        while name in self.taken:
            number += 1
            name = f"{stem}_{number}"
        self.taken.add(name)
        return name

    def _indices(self, name: str, tensor: onnx.SparseTensorProto) -> np.ndarray:
        """The index of each value, int64 [values, axes]; raises `LoadError` for duplicates."""
        shape, count = tuple(tensor.dims), tuple(tensor.values.dims)
        if not name or not shape or min(shape) < 0 or math.prod(shape) > MAX_INDEXED_ELEMENTS or len(count) != 1:
            raise self._invalid(name, f"its shape {list(shape)}, or the shape {list(count)} of its values, is invalid")
        if tensor.values.data_type not in _NUMBERS:
            raise self._invalid(name, "its values are not numbers")
        outside = tensor.indices.external_data or tensor.indices.data_location == onnx.TensorProto.EXTERNAL
        if tensor.indices.data_type != onnx.TensorProto.INT64 or outside:
            raise self._invalid(name, "its indices are not 64-bit integers stored in the model")
        try:
            places = numpy_helper.to_array(tensor.indices)
            if places.ndim == 1:
                places = np.stack(np.unravel_index(places, shape), axis=-1) if len(places) else places[:, None]
            places = places.reshape(count[0], len(shape)).astype(np.int64)
            flat = np.ravel_multi_index(tuple(places.T), shape) if places.size else places.reshape(-1)
        except ValueError as error:
            raise self._invalid(name, f"its indices do not fit: {error}") from error
        if len(distinct(flat)) < len(flat):
            raise self._invalid(name, "two values have the same index")
        return places

    def _invalid(self, name: str, reason: str) -> LoadError:
        return LoadError(f"{self.where}: sparse tensor {name!r}: {reason}; store it densely, or export the model again")


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    return copy
