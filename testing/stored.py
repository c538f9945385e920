"""Run a model with other initializer values: its initializers become graph inputs of one session."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from .runtime import Arrays
from .worker import run_all, session

__all__ = ["StoredNetwork", "StoredTensor", "hoisted"]

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """An initializer, in the flat vector of all of them.

    Attributes:
        name: Its name.
        shape: Its shape.
        start: Index of its first element; the others follow in C order.
        dtype: Its dtype.
    """

    name: str
    shape: tuple[int, ...]
    start: int
    dtype: np.dtype = field(default_factory=lambda: np.dtype(np.float32))

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def indices(self) -> np.ndarray:
        """Indices of its elements in the flat vector, int64 of its shape."""
        return np.arange(self.start, self.start + self.size).reshape(self.shape)


class StoredNetwork:
    """A model whose float initializers take any values.

    It is independent of how gmnc reads the model: ONNX Runtime computes whatever the file computes from initializers.

    Args:
        model: The model.
        fixed: Names of initializers that keep their values.

    Attributes:
        tensors: The float initializers of the main graph with more than one element, except the fixed ones.
        own: Their present values, float64 [elements].
    """

    def __init__(self, model: onnx.ModelProto, fixed: frozenset[str] = frozenset()) -> None:
        self._model = onnx.ModelProto()
        self._model.CopyFrom(model)
        stored = {t.name: t for t in self._model.graph.initializer if t.name not in fixed and _varies(t)}
        self.tensors = _placed(stored)
        arrays = [numpy_helper.to_array(stored[t.name]).astype(np.float64).reshape(-1) for t in self.tensors]
        self.own = np.concatenate(arrays) if arrays else np.zeros(0)
        self._session = self._with_inputs(stored)

    def run(self, values: np.ndarray, feeds: Mapping[str, np.ndarray]) -> Arrays:
        """Run with these values (laid out as `own`); raises what ONNX Runtime raises."""
        given = {t.name: values[t.indices].astype(t.dtype) for t in self.tensors}
        if self._session is not None:
            return _outputs(self._session, {**feeds, **given})
        return _outputs(session(self._written(given).SerializeToString()), feeds)

    def _with_inputs(self, stored: Mapping[str, TensorProto]) -> onnxruntime.InferenceSession | None:
        """A session with the tensors as inputs; None if an operator requires constants."""
        model = onnx.ModelProto()
        model.CopyFrom(self._model)
        declared = {v.name for v in model.graph.input}
        rest = [t for t in model.graph.initializer if t.name not in stored]
        del model.graph.initializer[:]
        model.graph.initializer.extend(rest)
        for name, tensor in stored.items():
            if name not in declared:
                model.graph.input.append(helper.make_tensor_value_info(name, tensor.data_type, list(tensor.dims)))
        try:
            return session(model.SerializeToString())
        except Exception:
            return None

    def _written(self, given: Mapping[str, np.ndarray]) -> onnx.ModelProto:
        for tensor in self._model.graph.initializer:
            if tensor.name in given:
                tensor.CopyFrom(numpy_helper.from_array(given[tensor.name], tensor.name))
        return self._model


def hoisted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Copy a model, moving every stored tensor to the initializers of the main graph.

    Constant nodes become initializers, except scalar ones, which are literals of the program; initializers of bodies
    are moved out, unless two bodies use the same name.
    """
    new = onnx.ModelProto()
    new.CopyFrom(model)
    names = Counter(n for graph in _graphs(new.graph) for n in _defined(graph))
    moved = [t for graph in _graphs(new.graph) for t in _taken(graph, graph is new.graph, names)]
    new.graph.initializer.extend(moved)
    return new


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _graphs(attribute.g)


def _defined(graph: onnx.GraphProto) -> Iterator[str]:
    yield from (t.name for t in graph.initializer)
    yield from (name for node in graph.node for name in node.output)
    yield from (v.name for v in graph.input)


def _taken(graph: onnx.GraphProto, main: bool, names: Counter[str]) -> list[TensorProto]:
    """Remove and return the tensors of Constant nodes and, outside of the main graph, the initializers."""
    shown = {v.name for v in graph.output}
    taken: list[TensorProto] = []
    nodes: list[onnx.NodeProto] = []
    left: list[TensorProto] = []
    for node in graph.node:
        held = [a.t for a in node.attribute if a.name == "value" and node.op_type == "Constant" and a.t.dims]
        if held and names[node.output[0]] == 1 and node.output[0] not in shown:
            taken.append(TensorProto())
            taken[-1].CopyFrom(held[0])
            taken[-1].name = node.output[0]
        else:
            nodes.append(node)
    for tensor in graph.initializer if not main else ():
        out = taken if names[tensor.name] == 1 and tensor.name not in shown else left
        out.append(TensorProto())
        out[-1].CopyFrom(tensor)
    if not main:
        _replace(graph.initializer, left)
    _replace(graph.node, nodes)
    return taken


def _replace(field: Any, items: list[Any]) -> None:
    kept = [type(item)() for item in items]
    for new, item in zip(kept, items, strict=True):
        new.CopyFrom(item)
    del field[:]
    field.extend(kept)


def _varies(tensor: TensorProto) -> bool:
    return tensor.data_type in _FLOATS and math.prod(tensor.dims) > 1


def _placed(stored: Mapping[str, TensorProto]) -> list[StoredTensor]:
    found, start = [], 0
    for name, tensor in stored.items():
        dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
        found.append(StoredTensor(name, tuple(tensor.dims), start, dtype))
        start += found[-1].size
    return found


def _outputs(running: onnxruntime.InferenceSession, feeds: Mapping[str, np.ndarray]) -> Arrays:
    needed = {i.name for i in running.get_inputs()}
    return run_all(running, [{n: v for n, v in feeds.items() if n in needed}])[0]
