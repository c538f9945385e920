"""What to write into a model: new values as they are, encoded on a quantisation grid, or as floats in its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from ..ir import Parameter, ParameterGraph
from .values import same_bytes

__all__ = ["OffGrid", "WritePlan", "plan_write"]

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True, slots=True)
class OffGrid:
    """A quantised parameter whose new values are off its quantisation grid, so that they cannot be stored exactly.

    Attributes:
        name: The parameter.
        count: Number of values that are off the grid.
        fallback: "float" if the dequantised value is replaced by floats; "nearest" if the values are rounded to the
            grid, because an operator reads the quantised tensor or because `write` was called with `rounded`.
        error: The largest rounding error relative to the largest magnitude; 0 for "float".
    """

    name: str
    count: int
    fallback: str
    error: float

    def __str__(self) -> str:
        what = f"the grid on which the model stores {self.name!r} cannot represent {self.count} of its new values"
        if self.fallback == "float":
            return f"{what}: stored as floats instead"
        return f"{what}: rounded to it, by up to {self.error:.2g} of the largest magnitude"


@dataclass(frozen=True, slots=True)
class WritePlan:
    """What to write into a model.

    Attributes:
        tensors: New contents of stored tensors, (parameter, array).
        floats: Float tensors, by the dequantised ONNX value that they replace.
        off_grid: Quantised parameters with new values off their grids.
    """

    tensors: list[tuple[Parameter, np.ndarray]] = field(default_factory=list)
    floats: dict[str, np.ndarray] = field(default_factory=dict)
    off_grid: list[OffGrid] = field(default_factory=list)


def plan_write(graph: ParameterGraph, changed: Arrays, rounded: bool = False) -> WritePlan:
    """Plan how to write new parameter values.

    A quantised parameter keeps its values when only its scale or zero point changes: they are encoded on the new grid.

    Args:
        graph: A compiled graph.
        changed: New values by parameter, of its shape and dtype.
        rounded: Round to the grid rather than replace a quantised parameter by floats.

    Returns:
        The plan.
    """
    plan = WritePlan()
    for name, array in changed.items():
        if graph.parameters[name].storage is None:
            plan.tensors.append((graph.parameters[name], array))
    for name, parameter in graph.parameters.items():
        storage = parameter.storage
        if storage is not None and not changed.keys().isdisjoint((name, *storage.quant_params)):
            _add_quantised(plan, graph, parameter, changed, rounded)
    return plan


def _add_quantised(
    plan: WritePlan, graph: ParameterGraph, parameter: Parameter, changed: Arrays, rounded: bool
) -> None:
    """Add a quantised parameter to the plan."""
    storage, name = parameter.storage, parameter.name
    assert storage is not None
    values = np.asarray(changed[name] if name in changed else parameter.load())
    quant_params = {s: changed[s] if s in changed else graph.parameters[s].load() for s in storage.quant_params}
    old = storage.load()
    new = storage.encode(values, quant_params, old)
    decoded = storage.decode(new, quant_params)
    alike = decoded == values
    count = 0 if alike.all() else int((~(alike | (np.isnan(decoded) & np.isnan(values)))).sum())
    if count and storage.values and not rounded:
        plan.off_grid.append(OffGrid(name, count, "float", 0.0))
        plan.floats.update(dict.fromkeys(storage.values, values))
        return
    if count:
        plan.off_grid.append(OffGrid(name, count, "nearest", _relative_error(values, decoded)))
    if not same_bytes(new, old):
        raw = replace(parameter, shape=old.shape, dtype=storage.dtype, load=storage.load, storage=None)
        plan.tensors.append((raw, new))


def _relative_error(values: np.ndarray, rounded: np.ndarray) -> float:
    """The largest error of finite values, relative to their largest magnitude."""
    a, b = values.astype(np.float64), rounded.astype(np.float64)
    known = np.isfinite(a) & np.isfinite(b)
    largest = float(np.abs(a[known]).max(initial=0.0))
    return float(np.abs(a - b)[known].max(initial=0.0)) / largest if largest else float("inf")
