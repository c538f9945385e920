"""Parameters that a model stores in another form: new numbers back onto their grid, or floats in their place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir import Parameter, ParameterGraph
from .values import same_bytes

__all__ = ["OffGrid", "Plan", "plan"]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class OffGrid:
    """A stored parameter that new numbers do not fit.

    name: of the parameter. count: how many numbers do not fit. becomes: "float", where floats take the place of the
    stored form, or "nearest", where an operator reads the stored form (or it was asked for): the numbers are rounded.
    error: the largest change by rounding, relative to the largest number (0 for floats).
    """

    name: str
    count: int
    becomes: str
    error: float

    def __str__(self) -> str:
        what = f"{self.count} number(s) of {self.name!r} do not fit the grid on which the model stores them"
        if self.becomes == "float":
            return f"{what}: floats take its place"
        return f"{what}: rounded to it, by up to {self.error:.2g} of the largest"


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write: tensors by parameter, and constants by the ONNX value whose place they take.

    off: what does not fit its grid.
    """

    tensors: list[tuple[Parameter, np.ndarray]] = field(default_factory=list)
    floats: dict[str, np.ndarray] = field(default_factory=dict)
    off: list[OffGrid] = field(default_factory=list)


def plan(graph: ParameterGraph, changed: Arrays, rounded: bool = False) -> Plan:
    """How the model takes new numbers of parameters (those whose bits change).

    rounded: floats never take the place of a stored form. A stored parameter keeps its numbers when only its scale or
    zero point changes: these say which grid it lies on.
    """
    made = Plan()
    for name, array in changed.items():
        if graph.parameters[name].storage is None:
            made.tensors.append((graph.parameters[name], array))
    for name, parameter in graph.parameters.items():
        storage = parameter.storage
        if storage is not None and not changed.keys().isdisjoint((name, *storage.sides)):
            _store(made, graph, parameter, changed, rounded)
    return made


def _store(made: Plan, graph: ParameterGraph, parameter: Parameter, changed: Arrays, rounded: bool) -> None:
    storage, name = parameter.storage, parameter.name
    assert storage is not None
    numbers = np.asarray(changed[name] if name in changed else parameter.load())
    sides = {s: changed[s] if s in changed else graph.parameters[s].load() for s in storage.sides}
    old = storage.load()
    new = storage.encode(numbers, sides, old)
    there = storage.decode(new, sides)
    count = int((~((there == numbers) | (np.isnan(there) & np.isnan(numbers)))).sum())
    if count and storage.values and not rounded:
        made.off.append(OffGrid(name, count, "float", 0.0))
        made.floats.update(dict.fromkeys(storage.values, numbers))
        return
    if count:
        made.off.append(OffGrid(name, count, "nearest", _change(numbers, there)))
    if not same_bytes(new, old):
        raw = replace(parameter, shape=old.shape, dtype=storage.dtype, load=storage.load, storage=None)
        made.tensors.append((raw, new))


def _change(numbers: np.ndarray, rounded: np.ndarray) -> float:
    a, b = numbers.astype(np.float64), rounded.astype(np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    largest = float(np.abs(a[known]).max(initial=0.0))
    return float(np.abs(a - b)[known].max(initial=0.0)) / largest if largest else float("inf")
