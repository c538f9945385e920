"""LSTM, GRU and RNN: gates and states are nodes per hidden unit, with one cell per direction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..context import LoweringContext
from ..errors import DataDependent, Unsupported
from ..primitives.constants import uniform
from ..primitives.elements import Elements
from ..primitives.functions import FUNCTIONS
from ..primitives.recurrence import INPUT, Feed, Step, Units, Weight
from ..primitives.values import Op, Value
from .registry import rule

__all__: list[str] = []

_WITH_NUMBERS: dict[str, tuple[float, ...]] = {
    "Affine": (1.0, 0.0),
    "Elu": (1.0,),
    "HardSigmoid": (0.2, 0.5),
    "LeakyRelu": (0.01,),
    "ScaledTanh": (1.0, 1.0),
    "ThresholdedRelu": (1.0,),
}
_FUNCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "Affine": lambda x, alpha, beta: alpha * x + beta,
    "ScaledTanh": lambda x, alpha, beta: alpha * np.tanh(beta * x),
}
_PLAIN = ("Relu", "Sigmoid", "Softplus", "Softsign", "Tanh")
_NAMES = {name.lower(): name for name in (*_WITH_NUMBERS, *_PLAIN)}
_ONE_MINUS: Step = ("Complement", {}, lambda v: 1 - v)


@dataclass(frozen=True, slots=True)
class _Parameters:
    """Parameters of one direction: w [gates * H, I], r [gates * H, H], b [2 * gates * H], p [gates * H]."""

    gates: int
    size: int
    w: Elements
    r: Elements
    b: Elements | None
    p: Elements | None

    def _of(self, elements: Elements, place: int) -> Elements:
        return elements.move(lambda a: a[place * self.size : (place + 1) * self.size])

    def inward(self, gate: int) -> tuple[Weight, ...]:
        """The weights and bias from the input to a gate."""
        bias = () if self.b is None else (Weight("input bias", self._of(self.b, gate), "bias"),)
        return (Weight(INPUT, self._of(self.w, gate), "weight"), *bias)

    def around(self, gate: int, source: str = "H") -> tuple[Weight, ...]:
        """The weights and bias from the previous state to a gate."""
        bias = () if self.b is None else (Weight("recurrent bias", self._of(self.b, self.gates + gate), "bias"),)
        return (Weight(source, self._of(self.r, gate), "recurrent"), *bias)

    def gate(self, name: str, gate: int, peephole: int | None = None, source: str = "H") -> Units:
        """A gate, fed by the input, the state and, through peephole number `peephole`, the cell of its unit."""
        weights = self.inward(gate) + self.around(gate, source)
        if self.p is not None and peephole is not None:
            weights += (Weight("C", self._of(self.p, peephole), "peephole"),)
        return Units(name, "gate", self.size, weights)


Steps = tuple[Step, ...]
Cell = Callable[[Op, _Parameters, list[Steps]], list[Units]]


@rule("LSTM", weights=(1, 2, 3, 7))
def lstm(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Long short-term memory: C = f * C + i * c, H = o * h(C) (LSTM since 1)."""
    return _recurrent(ctx, op, _lstm_cell, 4, ("Sigmoid", "Tanh", "Tanh"), {"H": 5, "C": 6})


def _lstm_cell(op: Op, own: _Parameters, activations: list[Steps]) -> list[Units]:
    f, g, h = activations
    gates = [own.gate("i", 0, 0), own.gate("o", 1, 1), own.gate("c", 3)]
    forget = Feed("f", f)
    if op.attr("input_forget", 0):
        forget = Feed("i", (*f, _ONE_MINUS))
    else:
        gates.append(own.gate("f", 2, 2))
    cell = (Feed("i", f), forget, Feed("c", g), Feed("C", (), "recurrent"))
    return [*gates, _state(own, "C", *cell), _state(own, "H", Feed("o", f), Feed("C", h, "state"))]


