"""A network whose parameters are inputs of one ONNX Runtime session, so that a run takes only the tensors that change.

Writing a whole model for each change of its parameters costs far more than running it. Here it is written once, and
later changes are encoded as `backends.onnx.write` encodes them and passed as inputs. `HeldNetwork.matches` proves that
this is the network of a model in which the changes are written.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir
from google.protobuf.message import EncodeError
from onnx_ir.serde import SerdeError

from ..backends.values import checked, same_bytes
from ..backends.write_plan import plan_write
from ..ir import Parameter, ParameterGraph
from .processes import Feeds, Runner
from .worker import Outputs

__all__ = ["HeldNetwork"]

_T = onnx_ir.DataType
_INPUTS = {
    *(_T.FLOAT16, _T.FLOAT, _T.DOUBLE),
    *(_T.INT8, _T.INT16, _T.INT32, _T.INT64, _T.UINT8, _T.UINT16, _T.UINT32, _T.UINT64),
}
"""Element types that ONNX Runtime takes as NumPy arrays."""


class HeldNetwork:
    """A written model in one session of a runner, with its stored parameters as inputs.

    Args:
        graph: The graph.
        values: The values that were written, by parameter; those of all parameters on edges.
        written: The model with these values, serialised or as a path.
        runner: What runs it.

    Raises:
        NotRunnable: ONNX Runtime does not take the parameters as inputs.
        ValueError: The model is too large to be serialised without them.
    """

    def __init__(
        self, graph: ParameterGraph, values: Mapping[str, np.ndarray], written: bytes | Path, runner: Runner
    ) -> None:
        self._runner = runner
        names = {n for n, p in graph.parameters.items() if p.origin == "initializer"}
        self._names = names & _settable(graph, values)
        self._source, self._stored = _divided(written, self._names)
        parameters = {n: _at(p, values, self._stored) for n, p in graph.parameters.items()}
        self._graph = replace(graph, parameters=parameters)
        self._hold()

    def run(self, changes: Mapping[str, np.ndarray], feeds: Feeds) -> list[Outputs] | None:
        """Run with changed parameters.

        Args:
            changes: New values by parameter; others keep those that were written.
            feeds: Arrays by input name, for each run.

        Returns:
            The outputs of each run; None if what changes is no input.

        Raises:
            NotRunnable: The model does not run.
        """
        tensors = self._encoded(changes)
        if tensors is None:
            return None
        if self._runner.holder is not self:
            self._hold()
        return self._runner.run_held(tensors, feeds)

    def matches(self, changes: Mapping[str, np.ndarray], written: bytes | Path) -> bool:
        """Whether a model in which these changes are written consists of the same bytes as what `run` runs.

        Args:
            changes: As for `run`.
            written: The model, serialised or as a path.
        """
        tensors = self._encoded(changes)
        if tensors is None:
            return True
        source, stored = _divided(written, self._names)
        ours = {**self._stored, **tensors}
        return (
            source == self._source
            and stored.keys() == ours.keys()
            and all(a.dtype == ours[n].dtype and same_bytes(a, ours[n]) for n, a in stored.items())
        )

    def _encoded(self, changes: Mapping[str, np.ndarray]) -> dict[str, np.ndarray] | None:
        """The stored tensors that these changes replace, as they are written; None if one of them is no input."""
        parameters = self._graph.parameters
        new = {n: checked(parameters[n], v) for n, v in changes.items()}
        plan = plan_write(self._graph, new, rounded=True)
        tensors = {p.name: array for p, array in plan.tensors}
        if plan.floats or not tensors.keys() <= self._stored.keys():
            return None
        return {n: array.reshape(self._stored[n].shape) for n, array in tensors.items()}

    def _hold(self) -> None:
        self._runner.hold(self._source, self._stored, self)


def _divided(written: bytes | Path, names: set[str]) -> tuple[bytes, dict[str, np.ndarray]]:
    """A model without these tensors, which become inputs, and the tensors.

    Raises `ValueError` if that is too large, or holds what onnx-ir does not read (sparse tensors of nodes).
    """
    try:
        if isinstance(written, bytes):
            model = onnx_ir.from_proto(onnx.load_from_string(written))
        else:
            model = onnx_ir.load(written)
    except SerdeError as error:
        raise ValueError("onnx-ir does not read it") from error
    tensors = _take(model, names)
    onnx_ir.external_data.load_to_model(model)
    try:
        return onnx_ir.to_proto(model).SerializeToString(deterministic=True), tensors
    except EncodeError as error:
        raise ValueError("too large to be serialised") from error


def _settable(graph: ParameterGraph, values: Mapping[str, np.ndarray]) -> set[str]:
    """The parameters that have values, and those whose scale or zero point has."""
    return {
        n
        for n, p in graph.parameters.items()
        if n in values or (p.storage is not None and not values.keys().isdisjoint(p.storage.quant_params))
    }


def _at(parameter: Parameter, values: Mapping[str, np.ndarray], stored: Mapping[str, np.ndarray]) -> Parameter:
    """The parameter with the values that were written as its present ones."""
    name, storage = parameter.name, parameter.storage
    if storage is not None and name in stored:
        old, shape = stored[name], storage.load().shape
        storage = replace(storage, load=lambda: old.reshape(shape))
    if name not in values:
        return replace(parameter, storage=storage)
    new = values[name]
    return replace(parameter, load=lambda: new, storage=storage)


def _take(model: onnx_ir.Model, names: set[str]) -> dict[str, np.ndarray]:
    """Turn initializers and Constant nodes of the main graph into inputs, in place; returns their tensors.

    Names that occur more than once, outputs of the graph and element types that NumPy lacks are left alone.
    """
    graph = model.graph
    inside = Counter(v.name for g in model.graphs() for v in (*g.initializers.values(), *g.inputs))
    inside.update(v.name for g in model.graphs() for node in g for v in node.outputs)
    inside.subtract(v.name for v in graph.inputs if v.name in graph.initializers)
    kept = {v.name for v in graph.outputs}
    taken: dict[str, np.ndarray] = {}

    def fits(name: str | None, dtype: onnx_ir.DataType) -> bool:
        return name in names and name not in kept and inside[name] == 1 and dtype in _INPUTS

    for name, value in list(graph.initializers.items()):
        tensor = value.const_value
        if tensor is not None and fits(name, tensor.dtype):
            taken[name] = np.array(tensor.numpy(), order="C")
            del graph.initializers[name]
            _declare(graph, value, tensor)
    for node in list(graph):
        attribute = node.attributes.get("value") if node.op_type == "Constant" else None
        if attribute is not None and fits(node.outputs[0].name, attribute.as_tensor().dtype):
            constant = attribute.as_tensor()
            name = str(node.outputs[0].name)
            taken[name] = np.array(constant.numpy(), order="C")
            value = onnx_ir.Value(name=name)
            node.outputs[0].replace_all_uses_with(value)
            graph.remove(node, safe=True)
            _declare(graph, value, constant)
    return taken


def _declare(graph: onnx_ir.Graph, value: onnx_ir.Value, tensor: Any) -> None:
    value.const_value = None
    value.type, value.shape = onnx_ir.TensorType(tensor.dtype), onnx_ir.Shape(tensor.shape)
    if value not in graph.inputs:
        graph.inputs.append(value)
