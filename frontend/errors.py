"""Errors that rules and primitives raise; the interpreter reports them with the node."""

from __future__ import annotations

__all__ = ["SMALLER", "DataDependent", "TooLarge", "Unsupported"]

SMALLER = "give smaller sizes (--dim NAME=SIZE, --input NAME=1x3x224x224), or export the model again"


class Unsupported(Exception):
    """Raised by a rule for a form of its operator that it does not lower.

    Attributes:
        reason: Why it is not lowered.
        hint: What the user can do; "" for none.
    """

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class DataDependent(Unsupported):
    """Raised where an operand such as axes or sizes is not known at compile time; see `LoweringContext.opaque_join`."""


class TooLarge(Unsupported):
    """Raised by a primitive where a node would exceed the budget."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, SMALLER)
