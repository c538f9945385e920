"""Random inputs for a network: shapes as lowering chose them, values as their uses in the graph require."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir

from ..backends.values import dtype_of
from ..frontend import Registry
from ..frontend.budget import MAX_RANDOM_ELEMENTS, elements
from ..frontend.compile import load_model, resolve_registry
from ..frontend.errors import SMALLER
from ..frontend.faults import errors_in_file
from ..frontend.inference.shapes import ValueInfo, infer
from ..frontend.interpret import rule_lookup
from ..frontend.rewriting.normalise import normalise
from ..ir import EdgeRole, GmncError, ParameterGraph
from .processes import NotRunnable
from .uses import Uses, uses_of

__all__ = [
    "SAMPLINGS",
    "InferredModel",
    "InputSpec",
    "Sampling",
    "around_splits",
    "draw_inputs",
    "infer_model",
    "input_specs",
    "is_large",
    "random_inputs",
]  # fmt: skip

Source = str | os.PathLike[str] | onnx.ModelProto | onnx_ir.Model

_NUMBERS = 4
_BYTES = 256
_RARE = 0.1
_MANY, _FEW, _SMALL = 256, 16, 4096


@dataclass(frozen=True, slots=True)
class InputSpec:
    """A graph input, and the distribution of its values.

    Attributes:
        name: The input.
        shape: Its shape.
        dtype: NumPy's name, or "string".
        high: Integers are below this.
        low: The smallest integer.
        choices: Integers that the network compares the input with. Values are drawn from these; if the input indexes a
            table too, only some of them.
        mask: Whether the values are 0 or 1.
        shift: Mean of floats, which are normally distributed.
        scale: Standard deviation of floats.
        positive: Whether floats are replaced by their absolute values.
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
class Sampling:
    """A way to draw inputs.

    Attributes:
        high: Largest number of distinct integers, from the low end of their range; None for the whole range.
        ones: Draw masks of ones only.
        positive: Draw only positive floats.
        spread: Factor on the standard deviation of floats.
    """

    high: int | None = None
    ones: bool = False
    positive: bool = False
    spread: float = 1.0


SAMPLINGS = (
    Sampling(),
    Sampling(ones=True, positive=True),
    Sampling(high=2, spread=0.1),
    Sampling(high=1, positive=True, spread=10.0),
)
"""Tried in this order until the network runs and its outputs react to the parameters."""


@dataclass(frozen=True, slots=True)
class InferredModel:
    """A normalised model with inferred shapes.

    Attributes:
        model: The model.
        known: Shape, dtype and constant data of each value.
    """

    model: onnx_ir.Model
    known: Mapping[onnx_ir.Value, ValueInfo]


def infer_model(
    model: Source,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
) -> InferredModel:
    """Normalise a model and infer its shapes as `gmnc.compile` does; shapes: its option `inputs`."""
    rules = resolve_registry(registry)
    source, _, where = load_model(model, dims or {}, shapes or {})
    with errors_in_file(where):
        normalised = normalise(source)
        return InferredModel(normalised, infer(normalised, dims, shapes, rule_lookup(rules, normalised)))


def input_specs(
    model: Source | InferredModel,
    dims: Mapping[str, int] | None = None,
    shapes: Mapping[str, tuple[int, ...]] | None = None,
    registry: Registry | None = None,
) -> list[InputSpec]:
    """Derive the distribution of every graph input from its uses.

    Integers that index a table stay within it, arithmetic in between included; lengths stay within their axis; masks
    are 0 or 1; other integers are below 4, and bytes that are used as numbers below 256. Floats have the mean and the
    scale that a leading normalisation expects.

    Args:
        model: A model.
        dims: Sizes of symbolic dimensions.
        shapes: Shapes of inputs.
        registry: Lowering rules.

    Returns:
        One spec per input.

    Raises:
        GmncError: An input is no tensor.
    """
    inferred = model if isinstance(model, InferredModel) else infer_model(model, dims, shapes, registry)
    specs = []
    for value in inferred.model.graph.inputs:
        entry = inferred.known[value]
        if not entry.dtype:
            raise GmncError(f"input {value.name!r} is no tensor: no random values can be drawn for it")
        specs.append(_spec(value.name or "", entry, uses_of(value, inferred.known)))
    return specs


