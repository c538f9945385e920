"""How the steps of a via answer to a change of scale or of sign of the value that enters.

A table over the names of steps, as the via table of a graph has them. What it does not know has no law: then the value
that enters may change neither its scale nor its sign.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ..ir.graph import Via

__all__ = ["ATTACHED", "COUPLING", "JOINED", "STEPS", "Attachment", "attachment", "degree", "joined"]

Degrees = tuple[float | None, int | None]
"""(d, p): for c > 0, f(c x) = c^d f(x); f(-x) = (-1)^p f(x). None where there is no such number."""

_LINEAR: Degrees = (1, 1)
_ODD: Degrees = (None, 1)
_EVEN: Degrees = (None, 0)
_POSITIVE: Degrees = (1, None)
_SIZE: Degrees = (1, 0)
_NONE: Degrees = (None, None)
_FLOOR = 1e-6


def _clip(a: Mapping[str, Any]) -> Degrees:
    low, high = a.get("operand1", a.get("min")), a.get("operand2", a.get("max"))
    return _ODD if isinstance(low, float) and isinstance(high, float) and low == -high else _NONE


def _power(a: Mapping[str, Any]) -> Degrees:
    exponent = a.get("operand1")
    if not isinstance(exponent, float):
        return _NONE
    return exponent, int(exponent) % 2 if exponent == int(exponent) else None


def _divided(a: Mapping[str, Any]) -> Degrees:
    """By a table, or a table by it."""
    if "operand1" in a:
        return _LINEAR
    return (-1, 1) if "operand0" in a else _NONE


def _padded(a: Mapping[str, Any]) -> Degrees:
    return _NONE if any(name.startswith("operand") for name in a) else _LINEAR


def _resized(a: Mapping[str, Any]) -> Degrees:
    return _NONE if a.get("outside") else _LINEAR


def _pooled_regions(a: Mapping[str, Any]) -> Degrees:
    return _POSITIVE if a.get("mode") == "max" else _LINEAR


def _top(a: Mapping[str, Any]) -> Degrees:
    return (0, None) if a.get("output") else _POSITIVE


def _normalised(a: Mapping[str, Any]) -> Degrees:
    """The scale is cancelled, but only up to epsilon if there is one."""
    return (None if a.get("epsilon") else 0), 1


def _normed(a: Mapping[str, Any]) -> Degrees:
    """Epsilon is a floor of the norm here, which nothing but zeros comes near."""
    return (0 if a.get("epsilon", 0.0) <= _FLOOR else None), 1


STEPS: dict[str, Degrees | Callable[[Mapping[str, Any]], Degrees]] = {
    **dict.fromkeys(
        ("Scale", "Neg", "Mul", "Move", "Place", "Copy", "Sum", "Along", "Tuple", "Window", "Batch", "Last",
         "Lengths", "Reparametrize", "Conv", "ConvTranspose", "Trilu",
         "AveragePool", "ReduceMean", "ReduceSum", "CumSum", "ReverseSequence", "GridSample"),
        _LINEAR,
    ),
    **dict.fromkeys(
        ("Tanh", "Sin", "Tan", "Asin", "Atan", "Sinh", "Asinh", "Atanh", "Erf", "Softsign", "Shrink", "ScaledTanh",
         "Round"),
        _ODD,
    ),
    **dict.fromkeys(("Cos", "Cosh"), _EVEN),
    **dict.fromkeys(("Relu", "LeakyRelu", "PRelu", "MaxPool", "MaxRoiPool", "ReduceMax", "ReduceMin"), _POSITIVE),
    **dict.fromkeys(("Abs", "LpPool", "ReduceL1", "ReduceL2"), _SIZE),
    "Square": (2, 0),
    "ReduceSumSquare": (2, 0),
    "Sqrt": (0.5, None),
    "Reciprocal": (-1, 1),
    "Sign": (0, 1),
    "Pow": _power,
    "Clip": _clip,
    "Div": _divided,
    "Pad": _padded,
    "Resize": _resized,
    "RoiAlign": _pooled_regions,
    "TopK": _top,
    "ArgMax": (0, None),
    "ArgMin": (0, None),
    "Standardize": _normalised,
    "RMSNormalize": _normalised,
    "LpNormalize": _normed,
}  # fmt: skip
"""Steps of one value without parameters of their own."""

COUPLING: dict[str, tuple[bool, bool]] = {
    "Standardize": (True, True),
    "RMSNormalize": (True, False),
    "LpNormalize": (True, False),
}
"""For scale, for sign: whether a normalisation over several neurons needs the same change of all of them."""

JOINED: dict[str, tuple[tuple[int, ...] | None, tuple[int, ...] | None]] = {
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean", "Concat"), ((), ())),
    **dict.fromkeys(("Max", "Min"), ((), None)),
    "Div": ((1, -1), (1, -1)),
}
"""Branches of one neuron that meet, for scale and for sign: how often each counts; () if all must change alike."""


@dataclass(frozen=True, slots=True)
class Attachment:
    """How parameters attached to a value follow it. With x the change before the step and y after it (logarithms):

    a parameter changes by a x + b y; amounts: (a, b) by its role, `every` for other roles. same: y = x.
    """

    same: bool
    every: tuple[int, int]
    amounts: Mapping[str, tuple[int, int]] | None = None

    def amount(self, role: str) -> tuple[int, int]:
        """(a, b) of a parameter with this role."""
        return (self.amounts or {}).get(role, self.every)


_TERM = Attachment(True, (1, 0))
_STATISTICS = {"norm.scale": (-1, 1), "norm.bias": (0, 1), "norm.mean": (1, 0), "norm.var": (0, 0)}

ATTACHED: dict[str, tuple[Attachment | None, Attachment | None]] = {
    **dict.fromkeys(("Add", "Sub", "Sum", "Mean"), (_TERM, _TERM)),
    **dict.fromkeys(("Max", "Min"), (_TERM, None)),
    "Mul": (Attachment(False, (-1, 1)),) * 2,
    "BatchNormalization": (Attachment(False, (0, 0), _STATISTICS),) * 2,
    "PRelu": (Attachment(True, (0, 0)), None),
}
"""Steps that attach parameters, for scale and for sign."""

_DIVISOR, _DIVIDEND = Attachment(False, (1, -1)), Attachment(False, (1, 1))


def degree(via: Via, sign: bool) -> float | None:
    """By which power a step without parameters takes a factor of its value (for signs: 1 or 0); None if by none."""
    found = STEPS.get(via.op, _NONE)
    return (found(dict(via.attributes)) if callable(found) else found)[sign]


def joined(via: Via, sign: bool) -> tuple[int, ...] | None:
    """How often each parent counts in a step that joins branches of one neuron; () if all alike, None if unknown."""
    if via.op == "Mul":
        return (1,) * len(via.parents)
    return None if _literal(via) else JOINED.get(via.op, (None, None))[sign]


def attachment(via: Via, sign: bool) -> Attachment | None:
    """The law of a step that attaches parameters; None if there is none."""
    settings = dict(via.attributes)
    if via.op == "Div" and not _literal(via):
        return _DIVISOR if "operand1" in settings else _DIVIDEND if "operand0" in settings else None
    if settings.get("training") or (via.op != "Mul" and _literal(via)):
        return None
    return ATTACHED.get(via.op, (None, None))[sign]


def _literal(via: Via) -> bool:
    """Whether a number of the program is among the operands."""
    return any(name.startswith("operand") and isinstance(value, float) for name, value in via.attributes)
