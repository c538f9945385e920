"""Stored parameters: quantised tensors whose numbers, not stored elements, are the values of their edges."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...ir import Parameter, Storage
from ..errors import Unsupported
from .constants import Constants, uniform
from .elements import Arena, Elements
from .quantised import Grid, Packing, QuantParam, QuantScheme
from .state import State
from .values import Value

__all__ = ["Aligned", "store"]


@dataclass(frozen=True, slots=True)
class Aligned:
    """A scale or zero point, and which axes of the stored elements its own axes are.

    block: how many stored elements share one along an axis that is neither of size 1 nor whole.
    """

    role: str
    value: Value
    axes: tuple[int, ...]
    block: int = 1


def store(
    state: State,
    constants: Constants,
    x: Value,
    sides: Sequence[Aligned],
    code: QuantScheme,
    value: str = "",
    packing: Packing | None = None,
    shape: tuple[int, ...] | None = None,
) -> Elements:
    """The elements of the tensor `x` as stored parameters on a grid, registered with the graph.

    value: the ONNX value that holds the numbers, "" if none does. packing, shape: how the elements lie in the tensor,
    and their own shape, where they are not the tensor's. Raises `Unsupported` for what is no tensor of the model, or
    one that another operator reads as it is. Where it has another grid elsewhere, that is the trace of the elements.
    """
    assert x.elements is not None
    if not x.elements.bare:
        raise Unsupported("a function of a stored tensor is dequantised")
    name, order = _tensor(x.elements, state.builder.parameters)
    elements = x.elements if packing is None else Arena({name: _size(shape)}).tensor(name, shape or ())
    order = order if packing is None else tuple(range(len(elements.shape)))
    made = [_side(constants, s, elements.shape).transposed(order) for s in sides]
    grid = Grid(tuple(elements.shape[a] for a in order), tuple(made), code, packing)
    known = state.grids.get(name)
    if known is None and state.builder.used(name):
        raise Unsupported("its stored elements are read elsewhere as they are")
    old = state.builder.parameters[name]
    if known is not None and not known.same(grid):
        if old.storage is not None:
            # Floats that took the place of one of the values would leave the others as they were.
            state.builder.parameters[name] = replace(old, storage=replace(old.storage, values=()))
        return replace(elements, trace=state.traces.regrid(grid))
    holds = value if packing is None and x.shape == old.shape and order == tuple(range(x.rank)) else ""
    if known is None:
        state.grids[name] = grid
        shape = elements.shape if packing is not None else old.shape
        state.builder.parameters[name] = _parameter(old, shape, grid, holds, state.builder.parameters)
    elif old.storage is not None:
        values = (*old.storage.values, holds) if holds and old.storage.values else ()
        state.builder.parameters[name] = replace(old, storage=replace(old.storage, values=values))
    return elements


def _tensor(elements: Elements, parameters: Mapping[str, Parameter]) -> tuple[str, tuple[int, ...]]:
    """The tensor that elements are the whole of, and the order of their axes in which they lie there."""
    array, arena = elements.array, elements.arena
    if array.dtype != np.int8 or not array.size:
        raise Unsupported("a part of a stored tensor, or several, are dequantised together")
    name, base = arena.owner(arena.number_of(array))
    order = tuple(np.argsort([-abs(s) for s in array.strides], kind="stable").tolist())
    whole = arena.number_of(array) == base and array.size == arena.size(name)
    if not whole or not array.transpose(order).flags.c_contiguous or name not in parameters:
        raise Unsupported("a part of a stored tensor is dequantised")
    return name, order


def _side(constants: Constants, aligned: Aligned, shape: tuple[int, ...]) -> QuantParam:
    """The side of a stored tensor of this shape."""
    value, rank = aligned.value, len(shape)
    if value.is_activation:
        raise Unsupported(f"the {aligned.role} of a constant is computed from the input")
    if value.data is not None:
        number = uniform(value.data)
        if number is None:
            raise Unsupported(f"the {aligned.role} is a table of the program")
        return QuantParam(aligned.role, "", np.zeros((1,) * rank, np.int64), (1,) * rank, np.asarray(number))
    if value.elements is None or not value.elements.bare:
        raise Unsupported(f"the {aligned.role} is computed from parameters")
    views = [part.view for part in value.elements.reshape(1, 1, 1, -1).parts()]
    if len(views) != 1:
        raise Unsupported(f"the {aligned.role} is made of several tensors")
    numbers = views[0].elements().reshape(value.shape)
    if numbers.size == 1:
        return QuantParam(aligned.role, views[0].name, numbers.reshape((1,) * rank), (1,) * rank)
    if list(aligned.axes) != sorted(set(aligned.axes)) or len(aligned.axes) != numbers.ndim:
        raise Unsupported(f"the {aligned.role} of shape {list(numbers.shape)} does not fit {list(shape)}")
    for axis, size in zip(aligned.axes, numbers.shape, strict=True):
        if size not in (1, shape[axis], -(-shape[axis] // aligned.block)):
            raise Unsupported(f"the {aligned.role} of shape {list(numbers.shape)} does not fit {list(shape)}")
    sizes = dict(zip(aligned.axes, numbers.shape, strict=True))
    blocks = tuple(1 if sizes.get(a, 1) in (1, n) else aligned.block for a, n in enumerate(shape))
    return QuantParam(aligned.role, views[0].name, numbers.reshape([sizes.get(a, 1) for a in range(rank)]), blocks)


def _parameter(
    raw: Parameter, shape: tuple[int, ...], grid: Grid, value: str, parameters: Mapping[str, Parameter]
) -> Parameter:
    """The parameter of numbers in the place of the one of stored elements."""
    form = _Form(raw, shape, grid, parameters)
    storage = Storage(raw.dtype, (value,) if value else (), grid.names, raw.load, form.decode, form.encode)
    return Parameter(raw.name, shape, grid.code.dtype, raw.origin, form, storage=storage)


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """How the numbers of a parameter of this shape are stored. parameters: all, those that they depend on too."""

    raw: Parameter
    shape: tuple[int, ...]
    grid: Grid
    parameters: Mapping[str, Parameter]
    portable: ClassVar[bool] = True

    def decode(self, tensor: np.ndarray, sides: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(self.grid.decode(tensor, sides)).reshape(self.shape)

    def encode(self, numbers: np.ndarray, sides: Mapping[str, np.ndarray], tensor: np.ndarray) -> np.ndarray:
        return self.grid.encode(numbers.reshape(self.grid.shape), sides, tensor)

    def __call__(self) -> np.ndarray:
        return self.decode(self.raw.load(), {n: self.parameters[n].load() for n in self.grid.names})


def _size(shape: tuple[int, ...] | None) -> int:
    return int(np.prod(shape or (), dtype=np.int64))