def is_large(spec: InputSpec) -> bool:
    """Whether an input is too large to draw."""
    return elements(spec.shape) > MAX_RANDOM_ELEMENTS


def draw_inputs(
    specs: list[InputSpec], rng: np.random.Generator, sampling: Sampling = SAMPLINGS[0]
) -> dict[str, np.ndarray]:
    """Draw one array per input; raises `NotRunnable` if an input is too large."""
    for spec in specs:
        if is_large(spec):
            raise NotRunnable(
                f"input {spec.name!r} of shape {list(spec.shape)} has more than {MAX_RANDOM_ELEMENTS:,} entries, the "
                f"limit of random inputs; {SMALLER}, or give an array with --inputs FILE.npz"
            )
    return {s.name: _array(s, rng, sampling) for s in specs}


def around_splits(
    graph: ParameterGraph, feed: Mapping[str, np.ndarray], rng: np.random.Generator
) -> list[dict[str, np.ndarray]]:
    """Draw more feeds for networks with decision trees, which are constant almost everywhere; none for others.

    Features that trees split on are drawn around their thresholds, other floats at several scales.
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
    """Draw random arrays for every input of a model.

    Args:
        model: An ONNX model, or the path of one.
        seed: Seed.
        dims: Sizes of symbolic dimensions by name, as for `gmnc.compile`.
        shapes: Shapes by input name, the option `inputs` of `gmnc.compile`.

    Returns:
        Arrays by input name, of the shapes that `gmnc.compile` chooses and with values that suit their uses.

    Raises:
        GmncError: The model cannot be read, an input is no tensor, or one is too large.
    """
    return draw_inputs(input_specs(model, dims, shapes), np.random.default_rng(seed))


def _spec(name: str, entry: ValueInfo, uses: Uses) -> InputSpec:
    low, high = uses.range or (0, 0)
    free = high <= low and not uses.lengths
    mask = free and (uses.additive_mask or (uses.mask and "float" not in entry.dtype))
    if high <= low and uses.lengths:
        low, high = 1, 1 + min(uses.lengths)
    elif high <= low:
        low, high = 0, 2 if mask else _BYTES if uses.numbers and entry.dtype == "uint8" else _NUMBERS
    return InputSpec(
        name, entry.shape, entry.dtype, high, low, tuple(sorted(uses.choices)), mask, uses.shift, uses.scale,
        uses.positive,
    )  # fmt: skip


def _array(spec: InputSpec, rng: np.random.Generator, sampling: Sampling) -> np.ndarray:
    if spec.dtype == "string":
        return rng.choice(np.array(["a", "b"], dtype=object), spec.shape)
    dtype = dtype_of(spec.dtype)
    if dtype == np.bool_:
        return np.ones(spec.shape, np.bool_) if sampling.ones else np.asarray(rng.random(spec.shape) < 0.75)
    if dtype.kind in "iu":
        return _integers(spec, rng, sampling).astype(dtype)
    if dtype.kind == "c":
        return (rng.standard_normal(spec.shape) + 1j * rng.standard_normal(spec.shape)).astype(dtype)
    if spec.mask:
        return np.ones(spec.shape, dtype) if sampling.ones else (rng.random(spec.shape) < 0.75).astype(dtype)
    values = spec.shift + spec.scale * sampling.spread * rng.standard_normal(spec.shape)
    return np.asarray(np.abs(values) if spec.positive or sampling.positive else values).astype(dtype)


def _integers(spec: InputSpec, rng: np.random.Generator, sampling: Sampling) -> np.ndarray:
    if spec.mask and sampling.ones:
        return np.ones(spec.shape, np.int64)
    high = spec.high if sampling.high is None else min(spec.low + sampling.high, spec.high)
    values = np.asarray(rng.integers(spec.low, max(high, spec.low + 1), spec.shape))
    if not spec.choices or spec.mask:
        return values
    indexing = (spec.low, spec.high) != (0, _NUMBERS)
    chosen = rng.choice(np.array(spec.choices), spec.shape)
    allowed = (chosen >= spec.low) & (chosen < spec.high) if indexing else True
    return np.where((rng.random(spec.shape) < (_RARE if indexing else 1.0)) & allowed, chosen, values)
