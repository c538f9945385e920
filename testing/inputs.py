"""Random inputs that a network can take: the shapes that lowering chose, token ids within their tables."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from ..backends.values import dtype_of
from ..frontend import Registry
from ..frontend.compile import opened, ruled
from ..frontend.faults import of_file
from ..frontend.inference.shapes import Known, infer
from ..frontend.interpret import finder
from ..frontend.normalise import normalise
from ..ir import GmncError, ParameterGraph

__all__ = ["InputSpec", "around_splits", "draw", "input_specs", "random_inputs"]

_INDEXING = {"Gather": 1, "GatherElements": 1, "GatherND": 1}
_MOVING = ("Cast", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze")
_NUMBERS = 4
_MANY, _FEW, _SMALL = 256, 16, 4096


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input. dtype: NumPy's name or "string". high: integers are drawn from 0 .. high - 1."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    high: int = _NUMBERS


def input_specs(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
) -> list[InputSpec]:
    """What `gmnc.compile` takes the inputs to be. dims, shapes, registry: its options `dims`, `inputs`, `registry`.

    Integers that index a table stay within it; those that are compared or cast to numbers (masks) are 0 or 1; others
    are below 4. Raises `GmncError` for an input that is no tensor.
    """
    rules = ruled(registry)
    read, _, where = opened(model, dims or {}, shapes or {})
    with of_file(where):
        network = normalise(read)
        known = infer(network, dims, shapes, finder(rules, network))
    specs = []
    for value in network.graph.inputs:
        entry = known[value]
        if not entry.dtype:
            raise GmncError(f"{where}: input {value.name!r} is no tensor: its values cannot be drawn")
        limits = list(_limits(value, known))
        high = min((n for n in limits if n > 0), default=_NUMBERS)
        specs.append(InputSpec(value.name or "", entry.shape, entry.dtype, high))
    return specs


def draw(specs: list[InputSpec], rng: np.random.Generator, high: int | None = None) -> dict[str, np.ndarray]:
    """One array per input: standard normal, integers below `high` (default: each input's own), booleans."""
    return {s.name: _array(s, rng, s.high if high is None else min(high, s.high)) for s in specs}


def around_splits(
    graph: ParameterGraph, feed: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """More feeds for networks with decision trees, which are constant almost everywhere; none for others.

    Features that trees look at lie around what they are compared with; other floats are small and large.
    """
    blocks = [b for b in graph.edges if b.role in ("threshold", "member")]
    floats = {n: a for n, a in feed.items() if a.dtype.kind == "f"}
    if not blocks or not floats:
        return []
    nodes = np.concatenate([b.src.reshape(-1) for b in blocks])
    values = np.concatenate([np.asarray(graph.values(b), np.float64).reshape(-1) for b in blocks])
    columns = {}
    for port in graph.inputs:
        if (
            port.name in floats
            and floats[port.name].shape[-1:] == port.nodes.shape
            and np.isin(port.nodes, nodes).any()
        ):
            every = (values[(nodes == node) & np.isfinite(values)] for node in port.nodes)
            columns[port.name] = [v if v.size else np.zeros(1) for v in every]
    count = _MANY if sum(a.size for a in floats.values()) < _SMALL else _FEW
    return [
        {**feed, **{n: _near(columns.get(n), a.shape, rng).astype(a.dtype) for n, a in floats.items()}}
        for _ in range(count)
    ]


def _near(columns: list[np.ndarray] | None, shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    if columns is None:
        return np.asarray(rng.standard_normal(shape) * np.exp(rng.standard_normal()))
    near = [rng.choice(c, shape[:-1]) + 0.3 * c.std() * rng.standard_normal(shape[:-1]) for c in columns]
    return np.stack(near, axis=-1)


def random_inputs(
    model: str | os.PathLike[str] | onnx.ModelProto | ir.Model,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, np.ndarray]:
    """Random arrays for every input of a model, of the shapes that `gmnc.compile` takes."""
    return draw(input_specs(model, dims, shapes), np.random.default_rng(seed))


def _array(spec: InputSpec, rng: np.random.Generator, high: int) -> np.ndarray:
    if spec.dtype == "string":
        return rng.choice(np.array(["a", "b"], dtype=object), spec.shape)
    dtype = dtype_of(spec.dtype)
    if dtype == np.bool_:
        return np.asarray(rng.random(spec.shape) < 0.75)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, high, spec.shape)).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(spec.shape) + 1j * rng.standard_normal(spec.shape)).astype(dtype)
    return np.asarray(rng.standard_normal(spec.shape)).astype(dtype)


def _limits(value: ir.Value, known: Mapping[ir.Value, Known]) -> Iterator[int]:
    """One past the largest integers that the uses of a value allow; as far as the value is only moved."""
    seen, queue = {value}, [value]
    while queue:
        here = queue.pop()
        for node, place in here.uses():
            if _INDEXING.get(node.op_type) == place and node.inputs[0] is not None and node.inputs[0] in known:
                axis = node.attributes.get_int("axis", 0)
                yield known[node.inputs[0]].shape[axis]
            elif node.op_type == "OneHot" and place == 0:
                depth = node.inputs[1]
                data = None if depth is None or depth not in known else known[depth].data
                yield _NUMBERS if data is None else int(data.reshape(-1)[0])
            elif node.op_type in ("Equal", "Greater", "Less", "Where", "Not", "Mul", "Sub"):
                yield 2
            elif node.op_type in _MOVING and place == 0:
                new = [v for v in node.outputs if v not in seen]
                seen.update(new)
                queue += new
