"""Homogeneity and parity of the steps of a via: f(c x) = c^d f(x) for c > 0, f(-x) = (-1)^p f(x).

The laws are declared with the steps, see `gmnc.ir.Step`; this module reads them for a concrete via. A step without a
law fixes the scale, or the sign, of the value that enters it.
"""

from __future__ import annotations

from ..ir.graph import Via
from ..ir.vocabulary import Attachment, Combine, declared_step

__all__ = ["attachment", "branches", "couples", "degree", "links"]

_DIVISOR, _DIVIDEND = Attachment(False, (1, -1)), Attachment(False, (1, 1))


def degree(via: Via, sign: bool) -> float | None:
    """The degree of homogeneity of a step without parameters (for signs its parity, 1 odd or 0 even); None for none."""
    step = declared_step(via.op)
    law = None if step is None else step.parity if sign else step.degree
    return law(dict(via.attributes)) if callable(law) else law


def branches(via: Via, sign: bool) -> tuple[int, ...] | None:
    """The exponent of each parent's factor in a step where branches of one neuron meet.

    () if all branches and the result have one factor; None for no law.
    """
    step = declared_step(via.op)
    law = None if step is None else step.branches[sign]
    if law is Combine.PRODUCT:
        return (1,) * len(via.parents)
    if law is None or _literal(via):
        return None
    return () if law is Combine.ALIKE else (1, -1)


def links(role: str, sign: bool) -> Combine | None:
    """How factors combine along links whose role is a step; None for no law."""
    step = declared_step(role)
    return None if step is None else step.links[sign]


def attachment(via: Via, sign: bool) -> Attachment | None:
    """How the parameters that a step attaches absorb factors; None for no law."""
    step, settings = declared_step(via.op), dict(via.attributes)
    if step is None or settings.get("training"):
        return None
    if step.branches[sign] is Combine.QUOTIENT and not _literal(via):
        return _DIVISOR if "operand1" in settings else _DIVIDEND if "operand0" in settings else None
    if step.branches[sign] is not Combine.PRODUCT and _literal(via):
        return None
    return step.attached[sign]


def couples(via: Via, sign: bool) -> bool:
    """Whether the step normalises over several neurons, so that all of them must have one factor."""
    step = declared_step(via.op)
    return step is not None and "neurons" in str(dict(via.attributes).get("over", "")) and step.couples[sign]


def _literal(via: Via) -> bool:
    """Whether a number of the program is among the operands."""
    return any(name.startswith("operand") and isinstance(value, float) for name, value in via.attributes)
