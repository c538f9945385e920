"""Elements of constants: parameters, constants computed from them, and program tables."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import numpy as np

from ...ir import Held, Parameter
from ..errors import Unsupported
from .elements import Arena, Elements
from .state import State
from .values import Value

__all__ = ["Constants", "digest", "uniform", "varies"]

_UNIFORM_LIMIT = 1 << 22
_ENDLESS = 1e30


class Constants:
    """Provides the elements of constants, and registers tables of those that are not parameters with the graph.

    Attributes:
        derived: By name, the computed constants that are used as weights although no rule knows their structure. They
            become tables, and both ends of their edges are pinned.
    """

    def __init__(self, state: State, evaluate: Callable[[str], Parameter]) -> None:
        self.derived: dict[str, Value] = {}
        self._state = state
        self._evaluate = evaluate

    def weight(self, value: Value) -> Elements:
        """The elements of a constant, in its shape; a constant that is not a parameter becomes a table of the graph.

        Raises:
            Unsupported: The value is computed from the input.
        """
        if value.elements is not None:
            found = value.elements
            return found if found.shape == value.shape else found.reshape(*value.shape)
        if value.data is None and not value.derived:
            raise Unsupported(f"{value.name!r} is used as a weight, but is computed from the input")
        name = value.name or f"{self._state.site.value}.constant"
        if value.data is not None:
            core = _core(value.data)
            table = Parameter(name, core.shape, str(core.dtype), "constant", Held(core))
        else:
            table = self._evaluate(name)
            self.derived[name] = value
        self._state.builder.constants[name] = table
        elements = Arena({name: table.size}, constant=True).tensor(name, table.shape)
        return elements if table.shape == value.shape else elements.move(lambda a: np.broadcast_to(a, value.shape))

    def read(self, elements: Elements) -> np.ndarray:
        """The values of elements, flat; for small tensors only."""
        parts = []
        for part in elements.reshape(1, 1, 1, -1).parts():
            parts.append(part.view.read(self._state.builder.parameters[part.view.name].load()).reshape(-1))
        return np.concatenate(parts)


def uniform(data: np.ndarray) -> np.generic | None:
    """The value that all entries have, or None."""
    if data.size == 0:
        return None
    first: np.generic = data[(0,) * data.ndim]
    if all(s == 0 or n == 1 for n, s in zip(data.shape, data.strides, strict=True)):
        return first
    return first if data.size <= _UNIFORM_LIMIT and bool((data == first).all()) else None


def varies(data: np.ndarray, axis: int) -> bool:
    """Whether entries differ along an axis."""
    return data.strides[axis] != 0 and not bool((data == data.take([0], axis=axis)).all())


def _core(data: np.ndarray) -> np.ndarray:
    """A contiguous copy of a table, with broadcast axes reduced to size 1."""
    number = uniform(data)
    if number is not None:
        return np.full((1,) * data.ndim, number)
    return np.ascontiguousarray(data[tuple(slice(0, 1) if s == 0 else slice(None) for s in data.strides)])


def digest(table: np.ndarray) -> str:
    """A digest of a program table, up to rounding and leading axes of size 1; -1e30 counts as -inf, as in masks."""
    shape = table.shape[next((a for a, n in enumerate(table.shape) if n > 1), table.ndim) :]
    if table.dtype.kind == "f":
        wide = table.astype(np.float64)
        wide = np.where(np.isfinite(wide), wide, np.copysign(_ENDLESS, wide))
        scale = 10.0 ** np.floor(np.log10(np.maximum(np.abs(wide), 1e-30)))
        kept = np.abs(wide) < _ENDLESS
        table = np.where(kept, np.round(wide / scale, 4) * scale, np.copysign(np.inf, wide)).astype(np.float32)
        table = table + np.float32(0)
    triangle = _triangle(table.reshape(shape)) if table.dtype.kind in "fiub" and len(shape) == 2 else None
    if triangle is not None:
        return triangle
    salt = "x".join(map(str, shape))[:16].encode()
    return hashlib.blake2b(np.ascontiguousarray(table).tobytes(), digest_size=8, salt=salt).hexdigest()


def _triangle(table: np.ndarray) -> str | None:
    """Describe a square table of one value up to a diagonal and another above it (a causal mask), whatever its size."""
    size = len(table)
    if table.shape != (size, size) or table[-1, 0] == table[0, -1]:
        return None
    up_to, above = table[-1, 0], table[0, -1]
    diagonal = int(np.count_nonzero(table[0] == up_to)) - 1
    if (table != np.where(np.tri(size, k=diagonal, dtype=bool), up_to, above)).any():
        return None
    return f"{float(up_to):g} to diagonal {diagonal}, {float(above):g} above"
