"""Why a node is not lowered: raised by rules and primitives, reported with the node by the interpreter."""

from __future__ import annotations

__all__ = ["SMALLER", "DataDependent", "TooLarge", "Unsupported"]

SMALLER = "give smaller sizes (--dim NAME=SIZE, --input NAME=1x3x224x224), or export the model again"


class Unsupported(Exception):
    """Raised by a rule for a form of its operator that it does not lower: a reason and a hint for the user."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


class DataDependent(Unsupported):
    """Raised where a setting of an operator (axes, sizes) is computed: see `LoweringContext.opaque_join`."""


class TooLarge(Unsupported):
    """Raised by a primitive where a node needs more than the budget."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason, SMALLER)
