"""A model beside its parameter graph: which nodes every entry of every value belongs to."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from ..ir import ParameterGraph
from .compile import Labels, build, load_model, resolve_registry
from .faults import errors_in_file
from .inference.shapes import ValueInfo, infer
from .interpret import rule_lookup
from .model.gc_pause import paused
from .passes import prepare
from .primitives.labels import nodes_of
from .rewriting.normalise import normalise
from .rules.registry import Registry

__all__ = ["LabelledModel", "label_values"]


@dataclass(frozen=True, slots=True, eq=False)
class LabelledModel:
    """A model, its parameter graph, and the nodes of its values.

    Attributes:
        graph: The parameter graph.
        model: The normalised model: functions inlined, constants in initializers, all values named.
        known: Shape, dtype and known data of its values.
        nodes: For values by name, arrays of node ids, broadcastable to the value's shape, -1 where there is none; one
            array per independent axis of neurons. Values that the rewriting passes replace are left out.
    """

    graph: ParameterGraph
    model: onnx_ir.Model
    known: Mapping[onnx_ir.Value, ValueInfo]
    nodes: Mapping[str, tuple[np.ndarray, ...]]


def label_values(
    source: str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model,
    *,
    dims: Mapping[str, int] | None = None,
    inputs: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
) -> LabelledModel:
    """Lower a model, and say which nodes of the graph the entries of its values belong to.

    Args:
        source: A path, a `ModelProto` or an `onnx_ir.Model`.
        dims: Sizes of symbolic dimensions by name.
        inputs: Shapes of graph inputs by name.
        registry: Rules to use instead of the installed ones.

    Returns:
        The labelled model.

    Raises:
        LoadError: The source is not a usable model.
        LoweringError: It cannot be lowered.
    """
    rules, labels = resolve_registry(registry), Labels()
    model, name, where = load_model(source, dims or {}, inputs or {})
    with errors_in_file(where), paused():
        network, known = prepare(model, dims or {}, inputs or {}, rules)
        graph = build(model, name, network, known, "opaque", rules, labels)
        plain = normalise(model)
        shapes = infer(plain, dims, inputs, rule_lookup(rules, plain))
    by_name = {v.name: k.shape for v, k in known.items()}
    agree = {v.name for v, k in shapes.items() if by_name.get(v.name) == k.shape}
    nodes = {name: tuple(map(nodes_of, found)) for name, found in labels.items() if name in agree}
    return LabelledModel(graph, plain, shapes, nodes)
