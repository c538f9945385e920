"""Control flow: what `control.flatten` leaves of branches and loops in the main graph."""

from __future__ import annotations

from ..algebra import Algebra
from ..registry import Unsupported, rule
from ..values import Op, Value

__all__: list[str] = []


@rule("Choice", domain="gmnc")
def choice(ctx: Algebra, op: Op) -> Value:
    """One of two values of different shapes."""
    raise Unsupported(
        "the branches of an If make values of different shapes", "give concrete sizes with --dim or --input"
    )
