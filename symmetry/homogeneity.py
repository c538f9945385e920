"""Homogeneity, parity and linearity of the steps of a via: f(c x) = c^d f(x) for c > 0, f(-x) = (-1)^p f(x).

The laws are declared with the steps, see `gmnc.ir.Step`; this module reads them for a concrete via. A step without a
law fixes the scale, or the sign, of the value that enters it, and lets nothing be mixed.
"""

from __future__ import annotations

from ..ir.graph import Via
from ..ir.vocabulary import Attachment, Combine, LinkRole, Matrices, declared_step

__all__ = ["additive", "attachment", "branches", "commuting", "couples", "degree", "links", "scales", "shifts", "sums"]

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


def commuting(via: Via) -> Matrices | None:
    """The matrices with which a step of one operand commutes, if its neurons are mixed; None for none."""
    step, settings = declared_step(via.op), dict(via.attributes)
    law = None if step is None else step.commutes
    found = law(settings) if callable(law) else law
    if found in (None, Matrices.ALL):
        return found
    # A normalisation commutes if it is over the neurons that are mixed: all of a group, once each.
    over = settings.get("over")
    alone = isinstance(over, tuple | list) and "neurons" in over and "neurons of other factors" not in over
    return found if alone and "parts" not in settings else None


def additive(via: Via) -> bool:
    """Whether a step is linear in all of its operands together: several branches of one neuron."""
    step = declared_step(via.op)
    return step is not None and step.additive and not _literal(via)


def sums(role: str) -> bool:
    """Whether the target of links is linear in all of their sources together."""
    step = declared_step(role)
    return role in (LinkRole.SUM, LinkRole.SHARED) or (step is not None and step.additive)


def shifts(via: Via) -> bool:
    """Whether a step adds the parameters that it attaches, or subtracts them, and does nothing else."""
    names = {name for name, value in via.attributes if not isinstance(value, float)}
    return additive(via) and names <= {"along", "operand0", "operand1"}


def scales(via: Via) -> bool:
    """Whether a step multiplies the value by the parameters that it attaches, and does nothing else."""
    step = declared_step(via.op)
    return step is not None and step.branches[False] is Combine.PRODUCT and not via.attributes


def _literal(via: Via) -> bool:
    """Whether a number of the program is among the operands."""
    return any(name.startswith("operand") and isinstance(value, float) for name, value in via.attributes)
