"""Elementwise operators: depending on the operands, a unary step, a join, or added parameters."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from ...ir import EdgeRole
from ...ir.arrays import distinct_rows
from ..budget import MAX_POSITIONS
from ..errors import Unsupported
from .add_parameters import Addend, add_parameters
from .combine import combine
from .constants import Constants, digest, uniform, varies
from .elements import Elements
from .functions import ASSOCIATIVE, COMMUTATIVE, FUNCTIONS, Function
from .joins import Factors, Operand, broadcast
from .labels import map_via, nodes_of, varying, vias_of
from .state import State
from .values import Op, Value

__all__ = ["broadcast_shape", "elementwise", "traced", "unary_step"]

_ATTACHED_ROLES = {"Add": EdgeRole.BIAS, "Sub": EdgeRole.BIAS, "Mul": EdgeRole.SCALE, "Div": EdgeRole.SCALE}
_NORMS = {"Standardize", "RMSNormalize"}
_FORBIDDEN = -99
_MASK_LIMIT = 1 << 22
_NOT_OF_THE_FUNCTION = ("consumed_inputs", "axis", "broadcast", "places")
_MIXED = "its entries depend on several parameter elements"


def elementwise(
    state: State,
    constants: Constants,
    account_reasons: dict[str, str],
    name: str,
    inputs: Sequence[Value | None],
    attributes: Mapping[str, Any],
) -> Factors:
    """Lower an elementwise operator.

    Activations keep their labels or are joined, literals become part of the function, and other constants are added
    as parameters.

    Args:
        state: The state of the lowering.
        constants: Provides elements of constants.
        account_reasons: Gains the names of float tensors that turn out to be masks.
        name: The operator.
        inputs: Its operands, None where one is left out.
        attributes: Its attributes.

    Returns:
        The labels of the result.
    """
    shape = broadcast_shape(inputs)
    lifted = [None if v is None else _lift(v, shape) for v in inputs]
    literals, attached = _split_constants(lifted)
    active = [v for v in lifted if v is not None and v.is_activation]
    if name in ASSOCIATIVE and len(active) > 2:

        def combined(group: Sequence[Value]) -> Factors:
            return elementwise(state, constants, account_reasons, name, group, {})

        active = _condensed(active, shape, combined)
        inputs = [*active, *(inputs[i] for i in literals)]
        literals = dict(enumerate(literals.values(), len(active)))
    # Broadcasting pairs different positions of unlabelled axes: then it is not a function of one number.
    alike = not attached and len({v.shape for v in active}) == 1
    function = _bind(name, attributes, literals, [v is None for v in inputs]) if alike else None
    described = _describe(name, attributes, literals, attached, len(inputs))
    step = _Step(state, name, shape, described, function, _ranks(name, active))
    operands = [Operand(v.factors, v.shape) for v in active]
    if len(active) == 1:
        factors = broadcast(state, operands[0], shape)
        if not attached:
            factors = tuple(map_via(f, lambda v: step.apply((v,))) for f in factors)
    else:
        after = step.mark if step.attributes and not attached else None
        factors = combine(state, operands, shape, name, step.ranks, step.apply, step.mark_place, after)
    for value in attached.values():
        factors = _attach(state, constants, account_reasons, factors, value, step)
    return factors


def _condensed(active: list[Value], shape: tuple[int, ...], combined: Callable[[list[Value]], Factors]) -> list[Value]:
    """Combine first, of the operands of an associative operator, those that belong together.

    These are operands on the same nodes, which are one function of a neuron, and those of one shape that is broadcast.
    So the graph does not depend on the order in which a file combines them.
    """

    def whole(group: list[Value]) -> Value:
        return group[0] if len(group) == 1 else group[0].relabelled(combined(group), broadcast_shape(group))

    def on_nodes(v: Value) -> Hashable:
        return v.shape, tuple((f.shape, nodes_of(f).tobytes()) for f in v.factors)

    def of_shape(v: Value) -> Hashable:
        return id(v) if v.shape == shape else v.shape

    for key in (on_nodes, of_shape):
        groups: dict[Hashable, list[Value]] = {}
        for v in active:
            groups.setdefault(key(v), []).append(v)
        if len(groups) > 1:
            active = [whole(group) for group in groups.values()]
    labels = math.prod(np.broadcast_shapes(*(f.shape for v in active for f in v.factors)))
    if len(active) > 2 and labels * len(active) > MAX_POSITIONS:
        half = len(active) // 2
        active = [whole(active[:half]), whole(active[half:])]
    return active


@lru_cache(maxsize=1024)
def unary_step(text: str) -> tuple[Function, str, dict[str, object]]:
    """An operator on one activation and numbers, as a step of a via.

    Args:
        text: As JSON, its name, its attributes by name, and its operands, of which the activation is null.

    Returns:
        Its function of the activation, its name, and the attributes of the step.
    """
    name, attributes, operands = json.loads(text)
    numbers = {i: number for i, number in enumerate(operands) if number is not None}
    function = _bind(name, attributes, numbers, [False] * len(operands))
    assert function is not None
    return function, name, _describe(name, attributes, numbers, {}, len(operands))


def broadcast_shape(inputs: Sequence[Value | None]) -> tuple[int, ...]:
    """The shape that all operands are broadcast to."""
    shapes = [v.shape for v in inputs if v is not None]
    return shapes[0] if len(set(shapes)) == 1 else np.broadcast_shapes(*shapes)


def traced(state: State, op: Op) -> Elements:
    """The elements of a computed constant each entry of which is a function of one parameter element.

    Args:
        state: The state of the lowering.
        op: The elementwise operator that computes it.

    Returns:
        Its elements.

    Raises:
        Unsupported: Entries depend on several parameter elements.
    """
    shape, inputs = op.shape(), op.inputs
    lifted = [None if v is None else _lift(v, shape) for v in inputs]
    literals, rest = _split_constants(lifted)
    held = {i: _broadcast(v.elements, shape) for i, v in rest.items() if v.elements is not None}
    tables = {i: v for i, v in rest.items() if v.data is not None}
    if not held or len(held) + len(tables) < len(rest):
        raise Unsupported(_MIXED)
    if op.type == "Where" and 0 not in held and len(held) == 2:
        return _selected(lifted[0], held, shape)
    first, *others = held.values()
    if any(not _same_elements(first, other) for other in others) or any(e.tables for e in held.values() if others):
        raise Unsupported(_MIXED)
    attributes = _describe(op.type, op.attributes, literals, tables, len(inputs))
    if tables:
        numbers = range(len(first.tables), len(first.tables) + len(tables))
        attributes["tables"] = tuple(numbers)
    function = None if tables else _bind(op.type, op.attributes, literals, [v is None for v in inputs])
    new = tuple(np.broadcast_to(v.data, shape) for v in tables.values() if v.data is not None)

    def step(traces: tuple[int, ...]) -> int:
        return state.traces.step(traces, function, op.type, attributes)

    return replace(first, trace=_stepped([e.trace for e in held.values()], shape, step), tables=(*first.tables, *new))


def _broadcast(elements: Elements, shape: tuple[int, ...]) -> Elements:
    lead = (1,) * (len(shape) - len(elements.shape))
    return elements.move(lambda a: np.broadcast_to(a.reshape(lead + a.shape), shape))


def _same_elements(a: Elements, b: Elements) -> bool:
    return a.arena is b.arena and np.array_equal(a.numbers, b.numbers)


def _stepped(
    traces: Sequence[int | np.ndarray], shape: tuple[int, ...], step: Callable[[tuple[int, ...]], int]
) -> int | np.ndarray:
    """The trace of each entry after a step."""
    single = tuple(t for t in traces if isinstance(t, int))
    if len(single) == len(traces):
        return step(single)
    rows = np.stack([np.broadcast_to(t, shape).reshape(-1) for t in traces], axis=1)
    first, which = distinct_rows(rows)
    new = np.array([step(tuple(row)) for row in rows[first].tolist()])
    return new[which].reshape(shape)


def _selected(condition: Value | None, held: dict[int, Elements], shape: tuple[int, ...]) -> Elements:
    """`Where` with a known condition: each entry is an element of one of the operands."""
    if condition is None or condition.data is None:
        raise Unsupported("it selects between parameters by a condition that is computed from parameters")
    where = np.broadcast_to(condition.data, shape)
    return Elements.joined([held[1], held[2]], lambda arrays: np.where(where, *arrays))


@dataclass(frozen=True, slots=True)
class _Step:
    """The operator as a via step: a function of one neuron if it is one, else its name and attributes."""

    state: State
    name: str
    shape: tuple[int, ...]
    attributes: dict[str, Any]
    function: Callable[..., np.ndarray] | None
    ranks: Sequence[int]

    def apply(self, vias: tuple[int, ...]) -> int:
        return self.state.step(vias, self.function, self.name, self.attributes)

    def mark(self, via: int, **more: object) -> int:
        return self.state.builder.via(self.name, {**self.attributes, **more}.items(), (via,))

    def mark_place(self, operand: int, via: int) -> int:
        place = {"place": self.ranks[operand]} if len(set(self.ranks)) > 1 else {}
        return self.state.builder.via(self.name, {**self.attributes, **place}.items(), (via,))


def _ranks(name: str, active: Sequence[Value]) -> Sequence[int]:
    """The rank of each activation: operands of equal rank are interchangeable (commutative, and of one shape)."""
    if name not in COMMUTATIVE:
        return range(len(active))
    shapes = sorted({v.shape for v in active})
    return [shapes.index(v.shape) for v in active]


def _attach(
    state: State, constants: Constants, account_reasons: dict[str, str], factors: Factors, value: Value, step: _Step
) -> Factors:
    """Add a constant as parameters; a program table or mask that varies only along free axes becomes a via step."""
    elements = constants.weight(value)
    axes = {a for a, n in enumerate(value.shape) if n > 1}
    if value.data is not None:
        axes = {a for a in axes if varies(value.data, a)}
    free = bool(axes) and not any(axes & set(varying(f)) for f in factors)
    if free and (value.data is not None or _is_mask(constants, elements, step.name)):
        if value.data is None:
            account_reasons[value.name] = "positional constant"
        numbers = constants.read(elements) if value.data is None else value.data
        table = digest(numbers.reshape(value.shape))
        return tuple(map_via(f, lambda v: step.mark(v, table=table)) for f in factors)
    part = Addend(elements, _role(state, step.name, factors))
    return add_parameters(state, factors, step.shape, [part], step.name, step.attributes)


def _is_mask(constants: Constants, elements: Elements, op: str) -> bool:
    """Whether a float tensor is a mask: adds 0 or a large negative number, or multiplies by 1 or 0."""
    if op not in ("Add", "Mul") or elements.array.size > _MASK_LIMIT or elements.arena.constant or not elements.bare:
        return False
    numbers = constants.read(elements)
    other = numbers == 1 if op == "Mul" else numbers <= _FORBIDDEN
    zero = numbers == 0
    return bool((zero | other).all()) and bool(zero.any()) and bool(other.any())


def _lift(value: Value, shape: tuple[int, ...]) -> Value:
    """Prepend axes of size 1 up to the rank of `shape`."""
    lead = len(shape) - value.rank
    if lead <= 0:
        return value
    ones = (1,) * lead
    if value.is_activation:
        return value.relabelled(tuple(f.reshape(ones + f.shape) for f in value.factors), ones + value.shape)
    data = None if value.data is None else value.data.reshape(ones + value.shape)
    elements = None if value.elements is None else value.elements.reshape(*ones, *value.shape)
    return replace(value, shape=ones + value.shape, data=data, elements=elements)


def _split_constants(values: Sequence[Value | None]) -> tuple[dict[int, Any], dict[int, Value]]:
    """Split constant operands into uniform literals and others (tables and parameters)."""
    literals: dict[int, Any] = {}
    attached: dict[int, Value] = {}
    for i, value in enumerate(values):
        if value is None or value.is_activation:
            continue
        number = None if value.data is None else uniform(value.data)
        if number is not None:
            literals[i] = number
        else:
            attached[i] = value
    return literals, attached


def _role(state: State, op: str, factors: Factors) -> str:
    """The role of parameters that `op` adds; right after a normalisation they are its scale or bias."""
    for factor in factors:
        last, before = _last_two(state, int(vias_of(factor).reshape(-1)[0]))
        if op == "Mul" and last in _NORMS:
            return EdgeRole.NORM_SCALE
        if op == "Add" and (last in _NORMS or (last == "Mul" and before in _NORMS)):
            return EdgeRole.NORM_BIAS
    return _ATTACHED_ROLES.get(op, op)


def _last_two(state: State, via: int) -> tuple[str, str]:
    """The names of the last two steps of a via, the last one first."""
    entry = state.builder.vias[state.moves.before(via)]
    return entry.op, state.builder.vias[entry.parents[0]].op if entry.parents else ""


def _describe(
    op: str, own: Mapping[str, Any], literals: dict[int, Any], attached: dict[int, Value], operands: int
) -> dict[str, Any]:
    """Attributes of the via step: own ones, literals, and which operands are constants if their order matters."""
    ordered = op not in COMMUTATIVE
    out = {name: value for name, value in own.items() if isinstance(value, int | float | str | tuple)}
    numbers = {i: float(f"{float(number):.6g}") for i, number in literals.items()}
    if ordered or len(numbers) < 2:
        out |= {f"operand{i}" if ordered else "operand": number for i, number in numbers.items()}
    else:
        every = sorted(numbers.values())
        out["operand"] = float(FUNCTIONS[op](*every)) if op in ASSOCIATIVE else tuple(every)
    if ordered and operands > 1:
        out |= {f"operand{i}": "table" if v.data is not None else "parameter" for i, v in attached.items()}
    return out


def _bind(
    op: str, own: Mapping[str, Any], literals: dict[int, Any], missing: Sequence[bool]
) -> Callable[..., np.ndarray] | None:
    """The operator as a function of its activations, literals and attributes bound; None if it has no NumPy form.

    missing: by operand, whether it is left out.
    """
    function = FUNCTIONS.get(op)
    if function is None:
        return None
    keywords = {n: v for n, v in own.items() if n not in _NOT_OF_THE_FUNCTION}

    def bound(*active: np.ndarray) -> np.ndarray:
        rest = iter(active)
        arguments = [
            None if left_out else np.float64(literals[i]) if i in literals else next(rest)
            for i, left_out in enumerate(missing)
        ]
        return function(*arguments, **keywords)

    return bound
