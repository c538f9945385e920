"""Stored parameters: quantised tensors, whose edges have the dequantised values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from ...ir import Parameter, Storage
from ..errors import Unsupported
from .constants import Constants, uniform
from .elements import Arena, Elements
from .quantised import Packing, QuantEncoding, QuantParam, QuantScheme, rounded
from .state import State
from .values import Value

__all__ = ["QuantOperand", "quantise", "store"]


@dataclass(frozen=True, slots=True)
class QuantOperand:
    """A scale or zero point, aligned with the stored elements.

    Attributes:
        role: "scale" or "zero_point".
        value: The constant.
        axes: The axes of the stored elements that its axes correspond to.
        block: The number of stored elements per entry, along an axis that is neither of size 1 nor full.
    """

    role: str
    value: Value
    axes: tuple[int, ...]
    block: int = 1


def store(
    state: State,
    constants: Constants,
    x: Value,
    quant_params: Sequence[QuantOperand],
    scheme: QuantScheme,
    value: str = "",
    packing: Packing | None = None,
    shape: tuple[int, ...] | None = None,
) -> Elements:
    """Register a tensor as quantised parameters.

    If the tensor is dequantised differently elsewhere, the trace of the returned elements says so.

    Args:
        state: The state of the lowering.
        constants: Provides elements of constants.
        x: The stored tensor.
        quant_params: Its scales and zero points.
        scheme: Its scheme.
        value: The ONNX value that has the dequantised values, "" if there is none.
        packing: How elements are packed in the tensor; None if they are not.
        shape: The shape of unpacked elements.

    Returns:
        The elements.

    Raises:
        Unsupported: `x` is not a whole tensor of the model, or another operator reads its stored elements, or a scale
            does not fit.
    """
    assert x.elements is not None
    name, order = _tensor(x.elements, state.builder.parameters)
    trace = x.elements.trace if isinstance(x.elements.trace, int) else 0
    quantiser = state.traces.encoding(trace, name)
    if not x.elements.bare and quantiser is None:
        raise Unsupported("what it dequantises is computed from a stored tensor, not the tensor itself")
    elements = replace(x.elements, trace=0)
    if packing is not None:
        elements = Arena({name: _size(shape)}).tensor(name, shape or ())
    order = order if packing is None else tuple(range(len(elements.shape)))
    made = tuple(_quant_param(constants, s, elements.shape).transposed(order) for s in quant_params)
    made = made if quantiser is None else _with_quantiser(made, quantiser)
    scheme = scheme if quantiser is None else quantiser.scheme
    rest = () if quantiser is None else (quantiser.ranged, quantiser.attributes)
    encoding = QuantEncoding(tuple(elements.shape[a] for a in order), made, scheme, packing, *rest)
    if quantiser is not None:
        # The tensor itself is not rounded: others may read it as it is stored.
        return replace(elements, trace=state.traces.encoded(trace, "Dequantize", name, encoding))
    known = state.encodings.get(name)
    if known is None and state.builder.used(name):
        raise Unsupported("another operator reads its stored elements without dequantising them")
    old = state.builder.parameters[name]
    if known is not None and not known.same(encoding):
        if old.storage is not None:
            # Write-back must not replace one of several dequantised values by floats: the others would not change.
            state.builder.parameters[name] = replace(old, storage=replace(old.storage, values=()))
        return replace(elements, trace=state.traces.encoded(0, "Regrid", name, encoding, 1))
    holds = value if packing is None and x.shape == old.shape and order == tuple(range(x.rank)) else ""
    if known is None:
        state.encodings[name] = encoding
        shape = elements.shape if packing is not None else old.shape
        state.builder.parameters[name] = _parameter(old, shape, encoding, holds, state.builder.parameters)
    elif old.storage is not None:
        values = (*old.storage.values, holds) if holds and old.storage.values else ()
        state.builder.parameters[name] = replace(old, storage=replace(old.storage, values=values))
    return elements


def quantise(
    state: State,
    constants: Constants,
    x: Value,
    quant_params: Sequence[QuantOperand] | None,
    attributes: Mapping[str, object],
) -> Elements:
    """The elements of a float tensor that the model rounds to a grid.

    Edges for the quantiser's own scale and zero point are added where the rounded numbers are used, unless they are
    dequantised with the same ones.

    Args:
        state: The state of the lowering.
        constants: Provides elements of constants.
        x: The tensor, or a function of its elements.
        quant_params: Scale and zero point; None if they follow from the range of the whole tensor.
        attributes: What else the rounding depends on.

    Returns:
        The elements, with the step in their trace.

    Raises:
        Unsupported: `x` is not a whole tensor of the model, or a scale does not fit.
    """
    assert x.elements is not None
    elements, trace = x.elements, x.elements.trace
    if not isinstance(trace, int) or elements.tables:
        raise Unsupported("what it quantises is computed from several tensors or tables")
    name, order = _tensor(elements, state.builder.parameters)
    made = [_quant_param(constants, s, elements.shape).transposed(order) for s in quant_params or ()]
    mine = tuple(replace(param, quantises=True) for param in made)
    before = state.traces.encoding(trace, name) or state.encodings.get(name)
    ranged = quant_params is None
    own = tuple(sorted(attributes.items()))
    if before is not None:
        if before.attributes != own:
            raise Unsupported("it is quantised twice, in different ways")
        mine, ranged = _with_quantiser(mine, before), ranged or before.ranged
    shape = tuple(elements.shape[a] for a in order)
    encoding = QuantEncoding(shape, mine, rounded(x.dtype), ranged=ranged, attributes=own)
    step = "DynamicQuantize" if quant_params is None else "Quantize"
    return replace(elements, trace=state.traces.encoded(trace, step, name, encoding))


def _with_quantiser(own: tuple[QuantParam, ...], earlier: QuantEncoding) -> tuple[QuantParam, ...]:
    """Scales and zero points together with those of an earlier step, each of which applies once."""
    more = (replace(param, quantises=True) for param in earlier.quant_params)
    return (*own, *(p for p in more if not any(replace(mine, quantises=True).same(p) for mine in own)))


def _tensor(elements: Elements, parameters: Mapping[str, Parameter]) -> tuple[str, tuple[int, ...]]:
    """The tensor that the elements are the whole of, and the order of their axes in it."""
    array, arena = elements.array, elements.arena
    if array.dtype != np.int8 or not array.size:
        raise Unsupported("parts of stored tensors, or several of them, are dequantised together")
    name, base = arena.owner(arena.number_of(array))
    order = tuple(np.argsort([-abs(s) for s in array.strides], kind="stable").tolist())
    whole = arena.number_of(array) == base and array.size == arena.size(name)
    if not whole or not array.transpose(order).flags.c_contiguous or name not in parameters:
        raise Unsupported("a part of a stored tensor is dequantised")
    return name, order


def _quant_param(constants: Constants, aligned: QuantOperand, shape: tuple[int, ...]) -> QuantParam:
    """A scale or zero point for a stored tensor of this shape."""
    value, rank = aligned.value, len(shape)
    if value.is_activation:
        raise Unsupported(f"the {aligned.role} of a constant is computed from the input")
    if value.data is not None:
        number = uniform(value.data)
        if number is None:
            raise Unsupported(f"the {aligned.role} is a program constant of several values")
        return QuantParam(aligned.role, "", np.zeros((1,) * rank, np.int64), (1,) * rank, np.asarray(number))
    if value.elements is None or not value.elements.bare:
        raise Unsupported(f"the {aligned.role} is computed from parameters")
    views = [part.view for part in value.elements.reshape(1, 1, 1, -1).parts()]
    if len(views) != 1:
        raise Unsupported(f"the {aligned.role} is composed of several tensors")
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
    raw: Parameter, shape: tuple[int, ...], encoding: QuantEncoding, value: str, parameters: Mapping[str, Parameter]
) -> Parameter:
    """The parameter of dequantised values, which replaces that of stored elements."""
    form = _Form(raw, shape, encoding, parameters)
    values = (value,) if value else ()
    storage = Storage(raw.dtype, values, encoding.names, encoding.codes, raw.load, form.decode, form.encode)
    return Parameter(raw.name, shape, encoding.scheme.dtype, raw.origin, form, storage=storage)


@dataclass(frozen=True, slots=True, eq=False)
class _Form:
    """Decodes and encodes a stored parameter; `parameters` includes those of its scales. Picklable."""

    raw: Parameter
    shape: tuple[int, ...]
    encoding: QuantEncoding
    parameters: Mapping[str, Parameter]
    portable: ClassVar[bool] = True

    def decode(self, tensor: np.ndarray, quant_params: Mapping[str, np.ndarray]) -> np.ndarray:
        return np.ascontiguousarray(self.encoding.decode(tensor, quant_params)).reshape(self.shape)

    def encode(self, numbers: np.ndarray, quant_params: Mapping[str, np.ndarray], tensor: np.ndarray) -> np.ndarray:
        return self.encoding.encode(numbers.reshape(self.encoding.shape), quant_params, tensor)

    def __call__(self) -> np.ndarray:
        return self.decode(self.raw.load(), {n: self.parameters[n].load() for n in self.encoding.names})


def _size(shape: tuple[int, ...] | None) -> int:
    return int(np.prod(shape or (), dtype=np.int64))
