"""Random inputs that a network can take and answers to: shapes that lowering chose, values that their uses ask for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from ..backends.values import dtype_of
from ..frontend import Registry
from ..frontend.budget import DRAWN, elements
from ..frontend.compile import opened, ruled
from ..frontend.errors import SMALLER
from ..frontend.faults import of_file
from ..frontend.inference.shapes import ValueInfo, infer
from ..frontend.interpret import finder
from ..frontend.rewriting.normalise import normalise
from ..ir import EdgeRole, GmncError, ParameterGraph
from .processes import NotRunnable
from .uses import Uses, uses_of

__all__ = [
    "STYLES", "InputSpec", "Network", "Style", "around_splits", "draw", "input_specs", "is_large", "random_inputs",
    "read",
]  # fmt: skip

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model

_NUMBERS = 4
_BYTES = 256
_RARE = 0.1
_MANY, _FEW, _SMALL = 256, 16, 4096


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input, and what its values are drawn from.

    dtype: NumPy's name or "string". Integers are drawn from low .. high - 1, or from `choices`, the numbers that the
    network compares them with (now and then, if they index a table too). Floats are normal, with mean `shift` and
    deviation `scale`, or positive.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    high: int = _NUMBERS
    low: int = 0
    choices: tuple[int, ...] = ()
    mask: bool = False
    shift: float = 0.0
    scale: float = 1.0
    positive: bool = False


@dataclass(frozen=True, slots=True)
class Style:
    """A way to draw. high: a limit of integers. ones: masks let all pass. positive: all floats. spread: of floats."""

    high: int | None = None
    ones: bool = False
    positive: bool = False
    spread: float = 1.0


STYLES = (
    Style(),
    Style(ones=True, positive=True),
    Style(high=2, spread=0.1),
    Style(high=1, positive=True, spread=10.0),
)
"""Tried in this order, until the network runs and its outputs react to the parameters."""


@dataclass(frozen=True, slots=True)
class Network:
    """A normalised model, and what is known of its values before it runs."""

    model: onnx_ir.Model
    known: Mapping[onnx_ir.Value, ValueInfo]


def read(
    model: Source,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
) -> Network:
    """The model as `gmnc.compile` reads it. dims, shapes, registry: its options `dims`, `inputs`, `registry`."""
    rules = ruled(registry)
    source, _, where = opened(model, dims or {}, shapes or {})
    with of_file(where):
        network = normalise(source)
        return Network(network, infer(network, dims, shapes, finder(rules, network)))


def input_specs(
    model: Source | Network,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
) -> list[InputSpec]:
    """What `gmnc.compile` takes the inputs to be; arguments as of `read`.

    Integers that index a table stay within it, whatever is added to them before; lengths stay within the axis that
    they are lengths of; masks are 0 or 1; others are below 4, and bytes that become numbers below 256. Floats have the
    mean and the scale that a normalisation in front of the network expects.
    Raises `GmncError` for an input that is no tensor.
    """
    network = model if isinstance(model, Network) else read(model, dims, shapes, registry)
    specs = []
    for value in network.model.graph.inputs:
        entry = network.known[value]
        if not entry.dtype:
            raise GmncError(f"input {value.name!r} is no tensor: its values cannot be drawn")
        specs.append(_spec(value.name or "", entry, uses_of(value, network.known)))
    return specs


def is_large(spec: InputSpec) -> bool:
    """Whether an input is too large to be drawn."""
    return elements(spec.shape) > DRAWN


def draw(specs: list[InputSpec], rng: np.random.Generator, style: Style = STYLES[0]) -> dict[str, np.ndarray]:
    """One array per input; raises `NotRunnable` where these would be too large."""
    for spec in specs:
        if is_large(spec):
            raise NotRunnable(
                f"input {spec.name!r} of shape {list(spec.shape)} has more than {DRAWN:,} entries, the most that are "
                f"drawn; {SMALLER}, or give an array with --inputs FILE.npz"
            )
    return {s.name: _array(s, rng, style) for s in specs}


def around_splits(
    graph: ParameterGraph, feed: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """More feeds for networks with decision trees, which are constant almost everywhere; none for others.

    Features that trees look at lie around what they are compared with; other floats are small and large.
    """
    blocks = [b for b in graph.edges if b.role in (EdgeRole.THRESHOLD, EdgeRole.MEMBER)]
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
    model: Source,
    seed: int = 0,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
) -> dict[str, np.ndarray]:
    """Random arrays for every input of a model, of the shapes that `gmnc.compile` takes."""
    return draw(input_specs(model, dims, shapes), np.random.default_rng(seed))


def _spec(name: str, entry: ValueInfo, uses: Uses) -> InputSpec:
    low, high = uses.range or (0, 0)
    free = high <= low and not uses.lengths
    mask = free and (uses.closing or (uses.mask and "float" not in entry.dtype))
    if high <= low and uses.lengths:
        low, high = 1, 1 + min(uses.lengths)
    elif high <= low:
        low, high = 0, 2 if mask else _BYTES if uses.numbers and entry.dtype == "uint8" else _NUMBERS
    return InputSpec(
        name, entry.shape, entry.dtype, high, low, tuple(sorted(uses.choices)), mask, uses.shift, uses.scale,
        uses.positive,
    )  # fmt: skip


def _array(spec: InputSpec, rng: np.random.Generator, style: Style) -> np.ndarray:
    if spec.dtype == "string":
        return rng.choice(np.array(["a", "b"], dtype=object), spec.shape)
    dtype = dtype_of(spec.dtype)
    if dtype == np.bool_:
        return np.ones(spec.shape, np.bool_) if style.ones else np.asarray(rng.random(spec.shape) < 0.75)
    if dtype.kind in "iu":
        return _integers(spec, rng, style).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(spec.shape) + 1j * rng.standard_normal(spec.shape)).astype(dtype)
    if spec.mask:
        return np.ones(spec.shape, dtype) if style.ones else (rng.random(spec.shape) < 0.75).astype(dtype)
    values = spec.shift + spec.scale * style.spread * rng.standard_normal(spec.shape)
    return np.asarray(np.abs(values) if spec.positive or style.positive else values).astype(dtype)


def _integers(spec: InputSpec, rng: np.random.Generator, style: Style) -> np.ndarray:
    if spec.mask and style.ones:
        return np.ones(spec.shape, np.int64)
    high = spec.high if style.high is None else min(spec.low + style.high, spec.high)
    values = np.asarray(rng.integers(spec.low, max(high, spec.low + 1), spec.shape))
    if not spec.choices or spec.mask:
        return values
    indexing = (spec.low, spec.high) != (0, _NUMBERS)
    chosen = rng.choice(np.array(spec.choices), spec.shape)
    allowed = (chosen >= spec.low) & (chosen < spec.high) if indexing else True
    return np.where((rng.random(spec.shape) < (_RARE if indexing else 1.0)) & allowed, chosen, values)
