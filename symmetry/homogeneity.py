"""How the steps of a via answer to a change of scale or of sign of the value that enters.

The laws themselves are declared with the steps, in `gmnc.ir.vocabulary`. A step that is not declared, or declared
without a law, lets the value that enters change neither its scale nor its sign.
"""

from __future__ import annotations

from ..ir.graph import Via
from ..ir.vocabulary import Attachment, Combine, declared_step

__all__ = ["attachment", "branches", "couples", "degree", "links"]

_DIVISOR, _DIVIDEND = Attachment(False, (1, -1)), Attachment(False, (1, 1))


def degree(via: Via, sign: bool) -> float | None:
    """By which power a step without parameters takes a factor of its value (for signs: 1 or 0); None if by none."""
    step = declared_step(via.op)
    law = None if step is None else step.parity if sign else step.degree
    return law(dict(via.attributes)) if callable(law) else law


def branches(via: Via, sign: bool) -> tuple[int, ...] | None:
    """How often each parent counts in a step that joins branches of one neuron; () if all alike, None if unknown."""
    step = declared_step(via.op)
    law = None if step is None else step.branches[sign]
    if law is Combine.PRODUCT:
        return (1,) * len(via.parents)
    if law is None or _literal(via):
        return None
    return () if law is Combine.ALIKE else (1, -1)


def links(role: str, sign: bool) -> Combine | None:
    """The law of links whose role is a step; None if there is none."""
    step = declared_step(role)
    return None if step is None else step.links[sign]


def attachment(via: Via, sign: bool) -> Attachment | None:
    """The law of a step that attaches parameters; None if there is none."""
    step, settings = declared_step(via.op), dict(via.attributes)
    if step is None or settings.get("training"):
        return None
    if step.branches[sign] is Combine.QUOTIENT and not _literal(via):
        return _DIVISOR if "operand1" in settings else _DIVIDEND if "operand0" in settings else None
    if step.branches[sign] is not Combine.PRODUCT and _literal(via):
        return None
    return step.attached[sign]


def couples(via: Via, sign: bool) -> bool:
    """Whether the step normalises over several neurons in a way that needs the same change of all of them."""
    step = declared_step(via.op)
    return step is not None and "neurons" in str(dict(via.attributes).get("over", "")) and step.couples[sign]


def _literal(via: Via) -> bool:
    """Whether a number of the program is among the operands."""
    return any(name.startswith("operand") and isinstance(value, float) for name, value in via.attributes)