@rule("GRU", weights=(1, 2, 3))
def gru(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Gated recurrent unit: H = (1 - z) * h + z * H, the state reset before or after its weight (GRU since 1)."""
    return _recurrent(ctx, op, _gru_cell, 3, ("Sigmoid", "Tanh"), {"H": 5})


def _gru_cell(op: Op, own: _Parameters, activations: list[Steps]) -> list[Units]:
    f, g = activations
    cell = [own.gate("z", 0), own.gate("r", 1)]
    if op.attr("linear_before_reset", 0):
        cell.append(Units("RH", "neuron", own.size, own.around(2)))
        reset = (Feed("r", f, "reset"), Feed("RH", (), "reset"))
        cell.append(Units("h", "gate", own.size, own.inward(2), reset))
    else:
        cell.append(Units("rH", "product", own.size, (), (Feed("r", f, "reset"), Feed("H", (), "reset"))))
        cell.append(own.gate("h", 2, source="rH"))
    return [*cell, _state(own, "H", Feed("z", f), Feed("h", g), Feed("H", (), "recurrent"))]


@rule("RNN", weights=(1, 2, 3))
def rnn(ctx: LoweringContext, op: Op) -> list[Value | None]:
    """Plain recurrence: H = f(W x + R H + b) (RNN since 1)."""
    return _recurrent(ctx, op, _rnn_cell, 1, ("Tanh",), {"H": 5})


def _rnn_cell(op: Op, own: _Parameters, activations: list[Steps]) -> list[Units]:
    return [own.gate("i", 0), _state(own, "H", Feed("i", activations[0]))]


def _state(own: _Parameters, name: str, *feeds: Feed) -> Units:
    return Units(name, "join", own.size, (), feeds)


def _recurrent(
    ctx: LoweringContext, op: Op, make: Cell, gates: int, defaults: Sequence[str], states: Mapping[str, int]
) -> list[Value | None]:
    """Y [T, D, B, H] and the final states [D, B, H]; batch-first if the layout is 1.

    states: the states of the cell, with the operand that is the initial value of each.
    """
    x, batch_first = op.input(0), bool(op.attr("layout", 0))
    if batch_first:
        x = ctx.transposed(x, (1, 0, 2))
    lengths, marks = _lengths(ctx, op, x.shape[0])
    outputs: list[list[Value]] = [[] for _ in range(1 + len(states))]
    directions, activations = _directions(op), _activations(op, defaults)
    for d, (backward, own) in enumerate(zip(directions, _parameters(ctx, op, gates, len(directions)), strict=True)):
        initial = {n: v for n, i in states.items() if (v := _initial(ctx, op, i, d, batch_first)) is not None}
        seen = _reversed(ctx, x) if backward else x
        made = ctx.recur(seen, make(op, own, activations[d]), initial, lengths, list(states))
        if marks:
            made = [ctx.unary(v, "Lengths", marks) for v in made]
        y = _spread(made[0], (x.shape[0], 1))
        outputs[0].append(_reversed(ctx, y) if backward else y)
        for place, value in enumerate(made, 1):
            outputs[place].append(_spread(ctx.unary(value, "Last", {}), (1,)))
    orders = [(2, 0, 1, 3) if batch_first else None, *[(1, 0, 2) if batch_first else None] * len(states)]
    return [_output(ctx, made, orders[i]) if op.wants(i) else None for i, made in enumerate(outputs)]


def _spread(x: Value, lead: tuple[int, ...]) -> Value:
    """Prepend axes along which labels do not vary."""
    return x.relabelled(tuple(f.reshape((1,) * len(lead) + f.shape) for f in x.factors), lead + x.shape)


def _reversed(ctx: LoweringContext, x: Value) -> Value:
    """Reverse the first axis, like a Slice with step -1."""
    return ctx.sliced(x, slice(None, None, -1), 0)


def _output(ctx: LoweringContext, parts: list[Value], order: tuple[int, ...] | None) -> Value:
    """Concatenate the directions."""
    value = ctx.concat(parts, parts[0].rank - 3)
    return value if order is None else ctx.transposed(value, order)


def _directions(op: Op) -> list[bool]:
    """Whether each direction runs backward."""
    named = {"forward": [False], "reverse": [True], "bidirectional": [False, True]}
    direction = str(op.attr("direction", "forward"))
    if direction not in named:
        raise Unsupported(f"direction {direction!r}")
    return named[direction]


def _parameters(ctx: LoweringContext, op: Op, gates: int, directions: int) -> list[_Parameters]:
    """The parameters of each direction; biases and peepholes that are program constants of zeros are dropped."""
    made: list[Elements | None] = []
    for index in (1, 2, 3, 7):
        value = op.optional(index)
        if value is not None and value.is_activation and not value.derived:
            raise DataDependent("a weight of the cell is computed from the input")
        zero = index > 2 and value is not None and value.data is not None
        made.append(None if value is None or (zero and not np.any(value.data)) else ctx.weight(value))
    w, r, b, p = made
    if w is None or r is None:
        raise Unsupported("a weight of the cell is missing")
    return [
        _Parameters(gates, r.shape[2], _row(w, d), _row(r, d), b and _row(b, d), p and _row(p, d))
        for d in range(directions)
    ]


def _row(elements: Elements, number: int) -> Elements:
    return elements.move(lambda a: a[number])


def _initial(ctx: LoweringContext, op: Op, index: int, direction: int, batch_first: bool) -> Value | None:
    """The initial state [B, H] of one direction; None if it is zero."""
    value = op.optional(index)
    if value is None or (value.data is not None and not np.any(value.data)):
        return None
    if not value.is_activation and value.data is None:
        value = ctx.as_activation(value)
    axis = 1 if batch_first else 0
    shape = tuple(n for a, n in enumerate(value.shape) if a != axis)
    part = ctx.move(value, lambda a: a.take(direction, axis), shape)
    if part.is_activation:
        return part
    assert part.data is not None
    copy_axes = frozenset({0, 1} if uniform(part.data) is not None else ())
    return replace(ctx.as_activation(part), copy_axes=copy_axes)


def _lengths(ctx: LoweringContext, op: Op, steps: int) -> tuple[Value | None, dict[str, Any]]:
    """The sequence lengths of the batch, and attributes for known ones; (None, {}) if all are full."""
    value = op.optional(4)
    if value is None or (value.data is not None and bool((value.data == steps).all())):
        return None, {}
    if value.data is None:
        return ctx.as_activation(value), {}
    return value, {"lengths": tuple(int(n) for n in value.data)}


def _activations(op: Op, defaults: Sequence[str]) -> list[list[Steps]]:
    """The activation functions of each direction, after clipping; their parameters are consumed in order."""
    directions = _directions(op)
    names = [str(n) for n in op.attr("activations") or defaults]
    if len(names) == len(defaults):
        names *= len(directions)
    wanted = len(defaults) * len(directions)
    if len(names) < wanted:
        raise Unsupported(f"{len(names)} activations instead of {wanted}")
    given = [iter(op.attr(f"activation_{n}") or ()) for n in ("alpha", "beta")]
    every = [(*_clipped(op), _activation(name, given)) for name in names[:wanted]]
    return [every[i : i + len(defaults)] for i in range(0, len(every), len(defaults))]


def _clipped(op: Op) -> Steps:
    clip = op.attr("clip")
    if not clip:
        return ()
    bound = float(f"{float(clip):.6g}")
    return (("Clip", {"min": -bound, "max": bound}, lambda v: np.clip(v, -bound, bound)),)


def _activation(name: str, given: Sequence[Iterator[float]]) -> Step:
    known = _NAMES.get(name.lower())
    if known is None:
        raise Unsupported(f"activation {name!r}")
    defaults = _WITH_NUMBERS.get(known, ())
    numbers = [float(f"{next(more, default):.6g}") for more, default in zip(given, defaults, strict=False)]
    attributes = dict(zip(("alpha", "beta"), numbers, strict=False))
    function = _FUNCTIONS.get(known) or FUNCTIONS[known]
    return known, attributes, lambda v: function(v, *numbers)
