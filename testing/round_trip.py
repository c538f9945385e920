"""Check that parameters survive write-back: written, read back, and the original values written again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir

from ..backends import onnx as write_back
from ..backends.values import same_bytes
from ..frontend import compile
from ..ir import GmncError, GraphError, ParameterGraph
from .trial import perturbed_values

__all__ = ["round_trip"]


def round_trip(graph: ParameterGraph, shapes: Mapping[str, Any], options: Mapping[str, Any], seed: int) -> str:
    """What differs after writing new values, reading them back and restoring the old ones; else "bit-exact"."""
    rng = np.random.default_rng(seed)
    own = {n: p.load() for n, p in graph.parameters.items()}
    on_edges = {b.view.name for b in graph.edges if not b.constant}
    new = perturbed_values(graph, {n: v for n, v in own.items() if n in on_edges}, rng)
    try:
        written = write_back.write(graph, new)
        middle = compile(written, inputs=shapes, **options)
        for name, value in new.items():
            parameter = middle.parameters.get(name)
            if parameter is None or not same_bytes(parameter.load(), value):
                return f"{name!r} differs when it is read back"
        again = write_back.write(middle, own)
    except GraphError:
        raise
    except GmncError as error:
        return f"not possible: {error}"
    assert isinstance(graph.model, onnx_ir.Model)
    before, after = _tensors(graph.model), _tensors(again)
    if before.keys() != after.keys():
        return f"{min(before.keys() ^ after.keys())[-1]!r} appears or disappears"
    changed = [n for n in before if not same_bytes(before[n].numpy(), after[n].numpy())]
    return f"{changed[0][-1]!r} changes" if changed else "bit-exact"


def _tensors(model: onnx_ir.Model) -> dict[tuple[str, ...], onnx_ir.TensorProtocol]:
    """Every initializer and tensor attribute, by its location."""
    found: dict[tuple[str, ...], onnx_ir.TensorProtocol] = {}
    for number, graph in enumerate((*model.graphs(), *(f.graph for f in model.functions.values()))):
        for name, value in graph.initializers.items():
            if value.const_value is not None:
                found[str(number), name] = value.const_value
        for place, node in enumerate(graph):
            for attribute in node.attributes.values():
                if attribute.type == onnx_ir.AttributeType.TENSOR and not attribute.is_ref():
                    found[str(number), str(place), node.name or "", attribute.name] = attribute.as_tensor()
    return found
